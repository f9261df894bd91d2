"""What a run leaves for people: the results as a table, the epochs as curves."""

import math
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator
from sklearn.isotonic import isotonic_regression

from files.output_files import replacing
from mmprofile import ProfileAttribute, ProfileSchema

# The attributes in the order of the paper's Table 2.
TABLE_2 = ("stars", "favorite_category", "budget_range", "service_preference", "preferred_meal", "discount_preference")
# Okabe and Ito's colours, told apart by the colour-blind. With a marker each, 42 lines differ.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
MARKERS = "osD^vPX"
INK, PALE = "#222222", "#707070"
FONT_SIZE = 12  # points; a README shows the figure at about half its pixels


def table_order(schema: ProfileSchema) -> list[ProfileAttribute]:
    """The attributes in the paper's column order, those that it does not have behind them in schema order."""
    known = [key for key in TABLE_2 if key in schema.keys]
    return sorted(schema.attributes, key=lambda a: known.index(a.key) if a.key in known else len(known))


def format_table(
    rows: Mapping[str, Mapping[str, float]],
    schema: ProfileSchema,
    intervals: Mapping[str, Mapping[str, Sequence[float]]] | None = None,
) -> str:
    """A GitHub Markdown table, its columns aligned for a terminal too: one line a row, one column an attribute.

    Args:
        rows: name of the row -> attribute key -> percent, and "average".
        schema: names the attributes, see `table_order`.
        intervals: likewise, the lower and upper end of each figure's 95 % interval, which stands below it.

    Raises:
        ValueError: if a row lacks a column.
    """
    columns = {attribute.key: attribute.name for attribute in table_order(schema)} | {"average": "Average"}
    cells = [["", *columns.values()]]
    for name, row in rows.items():
        if missing := [key for key in columns if key not in row]:
            raise ValueError(f"row {name!r} needs {list(columns)}, {missing} missing")
        cells.append([name, *(f"{row[key]:.2f}" for key in columns)])
        if intervals is not None:
            ends = (intervals[name][key] for key in columns)
            cells.append(["95 % interval", *(f"{low:.1f}–{high:.1f}" for low, high in ends)])
    return format_cells(cells)


def format_cells(cells: Sequence[Sequence[str]]) -> str:
    """A GitHub Markdown table of lines of as many cells, the first one the head; its columns are aligned."""
    first, *others = (max(3, *(len(line[column]) for line in cells)) for column in range(len(cells[0])))
    rule = [":" + "-" * (first - 1), *("-" * (width - 1) + ":" for width in others)]
    lines = []
    for name, *values in [cells[0], rule, *cells[1:]]:
        aligned = [name.ljust(first), *(value.rjust(width) for value, width in zip(values, others, strict=True))]
        lines.append(f"| {' | '.join(aligned)} |")
    return "\n".join(lines)


def best_record(history: Sequence[Mapping]) -> Mapping:
    """That of the evaluation with the highest average Macro-F1 on the development split, the first of equals."""
    return max(history, key=lambda record: record["dev_f1"]["average"])


def best_epoch(history: Sequence[Mapping]) -> float:
    """The epoch of `best_record`."""
    return best_record(history)["epoch"]


def plot_curves(history: Sequence[Mapping], schema: ProfileSchema, path: str | os.PathLike) -> None:
    """Draws a PNG: losses by objective on a logarithmic axis, and the development split's Macro-F1 by attribute, over
    the epochs.

    Args:
        history: one record an epoch: `epoch`, `train_loss`, `train_loss_<objective>` for each objective, `dev_loss`
            and `dev_f1`, attribute key -> percent, and "average".
        schema: names the attributes.
        path: of the PNG, written in one move.

    Raises:
        ValueError: if there is no record.
    """
    if not history:
        raise ValueError(f"curves need at least one epoch, got {history!r}")
    height = max(4.4, 1.5 + 0.24 * len(schema.keys))  # inches; each attribute has a label of its own
    figure = Figure(figsize=(11, height), dpi=160, layout="constrained")
    left, right = figure.subplots(1, 2)
    gap = 1.3 * FONT_SIZE / 72 / (height - 1)  # of two labels, as a share of a panel's height

    objectives = [key for key in history[0] if key.startswith("train_loss_")]
    losses = {key.removeprefix("train_loss_"): [record[key] for record in history] for key in objectives}
    bold = {"development": [record["dev_loss"] for record in history]}
    if len(objectives) > 1:
        bold["all objectives"] = [record["train_loss"] for record in history]
    _draw_lines(left, history, losses, bold)
    _scale_by_logarithm(left)
    _finish(left, "Loss, logarithmic: training solid, development dashed", history, gap)

    scores = {attribute.name: [r["dev_f1"][attribute.key] for r in history] for attribute in table_order(schema)}
    _draw_lines(right, history, scores, {"Average": [record["dev_f1"]["average"] for record in history]})
    _finish(right, "Macro-F1 on the development split, percent", history, gap)

    with replacing(path) as temporary:
        figure.savefig(temporary, format="png")


def _draw_lines(axes: Axes, history: Sequence[Mapping], thin: dict[str, list], bold: dict[str, list]) -> None:
    epochs = [record["epoch"] for record in history]
    size, dot = (5, ".") if len(epochs) <= 15 else (3, "")
    for index, (label, values) in enumerate(thin.items()):
        color, marker = COLORS[index % len(COLORS)], MARKERS[index % len(MARKERS)]
        axes.plot(epochs, values, color=color, marker=marker, markersize=size, linewidth=1.6, label=label)
    for label, values in bold.items():
        style = "--" if label == "development" else "-"
        axes.plot(epochs, values, color=INK, marker=dot, linewidth=2.6, linestyle=style, label=label)


def _scale_by_logarithm(axes: Axes) -> None:
    """Ticks are plain numbers: 1, 2 and 5 of each power of ten, or evenly set where there are few of these."""
    heights = np.concatenate([line.get_ydata() for line in axes.get_lines()])
    heights = heights[np.isfinite(heights) & (heights > 0)]
    if not len(heights):
        return
    axes.set_yscale("log")
    wide = heights.max() > 10 * heights.min()
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)) if wide else MaxNLocator(5))
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.yaxis.set_minor_locator(NullLocator())


def _label_lines(axes: Axes, gap: float) -> None:
    """Names each line at its end; names at least `gap`, a share of the height, apart, moved as little as it takes."""
    lines: list[Any] = list(axes.get_lines())
    ends = [(line.get_xdata()[-1], line.get_ydata()[-1], line) for line in lines]
    drawn = [end for end in ends if math.isfinite(end[1]) and (axes.get_yscale() == "linear" or end[1] > 0)]
    ends = sorted(drawn, key=lambda end: end[1])
    if not ends:
        return
    steps = gap * np.arange(len(ends))
    axes.autoscale_view()  # or the limits are of no line yet
    to_axes = axes.transScale + axes.transLimits
    wanted = to_axes.transform([(x, y) for x, y, _ in ends])[:, 1]
    heights = steps + isotonic_regression(wanted - steps, y_min=0, y_max=max(0, 1 - steps[-1]))
    for (x, y, line), height in zip(ends, heights, strict=True):
        arrow = {"arrowstyle": "-", "color": line.get_color(), "relpos": (0, 0.5), "shrinkB": 4}
        weight = "bold" if line.get_color() == INK else "normal"
        text = {"va": "center", "color": INK, "fontsize": FONT_SIZE, "fontweight": weight, "arrowprops": arrow}
        axes.annotate(
            line.get_label(), (x, y), (1.1, height), textcoords="axes fraction", annotation_clip=False, **text
        )


def _finish(axes: Axes, title: str, history: Sequence[Mapping], gap: float) -> None:
    """Labels the lines, marks the best epoch, and gives axes, grid and title their looks."""
    _label_lines(axes, gap)
    first, last, best = history[0]["epoch"], history[-1]["epoch"], best_epoch(history)
    axes.axvline(best, color=PALE, linewidth=1.2, linestyle=":", zorder=1)
    side = "right" if best > (first + last) / 2 else "left"
    above = axes.get_xaxis_transform()
    axes.text(best, 1.02, f"best: epoch {best}", transform=above, ha=side, color=PALE, fontsize=FONT_SIZE - 1)
    axes.set_title(title, loc="left", pad=26, fontsize=FONT_SIZE + 1, color=INK)
    axes.set_xlabel("epoch", fontsize=FONT_SIZE, color=INK)
    axes.set_xlim(first - 0.25, last + 0.25)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.tick_params(labelsize=FONT_SIZE - 1, colors=INK)
    axes.grid(axis="y", color="#E5E5E5")
    axes.spines[["top", "right"]].set_visible(False)
