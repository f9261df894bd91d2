"""transformers' own `generate`: every way of decoding sees the photos."""

import warnings

import pytest
import torch

from tests.tiny_models import IMAGE_SIZE, photos_seen, random_batch, random_text, tiny_model

VARIANTS = pytest.mark.parametrize(
    "variant", [{"fusion": f, "vision_feature": v} for f in ("gated", "concat") for v in ("cls", "patches")]
)
STEPS = 6
BEAMS = {"num_beams": 4, "max_new_tokens": STEPS, "return_dict_in_generate": True, "output_scores": True}


def prompts(**options) -> dict[str, torch.Tensor]:
    batch = random_batch(**options)
    batch.pop("labels")
    return batch


def one_user(batch: dict, user: int) -> dict:
    return {name: tensor[user : user + 1] for name, tensor in batch.items()}


def without_end(sequence: torch.Tensor) -> list[int]:
    """The tokens, without the padding behind a shorter answer of the batch."""
    return sequence.tolist()[: len(sequence) - int((sequence.flip(0) != 0).int().argmax())]


@pytest.fixture(scope="module", params=["gated", "concat"])
def bright_or_dark(request):
    """A model that was shown one text with a bright photo and with a dark one, and answers by the photo alone."""
    torch.manual_seed(0)
    model = tiny_model(text={"dropout_rate": 0.0}, fusion=request.param)
    pixels = torch.stack([torch.full((1, 3, IMAGE_SIZE, IMAGE_SIZE), value) for value in (1.0, -1.0)])
    text = {name: tensor[:1].repeat(2, 1) for name, tensor in random_text().items() if name != "labels"}
    answers = torch.tensor([[11, 12, 13, 1], [21, 22, 23, 1]])
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(60):
        optimizer.zero_grad()
        loss = model(**text, pixel_values=pixels, labels=answers).loss
        loss.backward()
        optimizer.step()
    assert loss < 0.1
    return model.eval(), text | {"pixel_values": pixels}, answers


@pytest.mark.parametrize("decoding", [{"num_beams": 5}, {"num_beams": 1}, {"do_sample": True, "top_p": 0.5}])
def test_the_answer_follows_the_photo(bright_or_dark, decoding):
    model, inputs, answers = bright_or_dark
    generated = model.generate(**inputs, **decoding, max_new_tokens=8)
    assert generated[:, 1:].tolist() == answers.tolist()
    swapped = dict(inputs, pixel_values=inputs["pixel_values"].flip(0))
    assert model.generate(**swapped, **decoding, max_new_tokens=8)[:, 1:].tolist() == answers.flip(0).tolist()


@VARIANTS
def test_beam_search_scores_change_with_the_photos_of_those_who_have_some(variant):
    model, inputs = tiny_model(**variant), prompts()
    first = model.generate(**inputs, **BEAMS).sequences_scores
    second = model.generate(**dict(inputs, pixel_values=-inputs["pixel_values"]), **BEAMS).sequences_scores
    assert ((first - second).abs() > 1e-3).tolist() == [True, True, False]


@VARIANTS
def test_a_batch_of_beams_gives_what_its_users_give_one_by_one(variant):
    model, inputs = tiny_model(**variant), prompts()
    together = model.generate(**inputs, **BEAMS)
    for user in range(3):
        alone = model.generate(**one_user(inputs, user), **BEAMS)
        assert without_end(together.sequences[user]) == without_end(alone.sequences[0])
        torch.testing.assert_close(together.sequences_scores[user], alone.sequences_scores[0], rtol=1e-4, atol=1e-4)


def test_nothing_that_transformers_is_to_drop_is_used():
    model, inputs = tiny_model(), prompts()
    with warnings.catch_warnings():
        warnings.simplefilter("error", FutureWarning)
        model.generate(**inputs, **BEAMS)
        model(**inputs, labels=torch.ones(3, 4, dtype=torch.long))


@VARIANTS
def test_greedy_decoding_is_an_argmax_loop_with_and_without_cache(variant):
    model, inputs = tiny_model(**variant), prompts()
    options = {"max_new_tokens": STEPS, "return_dict_in_generate": True, "output_logits": True, "eos_token_id": -1}
    cached, uncached = (model.generate(**inputs, **options, use_cache=use_cache) for use_cache in (True, False))
    tokens = torch.zeros(3, 1, dtype=torch.long)
    for step in range(STEPS):
        logits = model(**inputs, decoder_input_ids=tokens).logits[:, -1]
        for generated in (cached, uncached):
            torch.testing.assert_close(generated.logits[step], logits, rtol=1e-4, atol=1e-4)
        tokens = torch.cat([tokens, logits.argmax(-1, keepdim=True)], dim=1)
    assert torch.equal(cached.sequences, tokens) and torch.equal(uncached.sequences, tokens)


@pytest.mark.parametrize("fusion", ["gated", "concat"])
@pytest.mark.parametrize("beams", [1, 3])
def test_encoder_outputs_stand_for_the_inputs(fusion, beams):
    model, inputs = tiny_model(fusion=fusion), prompts()
    options = {"num_beams": beams, "max_new_tokens": STEPS}
    encoded = model.encode(**inputs, output_fusion=True)
    assert torch.equal(model.generate(encoder_outputs=encoded, **options), model.generate(**inputs, **options))


def test_photos_are_encoded_once_for_all_beams_and_steps():
    model = tiny_model()
    seen = photos_seen(model)
    model.generate(**prompts(), **BEAMS)
    assert seen == [6]  # 4 of the first user, 2 of the second
    model.generate(input_ids=prompts()["input_ids"], **BEAMS)
    assert seen == [6]


def test_sampling_draws_by_the_seed():
    model, inputs, draws = tiny_model(), prompts(), []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        draws.append(model.generate(**inputs, do_sample=True, num_return_sequences=4, max_new_tokens=STEPS))
    assert draws[0].shape[0] == 12
    assert torch.equal(draws[0], draws[1])
    assert draws[0].tolist() != draws[2].tolist()


def test_without_photos_generation_is_plain_t5s():
    model = tiny_model()
    text = {name: tensor for name, tensor in prompts().items() if name in ("input_ids", "attention_mask")}
    options = {"num_beams": 3, "max_new_tokens": STEPS}
    assert torch.equal(model.generate(**text, **options), model.text_model.generate(**text, **options))


def test_a_misspelt_input_is_named():
    with pytest.raises(ValueError, match="image_masks"):
        tiny_model().generate(**prompts(), image_masks=torch.ones(3, 4))


@pytest.mark.parametrize("layers", [(1, 3), (3, 1)])
def test_encoder_and_decoder_may_differ_in_layers(layers):
    model = tiny_model(text={"num_layers": layers[0], "num_decoder_layers": layers[1]})
    batch = random_batch()
    del batch["labels"]
    cached, uncached = (
        model.generate(**batch, num_beams=3, max_new_tokens=6, use_cache=use_cache) for use_cache in (True, False)
    )
    assert torch.equal(cached, uncached)
    assert model.config.text_config.num_layers == layers[0]
