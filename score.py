"""Scores stored predictions once the truth is known, and tells how far they have moved since an earlier run.

    python score.py --predictions outputs/test --output outputs/scores
    python score.py --predictions outputs/test --truth truth.jsonl
    python score.py --predictions outputs/test --truth outputs/corpus --split test
    python score.py --predictions outputs/june --against outputs/may
    python score.py recipe.yaml --output outputs/scores

No model is needed: PREDICTIONS is a finished output folder of predict.py. The truth is the predictions' own, where
their input had it; or a JSONL file, a line for each user, in which other fields may stand too;

    {"user_id": "u1", "profile": {"stars": "4", "favorite_category": ["Pizza", "Coffee & Tea"], ...}}

or a Parquet file with these two columns; or a split of a corpus. A profile that is null is not known yet. Scored are
the users that both have: Macro-F1 by attribute with 95 % intervals (a bootstrap over users; one without a prediction
counts as wrong), and how far the probabilities of the values predicted are from the share that is right (expected
calibration error). How many of the true users are predicted, and the other way about, is told beside.

--against compares two runs, for which no truth is needed. The population stability index (PSI) of an attribute is the
sum of (p - q) ln(p / q) over its values, p and q their shares among what is predicted of all users in the run and in
the earlier one; each value counts half a time more than it is there, or one that a run lacks would have no logarithm.
Below 0.1 it is usually read as stable, up to 0.25 as moderate, above as large (Siddiqi, Credit Risk Scorecards, 2006).
With few users chance alone comes that far: how far, is told beside, and of the users in both how many changed.

OUTPUT gets scores.json and, where there is a truth, the figures of `predict.py --evaluate`.
"""

import sys

from cli.flags import answer_help, parse_flags
from scoring.arguments import ScoreArguments

if __name__ == "__main__":  # --help is there before what takes seconds to import
    answer_help(ScoreArguments, __doc__)

from collections.abc import Mapping, Sequence
from pathlib import Path

from cli.progress import log_progress
from files.output_files import WriteFailure, only_run, write_json
from mmprofile import Profile, shown
from prediction.stored import StoredPredictions
from prediction.truths import read_truths
from scoring.drift import drift, format_drift
from scoring.predictions import draw_scores, format_scores, score_rows

SCORES = "scores.json"


def check_same_schema(stored: StoredPredictions, earlier: StoredPredictions) -> None:
    """Raises a `ValueError` where two runs are of other attributes or values."""
    if stored.schema != earlier.schema:
        raise ValueError(
            f"{str(stored.folder)!r} has profiles of {stored.schema.to_list()}, {str(earlier.folder)!r} of"
            f" {earlier.schema.to_list()}"
        )


def rows_with_truth(stored: StoredPredictions, truths: Mapping[str, Profile] | None) -> tuple[list[dict], dict]:
    """The rows to score, and how many users they are of.

    Args:
        truths: of users by id; None: those that stand in the rows.

    Returns:
        Rows of `profile`, `probabilities` and `truth`; and `true_users`, `rows` (users of the run), `scored` (users of
        both), `scored_with_prediction`, and the shares of the scored among `true_users` and `rows`.

    Raises:
        ValueError: if nobody has both.
    """
    rows, number, some = [], 0, None
    for row in stored.read(["user_id", "profile", "probabilities", "truth"]):
        number += 1
        some = row["user_id"] if some is None else some
        if truths is not None:
            row["truth"] = truths.get(row["user_id"])
        if row["truth"] is not None:
            rows.append(row)
    if not rows and truths is not None:
        raise ValueError(
            f"no user_id of {str(stored.folder)!r}, as {shown(some)}, is one of the {len(truths)} true profiles, as"
            f" {shown(next(iter(truths)))}"
        )
    if not rows:
        raise ValueError(f"{str(stored.folder)!r} holds no true profiles; name them by --truth")
    known = len(rows) if truths is None else len(truths)
    return rows, {
        "true_users": known,
        "rows": number,
        "scored": len(rows),
        "scored_with_prediction": sum(row["profile"] is not None for row in rows),
        "share_of_true_users": len(rows) / known,
        "share_of_rows": len(rows) / number,
    }


def main(argv: Sequence[str] | None = None) -> dict:
    """Scores, prints and writes; returns what stands in the output folder's `scores.json`."""
    arguments = parse_flags(ScoreArguments, argv, __doc__)
    log_progress()
    stored = StoredPredictions(arguments.predictions)
    schema, name = stored.schema, Path(arguments.predictions).resolve().name
    results: dict = {"predictions": {"folder": arguments.predictions, **stored.notes}}
    earlier, truths, rows = None, None, []
    if arguments.against is not None:
        earlier = StoredPredictions(arguments.against)
        check_same_schema(stored, earlier)
    if arguments.truth is not None:
        truths = read_truths(
            arguments.truth, arguments.truth_config, arguments.split, arguments.truth_revision, schema
        )
    if truths is not None or earlier is None or has_truths(stored):
        rows, coverage = rows_with_truth(stored, truths)
        scores = score_rows(rows, schema, arguments.resamples)
        results |= {"coverage": coverage, **scores}
        print(
            "{scored} users scored, {scored_with_prediction} of them with a prediction: {share_of_true_users:.1%} of"
            " {true_users} true ones, {share_of_rows:.1%} of {rows} in the predictions".format(**coverage)
        )
        print(f"\n{format_scores(scores, schema, name)}")
    if earlier is not None:
        moved = drift(profiles_of(stored), profiles_of(earlier), schema)
        results |= {"against": {"folder": arguments.against, **earlier.notes}, "drift": moved}
        told = "{users} users now, {earlier_users} earlier, {users_in_both} in both".format(**moved)
        print(f"\nPredicted values against {arguments.against}: {told}\n\n{format_drift(moved, schema)}")
    if arguments.output is not None:
        with only_run(arguments.output):
            if rows:
                draw_scores(rows, results, schema, arguments.output, f"{name}, {len(rows)} users")
            write_json(Path(arguments.output) / SCORES, results)
        print(f"\nWritten to {arguments.output}")
    return results


def profiles_of(stored: StoredPredictions) -> dict[str, Profile | None]:
    return {row["user_id"]: row["profile"] for row in stored.read(["user_id", "profile"])}


def has_truths(stored: StoredPredictions) -> bool:
    return any(row["truth"] is not None for row in stored.read(["truth"]))


if __name__ == "__main__":
    try:
        main()
    except (ValueError, WriteFailure) as error:
        sys.exit(f"score.py: {error}")
