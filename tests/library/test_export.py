"""The model as a graph, with photos, of which one user has none: `torch.export`, and ONNX in onnxruntime."""

import pytest
import torch

from tests.tiny_models import random_batch, tiny_model


class Logits(torch.nn.Module):
    """What a graph is made of: tensors alone come in and go out."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, input_ids, attention_mask, pixel_values, image_mask, decoder_input_ids):
        inputs = {"input_ids": input_ids, "attention_mask": attention_mask, "decoder_input_ids": decoder_input_ids}
        return self.model(**inputs, pixel_values=pixel_values, image_mask=image_mask, use_cache=False).logits


def graph_inputs() -> dict[str, torch.Tensor]:
    batch = random_batch()
    batch["decoder_input_ids"] = batch.pop("labels").clamp(min=0)
    batch["image_mask"][0] = False
    return batch


@pytest.mark.parametrize("options", [{}, {"vision_feature": "patches"}, {"fusion": "concat"}])
@torch.no_grad()
def test_an_exported_graph_gives_the_models_logits_for_other_photos_too(options):
    model, inputs = tiny_model(**options), graph_inputs()
    graph = torch.export.export(Logits(model).eval(), (), kwargs=inputs).module()
    for mask in (inputs["image_mask"], ~inputs["image_mask"]):
        inputs |= {"image_mask": mask}
        torch.testing.assert_close(graph(**inputs), Logits(model)(**inputs), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@torch.no_grad()
def test_onnxruntime_gives_the_models_logits(tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime", reason="see requirements-dev.txt")
    model, inputs = tiny_model(), graph_inputs()
    torch.onnx.export(Logits(model).eval(), (), kwargs=inputs, f=tmp_path / "model.onnx", dynamo=True, verbose=False)
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"))
    (logits,) = session.run(None, {name: tensor.numpy() for name, tensor in inputs.items()})
    torch.testing.assert_close(torch.from_numpy(logits), Logits(model)(**inputs), rtol=1e-4, atol=1e-5)
