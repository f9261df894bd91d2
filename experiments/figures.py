"""The figures of RESULTS.md."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, median, stdev
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from experiments.plan import Table
from experiments.results import Kept
from experiments.significance import AVERAGE, Scored
from files.output_files import replacing
from scoring.bootstrap import half_width, interval
from scoring.reporting import COLORS, MARKERS

SCORE = "average Macro-F1, percent"


@dataclass
class Curve:
    """How a row's models learnt.

    Attributes:
        pace: processor seconds of an epoch's steps: the median over epochs and seeds, which what else ran on the
            machine moves least.
        seconds: of training, at each evaluation.
        scores: on the development split, means over seeds.
        deviations: standard deviations over seeds; 0 of a single one.
    """

    pace: float
    seconds: list[float]
    scores: list[float]
    deviations: list[float]


def curve_of(runs: Sequence[Kept]) -> Curve | None:
    """Of a row's runs, a seed each; None where the time of their epochs is not kept."""
    epochs = [run.told["epochs"] for run in runs]
    times = [one["cpu_seconds"] for of_run in epochs for one in of_run if "cpu_seconds" in one]
    if not times:
        return None
    pace = median(times)
    at_once = list(zip(*epochs, strict=False))  # a run that stopped early has fewer
    scores = [[one["dev_f1"] for one in same] for same in at_once]
    return Curve(
        pace,
        [pace * same[0]["epoch"] for same in at_once],
        [mean(same) for same in scores],
        [stdev(same) if len(same) > 1 else 0.0 for same in scores],
    )


def draw_figure(table: Table, scored: Mapping[str, Scored], path: Path) -> None:
    """A figure's lines, with the 95 % intervals over users as bars; a panel for each thing that lies along one."""
    rows = [row for row in table.rows if row.name in scored]
    panel_of = {row.name: row.panel or table.axis or "" for row in rows}
    panels = list(dict.fromkeys(panel_of.values()))
    lines = list(dict.fromkeys(row.line for row in rows))
    figure = Figure(figsize=(9, 5) if len(panels) == 1 else (5.5 * len(panels), 5), layout="constrained")
    for axes, panel in zip(figure.subplots(1, len(panels), sharey=True, squeeze=False)[0], panels, strict=True):
        for number, line in enumerate(lines):
            points = [row for row in rows if row.line == line and panel_of[row.name] == panel]
            reach = [half_width(interval(scored[row.name].resampled)) for row in points]
            at: list[Any] = [row.at for row in points]
            means = [scored[row.name].mean(AVERAGE) for row in points]
            axes.errorbar(at, means, yerr=reach, label=line, **_style(number))
        if not any(isinstance(row.at, str) for row in rows):
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel(panel)
        axes.grid(alpha=0.3)
    figure.axes[0].set_ylabel(SCORE)
    figure.axes[0].legend()
    figure.suptitle(f"{table.of}: {table.title}")
    _save(figure, path)


def draw_curves(title: str, curves: Mapping[str, Curve], path: Path) -> None:
    """Development scores against the time of training, with the standard deviations over seeds as bars."""
    figure = Figure(figsize=(9, 5), layout="constrained")
    axes = figure.subplots()
    for number, (name, one) in enumerate(curves.items()):
        axes.errorbar(one.seconds, one.scores, yerr=one.deviations, label=name, **_style(number))
    axes.set_xlabel("processor seconds of training")
    axes.set_ylabel(f"development split: {SCORE}")
    axes.set_title(title)
    axes.grid(alpha=0.3)
    axes.legend()
    _save(figure, path)


def _style(number: int) -> dict[str, Any]:
    return {"color": COLORS[number % len(COLORS)], "marker": MARKERS[number % len(MARKERS)], "capsize": 3}


def _save(figure: Figure, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=110)
