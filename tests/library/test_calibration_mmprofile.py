"""Calibrated probabilities and what is decided by them: numbers by hand, what stays, and the answers of a model."""

import math
from typing import Any

import numpy as np
import pytest

from mmprofile import ProfileAttribute, ProfileSchema, calibrated, profile_users, tempered
from mmprofile.calibration_mmprofile import (
    check_decision,
    confidence,
    fit_of_views,
    marginal_profile,
    sure_parts,
    thresholds_of,
)
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


def test_a_power_by_hand():
    shares = np.array([[0.8, 0.2, 0.0]])
    assert tempered(shares, 1, 1, 2)[0] == pytest.approx(
        np.array([1, np.exp(-(np.log(4) ** 2)), 0]) / 1.14634, rel=1e-4
    )
    assert tempered(shares, 1, 3, 1)[0] == pytest.approx(np.array([1, 4 ** (-1 / 3), 0]) / (1 + 4 ** (-1 / 3)))
    pairs = random_shares(2)
    assert (tempered(pairs, 2, 2.0, 3.0) == tempered(pairs, 2, 2.0)).all()
    sure = tempered(np.array([[0.6, 0.4], [0.99, 0.01]]), 1, 1, 2)[:, 0]
    assert sure[0] < 0.6 and sure[1] > 0.99


def test_two_values_of_three_by_hand():
    (found,) = tempered(np.array([[0.8, 0.6, 0.6]]), 2, 0.5)
    logits = np.log(found / (1 - found))
    assert logits[0] - logits[1] == pytest.approx(2 * (math.log(4) - math.log(1.5)))
    assert found[1] == pytest.approx(found[2])
    assert found.sum() == pytest.approx(2)


def test_a_temperature_of_one_is_the_numbers_as_they_are():
    shares = random_shares(2)
    assert (tempered(shares, 2, 1.0) == shares).all()
    for fit in (None, {}, {"temperatures": {"pet": 1.0, "trips": 1}}):
        assert calibrated(SCHEMA, [ANSWER], [fit]) == [ANSWER]


@pytest.mark.parametrize("temperature", TEMPERATURES)
@pytest.mark.parametrize(("count", "power"), [(1, 1), (1, 0.6), (1, 1.7), (2, 1), (5, 1), (9, 1)])
def test_the_sum_the_range_and_the_order_stay(count, power, temperature):
    shares = random_shares(count)
    found = tempered(shares, count, temperature, power)
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
    (found,) = calibrated(SCHEMA, [ANSWER], [{"temperatures": {"trips": 0.5}}])
    assert found["pet"] == ANSWER["pet"]
    assert list(found["trips"]) == ["sea", "hills", "city"]
    assert list(found["trips"].values()) == pytest.approx(tempered(np.array([[0.9, 0.7, 0.4]]), 2, 0.5)[0].tolist())
    assert ANSWER["trips"]["sea"] == 0.9  # what was given is not changed


FITS = {
    "1": {"temperatures": {"pet": 1.0}, "value_weights": {"pet": {"cat": 2.0, "dog": 1.0}}},
    "4": {
        "temperatures": {"pet": 0.25},
        "odds_powers": {"pet": 4.0},
        "value_weights": {"pet": {"cat": 0.5, "dog": 1.0}},
    },
}
FITS["1"]["precision_thresholds"] = {"pet": {"0.8": 0.7, "0.9": 0.9}, "trips": {"0.5": 0.4}}
FITS["4"]["precision_thresholds"] = {"pet": {"0.7": 0.1, "0.85": 0.8}, "trips": {"0.5": 0.3, "0.6": 0.5}}


def test_what_was_fitted_to_a_number_of_views_is_used_for_it_and_between_two_what_lies_between():
    def of(views: int) -> Any:
        return fit_of_views({"product": FITS}, "product", views)

    assert [of(views) for views in (1, 4, 5, 100)] == [FITS["1"], FITS["4"], FITS["4"], FITS["4"]]
    assert of(2)["temperatures"]["pet"] == pytest.approx(0.5)  # half of the way, of logarithms
    assert of(2)["odds_powers"]["pet"] == pytest.approx(2)  # of the other 1
    assert of(2)["value_weights"]["pet"] == pytest.approx({"cat": 1.0, "dog": 1.0})
    assert of(2)["precision_thresholds"] == {"pet": {"0.7": 0.7, "0.8": 0.8, "0.85": 0.9}, "trips": {"0.5": 0.4}}
    assert of(1)["temperatures"]["pet"] > of(2)["temperatures"]["pet"] > of(3)["temperatures"]["pet"] > 0.25
    later = {"product": {"4": FITS["4"]}}
    assert fit_of_views(later, "product", 1) == FITS["4"]
    for nothing in (None, {}, {"mixture": FITS}):
        assert fit_of_views(nothing, "product", 4) is None


def test_users_with_other_numbers_of_views_are_calibrated_by_other_numbers():
    temperatures = [1.0, 0.5, 0.25]
    found = calibrated(SCHEMA, [ANSWER] * 4, [*({"temperatures": {"pet": one}} for one in temperatures), None])
    assert [one["pet"]["cat"] for one in found] == pytest.approx([0.8, 16 / 17, 256 / 257, 0.8])
    assert found[0] == found[3] == ANSWER
    (found,) = calibrated(SCHEMA, [ANSWER], [{"odds_powers": {"pet": 2.0}}])
    assert list(found["pet"].values()) == pytest.approx(tempered(np.array([[0.8, 0.2]]), 1, 1, 2)[0].tolist())


def test_the_marginal_profile_has_of_each_attribute_what_is_likely_by_itself():
    assert marginal_profile(SCHEMA, ANSWER) == {"pet": "cat", "trips": ["sea", "hills"]}
    other = {"pet": {"cat": 0.5, "dog": 0.5}, "trips": {"sea": 0.2, "hills": 0.8, "city": 1.0}}
    assert marginal_profile(SCHEMA, other) == {"pet": "cat", "trips": ["hills", "city"]}
    weights = {"pet": {"cat": 0.2}, "trips": {"city": 4.0, "sea": 1.5}}
    assert marginal_profile(SCHEMA, ANSWER, weights) == {"pet": "dog", "trips": ["sea", "city"]}


def test_a_precision_between_two_is_read_at_the_higher_one():
    assert thresholds_of(SCHEMA, {"precision_thresholds": THRESHOLDS}, 0.2) == {"pet": 0.0, "trips": 0.0}
    assert thresholds_of(SCHEMA, {"precision_thresholds": THRESHOLDS}, 0.8) == {"pet": 0.0, "trips": 0.65}
    assert thresholds_of(SCHEMA, {"precision_thresholds": THRESHOLDS}, 0.81) == {"pet": 0.75, "trips": math.inf}
    assert thresholds_of(SCHEMA, {}, 0.5) == {"pet": math.inf, "trips": math.inf}


@pytest.mark.parametrize("wanted", [0, 1, -0.5, 90, True, "0.9", math.nan])
def test_a_precision_that_is_none_is_refused(wanted):
    with pytest.raises(ValueError, match=f"above 0 and below 1, got {wanted!r}"):
        check_decision({"product": FITS}, "product", min_precision=wanted)


def test_a_value_below_its_threshold_is_left_open_several_by_the_least_sure():
    profile = {"pet": "cat", "trips": ["sea", "hills"]}
    assert confidence(profile["trips"], ANSWER["trips"]) == 0.7
    assert sure_parts(profile, ANSWER, {"pet": 0.8, "trips": 0.71}) == {"pet": "cat", "trips": None}
    assert sure_parts(profile, ANSWER, {"pet": 0.81, "trips": 0.7}) == {"pet": None, "trips": ["sea", "hills"]}
    assert sure_parts(profile, ANSWER, {"pet": math.inf, "trips": math.inf}) == {"pet": None, "trips": None}


# ---------------------------------------------------------------------------------------------------------------------
# Answers of a model


def fitted(**fit) -> dict:
    return {"product": {"1": fit}}


def model_and_inputs(name: str = "several", **fields):
    tokenizer = unigram_tokenizer()
    return model_for(tokenizer, name, 3.0, **fields), tokenizer, inputs_for(tokenizer)


def test_answers_are_calibrated_and_the_models_own_predictions_are_not():
    fit = {"temperatures": {"likes": 2.0, "budget_range": 0.5}}
    model, tokenizer, inputs = model_and_inputs()
    before = profile_users(model, tokenizer, inputs)
    model.config.calibrations = {"product": {"1": fit}}
    after, own = profile_users(model, tokenizer, inputs), model.generate_profiles(**inputs, tokenizer=tokenizer)
    plain = [answer["probabilities"] for answer in before]
    assert [found.probabilities for found in own] == plain
    assert [answer["probabilities"] for answer in after] == calibrated(SCHEMAS["several"], plain, [fit] * 3) != plain
    assert [answer | {"probabilities": 0} for answer in after] == [answer | {"probabilities": 0} for answer in before]
    assert ["decided" in answer for answer in after] == [False] * 3


def test_a_wanted_precision_leaves_values_open_by_the_calibrated_probability():
    model, tokenizer, inputs = model_and_inputs("alike", calibrations=fitted(temperatures={"preference_a": 3.0}))
    answers, own = profile_users(model, tokenizer, inputs), model.generate_profiles(**inputs, tokenizer=tokenizer)
    sure = [confidence(a["profile"]["preference_a"], a["probabilities"]["preference_a"]) for a in answers]
    plain = [confidence(p.profile["preference_a"], p.probabilities["preference_a"]) for p in own]
    least = max(sure)
    assert sorted(plain)[1] > least > sorted(sure)[1]
    thresholds = {"preference_a": {"0.9": least}, "preference_b": {"0.95": 0.0}}
    model.config.calibrations = fitted(temperatures={"preference_a": 3.0}, precision_thresholds=thresholds)
    found = profile_users(model, tokenizer, inputs, min_precision=0.9)
    assert [a["decided"]["preference_a"] is None for a in found] == [one < least for one in sure]
    assert [a["decided"]["preference_b"] for a in found] == [a["profile"]["preference_b"] for a in answers]
    assert [a["decided"]["preference_ab"] for a in found] == [None] * 3
    assert [{**a, "decided": 0} for a in found] == [{**a, "decided": 0} for a in answers]


def test_a_precision_is_refused_where_nothing_was_fitted():
    model, tokenizer, inputs = model_and_inputs()
    with pytest.raises(ValueError, match="min_precision=0.9 needs thresholds .*--calibrate true"):
        profile_users(model, tokenizer, inputs, min_precision=0.9)


def test_what_was_fitted_is_not_of_another_schema():
    model, tokenizer, inputs = model_and_inputs("alike", calibrations=fitted(temperatures={"preference_a": 3.0}))
    other = SCHEMAS["prefixes"]
    answers = profile_users(model, tokenizer, inputs, schema=other)
    own = model.generate_profiles(**inputs, tokenizer=tokenizer, schema=other)
    assert [answer["probabilities"] for answer in answers] == [found.probabilities for found in own]
    assert answers[0]["runners_up"][0]["text"].startswith("Place: ")
    with pytest.raises(ValueError, match="this model has none"):
        profile_users(model, tokenizer, inputs, schema=other, min_precision=0.9)


def test_each_user_is_calibrated_by_the_number_of_views_read_of_him():
    two, one = ({"temperatures": {"likes": t}, "odds_powers": {"budget_range": 1.5}} for t in (0.5, 2.0))
    model, tokenizer, inputs = model_and_inputs(calibrations={"product": {"1": one, "2": two}})
    for combination, fits in {"product": [two, one], "mixture": [None, None]}.items():
        options = {"views": [2, 1], "combination": combination}
        own = [found.probabilities for found in model.generate_profiles(**inputs, tokenizer=tokenizer, **options)]
        answers = profile_users(model, tokenizer, inputs, **options)
        expected = calibrated(SCHEMAS["several"], own, fits)
        assert [answer["probabilities"] for answer in answers] == expected
        assert (expected == own) == (combination == "mixture")


@pytest.mark.parametrize("options", [{"min_precision": 0.9}, {"decision": "weighted"}])
def test_what_was_fitted_to_another_combination_decides_nothing(options):
    model, tokenizer, inputs = model_and_inputs("alike", calibrations=fitted(temperatures={}))
    assert profile_users(model, tokenizer, inputs, **options)
    with pytest.raises(ValueError, match="this model has none for views' mixture"):
        profile_users(model, tokenizer, inputs, **options, combination="mixture")


def test_a_profile_decided_by_marginals_is_told_as_what_it_is():
    tokenizer, schema = unigram_tokenizer(), SCHEMAS["alike"]
    model, inputs = model_for(tokenizer, "alike", 1.0), inputs_for(tokenizer, users=40)
    joint = profile_users(model, tokenizer, inputs, num_return_profiles=8)
    found = profile_users(model, tokenizer, inputs, num_return_profiles=8, decision="marginal")
    likely = [marginal_profile(schema, answer["probabilities"]) for answer in joint]
    assert [answer["profile"] for answer in found] == likely
    assert [answer["text"] for answer in found] == [schema.render(profile) for profile in likely]
    kinds = set()
    for one, other in zip(joint, found, strict=True):
        explored = {answer["text"]: answer["log_probability"] for answer in (one, *one["runners_up"])}
        same = one["text"] == other["text"]
        assert other["log_probability"] == explored.get(other["text"])
        assert other["exact"] == (same and one["exact"])
        assert [r["text"] for r in other["runners_up"]] == [text for text in explored if text != other["text"]]
        kinds.add((same, other["log_probability"] is None))
    assert {same for same, _ in kinds} == {True, False}
    with pytest.raises(ValueError, match=r"one of \['joint', 'marginal', 'weighted'\], got 'vote'"):
        profile_users(model, tokenizer, inputs, decision="vote")


def test_weights_of_values_decide_where_they_were_fitted():
    model, tokenizer, inputs = model_and_inputs("alike")
    with pytest.raises(ValueError, match="decision='weighted' needs weights fitted .*--calibrate true"):
        profile_users(model, tokenizer, inputs, decision="weighted")
    weights = {"preference_a": {"Tr": 1e30}, "preference_b": {"False": 1e30}}
    model.config.calibrations = fitted(value_weights=weights)
    found = profile_users(model, tokenizer, inputs, decision="weighted")
    likely = [marginal_profile(SCHEMAS["alike"], answer["probabilities"], weights) for answer in found]
    assert [answer["profile"] for answer in found] == likely
    assert [(one["preference_a"], one["preference_b"]) for one in likely] == [("Tr", "False")] * 3
    found = profile_users(model, tokenizer, inputs, decision="marginal")
    likely_alone = [marginal_profile(SCHEMAS["alike"], answer["probabilities"]) for answer in found]
    assert [answer["profile"] for answer in found] == likely_alone != likely
