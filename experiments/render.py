"""Writes RESULTS.md, the paper's tables and figures as far as they are run, and the figures.

python -m experiments.render --scale tiny
"""

import sys

from experiments.arguments import render_parser

if __name__ == "__main__":  # --help is there before what takes seconds to import
    render_parser(__doc__).parse_known_args()

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml

from experiments.cells import compared_cells, figure_cell
from experiments.corpus_tables import CORPUS_TABLES
from experiments.figures import Curve, curve_of, draw_curves, draw_figure
from experiments.plan import (
    HERE,
    SENTIMENT,
    Row,
    Run,
    Scale,
    Table,
    chosen_tables,
    read_scale,
    runs_of,
    table_names,
)
from experiments.results import Kept, is_done, read_kept, read_rated
from experiments.sentiment_table import sentiment_table
from experiments.significance import AVERAGE, LEVEL, Scored, compare, score
from files.output_files import replacing
from mmprofile import ProfileSchema
from publishing.run_files import MAJORITY_ROW
from scoring.bootstrap import RESAMPLES, interval
from scoring.reporting import format_cells, table_order

T = TypeVar("T")

PAGE = "RESULTS.md"
HEAD = """# The paper's tables and figures

`python -m experiments.run all --scale {scale}` does the runs, `python -m experiments.render --scale {scale}` writes
this page from what is kept of them. Scale: {title}. What runs show is of that data, and no promise for another.
The numbers of "Exploring Unified Training Framework for Multimodal User Profiling" stand beside, on its own corpus.

Macro-F1 in percent{users}; means over seeds, ± the standard deviation of a seed. Differences have 95 %
intervals of a paired bootstrap over users ({resamples:,} resamples, each the mean over seeds) and p corrected by Holm
over the table's rows; one that is not below {level} is not resolved: these users and seeds do not tell the two apart.
"""


def main(argv: Sequence[str] | None = None) -> None:
    """Writes the page and the figures.

    Raises:
        ValueError: if nothing is run, or a file does not fit.
    """
    arguments = render_parser(__doc__).parse_args(argv)
    scale, output = read_scale(arguments.scale), arguments.output
    text = render(scale, arguments.results / scale.name, output)
    output.mkdir(parents=True, exist_ok=True)
    with replacing(output / PAGE) as temporary:
        temporary.write_text(text, encoding="utf-8")
    print(f"Written to {output / PAGE}")


def render(scale: Scale, folder: Path, figures: Path | None = None) -> str:
    """The page.

    Args:
        folder: of the scale's results.
        figures: where the figures go; None: none is drawn.
    """
    paper = yaml.safe_load((HERE / "paper.yaml").read_text(encoding="utf-8"))
    schema, parts, users = ProfileSchema(), [], 0
    for table in chosen_tables(table_names()):
        if table.rows[0].program == SENTIMENT:
            rated = {row.name: kept_runs(row, scale, folder, read_rated) for row in table.rows}
            if any(rated.values()):
                parts.append(f"## {table.of}: {table.title}\n\n{sentiment_table(table, rated, paper[table.name])}")
            continue
        found = {row.name: kept_runs(row, scale, folder) for row in table.rows}
        there = {name: runs for name, runs in found.items() if runs}
        if not there or (table.optional and len(there) < len(found)):  # it shares runs with others
            continue
        users = len(next(iter(there.values()))[0].users)
        scored = {name: score(runs, schema) for name, runs in there.items()}
        parts.append(f"## {table.of}: {table.title}\n\n{_body(table, scored, there, schema, paper, figures)}")
    if parts and (folder / CORPUS_TABLES).is_file():
        parts.insert(0, (folder / CORPUS_TABLES).read_text(encoding="utf-8") + _published(paper))
    if not parts:
        raise ValueError(f"nothing is run at scale {scale.name}: {folder} holds no results")
    title = scale.title
    head = HEAD.format(
        scale=scale.name,
        title=title,
        users=f" on {users:,} test users" if users else "",
        resamples=RESAMPLES,
        level=LEVEL,
    )
    return "\n".join([head, *parts])


def _published(paper: Mapping[str, Any]) -> str:
    """What the published version's Table 1 has otherwise."""
    others = [f"{name} {number:,}" for name, number in paper["published"]["table_1"].items()]
    return f"\nThe published version (COLING 2025) has in its Table 1: {', '.join(others)}.\n"


def kept_runs(row: Row, scale: Scale, folder: Path, read: Callable[[Path, Run], T] = read_kept) -> list[T]:
    """Of a row the runs that are done, seeds from 0 on, however many; those of a corpus of the scale's own."""
    found: list[T] = []
    while is_done(folder, run := _seed(row, scale, len(found))):
        found.append(read(folder, run))
    return found


def _seed(row: Row, scale: Scale, seed: int) -> Run:
    return runs_of(row, scale, seed + 1)[seed]


def _body(
    table: Table,
    scored: Mapping[str, Scored],
    runs: Mapping[str, Sequence[Kept]],
    schema: ProfileSchema,
    paper: Mapping[str, Any],
    figures: Path | None,
) -> str:
    missing = [row.name for row in table.rows if row.name not in scored]
    notes = [table.notes.strip()] if table.notes else []
    if missing:
        notes.append(f"Not run yet: {', '.join(missing)}.")
    if table.axis is not None:
        if figures is not None:
            draw_figure(table, scored, figures / f"{table.name}.png")
        return "\n\n".join([f"![{table.title}]({table.name}.png)", _points(table, scored), *notes]) + "\n"
    parts = [_rows(table, scored, runs, schema, paper), *notes]
    curves = {name: found for name in runs if table.curve and (found := curve_of(runs[name]))}
    if curves:
        if figures is not None:
            draw_curves(table.title, curves, figures / f"{table.name}.png")
        parts += [f"![{table.title}, by time]({table.name}.png)", _times(curves)]
    return "\n\n".join(parts) + "\n"


def _times(curves: Mapping[str, Curve]) -> str:
    cells = [["", "Epochs", "Processor seconds of each", "Of all", "Development Macro-F1 at the end"]]
    for name, one in curves.items():
        total = f"{one.seconds[-1]:,.0f}"
        cells.append([name, str(len(one.seconds)), f"{one.pace:,.0f}", total, f"{one.scores[-1]:.1f}"])
    return format_cells(cells)


def _rows(
    table: Table,
    scored: Mapping[str, Scored],
    runs: Mapping[str, Sequence[Kept]],
    schema: ProfileSchema,
    paper: Mapping[str, Any],
) -> str:
    columns = {attribute.key: attribute.name for attribute in table_order(schema)} | {AVERAGE: "Average"}
    against = table.against if table.against in scored and len(scored) > 1 else None
    compared = compare(scored, against) if against else {}
    beside = ["Paper"] * (table.name in paper)
    head = ["", "Seeds", *columns.values(), *beside] + [f"More than {against}", "p"] * bool(against)
    cells = [head]
    for name, row in scored.items():
        line = [name, str(len(row.f1)), *(figure_cell(row, key) for key in columns)]
        line += [_of_paper(paper, table.name, name)] * len(beside)
        if against:
            line += compared_cells(compared.get(name))
        cells.append(line)
    majority = next(iter(runs.values()))[0].told["test_f1"][MAJORITY_ROW]
    line = ["Majority class", "", *(f"{majority[key]:.1f}" for key in columns)]
    cells.append(line + [""] * (len(head) - len(line)))
    return format_cells(cells)


def _of_paper(paper: Mapping[str, Any], table: str, row: str) -> str:
    """The average; with that of the published version where it is another."""
    number = paper.get(table, {}).get(row, {}).get(AVERAGE)
    other = paper["published"].get(table, {}).get(row, {}).get(AVERAGE)
    return "" if number is None else f"{number:.2f}" + ("" if other is None else f" (published {other:.2f})")


def _points(table: Table, scored: Mapping[str, Scored]) -> str:
    cells = [["Line", "At", "Seeds", "Average", "95 % interval over users"]]
    for row in table.rows:
        if found := scored.get(row.name):
            low, high = interval(found.resampled)
            ends = f"{low:.1f}–{high:.1f}"
            cells.append([str(row.line), str(row.at), str(len(found.f1)), figure_cell(found, AVERAGE), ends])
    return format_cells(cells)


if __name__ == "__main__":
    try:
        main()
    except ValueError as error:
        sys.exit(f"experiments.render: {error}")
