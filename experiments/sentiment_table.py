"""Table 5: what profiles add to classifiers of reviews."""

from collections.abc import Mapping, Sequence
from typing import Any

from experiments.cells import compared_cells, figure_cell
from experiments.plan import Table
from experiments.results import Rated
from experiments.significance import ACCURACY, MACRO_F1, Scored, compare_pairs, score_ratings
from scoring.reporting import format_cells

TEXT, GENERATED, SHUFFLED = "none", "generated", "shuffled"  # columns, `Row.at`
COLUMNS = {TEXT: "Text", GENERATED: "Text + Profile", SHUFFLED: "Text + Shuffled", "true": "Text + True"}
AGAINST = {TEXT: "Profile more than none", SHUFFLED: "Profile more than shuffled"}


def sentiment_table(
    table: Table, runs: Mapping[str, Sequence[Rated]], paper: Mapping[str, Mapping[str, float]]
) -> str:
    """A line a classifier: of each column accuracy and Macro-F1, differences of accuracy, and the paper's numbers.

    Args:
        runs: of each row, those that are done; of one row at least.
        paper: by row, the paper's accuracy.

    Raises:
        ValueError: if runs were tested on different reviews.
    """
    done = [one for its in runs.values() for one in its]
    first = done[0]
    if any((one.users, one.truths) != (first.users, first.truths) for one in done):
        raise ValueError(f"runs of {table.name} were tested on different reviews")
    scored = {(str(row.line), str(row.at)): score_ratings(runs[row.name]) for row in table.rows if runs.get(row.name)}
    names = {(row.line, row.at): row.name for row in table.rows}
    lines = list(dict.fromkeys(line for line, _ in scored))
    pairs = {
        f"{line} {against}": (scored[line, GENERATED], scored[line, against])
        for line in lines
        for against in AGAINST
        if (line, GENERATED) in scored and (line, against) in scored
    }
    compared = compare_pairs(pairs, ACCURACY)
    cells = [["", "Seeds", *COLUMNS.values(), *(cell for title in AGAINST.values() for cell in (title, "p")), "Paper"]]
    for line in lines:
        seeds = sorted({len(row.f1) for (of, _), row in scored.items() if of == line})
        cells.append([line, " to ".join(map(str, dict.fromkeys((seeds[0], seeds[-1]))))])
        cells[-1] += [_scores(scored.get((line, at))) for at in COLUMNS]
        cells[-1] += [cell for against in AGAINST for cell in compared_cells(compared.get(f"{line} {against}"))]
        both = [paper[names[line, at]][ACCURACY] for at in (TEXT, GENERATED)]
        cells[-1].append(" → ".join(f"{number:.1f}" for number in both))
    majority: Any = first.told["majority"]
    usual = f"{majority[ACCURACY]:.1f} / {majority[MACRO_F1]:.1f}"
    cells.append(["Majority class", "", usual] + [""] * (len(cells[0]) - 3))
    about = f"Accuracy / Macro-F1 in percent, of {len(first.users):,} reviews of {len(set(first.users)):,} test users;"
    parts = [f"{about} differences are of accuracy. Paper: accuracy of Text → Text + Profile.", format_cells(cells)]
    parts += [table.notes.strip()] if table.notes else []
    if missing := [row.name for row in table.rows if not runs.get(row.name)]:
        parts.append(f"Not run yet: {', '.join(missing)}.")
    return "\n\n".join(parts) + "\n"


def _scores(row: Scored | None) -> str:
    return "" if row is None else f"{figure_cell(row, ACCURACY)} / {figure_cell(row, MACRO_F1)}"
