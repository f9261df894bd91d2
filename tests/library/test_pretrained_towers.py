"""A model out of two pre-trained towers."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import BertConfig, BertModel, T5ForConditionalGeneration, ViTForImageClassification

from mmprofile.modeling_mmprofile import MMProfileForConditionalGeneration
from tests.tiny_models import (
    D_MODEL,
    VOCAB_SIZE,
    random_batch,
    random_photos,
    random_text,
    tiny_t5_config,
    tiny_vit_config,
)


def assert_same(tensors: dict, others: dict):
    assert tensors.keys() == others.keys()
    for name, tensor in tensors.items():
        assert torch.equal(tensor, others[name]), name


@pytest.fixture(scope="module")
def towers(tmp_path_factory):
    """Folders of a T5 and of a ViT classifier, and the models saved in them."""
    folder = tmp_path_factory.mktemp("towers")
    torch.manual_seed(5)
    text, vision = T5ForConditionalGeneration(tiny_t5_config()), ViTForImageClassification(tiny_vit_config())
    text.save_pretrained(folder / "t5")
    vision.save_pretrained(folder / "vit")
    return folder / "t5", folder / "vit", text, vision


def test_two_pretrained_towers_become_a_model(towers):
    t5, vit, text, vision = towers
    model = MMProfileForConditionalGeneration.from_text_vision_pretrained(t5, vit, fusion="concat")
    assert_same(model.text_model.state_dict(), text.state_dict())
    assert_same(model.vision_model.state_dict(), vision.vit.state_dict())
    assert model.config.fusion == "concat" and not list(model.fusion.parameters()) and not model.training
    assert model.text_model.config is model.config.text_config
    assert model.vision_model.config is model.config.vision_config
    assert torch.equal(model(**random_text()).logits, text.eval()(**random_text()).logits)


def test_towers_load_in_the_dtype_asked_for(towers):
    model = MMProfileForConditionalGeneration.from_text_vision_pretrained(*towers[:2], dtype=torch.bfloat16)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
    assert model(**random_batch()).loss.isfinite()


def test_a_tower_of_another_kind_is_named(towers, tmp_path):
    t5, vit, *_ = towers
    BertModel(BertConfig(vocab_size=9, hidden_size=8, num_hidden_layers=1, num_attention_heads=1)).save_pretrained(
        tmp_path
    )
    build = MMProfileForConditionalGeneration.from_text_vision_pretrained
    kinds = r"one of the types \['t5', 'mt5', 'umt5'\], it is 'bert'"
    cuts = "that cuts photos in patches, their states last, it is 't5'"
    for text, vision, wrong in ((tmp_path, vit, kinds), (t5, t5, cuts)):
        with pytest.raises(ValueError, match=wrong):
            build(text, vision)


def test_a_head_of_its_own_and_unscaled_logits_as_flan_t5_has_them_survive(towers, tmp_path):
    flan = tmp_path / "flan"
    T5ForConditionalGeneration(tiny_t5_config(feed_forward_proj="gated-gelu")).save_pretrained(flan)
    weights = load_file(flan / "model.safetensors") | {"lm_head.weight": torch.randn(VOCAB_SIZE, D_MODEL)}
    save_file(weights, flan / "model.safetensors")
    fields = json.loads((flan / "config.json").read_text())
    fields.pop("scale_decoder_outputs")  # transformers 4 wrote none
    (flan / "config.json").write_text(json.dumps(fields | {"tie_word_embeddings": False}))

    t5 = T5ForConditionalGeneration.from_pretrained(flan).eval()
    model = MMProfileForConditionalGeneration.from_text_vision_pretrained(flan, towers[1])
    model.save_pretrained(tmp_path / "saved")
    loaded = MMProfileForConditionalGeneration.from_pretrained(tmp_path / "saved")
    assert not loaded.config.text_config.scale_decoder_outputs
    for ours in (model, loaded):
        assert torch.equal(ours(**random_text()).logits, t5(**random_text()).logits)


def test_photos_come_in_softly_beside_a_pretrained_t5(towers):
    model = MMProfileForConditionalGeneration.from_text_vision_pretrained(*towers[:2])
    text, photos = random_text(), random_photos()
    t5, ours = model.encode(text["input_ids"]), model.encode(text["input_ids"], **photos)
    change = (ours.last_hidden_state - t5.last_hidden_state)[:2].norm() / t5.last_hidden_state[:2].norm()
    assert 0 < change < 0.1
