"""Temperatures and thresholds: known ones come back, the fit loses nothing, and what is decided keeps its word."""

import numpy as np
import pytest

from mmprofile import MMProfileConfig, ProfileAttribute, ProfileSchema, tempered
from mmprofile.configuration_mmprofile import FITTED
from scoring.bootstrap import named_values
from scoring.plots import calibration
from scoring.temperature import (
    PRECISIONS,
    fit_attribute,
    fit_by_views,
    fit_calibration,
    fitted_table,
    fitted_views,
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
    alone = {"temperatures": {"stars": best_temperature(rows)}}
    errors = [
        calibration(recalibrated(test, SCHEMA, {"1": one}), SCHEMA)["stars"]["expected_error"]
        for one in (alone, fitted)
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
    before, after = calibration(test, SCHEMA), calibration(recalibrated(test, SCHEMA, {"1": fitted}), SCHEMA)
    for key in ("stars", "trips"):
        assert before[key]["expected_error"] > 0.1
        assert after[key]["expected_error"] < 0.03


def in_views(rows: list[dict], temperatures: dict[int, float]) -> list[dict]:
    """As many rows in each number of views, as flat as its temperature makes them."""
    parts = {views: rows[first :: len(temperatures)] for first, views in enumerate(temperatures)}
    flat = {str(views): {"temperatures": dict.fromkeys(SCHEMA.keys, one)} for views, one in temperatures.items()}
    rows = [{**row, "views": views} for views, part in parts.items() for row in part]
    return recalibrated(rows, SCHEMA, flat)


def test_users_of_each_number_of_views_are_fitted_by_themselves():
    temperatures = {1: 1.0, 4: 3.0, 8: 5.0}
    rows, test = (in_views(drawn_rows(users=6000, seed=seed), temperatures) for seed in range(2))
    by_views = fit_by_views(rows, SCHEMA)
    assert list(by_views) == ["1", "4", "8"]
    for views, flat in temperatures.items():
        assert list(by_views[str(views)]["temperatures"].values()) == pytest.approx([1 / flat] * 2, rel=0.12)
        some = [row for row in test if row["views"] == views]
        for key in ("stars", "trips"):
            assert calibration(recalibrated(some, SCHEMA, by_views), SCHEMA)[key]["expected_error"] < 0.04
    assert calibration(test, SCHEMA)["stars"]["expected_error"] > 0.08


def test_numbers_of_views_to_which_something_is_fitted():
    assert fitted_views([1] * 9) == [1]
    assert fitted_views([12] * 250) == [1, 4, 12]
    assert fitted_views([1] * 74 + [8] * 26) == [1, 4, 8]
    assert fitted_views([1] * 80 + [8] * 20) == [1]
    assert fitted_views([16]) == [1, 4, 16]
    assert fitted_views([4, 3, 3, 2, 2, 1, 1, 1]) == [1, 3]


def test_users_with_another_number_of_views_count_with_the_nearest_and_few_are_not_fitted():
    rows = drawn_rows(users=300)
    counts = [1] * 100 + [2] * 5 + [6] * 10 + [8] * 170 + [3] * 15
    rows = [{**row, "views": views} for row, views in zip(rows, counts, strict=True)]
    fitted = fit_by_views(rows, SCHEMA)
    assert list(fitted) == ["1", "8"]  # 15 are nearest to 4
    assert fitted["1"] == fit_calibration(rows[:105], SCHEMA)
    assert fitted["8"] == fit_calibration(rows[105:285], SCHEMA)
    assert list(fit_by_views(rows[-15:], SCHEMA)) == ["3"]


def test_users_without_a_prediction_do_not_count():
    rows, failed = drawn_rows(2.0, users=200), {"profile": None, "probabilities": None}
    more = [{**rows[0], **failed}, *rows, {**rows[0], **failed}]
    assert fit_by_views(more, SCHEMA) == fit_by_views(rows, SCHEMA) == {"1": fit_calibration(rows, SCHEMA)}
    after = recalibrated(more, SCHEMA, fit_by_views(rows, SCHEMA))
    assert [row["probabilities"] is None for row in after] == [True, *[False] * 200, True]
    with pytest.raises(ValueError, match="fitted on users with predictions, got 2 users without one"):
        fit_by_views([more[0], more[-1]], SCHEMA)


def test_an_attribute_that_takes_all_its_values_needs_no_temperature():
    schema, shares = SCHEMAS["several"], {"both": {"True": 1.0, "False": 1.0}}
    rows = [{"truth": {"both": ["True", "False"]}, "probabilities": shares, "views": 1}] * 3
    assert fit_attribute(rows, schema.attributes[2]) == (1, 1)


def test_what_was_fitted_is_kept_by_a_config_through_the_disk(tmp_path):
    calibrations = {"product": fit_by_views(drawn_rows(2.0, users=1000), SCHEMA)}
    MMProfileConfig(profile_schema=SCHEMA, calibrations=calibrations).save_pretrained(tmp_path)
    assert MMProfileConfig.from_pretrained(tmp_path).calibrations == calibrations
    assert list(calibrations["product"]["1"]) == list(FITTED)
    assert min(map(len, calibrations["product"]["1"]["precision_thresholds"].values())) > 3


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
    assert lower_bound(np.array([0.75, 1.0]), np.array([200, 100])) == pytest.approx([0.6667, 0.9413], abs=1e-4)
    found = precision_thresholds(rows, "a")
    assert found == {"0.65": 0.6} | {f"{p:g}": 0.9 for p in PRECISIONS if 0.65 < p <= 0.94}


def test_users_who_are_equally_sure_are_decided_together():
    rows = rows_with([0.9] * 100, [True] * 50 + [False] * 50)
    assert precision_thresholds(rows, "a") == {"0.35": 0.9}


def test_a_value_less_probable_than_any_that_was_seen_is_not_sure_enough():
    thresholds = precision_thresholds(rows_with([0.9] * 50 + [0.7] * 50, [True] * 100), "a")
    assert set(thresholds.values()) == {0.7}


def test_a_lucky_few_decide_nothing():
    lucky = rows_with([0.99] * 29 + [0.5] * 100, [True] * 29 + [False] * 100)
    assert max(map(float, precision_thresholds(lucky, "a"))) < 0.3
    assert precision_thresholds(rows_with([0.99] * 29, [True] * 29), "a") == {}


@pytest.mark.parametrize("users", [250, 1000])
def test_a_precision_that_is_not_there_is_held_by_chance_in_a_twentieth_of_fits_at_most(users):
    """With probabilities that tell nothing: of 0.88 a threshold for 0.9 is a mistake wherever it lies."""
    generator = np.random.default_rng(0)
    users_drawn = [(generator.random(users), generator.random(users) < 0.88) for _ in range(200)]
    found = [precision_thresholds(rows_with(sure.tolist(), right.tolist()), "a") for sure, right in users_drawn]
    assert sum("0.9" in thresholds for thresholds in found) <= 200 / 20
    assert sum(max(map(float, thresholds)) >= 0.8 for thresholds in found) > 150


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
    assert (found["0.65"], found["0.7"], found["0.94"]) == (0.5, 0.7, 0.7)


@pytest.mark.parametrize("wanted", [0.7, 0.8, 0.9])
def test_what_is_decided_on_other_users_is_as_right_as_was_asked_for(wanted):
    fitted = fit_calibration(drawn_rows(3.0, users=4000, seed=2), SCHEMA)
    test = recalibrated(drawn_rows(3.0, seed=1), SCHEMA, {"1": fitted})
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
    head, stars, trips = fitted_table(rows, SCHEMA, {"1": fitted}).splitlines()
    assert head.split("  ")[-1] == "decided at 0.9"
    assert stars.split()[:2] == ["Stars", f"{fitted['temperatures']['stars']:.3f}"]
    assert float(stars.split()[2]) > float(stars.split()[3])
    assert trips.endswith("%")
