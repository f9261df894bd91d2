"""Weights of values: they undo a bias on other users, leave an unbiased model alone, and count as the metric does."""

import numpy as np
import pytest

from mmprofile import ProfileAttribute, ProfileSchema, likely_values, marginal_profile, probability_table
from scoring.bootstrap import named_values
from scoring.decisions import fit_value_weights, macro_f1
from scoring.evaluation import profile_f1
from tests.scoring.test_temperature import SCHEMA, STARS, TRIPS, drawn_rows


def biased(rows: list[dict], key: str, factors: dict[str, float]) -> list[dict]:
    """The rows as a model tells them that takes some values to be so many times as probable."""
    found = []
    for row in rows:
        shares = {value: share * factors.get(value, 1) for value, share in row["probabilities"][key].items()}
        found.append({**row, "probabilities": {**row["probabilities"], key: shares}})
    return found


def score(rows: list[dict], attribute: ProfileAttribute, weights: dict[str, float]) -> float:
    table = probability_table([row["probabilities"] for row in rows], attribute)
    true = named_values([row["truth"] for row in rows], attribute)
    return macro_f1(likely_values(table * list(weights.values()), attribute.count), true, attribute.count)


@pytest.mark.parametrize("attribute", [STARS, TRIPS])
def test_weights_undo_a_bias_on_other_users(attribute):
    factors = dict.fromkeys(attribute.values[:2], 8.0)
    weights = fit_value_weights(biased(drawn_rows(users=500), attribute.key, factors), attribute)
    test = biased(drawn_rows(users=2000, seed=1), attribute.key, factors)
    plain = score(test, attribute, dict.fromkeys(attribute.values, 1.0))
    assert score(test, attribute, weights) > plain + 0.03
    assert max(weights[value] for value in factors) < min(weights[value] for value in attribute.values[2:])


def test_a_model_without_a_bias_keeps_its_decisions():
    weights = fit_value_weights(drawn_rows(users=500), STARS)
    assert max(weights.values()) / min(weights.values()) < 2.5


def test_where_all_are_right_no_weight_is_another():
    row = {"truth": {"stars": "1"}, "probabilities": {"stars": dict.fromkeys(STARS.values, 0.1) | {"1": 0.6}}}
    assert fit_value_weights([row] * 20, STARS) == dict.fromkeys(STARS.values, 1.0)
    both = ProfileAttribute("Both", ("a", "b"), 2)
    row = {"truth": {"both": ["a", "b"]}, "probabilities": {"both": {"a": 1.0, "b": 1.0}}}
    assert fit_value_weights([row], both) == {"a": 1.0, "b": 1.0}


def test_of_two_values_one_weight_says_all():
    pet = ProfileAttribute("Pet", ("cat", "dog"))
    rows = [
        {"truth": {"pet": true}, "probabilities": {"pet": {"cat": cat, "dog": 1 - cat}}}
        for true, cat in [("cat", 0.9)] * 20 + [("dog", 0.7)] * 20
    ]
    weights = fit_value_weights(rows, pet)
    assert weights["dog"] == 1 and weights["cat"] < 3 / 7
    assert score(rows, pet, weights) == 1


@pytest.mark.parametrize("attribute", [STARS, TRIPS])
def test_it_is_the_metrics_macro_f1(attribute):
    rows, schema = drawn_rows(2.0, users=60), ProfileSchema((attribute,))
    chosen = [{attribute.key: marginal_profile(SCHEMA, row["probabilities"])[attribute.key]} for row in rows]
    truths = [{attribute.key: row["truth"][attribute.key]} for row in rows]
    found = macro_f1(named_values(chosen, attribute), named_values(truths, attribute), attribute.count)
    assert 100 * found == pytest.approx(profile_f1(chosen, truths, schema)["average"])
    assert macro_f1(np.array([[True, False]]), np.array([[True, False]]), 1) == 1
