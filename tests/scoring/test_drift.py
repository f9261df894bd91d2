"""How far predicted values moved: the population stability index against other reckonings, and who changed."""

import math

import numpy as np
import pytest
from scipy.stats import entropy

from scoring.drift import drift, format_drift, index_by_chance, reading, stability_index
from tests.tiny_folder import SCHEMA

MANY = 10**6


def test_the_index_is_that_of_a_reckoning_by_hand():
    """(0.5 - 0.25) ln(0.5 / 0.25) + (0.5 - 0.75) ln(0.5 / 0.75) = 0.25 ln 3."""
    assert stability_index([2 * MANY, 2 * MANY], [MANY, 3 * MANY]) == pytest.approx(0.25 * math.log(3), abs=1e-6)
    assert stability_index([2.5, 0.5], [0.5, 2.5]) == pytest.approx(math.log(3))  # 3 to 1 against 1 to 3


def test_the_index_is_both_relative_entropies_together():
    now, earlier = [50, 30, 20, 0], [40, 35, 20, 5]
    p, q = ((np.array(counts) + 0.5) / (sum(counts) + 2) for counts in (now, earlier))
    assert stability_index(now, earlier) == pytest.approx(entropy(p, q) + entropy(q, p))
    assert stability_index(earlier, now) == pytest.approx(stability_index(now, earlier))


def test_runs_alike_have_none_and_a_value_that_one_lacks_is_finite():
    assert stability_index([3, 0, 5], [3, 0, 5]) == 0
    assert 0.25 < stability_index([90, 0], [60, 30]) < 10


@pytest.mark.parametrize("counts", [([1, 2], [1, 2, 3]), ([0, 0], [1, 2]), ([1, 2], [0, 0])])
def test_counts_that_cannot_be_compared_are_refused(counts):
    with pytest.raises(ValueError, match="the index is of counts of the same values in two runs, got "):
        stability_index(*counts)


def test_users_drawn_from_the_same_stay_below_what_is_told_of_chance_19_times_of_20():
    generator, shares = np.random.default_rng(0), [0.1, 0.2, 0.3, 0.4]
    pairs = [(generator.multinomial(400, shares), generator.multinomial(900, shares)) for _ in range(2000)]
    within = [stability_index(*pair) <= index_by_chance(*pair) for pair in pairs]
    assert np.mean(within) == pytest.approx(0.95, abs=0.015)
    assert index_by_chance([5, 0], [9, 0]) == 0


@pytest.mark.parametrize(
    ("index", "word"), [(0, "stable"), (0.0999, "stable"), (0.1, "moderate"), (0.25, "moderate"), (0.26, "large")]
)
def test_the_usual_reading(index, word):
    assert reading(index) == word


def profile(mood, *food) -> dict:
    return {"mood": mood, "favorite_food": list(food) or None}


NOW = {
    "a": profile("Calm", "Pizza", "Soup"),
    "b": profile("Loud", "Pizza", "Cake"),
    "c": profile("Calm", "Soup", "Cake"),
    "d": None,
    "new": profile(None, "Pizza", "Soup"),
}
EARLIER = {
    "a": profile("Calm", "Pizza", "Soup"),
    "b": profile("Calm", "Pizza", "Soup"),
    "c": None,
    "d": profile("Shy", "Soup", "Cake"),
}


def test_all_users_of_each_run_make_the_index_and_those_in_both_who_changed():
    found = drift(NOW, EARLIER, SCHEMA)
    assert (found["users"], found["earlier_users"], found["users_in_both"]) == (4, 3, 2)
    mood, food = (found["attributes"][key] for key in ("mood", "favorite_food"))
    assert mood["psi"] == pytest.approx(stability_index([2, 1, 0], [2, 0, 1]))
    assert food["psi"] == pytest.approx(stability_index([3, 3, 2], [2, 3, 1]))
    assert (mood["changed"], food["changed"]) == (0.5, 0.5)
    assert (mood["without_value"], mood["earlier_without_value"]) == (0.4, 0.25)
    assert (food["without_value"], food["earlier_without_value"]) == (0.2, 0.25)
    assert mood["reading"] == reading(mood["psi"]) == "large"
    assert mood["psi_by_chance"] == index_by_chance([2, 1, 0], [2, 0, 1]) > mood["psi"]


def test_runs_of_other_users_or_without_predictions_tell_what_can_be_told():
    found = drift({"a": NOW["a"]}, {"b": EARLIER["b"]}, SCHEMA)
    assert found["attributes"]["mood"]["changed"] is None and found["attributes"]["mood"]["psi"] == 0
    found = drift({"a": None}, EARLIER, SCHEMA)
    nothing = {"psi": None, "reading": None, "psi_by_chance": None, "changed": None}
    assert found["attributes"]["mood"] == nothing | {"without_value": 1.0, "earlier_without_value": 0.25}
    cells = [cell.strip() for cell in format_drift(found, SCHEMA).splitlines()[2].split("|")]
    assert cells[1:-1] == ["Mood", "–", "–", "–", "–", "100.0%", "25.0%"]


def test_the_table_has_a_line_an_attribute():
    head, _, *lines = format_drift(drift(NOW, EARLIER, SCHEMA), SCHEMA).splitlines()
    assert [cell.strip() for cell in head.split("|")][2:5] == ["PSI", "by chance up to", "reading"]
    index = stability_index([2, 1, 0], [2, 0, 1])
    chance = index_by_chance([2, 1, 0], [2, 0, 1])
    expected = ["Mood", f"{index:.3f}", f"{chance:.3f}", "large", "50.0%", "40.0%", "25.0%"]
    assert [[cell.strip() for cell in line.split("|")][1:-1] for line in lines][0] == expected
    assert len(lines) == 2
