"""The table of fusions: a new one is a class and its name there, and each keeps what the model builds upon."""

import pytest
import torch
from torch import nn

from mmprofile import FUSIONS, MMProfileConfig, MMProfileForConditionalGeneration
from mmprofile.fusion_mmprofile import FusedEncoderOutput, Fusion, GatedFusion
from tests.tiny_models import (
    D_MODEL,
    random_batch,
    random_photos,
    random_text,
    tiny_config,
    tiny_model,
    tiny_t5_config,
)


class MeanFusion(Fusion):
    """The mean photo, normalised and projected, on each word."""

    def __init__(self, text_config):
        super().__init__(text_config)
        self.norm = nn.LayerNorm(text_config.d_model)
        self.output = nn.Linear(text_config.d_model, text_config.d_model)

    def forward(self, text, attention_mask, visual, visual_mask):
        there = visual_mask[:, :, None].to(visual.dtype)
        mean = (visual * there).sum(1, keepdim=True) / there.sum(1, keepdim=True).clamp(min=1)
        image = self.output(self.norm(mean)) * there.amax(1, keepdim=True)
        return FusedEncoderOutput(text + image, attention_mask=attention_mask)


class SigmoidFusion(GatedFusion):
    def gate(self, text, image):
        return torch.sigmoid(self.gate_text(text) + self.gate_image(image))


TOYS = {"mean": MeanFusion, "sigmoid": SigmoidFusion}


@pytest.fixture
def toys(monkeypatch):
    for name, toy in TOYS.items():
        monkeypatch.setitem(FUSIONS, name, toy)


@pytest.mark.parametrize("name", TOYS)
def test_a_fusion_registered_in_the_table_is_trained_saved_and_loaded(toys, name, tmp_path):
    model = MMProfileForConditionalGeneration(tiny_config(fusion=name, text={"dropout_rate": 0.0})).train()
    before = [weight.detach().clone() for weight in model.fusion.parameters()]
    optimizer = torch.optim.Adam(model.parameters(), lr=0.003)
    losses = []
    for _ in range(5):
        losses.append(model(**random_batch()).loss)
        losses[-1].backward()
        optimizer.step()
        optimizer.zero_grad()
    assert losses[-1] < losses[0]
    assert before and not any(map(torch.equal, before, model.fusion.parameters()))
    assert type(model.fusion) is TOYS[name]
    model.eval().save_pretrained(tmp_path)
    assert MMProfileConfig.from_pretrained(tmp_path).fusion == name
    loaded = MMProfileForConditionalGeneration.from_pretrained(tmp_path)
    assert torch.equal(loaded(**random_batch()).logits, model(**random_batch()).logits)


def test_weights_that_a_checkpoint_lacks_are_those_of_a_fresh_fusion(toys, tmp_path):
    tiny_model(fusion="concat").save_pretrained(tmp_path)
    fusion = MMProfileForConditionalGeneration.from_pretrained(tmp_path, fusion="mean").fusion
    assert torch.equal(fusion.norm.weight, torch.ones(D_MODEL)) and not fusion.norm.bias.any()
    assert not fusion.output.bias.any()
    assert fusion.output.weight.std().item() == pytest.approx(D_MODEL**-0.5, rel=0.1)


def test_a_gate_of_another_kind_comes_out(toys):
    gate = tiny_model(fusion="sigmoid")(**random_batch(), output_fusion=True).gate
    assert gate.min() > 0 and gate.max() < 1


@pytest.mark.parametrize("name", [*FUSIONS, *TOYS])
def test_a_user_without_photos_keeps_the_text_whatever_the_others_have(toys, name):
    model, text = tiny_model(fusion=name), random_text()
    plain = model.encode(text["input_ids"], text["attention_mask"])
    fused = model.encode(text["input_ids"], text["attention_mask"], **random_photos())
    assert torch.equal(fused.last_hidden_state[2, :10], plain.last_hidden_state[2])
    assert fused.attention_mask[2].sum() == plain.attention_mask[2].sum()
    assert not torch.equal(fused.last_hidden_state[0, :10], plain.last_hidden_state[0]) or name == "concat"


def test_a_fusion_that_is_not_in_the_table_is_refused_with_those_that_are(toys, tmp_path):
    tiny_model().save_pretrained(tmp_path)
    message = r"fusion must be one of \['gated', 'concat', 'mean', 'sigmoid'\], got 'bogus'"
    with pytest.raises(ValueError, match=message):
        MMProfileForConditionalGeneration.from_pretrained(tmp_path, fusion="bogus")
    with pytest.raises(ValueError, match=message):
        MMProfileConfig(fusion="bogus")


def test_softening_a_gated_fusion_has_its_photos_come_in_with_a_tenth_of_the_weight():
    fusion = FUSIONS["gated"](tiny_t5_config())
    before = fusion.ffn_out.weight.detach().clone()
    fusion.soften()
    torch.testing.assert_close(fusion.ffn_out.weight, before / 10)
