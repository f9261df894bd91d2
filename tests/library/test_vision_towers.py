"""Vision towers of other kinds than ViT: any of transformers that has a state per patch."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    CLIPVisionConfig,
    CLIPVisionModel,
    IJepaConfig,
    IJepaModel,
    SiglipVisionConfig,
    SwinConfig,
    SwinModel,
    T5ForConditionalGeneration,
    VideoMAEConfig,
    VideoMAEModel,
    ViTConfig,
    ViTModel,
    YolosConfig,
    YolosModel,
)

from mmprofile import MMProfileConfig, MMProfileForConditionalGeneration
from tests.tiny_models import (
    D_MODEL,
    IMAGE_SIZE,
    PATCHES,
    random_batch,
    random_photos,
    tiny_config,
    tiny_t5_config,
    tiny_vit_config,
)
from tests.tiny_towers import MLP, OTHERS, PHOTO, SIZES, tiny_tower

build = MMProfileForConditionalGeneration.from_text_vision_pretrained


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Of a folder each for a T5 and for each kind of vision model."""
    folder = tmp_path_factory.mktemp("towers")
    torch.manual_seed(5)
    T5ForConditionalGeneration(tiny_t5_config()).save_pretrained(folder / "t5")
    for kind in OTHERS:
        tiny_tower(kind).save_pretrained(folder / kind)
    return folder


def vision_part(folder, kind):
    """transformers' own, from the folder."""
    whole = tiny_tower(kind).from_pretrained(folder / kind)
    return getattr(whole, "vision_model", whole).eval()


@pytest.mark.parametrize("feature", ["cls", "patches"])
@pytest.mark.parametrize("kind", OTHERS)
def test_a_tower_gives_the_states_that_transformers_own_gives(folder, kind, feature):
    model = build(folder / "t5", folder / kind, vision_feature=feature)
    photos = torch.randn(2, 3, IMAGE_SIZE, IMAGE_SIZE)
    expected = vision_part(folder, kind)(photos)
    assert expected.last_hidden_state.shape[1] == OTHERS[kind] + PATCHES
    states = expected.pooler_output if feature == "cls" else expected.last_hidden_state[:, OTHERS[kind] :]
    assert torch.equal(model.photo_states(photos), states)
    assert not torch.allclose(states[0], states[1], atol=1e-3)


@pytest.mark.parametrize("kind", OTHERS)
def test_a_model_of_another_tower_trains_is_saved_and_loads_the_same(folder, kind, tmp_path):
    model = build(folder / "t5", folder / kind, vision_feature="patches").train()
    model.activation_checkpointing_enable()
    model(**random_batch()).loss.backward()
    gradients = [parameter.grad for name, parameter in model.vision_model.named_parameters() if ".0." in name]
    assert len(gradients) > 5 and all(gradient is not None and gradient.any() for gradient in gradients)
    model.eval().save_pretrained(tmp_path)
    assert type(MMProfileConfig.from_pretrained(tmp_path).vision_config) is type(model.config.vision_config)
    loaded = MMProfileForConditionalGeneration.from_pretrained(tmp_path)
    assert torch.equal(loaded(**random_batch()).logits, model(**random_batch()).logits)
    assert set(model.vision_model._no_split_modules) <= set(model._no_split_modules)


@pytest.mark.parametrize("kind", ["vit", "dinov2", "siglip_vision_model"])
@pytest.mark.parametrize("feature", ["cls", "patches"])
def test_where_nobody_has_a_photo_features_have_the_shape_that_they_would_have(kind, feature):
    vision = tiny_vit_config() if kind == "vit" else tiny_tower(kind).config
    config = MMProfileConfig(text_config=tiny_t5_config(), vision_config=vision, vision_feature=feature)
    model, photos = MMProfileForConditionalGeneration(config).eval(), random_photos()
    none = model.photo_features(photos["pixel_values"], torch.zeros(3, 4, dtype=torch.bool))
    assert none.shape == model.photo_features(**photos).shape and not none.any()


def test_photos_of_another_size_are_refused_where_positions_are_fixed_and_else_cut_in_more_patches(folder):
    photos = torch.randn(1, 3, 48, 40)
    for kind in ("siglip", "clip"):
        with pytest.raises(ValueError, match=r"photos of \(32, 32\) pixels, got \(48, 40\)"):
            build(folder / "t5", folder / kind).photo_states(photos)
    model = build(folder / "t5", folder / "dinov2", vision_feature="patches")
    assert model.photo_states(photos).shape == (1, 6 * 5, 16)
    assert model.photo_features(photos[None], torch.zeros(1, 1, dtype=torch.bool)).shape == (1, 1, 30, D_MODEL)


def test_a_tower_without_a_state_of_the_whole_photo_goes_with_patches_alone(folder, tmp_path):
    IJepaModel(IJepaConfig(**SIZES, **MLP, **PHOTO)).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="type 'ijepa', has no state of a whole photo: vision_feature='patches'"):
        build(folder / "t5", tmp_path)
    assert build(folder / "t5", tmp_path, vision_feature="patches")(**random_batch()).loss.isfinite()


def test_a_tower_without_a_state_per_patch_is_refused(folder, tmp_path):
    SwinModel(
        SwinConfig(embed_dim=8, depths=[1, 1], num_heads=[1, 1], window_size=2, image_size=IMAGE_SIZE)
    ).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="type 'swin', has no state per patch"):
        build(folder / "t5", tmp_path)


OTHER_MODELS = {
    "yolos": (
        YolosModel,
        YolosConfig(**SIZES, **MLP, **PHOTO | {"image_size": [32, 32]}, num_detection_tokens=3),
        "num_detection_tokens=3",
    ),
    "videomae": (VideoMAEModel, VideoMAEConfig(**SIZES, **MLP, **PHOTO, num_frames=4), "num_frames=4"),
}


@pytest.mark.parametrize("kind", OTHER_MODELS)
def test_detectors_whose_patches_states_are_not_the_last_and_models_of_videos_are_refused(folder, tmp_path, kind):
    vision_class, config, why = OTHER_MODELS[kind]
    vision_class(config).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=f"'{tmp_path}' must be .* photos .* it is '{kind}' with {why}"):
        build(folder / "t5", tmp_path, vision_feature="patches")
    with pytest.raises(ValueError, match=f"'vision_config' must be .* it is '{kind}' with {why}"):
        MMProfileForConditionalGeneration(MMProfileConfig(text_config=tiny_t5_config(), vision_config=config))


def test_a_checkpoint_that_cannot_take_photos_is_named(folder, tmp_path):
    CLIPVisionModel(CLIPVisionConfig(**SIZES, **MLP, **PHOTO, num_channels=4)).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=f"'{tmp_path}' gives no states of photos: .*channels"):
        build(folder / "t5", tmp_path)


def test_a_checkpoint_that_lacks_weights_is_refused_and_not_filled_with_random_ones(folder, tmp_path):
    ViTModel(ViTConfig(**SIZES, **MLP, **PHOTO)).save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    del weights["embeddings.cls_token"]
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match="lacks 1 weights of ViTModel, e.g. 'embeddings.cls_token'"):
        build(folder / "t5", tmp_path)


def test_towers_are_told_by_their_type_and_without_one_are_t5_and_vit(tmp_path):
    fields = {"text_config": {"d_model": 8}, "vision_config": SIZES | PHOTO | {"model_type": "siglip_vision_model"}}
    config = MMProfileConfig(**fields)
    assert type(config.vision_config) is SiglipVisionConfig and config.text_config.model_type == "t5"
    assert MMProfileConfig(vision_config=SIZES).vision_config.model_type == "vit"
    tiny_config().save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "config.json").read_text())
    assert (saved["text_config"]["model_type"], saved["vision_config"]["model_type"]) == ("t5", "vit")
