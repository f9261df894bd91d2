"""SelectAtt: its fusion against NumPy, and what it shares with mmprofile's model and what not."""

import json

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModel, BertConfig, BertModel, T5ForConditionalGeneration, ViTModel

from baselines.select_att import SELECT_ATT, SelectAtt, SelectAttConfig, SelectiveFusion
from mmprofile import OBJECTIVES
from mmprofile.modeling_mmprofile import MMProfileForConditionalGeneration
from tests.tiny_models import (
    PATCHES,
    random_batch,
    random_photos,
    random_text,
    same_t5,
    tiny_t5_config,
    tiny_vit_config,
)
from tests.training.test_objectives import BLACK, batch_of_views
from training.joint_step import NaiveJointStep, joint_step
from training.objectives import select_views


def tiny_select_att(**fields) -> SelectAtt:
    torch.manual_seed(0)
    return SelectAtt(SelectAttConfig(text_config=tiny_t5_config(), vision_config=tiny_vit_config(), **fields)).eval()


def softmax(scores):
    weights = np.exp(scores - scores.max())
    return weights / weights.sum()


def test_the_fusion_is_selective_attention_and_a_sigmoid_gate():
    fusion = SelectiveFusion(tiny_t5_config(d_model=12))
    w = {name.removesuffix(".weight"): p.detach().numpy() for name, p in fusion.named_parameters()}
    text, visual = torch.randn(3, 5, 12), torch.randn(3, 6, 12)
    mask = torch.tensor([[1, 1, 1, 1, 1, 1], [0, 1, 0, 0, 1, 0], [0, 0, 0, 0, 0, 0]]).bool()
    output = fusion(text, torch.ones(3, 5), visual, mask)
    fused, weights, gates = np.zeros((3, 5, 12)), np.zeros((3, 5, 6)), np.zeros((3, 5, 12))
    for user in range(3):
        there = np.flatnonzero(mask[user])
        for position, word in enumerate(text[user].numpy()):
            attended = np.zeros(12)
            if len(there):
                patches = visual[user, there].numpy()
                scores = [(w["query"] @ word) @ (w["key"] @ patch) / np.sqrt(12) for patch in patches]
                weights[user, position, there] = softmax(np.array(scores))
                values = [w["value"] @ patch for patch in patches]
                mixed = sum(p * v for p, v in zip(weights[user, position, there], values, strict=True))
                attended = w["output"] @ mixed
            gate = 1 / (1 + np.exp(-(w["gate_text"] @ word + w["gate_image"] @ attended)))
            fused[user, position] = (1 - gate) * word + gate * attended if len(there) else word
            gates[user, position] = gate
    for found, expected in (
        (output.last_hidden_state, fused),
        (output.image_attentions, weights),
        (output.gate, gates),
    ):
        np.testing.assert_allclose(found.detach().numpy(), expected, rtol=1e-4, atol=1e-5)


def test_without_photos_it_is_t5_to_the_bit_whatever_the_others_of_the_batch_have():
    model, text = tiny_select_att(), random_text()
    assert torch.equal(model(**text).logits, same_t5(model)(**text).logits)
    plain = model.encode(text["input_ids"], text["attention_mask"]).last_hidden_state
    fused = model.encode(text["input_ids"], text["attention_mask"], **random_photos()).last_hidden_state
    assert torch.equal(fused[2], plain[2])
    assert not torch.isclose(fused[:2], plain[:2]).all()


def test_it_looks_at_patches_and_never_at_photos_that_are_not_there():
    model, batch = tiny_select_att(), random_batch()
    features = model.photo_features(batch["pixel_values"], batch["image_mask"])
    assert features.shape[2] == PATCHES
    garbage = torch.where(batch["image_mask"][..., None, None, None], batch["pixel_values"], 1e6)
    assert torch.equal(model(**batch | {"pixel_values": garbage}).logits, model(**batch).logits)


def test_the_order_of_photos_changes_nothing():
    model, batch = tiny_select_att(), random_batch()
    order = torch.tensor([2, 0, 3, 1])
    turned = {name: batch[name][:, order] for name in ("pixel_values", "image_mask")}
    torch.testing.assert_close(model(**batch | turned).logits, model(**batch).logits, rtol=1e-4, atol=1e-5)


def test_it_is_trained_by_the_shared_step_whose_losses_and_gradients_are_the_naive_ones():
    views = select_views("combined", OBJECTIVES)
    model, batch = tiny_select_att().double(), batch_of_views(views)
    batch["pixel_values"] = batch["pixel_values"].double()
    found = []
    for step in (joint_step(model, views, BLACK), NaiveJointStep(model, views, BLACK)):
        output = step(batch)
        output.loss.backward()
        found.append((type(step).__name__, output.losses, {n: p.grad.clone() for n, p in model.named_parameters()}))
        model.zero_grad()
    (shared, losses, gradients), (_, expected_losses, expected_gradients) = found
    assert shared == "SharedJointStep"
    torch.testing.assert_close(losses, expected_losses, rtol=1e-5, atol=1e-6, check_dtype=False)
    torch.testing.assert_close(gradients, expected_gradients, rtol=1e-4, atol=1e-7)
    assert gradients and all(gradient.any() for gradient in gradients.values())


def test_a_checkpoint_has_no_code_and_only_its_own_class_loads_it(tmp_path):
    model = tiny_select_att(system="select_att", objectives=["fusion"])
    model.save_pretrained(tmp_path)
    assert not list(tmp_path.glob("*.py"))
    saved = json.loads((tmp_path / "config.json").read_text())
    assert saved["model_type"] == "mmprofile_select_att"
    assert not {"auto_map", "custom_pipelines", "fusion"} & set(saved)
    for auto in (AutoConfig, AutoModel):
        with pytest.raises(ValueError, match="mmprofile_select_att"):
            auto.from_pretrained(tmp_path, trust_remote_code=True)
    loaded = SelectAtt.from_pretrained(tmp_path)
    assert loaded.config.system == "select_att"
    assert loaded.config.profile_schema == model.config.profile_schema
    assert torch.equal(loaded(**random_batch()).logits, model(**random_batch()).logits)


def test_mmprofiles_own_checkpoints_still_have_theirs(tmp_path):
    tiny_select_att().save_pretrained(tmp_path / "other")
    own = MMProfileForConditionalGeneration(
        MMProfileForConditionalGeneration.config_class(text_config=tiny_t5_config(), vision_config=tiny_vit_config())
    )
    own.save_pretrained(tmp_path / "own")
    assert (tmp_path / "own" / "modeling_mmprofile.py").exists()
    assert "auto_map" in json.loads((tmp_path / "own" / "config.json").read_text())


def test_it_begins_with_pretrained_towers(tmp_path):
    T5ForConditionalGeneration(tiny_t5_config()).save_pretrained(tmp_path / "t5")
    ViTModel(tiny_vit_config(), add_pooling_layer=False).save_pretrained(tmp_path / "vit")
    model = SELECT_ATT.pretrained(str(tmp_path / "t5"), str(tmp_path / "vit"))
    assert type(model) is SelectAtt and type(model.config) is SelectAttConfig
    assert model.config.vision_feature == "patches" and type(model.fusion) is SelectiveFusion
    expected = T5ForConditionalGeneration.from_pretrained(tmp_path / "t5").state_dict()
    torch.testing.assert_close(model.text_model.state_dict(), expected, rtol=0, atol=0)
    model.resize_token_embeddings(120)
    assert model(**random_batch()).logits.shape[-1] == 120


def test_a_text_tower_of_another_kind_is_refused(tmp_path):
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    BertModel(BertConfig(vocab_size=50, **sizes)).save_pretrained(tmp_path / "bert")
    with pytest.raises(ValueError, match=r"bert' must be of one of the types \['t5', .*, it is 'bert'"):
        SELECT_ATT.pretrained(str(tmp_path / "bert"), "unused")
