"""Temperatures and thresholds: known ones come back, the fit loses nothing, and what is decided keeps its word."""

import numpy as np
import pytest

from mmprofile import MMProfileConfig, ProfileAttribute, ProfileSchema, tempered
from scoring.bootstrap import named_values
from scoring.plots import calibration
from scoring.temperature import (
    PRECISIONS,
    fit_attribute,
    fit_calibration,
    fitted_table,
    lower_bound,
    negative_log_likelihood,
    precision_thresholds,
    recalibrated,
)
from tests.toy_schemas import SCHEMAS

STARS = ProfileAttribute("Stars", ("1", "2", "3", "4", "5"))
TRIPS = ProfileAttribute("Trips", ("sea", "hills", "city", "moor"), 2)
SCHEMA = ProfileSchema((STARS, TRIPS))
PAIRS = np.array([(first, second) for first in range(4) for second in range(first + 1, 4)])
OF_PAIRS = (PAIRS[:, :, None] == np.arange(4)).sum(axis=1)  # (pairs, values), which a pair has


def drawn_rows(factor: float = 1.0, power: float = 1.0, users: int = 4000, seed: int = 0) -> list[dict]:
    """Truths drawn from known marginals; a row's probabilities are those of logits that many times as large,
    of stars raised to 1 / power first."""
    generator = np.random.default_rng(seed)
    one, two = (distributions(generator, users, number) for number in (5, len(PAIRS)))
    shares = {
        "stars": tempered(one, 1, factor ** (-1 / power), 1 / power),
        "trips": tempered(two @ OF_PAIRS, 2, 1 / factor),
    }
    truths = {"stars": drawn(generator, one)[:, None], "trips": PAIRS[drawn(generator, two)]}
    best = {key: np.sort(np.argsort(-of, axis=1)[:, : truths[key].shape[1]], axis=1) for key, of in shares.items()}
    return [
        {
            "profile": {a.key: named(a, best[a.key][user]) for a in SCHEMA.attributes},
            "truth": {a.key: named(a, truths[a.key][user]) for a in SCHEMA.attributes},
            "probabilities": {
                a.key: dict(zip(a.values, shares[a.key][user].tolist(), strict=True)) for a in SCHEMA.attributes
            },
            "views": 1,
        }
        for user in range(users)
    ]


def distributions(generator, users: int, number: int) -> np.ndarray:
    weights = np.exp(2.5 * generator.standard_normal((users, number)))
    return weights / weights.sum(axis=1, keepdims=True)


def drawn(generator, shares: np.ndarray) -> np.ndarray:
    return (generator.random((len(shares), 1)) > shares.cumsum(axis=1)[:, :-1]).sum(axis=1)


def named(attribute: ProfileAttribute, indices: np.ndarray) -> str | list[str]:
    values = [attribute.values[index] for index in indices]
    return values if attribute.count > 1 else values[0]


@pytest.mark.parametrize("attribute", [STARS, TRIPS])
@pytest.mark.parametrize("factor", [0.5, 1.0, 1.7, 4.0])
def test_logits_times_a_factor_give_the_factor_back(attribute, factor):
    temperature, power = fit_attribute(drawn_rows(factor, users=8000), attribute)
    assert temperature == pytest.approx(factor, rel=0.12)
    assert power == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("power", [0.6, 1.6])
def test_logits_to_a_power_give_the_power_back_and_a_temperature_alone_calibrates_them_less(power):
    rows, test = drawn_rows(2.0, power, users=8000), drawn_rows(2.0, power, seed=1)
    fitted = fit_calibration(rows, SCHEMA)
    assert fitted["odds_powers"] == {"stars": pytest.approx(power, rel=0.12)}
    assert fitted["temperatures"]["stars"] == pytest.approx(2, rel=0.15)
    alone = {"temperatures": {"stars": best_temperature(rows)}, "odds_powers": None, "calibrated_views": None}
    errors = [
        calibration(recalibrated(test, SCHEMA, one), SCHEMA)["stars"]["expected_error"] for one in (alone, fitted)
    ]
    assert errors[1] < 0.02 and errors[1] < 0.7 * errors[0]


def true_values(rows: list[dict], attribute: ProfileAttribute) -> np.ndarray:
    return named_values([row["truth"] for row in rows], attribute)


def best_temperature(rows: list[dict]) -> float:
    shares = np.array([list(row["probabilities"]["stars"].values()) for row in rows])
    true, grid = true_values(rows, STARS), np.geomspace(0.1, 10, 200)
    return grid[np.argmin([negative_log_likelihood(shares, true, 1, temperature) for temperature in grid])].item()


@pytest.mark.parametrize("users", [1, 5, 250])
@pytest.mark.parametrize("attribute", [STARS, TRIPS])
def test_the_likelihood_never_falls_and_the_temperature_stays_within_its_bounds(attribute, users):
    rows = drawn_rows(4.0, users=users, seed=users)
    shares = np.array([list(row["probabilities"][attribute.key].values()) for row in rows])
    true, fitted = true_values(rows, attribute), fit_attribute(rows, attribute)
    losses = [negative_log_likelihood(shares, true, attribute.count, *numbers) for numbers in ((1, 1), fitted)]
    assert losses[1] <= losses[0]
    assert 0.02 <= fitted[0] <= 50


def test_likelihoods_by_hand():
    shares, true = np.array([[0.8, 0.2], [0.4, 0.6]]), np.array([[True, False], [False, True]])
    assert negative_log_likelihood(shares, true, 1) == pytest.approx(-(np.log(0.8) + np.log(0.6)) / 2)
    assert negative_log_likelihood(shares[:1], true[:1], 1, 2) == pytest.approx(-np.log(2 / 3))
    shares, true = np.array([[0.9, 0.7, 0.4]]), np.array([[True, False, True]])
    assert negative_log_likelihood(shares, true, 2) == pytest.approx(-np.log(0.9) - np.log(0.3) - np.log(0.4))


def test_a_few_users_who_are_all_right_make_nobody_certain():
    shares = {"stars": dict.fromkeys(STARS.values, 0.1) | {"1": 0.6}}
    row = {"truth": {"stars": "1"}, "probabilities": shares, "views": 1}
    assert 0.3 < fit_attribute([row] * 5, STARS)[0] < 1
    assert 0.02 <= fit_attribute([row] * 500, STARS)[0] < 0.3


def test_an_impossible_truth_leaves_the_fit_finite():
    rows = drawn_rows(2.0, users=200)
    rows[0]["probabilities"]["stars"] = dict.fromkeys(STARS.values, 0.0) | {"5": 1.0}
    rows[0]["truth"]["stars"] = "1"
    assert fit_attribute(rows, STARS)[0] == pytest.approx(2, rel=0.5)


def test_an_overconfident_set_is_better_calibrated_on_other_users():
    fitted = fit_calibration(drawn_rows(3.0, users=1000), SCHEMA)
    test = drawn_rows(3.0, seed=1)
    before, after = calibration(test, SCHEMA), calibration(recalibrated(test, SCHEMA, fitted), SCHEMA)
    for key in ("stars", "trips"):
        assert before[key]["expected_error"] > 0.1
        assert after[key]["expected_error"] < 0.03


def in_views(rows: list[dict], exponent: float) -> list[dict]:
    """A quarter each in 1, 2, 4 and 8 views, as flat as so many to the power of the exponent make them."""
    parts = {views: rows[first::4] for first, views in enumerate((1, 2, 4, 8))}
    flat = {"temperatures": dict.fromkeys(SCHEMA.keys, 2**exponent), "odds_powers": None, "calibrated_views": 2}
    rows = [{**row, "views": views} for views, part in parts.items() for row in part]
    return recalibrated(rows, SCHEMA, flat)


def test_users_of_few_views_are_sharpened_less():
    """The more views a product has, the flatter it is, and one view is as sure as the model was trained to be."""
    rows = in_views(drawn_rows(), 0.7)
    fitted = fit_calibration(rows, SCHEMA)
    assert fitted["calibrated_views"] == 8
    assert list(fitted["temperatures"].values()) == pytest.approx([8**-0.7] * 2, rel=0.08)
    after = recalibrated(rows, SCHEMA, fitted)
    single = [row["views"] == 1 for row in rows]
    assert [a["probabilities"] == b["probabilities"] for a, b in zip(rows, after, strict=True)] == single
    for key in ("stars", "trips"):
        errors = [calibration(some, SCHEMA)[key]["expected_error"] for some in (rows, after)]
        assert errors[0] > 0.08 > 0.03 > errors[1]


def test_users_without_a_prediction_do_not_count():
    rows, failed = drawn_rows(2.0, users=200), {"profile": None, "probabilities": None}
    more = [{**rows[0], **failed}, *rows, {**rows[0], **failed}]
    assert fit_calibration(more, SCHEMA) == fit_calibration(rows, SCHEMA)
    after = recalibrated(more, SCHEMA, fit_calibration(rows, SCHEMA))
    assert [row["probabilities"] is None for row in after] == [True, *[False] * 200, True]
    with pytest.raises(ValueError, match="fitted on users with predictions, got 2 users without one"):
        fit_calibration([more[0], more[-1]], SCHEMA)


def test_an_attribute_that_takes_all_its_values_needs_no_temperature():
    schema, shares = SCHEMAS["several"], {"both": {"True": 1.0, "False": 1.0}}
    rows = [{"truth": {"both": ["True", "False"]}, "probabilities": shares, "views": 1}] * 3
    assert fit_attribute(rows, schema.attributes[2]) == (1, 1)


def test_what_was_fitted_is_kept_by_a_config_through_the_disk(tmp_path):
    fitted = fit_calibration(drawn_rows(2.0, users=250), SCHEMA)
    MMProfileConfig(profile_schema=SCHEMA, **fitted).save_pretrained(tmp_path)
    loaded = MMProfileConfig.from_pretrained(tmp_path)
    assert len(fitted) == 5
    assert {name: getattr(loaded, name) for name in fitted} == fitted
    assert min(map(len, fitted["precision_thresholds"].values())) > 3


# ---------------------------------------------------------------------------------------------------------------------
# Thresholds


def rows_with(sure: list[float], right: list[bool]) -> list[dict]:
    return [
        {"profile": {"a": "x"}, "probabilities": {"a": {"x": one}}, "truth": {"a": "x" if is_right else "y"}}
        for one, is_right in zip(sure, right, strict=True)
    ]


def test_a_threshold_is_the_least_that_holds_the_precision():
    """100 right ones at 0.9, then 100 at 0.6 of which half are right: all together 150 of 200."""
    rows = rows_with([0.9] * 100 + [0.6] * 100, [True] * 100 + [True, False] * 50)
    assert lower_bound(np.array([0.75, 1.0]), np.array([200, 100])) == pytest.approx([0.6965, 0.9737], abs=1e-4)
    found = precision_thresholds(rows, "a")
    assert found == {"0.65": 0.0} | {f"{p:g}": 0.9 for p in PRECISIONS if 0.65 < p <= 0.97}


def test_users_who_are_equally_sure_are_decided_together():
    rows = rows_with([0.9] * 100, [True] * 50 + [False] * 50)
    assert precision_thresholds(rows, "a") == {"0.4": 0.0}


def test_a_lucky_few_decide_nothing():
    lucky = rows_with([0.99] * 29 + [0.5] * 100, [True] * 29 + [False] * 100)
    assert max(map(float, precision_thresholds(lucky, "a"))) < 0.3
    assert precision_thresholds(rows_with([0.99] * 29, [True] * 29), "a") == {}


def test_of_several_values_the_least_sure_counts_and_each_right_one():
    row = {
        "profile": {"trips": ["sea", "hills"]},
        "probabilities": {"trips": {"sea": 0.9, "hills": 0.7, "city": 0.3, "moor": 0.1}},
        "truth": {"trips": ["sea", "hills"]},
    }
    worse = {
        "profile": {"trips": ["sea", "hills"]},
        "probabilities": {"trips": {"sea": 0.9, "hills": 0.5, "city": 0.4, "moor": 0.2}},
        "truth": {"trips": ["sea", "city"]},
    }
    found = precision_thresholds([row] * 100 + [worse] * 100, "trips")
    assert (found["0.65"], found["0.7"], found["0.97"]) == (0.0, 0.7, 0.7)


@pytest.mark.parametrize("wanted", [0.7, 0.8, 0.9])
def test_what_is_decided_on_other_users_is_as_right_as_was_asked_for(wanted):
    fitted = fit_calibration(drawn_rows(3.0, users=1000), SCHEMA)
    test = recalibrated(drawn_rows(3.0, seed=1), SCHEMA, fitted)
    threshold = fitted["precision_thresholds"]["stars"][f"{wanted:g}"]
    right = [
        row["profile"]["stars"] == row["truth"]["stars"]
        for row in test
        if row["probabilities"]["stars"][row["profile"]["stars"]] >= threshold
    ]
    assert len(right) > 100
    assert np.mean(right) >= wanted


def test_the_table_has_a_line_for_each_attribute():
    rows = drawn_rows(3.0, users=250)
    fitted = fit_calibration(rows, SCHEMA)
    head, stars, trips = fitted_table(rows, SCHEMA, fitted).splitlines()
    assert head.split("  ")[-1] == "decided at 0.9"
    assert stars.split()[:2] == ["Stars", f"{fitted['temperatures']['stars']:.3f}"]
    assert float(stars.split()[2]) > float(stars.split()[3])
    assert trips.endswith("%")
