"""A user's vector: the pooled states of the encoder's one pass, the same whoever else is there, a mean of views."""

import numpy as np
import pytest
import torch

from mmprofile.generation_mmprofile import profile_users
from tests.profile_models import inputs_for, model_for
from tests.tiny_models import D_MODEL, IMAGE_SIZE, photos_seen
from tests.toy_schemas import unigram_tokenizer

TOKENIZER = unigram_tokenizer()
FEW = {"tokenizer": TOKENIZER, "max_calls": 2}
FUSIONS = pytest.mark.parametrize("fusion", ["gated", "concat"])


def users_with_photos(users: int = 3) -> dict[str, torch.Tensor]:
    """The first two with two photos and one, the third without."""
    generator = torch.Generator().manual_seed(3)
    photos = torch.randn(users, 2, 3, IMAGE_SIZE, IMAGE_SIZE, generator=generator)
    mask = torch.tensor([[True, True], [True, False], [False, False]]).repeat(2, 1)[:users]
    return inputs_for(TOKENIZER, users=users) | {"pixel_values": photos, "image_mask": mask}


def vectors_of(model, inputs: dict, **options) -> np.ndarray:
    found = model.generate_profiles(**inputs, output_vector=True, **FEW, **options)
    return np.array([prediction.vector for prediction in found])


@FUSIONS
def test_a_vector_is_the_mean_of_what_the_decoder_attends_to(fusion):
    model, inputs = model_for(TOKENIZER, "alike", fusion=fusion), users_with_photos()
    encoded = model.encode(**inputs)
    states, mask = encoded.last_hidden_state, encoded.attention_mask.bool()
    expected = [state[shown].mean(dim=0).tolist() for state, shown in zip(states, mask, strict=True)]
    found = vectors_of(model, inputs)
    assert found.shape == (3, D_MODEL) and not np.allclose(found[0], found[1], atol=0.01)
    assert found == pytest.approx(np.array(expected), abs=1e-5)


@FUSIONS
def test_padding_and_others_in_the_batch_do_not_change_a_vector(fusion):
    model, inputs = model_for(TOKENIZER, "alike", fusion=fusion), users_with_photos()
    together = vectors_of(model, inputs)
    alone = [vectors_of(model, {name: part[row : row + 1] for name, part in inputs.items()})[0] for row in range(3)]
    assert together == pytest.approx(np.array(alone), abs=1e-5)
    wider = {name: torch.nn.functional.pad(inputs[name], (0, 5)) for name in ("input_ids", "attention_mask")}
    assert vectors_of(model, inputs | wider) == pytest.approx(together, abs=1e-5)


@FUSIONS
def test_without_photos_it_is_of_the_text_alone_and_photos_change_it(fusion):
    model, inputs = model_for(TOKENIZER, "alike", fusion=fusion), users_with_photos()
    text = {name: inputs[name] for name in ("input_ids", "attention_mask")}
    seeing, reading = vectors_of(model, inputs), vectors_of(model, text)
    assert seeing[2] == pytest.approx(reading[2], abs=1e-6)
    assert np.abs(seeing - reading).max(axis=1)[:2].min() > 0.01


def test_of_several_views_it_is_the_mean_of_theirs():
    model, inputs = model_for(TOKENIZER, "alike"), users_with_photos(6)
    rows, found = vectors_of(model, inputs), vectors_of(model, inputs, views=[3, 1, 2])
    assert len(found) == 3 and np.abs(rows[0] - rows[1]).max() > 0.01
    assert found == pytest.approx(np.array([rows[:3].mean(0), rows[3], rows[4:].mean(0)]), abs=1e-6)


def test_it_costs_no_second_pass_of_the_encoder_and_is_not_told_unasked():
    model, inputs = model_for(TOKENIZER, "alike"), users_with_photos()
    passes, seen = [], photos_seen(model)
    model.text_model.encoder.register_forward_hook(lambda *_: passes.append(1))
    asked = profile_users(model, TOKENIZER, inputs, max_calls=2, output_vector=True)
    assert (len(passes), seen) == (1, [3])
    unasked = profile_users(model, TOKENIZER, inputs, max_calls=2)
    assert [set(answer) - set(other) for answer, other in zip(asked, unasked, strict=True)] == [{"vector"}] * 3
    assert [prediction.vector for prediction in model.generate_profiles(**inputs, **FEW)] == [None] * 3
