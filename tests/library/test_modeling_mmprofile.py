"""The model as a whole: T5 where there is no photo, invariances, losses, precision, bad input."""

import pytest
import torch

from mmprofile import modeling_mmprofile
from mmprofile.modeling_mmprofile import MMProfileForConditionalGeneration
from tests.tiny_models import (
    IMAGE_SIZE,
    VOCAB_SIZE,
    photos_seen,
    random_batch,
    random_photos,
    random_text,
    same_t5,
    tiny_config,
    tiny_model,
)

FUSIONS = pytest.mark.parametrize("fusion", ["gated", "concat"])
VARIANTS = pytest.mark.parametrize(
    "variant", [{"fusion": f, "vision_feature": v} for f in ("gated", "concat") for v in ("cls", "patches")]
)


def assert_close(actual, expected):
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-4)


@FUSIONS
@pytest.mark.parametrize("attn", ["eager", "sdpa"])
@pytest.mark.parametrize("masked", [True, False])
def test_missing_photos_give_plain_t5_logits_to_the_bit(fusion, attn, masked):
    model, text = tiny_model(fusion=fusion), random_text()
    model.set_attn_implementation(attn)
    if not masked:
        text.pop("attention_mask")
    ours, t5 = model(**text), same_t5(model)(**text)
    assert torch.equal(ours.logits, t5.logits)
    assert torch.equal(ours.loss, t5.loss)


def test_photos_that_are_all_masked_give_plain_t5_logits_to_the_bit():
    model, text, photos = tiny_model(), random_text(), random_photos()
    photos["image_mask"][:] = False
    assert torch.equal(model(**text, **photos).logits, same_t5(model)(**text).logits)


@VARIANTS
def test_a_user_without_photos_in_a_mixed_batch_is_plain_t5(variant):
    model, batch = tiny_model(**variant), random_batch()
    ours, t5 = model(**batch).logits, same_t5(model)(**random_text()).logits
    assert_close(ours[2], t5[2])
    assert (ours[:2] - t5[:2]).abs().amax(dim=(1, 2)).min() > 0.01


@VARIANTS
def test_padding_changes_nothing(variant):
    model, batch = tiny_model(**variant), random_batch()
    padded = dict(
        batch,
        input_ids=torch.nn.functional.pad(batch["input_ids"], (0, 3), value=7),
        attention_mask=torch.nn.functional.pad(batch["attention_mask"], (0, 3)),
        pixel_values=torch.cat([batch["pixel_values"], torch.full((3, 2, 3, IMAGE_SIZE, IMAGE_SIZE), 1e6)], dim=1),
        image_mask=torch.nn.functional.pad(batch["image_mask"], (0, 2)),
    )
    padded["pixel_values"][2] = float("nan")  # of photos that are not there
    assert_close(model(**padded).logits, model(**batch).logits)


@VARIANTS
def test_a_batch_gives_what_its_users_give_one_by_one(variant):
    model, batch = tiny_model(**variant), random_batch()
    together = model(**batch).logits
    for user in range(3):
        alone = model(**{name: tensor[user : user + 1] for name, tensor in batch.items()})
        assert_close(together[user], alone.logits[0])


@VARIANTS
@pytest.mark.parametrize("together", [1, 2**30])
def test_a_tower_takes_a_batch_in_parts_as_a_whole(variant, together, monkeypatch):
    monkeypatch.setattr(modeling_mmprofile, "CACHED_STATES", together)
    model, batch = tiny_model(**variant), random_batch()
    batch.pop("labels")
    mask = torch.ones_like(batch["attention_mask"])
    mask[0, -2:], mask[1, :2], mask[2, 1:3] = 0, 0, 0  # padding behind, before, and within
    batch["attention_mask"] = mask
    whole = model.encode(**batch)
    with torch.no_grad():
        parts = model.encode(**batch)
    there = whole.attention_mask.bool()
    assert torch.equal(parts.attention_mask, whole.attention_mask) and not there.all()
    assert_close(parts.last_hidden_state[there], whole.last_hidden_state[there])
    assert parts.last_hidden_state.isfinite().all()
    batch["attention_mask"] = torch.zeros_like(mask)
    with torch.no_grad():
        assert model.encode(**batch).last_hidden_state.isfinite().all()


@VARIANTS
def test_the_order_of_photos_changes_nothing_but_the_order_of_their_weights(variant):
    model, batch = tiny_model(**variant), random_batch()
    order = torch.tensor([2, 0, 3, 1])
    permuted = dict(batch, pixel_values=batch["pixel_values"][:, order], image_mask=batch["image_mask"][:, order])
    one, other = (model(**inputs, output_fusion=True) for inputs in (batch, permuted))
    assert_close(one.logits, other.logits)
    if variant["fusion"] == "gated":
        assert_close(one.image_attentions[:, :, order], other.image_attentions)


def test_the_vision_tower_sees_real_photos_only():
    model, batch = tiny_model(), random_batch()
    seen = photos_seen(model)
    model(**batch)
    assert seen == [6]  # 4 of the first user, 2 of the second
    model(**random_text())
    model(**dict(batch, image_mask=torch.zeros(3, 4)))
    assert seen == [6]


def test_no_image_mask_means_that_every_photo_is_there():
    model, batch = tiny_model(), random_batch()
    batch["image_mask"][:] = True
    assert torch.equal(model(**batch).logits, model(**dict(batch, image_mask=None)).logits)


@pytest.mark.parametrize("fusion", ["gated", "concat"])
def test_encoder_outputs_stand_for_the_inputs(fusion):
    model, batch = tiny_model(fusion=fusion), random_batch()
    labels = batch.pop("labels")
    encoded = model.encode(**batch, output_fusion=True)
    direct = model(**batch, labels=labels, output_fusion=True)
    output = model(encoder_outputs=encoded, labels=labels)
    assert torch.equal(output.logits, direct.logits)
    assert (output.gate is None) == (fusion == "concat")
    plain = (encoded.last_hidden_state,)
    assert torch.equal(
        model(encoder_outputs=plain, attention_mask=encoded.attention_mask, labels=labels)[0], output[0]
    )


def test_the_loss_comes_first_and_a_tuple_holds_the_same():
    model, batch = tiny_model(), random_batch()
    output, as_tuple = model(**batch), model(**batch, return_dict=False)
    expected = torch.nn.functional.cross_entropy(output.logits.flatten(0, 1), batch["labels"].flatten())
    torch.testing.assert_close(output.loss, expected)
    assert isinstance(as_tuple, tuple)
    assert torch.equal(output[0], output.loss) and torch.equal(as_tuple[0], output.loss)
    assert torch.equal(as_tuple[1], output.logits)


def test_hidden_states_and_attentions_come_out_when_asked_for():
    model = tiny_model()
    model.set_attn_implementation("eager")
    output = model(**random_batch(), output_hidden_states=True, output_attentions=True)
    assert [len(output.encoder_hidden_states), len(output.decoder_hidden_states)] == [3, 3]
    assert output.cross_attentions[0].shape == (3, 4, 6, 10)
    assert output.encoder_attentions[0].shape == (3, 4, 10, 10)


def test_the_attention_implementation_reaches_both_towers_and_changes_nothing():
    logits = []
    for attn in ("eager", "sdpa"):
        config = tiny_config()
        config._attn_implementation = attn
        torch.manual_seed(0)
        model = MMProfileForConditionalGeneration(config).eval()
        towers = (model.text_model.encoder, model.text_model.decoder, model.vision_model)
        assert [tower.config._attn_implementation for tower in towers] == [attn] * 3
        logits.append(model(**random_batch()).logits)
    assert_close(*logits)


def test_the_attention_implementation_can_be_set_later_and_again():
    model = tiny_model()
    assert model._can_set_attn_implementation()  # else transformers warns, and nothing says so but its log
    for attn in ("eager", "sdpa"):
        model.set_attn_implementation(attn)
        towers = (model.text_model.encoder, model.text_model.decoder, model.vision_model)
        assert [tower.config._attn_implementation for tower in towers] == [attn] * 3


def test_more_tokens_can_be_added():
    model, batch = tiny_model(), random_batch()
    logits = model(**batch).logits
    model.resize_token_embeddings(VOCAB_SIZE + 8)
    assert model.config.text_config.vocab_size == VOCAB_SIZE + 8
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
    resized = model(**batch).logits
    assert resized.shape == (3, 6, VOCAB_SIZE + 8)
    assert_close(resized[..., :VOCAB_SIZE], logits)
    batch["input_ids"][0, 0] = batch["labels"][0, 0] = VOCAB_SIZE + 7
    assert model(**batch).loss.isfinite()


@FUSIONS
def test_no_room_for_photos_is_no_photo(fusion):
    model, text = tiny_model(fusion=fusion), random_text()
    empty = {"pixel_values": torch.zeros(3, 0, 3, IMAGE_SIZE, IMAGE_SIZE), "image_mask": torch.zeros(3, 0).bool()}
    assert torch.equal(model(**text, **empty).logits, model(**text).logits)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (
            {"pixel_values": torch.zeros(3, 3, 32, 32)},
            r"\(batch, images, channels, height, width\), got \(3, 3, 32, 32\)",
        ),
        ({"pixel_values": torch.zeros(2, 4, 3, 32, 32)}, "pixel_values are of 2 users, the text of 3"),
        ({"image_mask": torch.ones(3, 5)}, r"\(3, 4\), got \(3, 5\)"),
        ({"image_mask": torch.ones(4, 3)}, r"\(3, 4\), got \(4, 3\)"),
        ({"pixel_values": torch.zeros(3, 4, 3, 16, 16)}, r"photos of \(32, 32\) pixels, got \(16, 16\)"),
        ({"pixel_values": torch.zeros(3, 4, 1, 32, 32)}, "Expected 3 but got 1"),
    ],
)
def test_inputs_that_do_not_fit_are_named_with_what_fits(wrong, message):
    with pytest.raises(ValueError, match=message):
        tiny_model()(**dict(random_batch(), **wrong))
