"""Stored predictions against the truth: what predict.py tells with --evaluate, and score.py later."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmprofile import ProfileSchema
from scoring.bootstrap import RESAMPLES, intervals, resample_f1
from scoring.evaluation import profile_f1
from scoring.plots import calibration, plot_calibration, plot_confusion
from scoring.reporting import format_table, table_order

DRAWN = 10**9  # users in all resamples together at most, which take a minute; of very many users few tell enough
FEWEST_RESAMPLES = 200


def score_rows(rows: Sequence[Mapping], schema: ProfileSchema, resamples: int | None = None) -> dict[str, Any]:
    """What rows of predictions are worth.

    Args:
        rows: `profile` (None where there is no prediction, which counts as wrong), `probabilities` and `truth`.
        resamples: of the bootstrap; 0: no intervals; default: `RESAMPLES`, fewer of more than 100,000 users.

    Returns:
        `f1`, Macro-F1 in percent by attribute, and "average"; `f1_intervals`, the ends of 95 % intervals over users,
        and from how many `resamples`; and `calibration`, see `scoring.plots.calibration`.

    Raises:
        ValueError: if there are no rows.
    """
    nothing = dict.fromkeys(schema.keys)  # counts as wrong
    profiles, truths = [row["profile"] or nothing for row in rows], [row["truth"] for row in rows]
    if not rows:
        raise ValueError("there is no user to score")
    if resamples is None:
        resamples = min(RESAMPLES, max(FEWEST_RESAMPLES, DRAWN // len(rows)))
    ends = None
    if resamples:
        ends = intervals(resample_f1({"own": profiles}, truths, schema, resamples)["own"])
    return {
        "f1": profile_f1(profiles, truths, schema),
        "f1_intervals": ends,
        "resamples": resamples,
        "calibration": calibration(rows, schema),
    }


def format_scores(found: Mapping[str, Any], schema: ProfileSchema, name: str) -> str:
    """What `score_rows` returns, for a terminal; `name` is of the model."""
    ends = None if found["f1_intervals"] is None else {name: found["f1_intervals"]}
    table = format_table({name: found["f1"]}, schema, ends)
    errors = {a.name: found["calibration"][a.key]["expected_error"] for a in table_order(schema)}
    told = ", ".join(f"{name} {'–' if error is None else f'{error:.3f}'}" for name, error in errors.items())
    return f"Macro-F1 in percent:\n\n{table}\n\nExpected calibration error: {told}"


def draw_scores(
    rows: Sequence[Mapping], found: Mapping[str, Any], schema: ProfileSchema, folder: str | os.PathLike, of: str
) -> None:
    """Writes `confusion.png` and `calibration.png`.

    Args:
        rows, found: as of `score_rows`.
        of: whose profiles were predicted, for the titles.
    """
    plot_confusion(rows, schema, Path(folder) / "confusion.png", of)
    plot_calibration(found["calibration"], schema, Path(folder) / "calibration.png", of)
