"""What profiles add to classifiers, on the page."""

import numpy as np
import pytest

from experiments import render as page
from experiments.plan import Run, read_scale, read_table, runs_of
from experiments.results import read_rated
from experiments.significance import ACCURACY, compare_pairs, score_ratings
from tests.experiments.kept_runs import USERS, keep_ratings

SCALE, TABLE = read_scale("smoke"), read_table("table_5")
# How large a share of a row is wrong, and the first of the seeds by which it is drawn.
WRONG = {
    "BERT": (0.4, 0),
    "BERT + Profile": (0.1, 10),
    "BERT + Shuffled": (0.4, 20),
    "BERT + True": (0.0, 30),
    "T5": (0.4, 40),
    "T5 + Profile": (0.4, 40),
}


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("results")
    for row in [row for row in TABLE.rows if row.name in WRONG]:
        wrong, first = WRONG[row.name]
        for run in runs_of(row, SCALE, 2):
            moved = Run(run.flags | {"seed": run.flags["seed"] + first}, run.trained, run.program)
            keep_ratings(folder / "smoke", folder / run.digest, moved, wrong)
            for path in (folder / "smoke").glob(f"{moved.digest}.*"):
                path.rename(path.with_name(f"{run.digest}{path.suffix}"))
    return folder


def kept(results, name: str) -> list:
    row = next(row for row in TABLE.rows if row.name == name)
    return page.kept_runs(row, SCALE, results / "smoke", read_rated)


def cells(text: str) -> dict[str, list[str]]:
    lines = [line.split("|")[1:-1] for line in text.splitlines() if line.startswith("|")]
    return {line[0].strip(): [cell.strip() for cell in line[1:]] for line in lines}


def test_a_line_has_each_column_both_differences_and_the_papers_numbers(results):
    text = page.render(SCALE, results / "smoke")
    table = text.split("## Table 5")[1]
    rows = cells(table)
    assert list(rows)[2:] == ["BERT", "T5", "Majority class"] and len(rows["BERT"]) == len(rows[""]) == 10
    bert, t5 = rows["BERT"], rows["T5"]
    assert bert[0] == "2" and bert[-1] == "55.4 → 57.6" and t5[-1] == "64.8 → 66.8"
    accuracy = score_ratings(kept(results, "BERT + Profile")).mean(ACCURACY)
    assert bert[2].startswith(f"{accuracy:.1f} ± ") and " / " in bert[2] and bert[4] == "100.0 ± 0.0 / 100.0 ± 0.0"
    assert bert[5].startswith("+") and bert[6] == "< 0.0001" and bert[7].startswith("+") and bert[8] == "< 0.0001"
    assert t5[6].endswith("not resolved") and t5[3:5] + t5[7:9] == [""] * 4
    assert rows["Majority class"][1] == "25.0 / 8.0"
    assert f"{3 * USERS} reviews of {USERS} test users" in table
    assert "Not run yet: T5 + Shuffled, T5 + True, BART, " in table
    assert text == page.render(SCALE, results / "smoke")


def test_a_resample_takes_all_reviews_of_a_user(results):
    runs = kept(results, "BERT")
    scored = score_ratings(runs, 500)
    assert scored.mean(ACCURACY) == pytest.approx(np.mean([one.told["accuracy"] for one in runs]))
    assert scored.resampled.mean() == pytest.approx(scored.mean(ACCURACY), abs=1)
    right = [np.equal(one.predicted, one.truths).reshape(USERS, 3).mean(axis=1) for one in runs]
    spread = 100 * np.mean(right, axis=0).std() / np.sqrt(USERS)  # of means over users, who have as many reviews each
    assert scored.resampled.std() == pytest.approx(spread, rel=0.15)


def test_users_with_all_right_or_all_wrong_spread_further_than_as_many_reviews_on_their_own(results):
    one = kept(results, "BERT")[0]
    one.predicted = [truth if place // 3 % 2 else 6 for place, truth in enumerate(one.truths)]
    together = score_ratings([one], 500).resampled.std()
    one.users = [f"r{place}" for place in range(len(one.users))]
    assert together > 1.5 * score_ratings([one], 500).resampled.std()


def test_pairs_are_corrected_together(results):
    base, profile = (score_ratings(kept(results, name), 500) for name in ("BERT", "BERT + Shuffled"))
    alone = compare_pairs({"a": (profile, base)}, ACCURACY)["a"]
    three = compare_pairs({"a": (profile, base), "b": (base, base), "c": (base, base)}, ACCURACY)
    assert 0 < alone.p < 1 and three["a"].p == pytest.approx(min(1, 3 * alone.p))


def test_runs_on_other_reviews_are_not_one_row(results):
    runs = kept(results, "BERT")
    runs[1].truths[0] = 1 + runs[1].truths[0] % 5
    with pytest.raises(ValueError, match="tested on different reviews"):
        score_ratings(runs, 10)
