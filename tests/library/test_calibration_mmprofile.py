"""Calibrated probabilities and what is decided by them: numbers by hand, what stays, and the answers of a model."""

import math

import numpy as np
import pytest

from mmprofile import ProfileAttribute, ProfileSchema, calibrated, profile_users, tempered
from mmprofile.calibration_mmprofile import confidence, sure_parts, thresholds_of
from tests.profile_models import inputs_for, model_for
from tests.toy_schemas import SCHEMAS, unigram_tokenizer

SCHEMA = ProfileSchema(
    [ProfileAttribute("Pet", ("cat", "dog")), ProfileAttribute("Trips", ("sea", "hills", "city"), 2)]
)
ANSWER = {"pet": {"cat": 0.8, "dog": 0.2}, "trips": {"sea": 0.9, "hills": 0.7, "city": 0.4}}
THRESHOLDS = {"pet": {"0.8": 0.0, "0.9": 0.75}, "trips": {"0.5": 0.0, "0.8": 0.65}}
TEMPERATURES = 0.1, 0.5, 0.9, 1.5, 10.0


def random_shares(count: int, users: int = 200, values: int = 10) -> np.ndarray:
    """Each user's of 50 random sets of so many values."""
    generator = np.random.default_rng(0)
    weights = generator.dirichlet(np.full(50, 0.1), size=users)
    sets = np.argsort(np.argsort(generator.random((users, 50, values)), axis=2), axis=2) < count
    return np.einsum("us,usv->uv", weights, sets).clip(0, 1)


def test_one_value_of_two_by_hand():
    found = tempered(np.array([[0.8, 0.2], [1.0, 0.0]]), 1, 2)
    assert found[0] == pytest.approx([2 / 3, 1 / 3])  # the square roots of 4 to 1
    assert found[1].tolist() == [1, 0]
    assert tempered(np.array([[0.8, 0.2]]), 1, 0.5)[0] == pytest.approx([16 / 17, 1 / 17])


def test_two_values_of_three_by_hand():
    (found,) = tempered(np.array([[0.8, 0.6, 0.6]]), 2, 0.5)
    logits = np.log(found / (1 - found))
    assert logits[0] - logits[1] == pytest.approx(2 * (math.log(4) - math.log(1.5)))
    assert found[1] == pytest.approx(found[2])
    assert found.sum() == pytest.approx(2)


def test_a_temperature_of_one_is_the_numbers_as_they_are():
    shares = random_shares(2)
    assert tempered(shares, 2, 1.0) is shares
    for temperatures in (None, {}, {"pet": 1.0, "trips": 1}):
        assert calibrated(SCHEMA, [ANSWER], temperatures) == [ANSWER]


@pytest.mark.parametrize("temperature", TEMPERATURES)
@pytest.mark.parametrize("count", [1, 2, 5, 9])
def test_the_sum_the_range_and_the_order_stay(count, temperature):
    shares = random_shares(count)
    found = tempered(shares, count, temperature)
    assert shares.sum(axis=1) == pytest.approx(count)
    assert found.sum(axis=1) == pytest.approx(count, abs=1e-9)
    assert found.min() >= 0 and found.max() <= 1
    order = np.argsort(shares, axis=1)
    assert np.diff(np.take_along_axis(found, order, 1), axis=1).min() >= -1e-15
    assert np.abs(found - shares).max() > 0.01


@pytest.mark.parametrize("count", [1, 2, 5])
def test_two_temperatures_act_as_their_product(count):
    shares = random_shares(count)
    twice = tempered(tempered(shares, count, 0.8), count, 3.0)
    assert twice == pytest.approx(tempered(shares, count, 2.4), abs=1e-7)


@pytest.mark.parametrize(
    "shares",
    [
        [1.0, 1.0, 0.0, 0.0],
        [1.0, 1.0 - 2**-53, 2**-53, 0.0],
        [1.0, 1.0, 1e-300, 0.0],
        [1.0, 0.5, 0.5, 0.0],
        [1.0 + 2**-52, 1.0, 0.0, 0.0],
        [0.5, 0.5, 0.5, 0.5],
    ],
)
@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_what_is_sure_or_all_but_sure_stays_finite(shares, temperature):
    (found,) = tempered(np.array([shares]), 2, temperature)
    assert found.sum() == pytest.approx(2, abs=1e-9)
    assert found.min() >= 0 and found.max() <= 1
    assert [found[i] for i, share in enumerate(shares) if share in (0, 1)] == [s for s in shares if s in (0, 1)]


def test_an_attribute_that_takes_all_its_values_stays():
    shares = np.ones((2, 3))
    assert tempered(shares, 3, 0.5) is shares


def test_each_attribute_has_its_temperature():
    (found,) = calibrated(SCHEMA, [ANSWER], {"trips": 0.5})
    assert found["pet"] == ANSWER["pet"]
    assert list(found["trips"]) == ["sea", "hills", "city"]
    assert list(found["trips"].values()) == pytest.approx(tempered(np.array([[0.9, 0.7, 0.4]]), 2, 0.5)[0].tolist())
    assert ANSWER["trips"]["sea"] == 0.9  # what was given is not changed


def test_a_precision_between_two_is_read_at_the_higher_one():
    assert thresholds_of(SCHEMA, THRESHOLDS, 0.2) == {"pet": 0.0, "trips": 0.0}
    assert thresholds_of(SCHEMA, THRESHOLDS, 0.8) == {"pet": 0.0, "trips": 0.65}
    assert thresholds_of(SCHEMA, THRESHOLDS, 0.81) == {"pet": 0.75, "trips": math.inf}
    assert thresholds_of(SCHEMA, {}, 0.5) == {"pet": math.inf, "trips": math.inf}


@pytest.mark.parametrize("wanted", [0, 1, -0.5, 90, True, "0.9", math.nan])
def test_a_precision_that_is_none_is_refused(wanted):
    with pytest.raises(ValueError, match=f"above 0 and below 1, got {wanted!r}"):
        thresholds_of(SCHEMA, THRESHOLDS, wanted)


def test_a_value_below_its_threshold_is_left_open_several_by_the_least_sure():
    profile = {"pet": "cat", "trips": ["sea", "hills"]}
    assert confidence(profile["trips"], ANSWER["trips"]) == 0.7
    assert sure_parts(profile, ANSWER, {"pet": 0.8, "trips": 0.71}) == {"pet": "cat", "trips": None}
    assert sure_parts(profile, ANSWER, {"pet": 0.81, "trips": 0.7}) == {"pet": None, "trips": ["sea", "hills"]}
    assert sure_parts(profile, ANSWER, {"pet": math.inf, "trips": math.inf}) == {"pet": None, "trips": None}


# ---------------------------------------------------------------------------------------------------------------------
# Answers of a model


def model_and_inputs(name: str = "several", **fields):
    tokenizer = unigram_tokenizer()
    return model_for(tokenizer, name, 3.0, **fields), tokenizer, inputs_for(tokenizer)


def test_answers_are_calibrated_and_the_models_own_predictions_are_not():
    temperatures = {"likes": 2.0, "budget_range": 0.5}
    model, tokenizer, inputs = model_and_inputs()
    before = profile_users(model, tokenizer, inputs)
    model.config.temperatures = temperatures
    after, own = profile_users(model, tokenizer, inputs), model.generate_profiles(**inputs, tokenizer=tokenizer)
    plain = [answer["probabilities"] for answer in before]
    assert [found.probabilities for found in own] == plain
    assert (
        [answer["probabilities"] for answer in after] == calibrated(SCHEMAS["several"], plain, temperatures) != plain
    )
    assert [answer | {"probabilities": 0} for answer in after] == [answer | {"probabilities": 0} for answer in before]
    assert ["decided" in answer for answer in after] == [False] * 3


def test_a_wanted_precision_leaves_values_open_by_the_calibrated_probability():
    temperatures, name = {"preference_a": 3.0}, "alike"
    model, tokenizer, inputs = model_and_inputs(name, temperatures=temperatures)
    answers = profile_users(model, tokenizer, inputs)
    sure = [confidence(a["profile"]["preference_a"], a["probabilities"]["preference_a"]) for a in answers]
    middle = sorted(sure)[1]
    model.config.precision_thresholds = {"preference_a": {"0.9": middle}, "preference_b": {"0.95": 0.0}}
    found = profile_users(model, tokenizer, inputs, min_precision=0.9)
    assert [a["decided"]["preference_a"] is None for a in found] == [one < middle for one in sure]
    assert [a["decided"]["preference_b"] for a in found] == [a["profile"]["preference_b"] for a in answers]
    assert [a["decided"]["preference_ab"] for a in found] == [None] * 3
    assert [{**a, "decided": 0} for a in found] == [{**a, "decided": 0} for a in answers]


def test_a_precision_is_refused_where_nothing_was_fitted():
    model, tokenizer, inputs = model_and_inputs()
    with pytest.raises(ValueError, match="min_precision=0.9 needs thresholds .*--calibrate true"):
        profile_users(model, tokenizer, inputs, min_precision=0.9)


def test_what_was_fitted_is_not_of_another_schema():
    model, tokenizer, inputs = model_and_inputs("alike", temperatures={"preference_a": 3.0}, precision_thresholds={})
    other = SCHEMAS["prefixes"]
    answers = profile_users(model, tokenizer, inputs, schema=other)
    own = model.generate_profiles(**inputs, tokenizer=tokenizer, schema=other)
    assert [answer["probabilities"] for answer in answers] == [found.probabilities for found in own]
    assert answers[0]["runners_up"][0]["text"].startswith("Place: ")
    with pytest.raises(ValueError, match="this model has none"):
        profile_users(model, tokenizer, inputs, schema=other, min_precision=0.9)
