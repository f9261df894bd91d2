"""Means cut at bounds and quantiles, and ratings in even steps, beside references of their own."""

import random
import statistics
from fractions import Fraction

import pytest

from dataset_script.profile_rules import Rule, decide, sum_columns
from tests.raw_corpus import RULES

BUDGET = RULES[3]
THIRDS = Rule("A", ("Low", "Middle", "High"), "mean_cut", of=("f",), quantiles=True)
BOUNDS = Rule("A", ("Low", "Middle", "High"), "mean_cut", of=("f",), bounds=(2, 2.3))


def random_users(rng, count):
    """Sums of what a few businesses told each, in tenths, so that many means are alike."""
    counts = [rng.randint(1, 4) for _ in range(count)]
    return [{"sum_0": sum(100 * rng.randint(10, 40) for _ in range(n)), "count_0": n} for n in counts]


def quantile_cuts(rules, users):
    """As a build finds them, but that the users at the ranks are found here."""
    found = {}
    for rule, columns in zip(rules, sum_columns(rules), strict=True):
        if not rule.levels:
            continue
        total, count = columns
        sums = sorted(((user[total], user[count]) for user in users), key=lambda user: Fraction(*user))
        ranks = rule.ranks(len(users))
        found[rule.key] = rule.quantile_cuts(len(users), {rank: sums[rank] for rank in ranks})
    return found


@pytest.mark.parametrize("steps", [("1", "2", "3"), ("0.5", "1", "1.5", "2"), ("0", "10", "20", "30"), ("-1", "1")])
def test_a_mean_rating_is_the_nearest_value_and_halfway_the_higher(steps):
    rule = Rule("Stars", steps, "mean_rating")
    rng = random.Random(len(steps))
    low, high = (1000 * Fraction(value) for value in (steps[0], steps[-1]))
    halfway = 0
    for _ in range(500):
        ratings = [rng.randint(int(low) // 50, int(high) // 50) * 50 for _ in range(rng.randint(1, 4))]
        mean = Fraction(sum(ratings), 1000 * len(ratings))
        distances = sorted((abs(Fraction(value) - mean), -Fraction(value), value) for value in steps)
        halfway += distances[0][0] == distances[1][0]
        assert rule.rating_label(sum(ratings), len(ratings)) == distances[0][2]
    assert halfway


def test_a_mean_at_a_bound_is_below_it():
    labels = [BOUNDS.share_label(total, 2) for total in (2000, 4000, 4001, 4600, 4601)]
    assert labels == ["Low", "Low", "Middle", "Middle", "High"]
    assert BOUNDS.share_label(0, 0) is None
    # In floats 0.1 + 0.2 is above 0.3, and so is the mean of three.
    tenths = Rule("A", ("Low", "High"), "mean_cut", of=("f",), bounds=(0.3,))
    assert [tenths.share_label(total, 3) for total in (900, 901)] == ["Low", "High"]


@pytest.mark.parametrize("parts", [2, 3, 5])
@pytest.mark.parametrize("count", [2, 3, 10, 101])
def test_quantiles_are_those_of_the_standard_library_in_fractions(parts, count):
    rule = Rule("A", tuple("abcde"[:parts]), "mean_cut", of=("f",), quantiles=True)
    users = random_users(random.Random(count), count)
    means = [Fraction(user["sum_0"], 1000 * user["count_0"]) for user in users]
    expected = tuple(statistics.quantiles(means, n=parts, method="inclusive"))
    assert quantile_cuts([rule], users) == {"a": expected}
    named = Rule("A", rule.values, "mean_cut", of=("f",), quantiles=tuple(n / 10 for n in (2, 4, 6, 8)[: parts - 1]))
    fifths = statistics.quantiles(means, n=5, method="inclusive")
    assert quantile_cuts([named], users) == {"a": tuple(fifths[: parts - 1])}


def test_of_one_user_every_quantile_is_the_users_mean():
    assert quantile_cuts([THIRDS], [{"sum_0": 7000, "count_0": 2}]) == {"a": (3.5, 3.5)}


def test_quantiles_part_users_into_like_numbers_in_whatever_order_they_come():
    users = [{"sum_0": 1000 * n, "count_0": 1} for n in range(90)]
    random.Random(0).shuffle(users)
    cuts = quantile_cuts([THIRDS], users)
    labels = [decide([THIRDS], user, cuts)["a"] for user in users]
    assert [labels.count(value) for value in THIRDS.values] == [30, 30, 30]
    assert quantile_cuts([THIRDS], users[::-1]) == cuts


def test_above_the_median_is_as_with_the_median_of_means_in_floats():
    rng = random.Random(0)
    rule = Rule("A", ("Low", "High"), "above_median", of=("f",), yes="High")
    for count in (1, 2, 7, 50, 400):
        users = random_users(rng, count)
        means = [user["sum_0"] / (1000 * user["count_0"]) for user in users]
        high = ["High" if mean > statistics.median(means) else "Low" for mean in means]
        cuts = quantile_cuts([rule], users)
        assert [decide([rule], user, cuts)["a"] for user in users] == high
        assert float(cuts["a"][0]) == pytest.approx(statistics.median(means), rel=1e-15)


def test_only_a_rule_of_quantiles_has_any():
    users = [{f"{what}_{n}": 1000 for n in range(len(RULES) + 1) for what in ("sum", "count")}]
    assert list(quantile_cuts([*RULES, BOUNDS], users)) == [BUDGET.key]


def test_what_yes_is_stands_in_whatever_place():
    other = Rule("A", ("High", "Low"), "above_median", of=("f",), yes="High")
    assert [other.share_label(total, 1, (2,)) for total in (2000, 2001)] == ["Low", "High"]
