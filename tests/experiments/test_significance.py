"""Differences of rows: by hand, and what may not change them."""

import numpy as np
import pytest

from experiments.plan import Run
from experiments.results import read_kept
from experiments.significance import AVERAGE, Scored, compare, holm, score
from scoring.evaluation import profile_f1
from tests.experiments.kept_runs import SCHEMA, keep_run, profiles


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """Two seeds' results, with a tenth of the profiles wrong, another tenth, and most."""
    folder, found = tmp_path_factory.mktemp("kept"), {}
    for name, wrong, first in (("tenth", 0.1, 0), ("another", 0.1, 7), ("most", 0.6, 0)):
        runs = [Run({"seed": seed, "wrong": wrong}) for seed in (first, first + 1)]
        for run in runs:
            keep_run(folder / "results", folder / run.digest, run, wrong)
        found[name] = [read_kept(folder / "results", run) for run in runs]
    return found


def test_holms_correction_by_hand():
    assert holm({"a": 0.01, "b": 0.04, "c": 0.03}) == pytest.approx({"a": 0.03, "c": 0.06, "b": 0.06})
    assert holm({"a": 0.5, "b": 0.6}) == {"a": 1.0, "b": 1.0}
    assert holm({}) == {}


def test_a_rows_score_is_the_mean_over_seeds_and_so_is_each_resample(kept):
    row = score(kept["tenth"], SCHEMA, resamples=200)
    by_hand = [profile_f1(profiles(seed, 0.1), profiles(0), SCHEMA)["average"] for seed in range(2)]
    assert row.mean(AVERAGE) == pytest.approx(np.mean(by_hand))
    assert row.deviation(AVERAGE) == pytest.approx(np.std(by_hand, ddof=1))
    singles = [score([one], SCHEMA, resamples=200) for one in kept["tenth"]]
    assert row.resampled == pytest.approx(np.mean([single.resampled for single in singles], axis=0))
    assert singles[0].deviation(AVERAGE) is None
    assert row.resampled.mean() == pytest.approx(row.mean(AVERAGE), abs=3)


def test_a_difference_that_is_large_is_resolved_and_a_small_one_is_not(kept):
    rows = {name: score(runs, SCHEMA, resamples=2000) for name, runs in kept.items()}
    found = compare(rows, "tenth")
    assert list(found) == ["another", "most"]
    small, large = found["another"], found["most"]
    assert large.resolved and large.interval[1] < 0 and large.difference < -20
    assert not small.resolved and small.interval[0] < 0 < small.interval[1]
    same = compare({"a": rows["tenth"], "b": rows["tenth"]}, "a")["b"]
    assert (same.difference, same.p) == (0, 1)
    back = compare({"x": rows["tenth"], "y": rows["most"]}, "y")["x"]
    assert back.difference == pytest.approx(-large.difference)
    assert back.interval == pytest.approx([-large.interval[1], -large.interval[0]])


def test_p_is_two_sided():
    base, other = Scored([{AVERAGE: 1.0}], np.zeros(100)), Scored([{AVERAGE: 1.0}], np.array([-1.0] * 10 + [1.0] * 90))
    assert compare({"a": base, "b": other}, "a")["b"].p == pytest.approx(0.2)
    assert compare({"a": other, "b": base}, "a")["b"].p == pytest.approx(0.2)


def test_runs_of_other_users_are_not_one_row(kept):
    other = kept["tenth"][1]
    other.users[0], before = "someone", other.users[0]
    with pytest.raises(ValueError, match="different users"):
        score(kept["tenth"], SCHEMA, resamples=10)
    other.users[0] = before
