"""LLaVA: photos as tokens before the text."""

import pytest
import torch
from safetensors.torch import save_file
from transformers import LlavaForConditionalGeneration, SiglipVisionConfig

from baselines.causal import NOTHING
from baselines.llava import PHOTO, Llava, pretrained
from tests.baselines.causal_users import PROCESSOR, alone, causal_model, described, users

INPUTS, TARGETS = users("llava")
TOKENS = 16  # of a photo


def losses_of(model, inputs, targets=TARGETS) -> list[float]:
    with torch.no_grad():
        return model.target_losses(inputs, targets).tolist()


def without_photos(inputs: dict) -> dict:
    return {name: inputs[name] for name in ("input_ids", "attention_mask")}


@pytest.fixture
def model() -> Llava:
    return causal_model("llava")


def test_users_have_a_block_of_tokens_a_photo_before_their_text(model):
    rows = model.prompts(INPUTS)
    for row, photos in zip(rows, [0, 1, 3], strict=True):
        row = row[row != NOTHING]
        assert (row[: photos * TOKENS] == PHOTO).all()
        assert (row[photos * TOKENS :] >= 0).all()


def test_photos_stand_where_transformers_puts_them(model):
    """The class's own forward pass, with the image token that it fills in."""
    image_token = PROCESSOR.tokenizer.convert_tokens_to_ids("<extra_id_50>")
    assert (INPUTS["input_ids"] != image_token).all()
    model.config.image_token_id = image_token
    found = losses_of(model, INPUTS)
    for number in range(3):
        inputs, labels = alone(INPUTS, number), alone(TARGETS, number)["labels"]
        rows = torch.cat([model.prompts(inputs), labels], dim=1)
        ids = rows.masked_fill(rows == PHOTO, image_token)
        pixels = inputs["pixel_values"][0] if "pixel_values" in inputs else None
        with torch.no_grad():
            logits = model(input_ids=ids, pixel_values=pixels).logits[:, :-1].double()
        logs = logits.log_softmax(-1).gather(2, ids[:, 1:, None])[0, -labels.shape[1] :, 0]
        assert found[number] == pytest.approx(-logs.sum().item(), rel=1e-5)


@pytest.mark.parametrize("said", [8, 20])
def test_another_number_of_tokens_a_photo_than_the_vision_tower_makes_is_refused(model, said):
    model.config.image_seq_length = said
    with pytest.raises(
        ValueError, match=f"makes 16 tokens of a photo, the configuration says image_seq_length={said}"
    ):
        losses_of(model, INPUTS)


def test_photos_change_the_losses_of_who_has_them_alone(model):
    seen, plain = losses_of(model, INPUTS), losses_of(model, without_photos(INPUTS))
    assert seen[0] == pytest.approx(plain[0], rel=1e-5)
    assert [abs(a - b) > 0.1 for a, b in zip(seen, plain, strict=True)] == [False, True, True]


def test_users_without_photos_have_llamas_losses(model):
    llama = causal_model("llama")
    llama.load_state_dict(
        {
            name.replace("model.language_model.", "model."): weight
            for name, weight in model.state_dict().items()
            if "language_model" in name or "lm_head" in name
        }
    )
    assert losses_of(model, without_photos(INPUTS)) == pytest.approx(losses_of(llama, without_photos(INPUTS)))


def test_a_mask_without_a_photo_is_as_no_mask(model):
    none = INPUTS | {"image_mask": torch.zeros_like(INPUTS["image_mask"])}
    assert losses_of(model, none) == losses_of(model, without_photos(INPUTS))


def test_gaps_between_photos_and_what_is_in_them_change_nothing(model):
    places = [0, 3, 1, 4, 2]
    mask = torch.nn.functional.pad(INPUTS["image_mask"], (0, 2))[:, places]
    pixels = torch.nn.functional.pad(INPUTS["pixel_values"], (0, 0) * 3 + (0, 2))[:, places]
    pixels[~mask] = 5.0
    moved = INPUTS | {"pixel_values": pixels, "image_mask": mask}
    assert losses_of(model, moved) == pytest.approx(losses_of(model, INPUTS), rel=1e-5)


def test_photos_are_a_sequence(model):
    turned = INPUTS | {"pixel_values": INPUTS["pixel_values"].clone()}
    turned["pixel_values"][2] = turned["pixel_values"][2].flip(0)
    before, after = losses_of(model, INPUTS), losses_of(model, turned)
    assert before[:2] == pytest.approx(after[:2], rel=1e-5)
    assert abs(before[2] - after[2]) > 1e-3


def test_different_photos_have_different_tokens(model):
    with torch.no_grad():
        first, second = model.get_image_features(INPUTS["pixel_values"][2, :2]).pooler_output
    assert first.shape == (TOKENS, 96)
    assert (first - second).pow(2).mean() > 0.3 * first.var()


def test_what_of_the_tower_is_not_read_is_not_trained(tmp_path, model):
    model.config.vision_feature_layer = -2  # as LLaVA's checkpoints have it
    model.save_pretrained(tmp_path)
    model = described(pretrained(str(tmp_path), None), "llava")
    model.prepare(PROCESSOR)
    model.target_losses(INPUTS, TARGETS).sum().backward()
    idle = {name for name, weight in model.named_parameters() if weight.grad is None}
    assert idle == {name for name, weight in model.named_parameters() if not weight.requires_grad}
    parts = ("model.vision_tower.encoder.layers.1.", "model.vision_tower.post_layernorm.")
    assert idle == {name for name, _ in model.named_parameters() if name.startswith(parts)}


def test_the_vision_tower_can_be_frozen_by_its_name(model):
    model.vision_model.requires_grad_(False)
    model.target_losses(INPUTS, TARGETS).sum().backward()
    trained = {name.split(".")[1] for name, weight in model.named_parameters() if weight.grad is not None}
    assert trained == {"multi_modal_projector", "language_model"}


@pytest.mark.parametrize("tied", [True, False])
def test_a_checkpoint_with_the_hubs_names_of_weights_is_loaded(tied, tmp_path, model):
    """As llava-hf/llava-1.5-7b-hf has them, saved by an older transformers."""
    model.config.tie_word_embeddings = model.config.text_config.tie_word_embeddings = tied
    old = {"model.language_model.": "language_model.model.", "lm_head.": "language_model.lm_head."}
    old |= {"model.vision_tower.": "vision_tower.vision_model.", "model.multi_modal": "multi_modal"}
    weights = {}
    for name, weight in model.state_dict().items():
        start = next(start for start in old if name.startswith(start))
        weights[old[start] + name.removeprefix(start)] = weight.clone()
    model.config.save_pretrained(tmp_path)
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    loaded = described(pretrained(str(tmp_path), None), "llava")
    assert losses_of(loaded, INPUTS) == losses_of(model, INPUTS)


def test_a_checkpoint_is_transformers_own(tmp_path, model):
    model.save_pretrained(tmp_path)
    loaded, found = LlavaForConditionalGeneration.from_pretrained(tmp_path, output_loading_info=True)
    assert found and not any(found.values())
    assert all(torch.equal(weight, model.state_dict()[name]) for name, weight in loaded.state_dict().items())


def test_another_vision_tower_than_clips_is_refused(tmp_path, model):
    model.config.vision_config = SiglipVisionConfig(hidden_size=32, num_hidden_layers=1, num_attention_heads=2)
    model.config.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="must be of type 'clip_vision_model', it is of type 'siglip_vision_model'"):
        pretrained(str(tmp_path), None)
