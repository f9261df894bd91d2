"""`view_weights`: against exhaustive scoring without each view."""

import math

import pytest
import torch

from tests.profile_models import inputs_for, model_for, teacher_forced, trained_model
from tests.toy_schemas import SCHEMAS, all_profiles, unigram_tokenizer

VIEWS = (3, 1, 2, 5)
EVERYTHING = {"min_coverage": 1.0, "max_decoder_tokens": math.inf}


def shares(of_user: torch.Tensor, combination: str) -> torch.Tensor:
    """(profiles,), logarithms, of scores (views, profiles)."""
    scores = of_user.mean(dim=0) if combination == "product" else of_user.logsumexp(dim=0)
    return scores.log_softmax(dim=0)


def expected_weights(of_user: torch.Tensor, combination: str) -> list[float]:
    if len(of_user) == 1:
        return [1.0]
    whole = shares(of_user, combination)
    best, views = int(whole.argmax()), torch.arange(len(of_user))
    falls = torch.stack([whole[best] - shares(of_user[views != view], combination)[best] for view in views])
    falls[falls < 1e-4] = 0
    return (falls / falls.sum()).tolist() if falls.any() else [1 / len(of_user)] * len(of_user)


def toy(name: str = "alike", seed: int = 1):
    tokenizer = unigram_tokenizer()
    return model_for(tokenizer, name), tokenizer, inputs_for(tokenizer, seed, sum(VIEWS))


@pytest.mark.parametrize("combination", ["product", "mixture"])
@pytest.mark.parametrize("name", ["alike", "prefixes"])
def test_a_views_weight_is_its_share_of_the_falls_when_one_is_left_out(name, combination):
    model, tokenizer, inputs = toy(name)
    texts = [SCHEMAS[name].render(profile) for profile in all_profiles(SCHEMAS[name])]
    scores = teacher_forced(model, tokenizer, inputs, texts).split(list(VIEWS))
    options = {"tokenizer": tokenizer, "views": VIEWS, "combination": combination}
    found = model.generate_profiles(**inputs, **options, output_view_weights=True, **EVERYTHING)
    assert len(found) == len(VIEWS)
    for prediction, of_user in zip(found, scores, strict=True):
        assert prediction.view_weights == pytest.approx(expected_weights(of_user, combination), abs=1e-4)
        assert sum(prediction.view_weights) == pytest.approx(1)
        assert min(prediction.view_weights) >= 0
    assert max(found[3].view_weights) > 0.3 > 0.1 > min(found[3].view_weights)


@pytest.mark.parametrize("combination", ["product", "mixture"])
def test_of_a_trained_model_a_search_that_explores_little_tells_the_same_weights(combination):
    model, tokenizer = trained_model()
    rows = torch.tensor([0, 1, 0, 2, 1, 2, 2, 1, 0, 1])
    inputs = {name: tensor[rows] for name, tensor in inputs_for(tokenizer).items()}
    options = {"tokenizer": tokenizer, "combination": combination, "views": [2, 3, 5], "output_view_weights": True}
    whole = model.generate_profiles(**inputs, **options, **EVERYTHING)
    few = model.generate_profiles(**inputs, **options, num_return_profiles=1, expand_per_call=12)
    assert [one.coverage < 0.99 for one in few] == [True] * 3
    for one, other in zip(few, whole, strict=True):
        assert one.view_weights == pytest.approx(other.view_weights, abs=0.05)


@pytest.mark.parametrize("combination", ["product", "mixture"])
def test_weights_follow_their_views_whoever_is_in_the_batch(combination):
    model, tokenizer, inputs = toy()
    options = {"tokenizer": tokenizer, "combination": combination, "output_view_weights": True, **EVERYTHING}
    found = model.generate_profiles(**inputs, views=VIEWS, **options)
    last = torch.tensor([10, 8, 9, 7, 6])
    (alone,) = model.generate_profiles(**{n: t[last] for n, t in inputs.items()}, views=[5], **options)
    order = [last.tolist().index(row) for row in range(6, 11)]
    assert [alone.view_weights[place] for place in order] == pytest.approx(found[3].view_weights, abs=1e-4)


def test_views_without_which_nothing_changes_have_equal_weights():
    model, tokenizer, inputs = toy()
    same = {name: tensor[:1].repeat(4, 1) for name, tensor in inputs.items()}
    state = model.encode(**same)
    state.last_hidden_state = state.last_hidden_state + 1e-7 * torch.randn(state.last_hidden_state.shape)  # rounding
    options = {"tokenizer": tokenizer, "output_view_weights": True, **EVERYTHING}
    _, found = model.generate_profiles(encoder_outputs=state, views=[1, 3], **options)
    assert found.view_weights == [1 / 3] * 3


def test_weights_are_told_where_they_are_asked_for_but_of_joined_states():
    model, tokenizer, inputs = toy()
    (plain, *_) = model.generate_profiles(**inputs, tokenizer=tokenizer, views=VIEWS)
    assert plain.view_weights is None
    asked = {"tokenizer": tokenizer, "output_view_weights": True}
    assert [one.view_weights for one in model.generate_profiles(**inputs, **asked)] == [[1.0]] * sum(VIEWS)
    (joined, *_) = model.generate_profiles(**inputs, **asked, views=VIEWS, combination="states")
    assert joined.view_weights is None
