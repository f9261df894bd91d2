"""The figures of a corpus: its attributes beside the paper's, how long and how many, and a sheet of its photos."""

import io
import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import PIL.Image
import PIL.ImageOps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from .corpus import Corpus
from .corpus_report import paper_counts
from .corpus_rows import Tally
from .drawing import first_by_hash
from .photos import DECODING_ERRORS, PHOTO_FORMATS
from .profile_rules import Rule

FOLDER = "figures"
# The looks of the training's figures: this corpus in colour, the paper's figures in grey.
OWN, PAPER, INK, PALE = "#0072B2", "#BDBDBD", "#222222", "#707070"
FONT_SIZE = 12  # points; a README shows the figure at about half its pixels
PANELS = 3  # a row of a figure
MAX_VALUES = 20  # of an attribute, more than which are left out
MAX_NAME = 26  # characters of a value
BINS, LEAST_RANGE = 30, 10  # of a histogram: at most so many bars, at least so many numbers from end to end
TILE, GAP, COLUMNS, LINES = 120, 6, 10, 5  # pixels and photos of the sheet


def write_figures(folder: Path, config_name: str, corpus: Corpus) -> dict[str, str]:
    """Draws the PNGs of a configuration into `folder`/figures; returns what each shows, by its path in `folder`."""
    name = f"{FOLDER}/{config_name}"
    (folder / FOLDER).mkdir(exist_ok=True)
    plot_attributes(corpus.rules, corpus.tally, folder / f"{name}-attributes.png")
    plot_lengths(corpus.tally, folder / f"{name}-lengths.png")
    shown = draw_sheet(corpus, folder / f"{name}-photos.png")
    beside = "; grey: the paper's Table 6" if any(map(paper_counts, corpus.rules)) else ""
    return {
        f"{name}-attributes.png": f"How often each value of each attribute occurs, in percent{beside}",
        f"{name}-lengths.png": "Words a review, reviews a user and photos a user, as the rows show them",
        f"{name}-photos.png": f"{shown} of the photos, drawn by a hash of their ids",
    }


# ---------------------------------------------------------------------------------------------------------------------
# Attributes


def plot_attributes(rules: Sequence[Rule], tally: Tally, path: Path) -> None:
    """Draws a PNG, a panel an attribute: the share of each value, beside the paper's where it has the attribute.

    All panels have one scale, from nothing to all.
    """
    columns = min(PANELS, len(rules))
    lines = [rules[start : start + columns] for start in range(0, len(rules), columns)]
    bars = [max(min(len(rule.values), MAX_VALUES) for rule in line) for line in lines]
    heights = [0.6 + 0.42 * number for number in bars]  # inches
    figure = Figure(figsize=(5.2 * columns, sum(heights) + 0.5), dpi=110, layout="constrained")
    panels = figure.subplots(len(lines), columns, squeeze=False, height_ratios=heights).flatten().tolist()
    for axes in panels[len(rules) :]:
        axes.remove()
    for number, (axes, rule) in enumerate(zip(panels, rules, strict=False)):
        _draw_attribute(axes, rule, tally)
        axes.set_ylim(bars[number // columns] - 0.5, -0.5)  # bars of one height, from the top
    label = "Percent of this corpus"
    if any(map(paper_counts, rules)):
        label += " (blue) and of the paper's, Table 6 (grey)"
    figure.suptitle(label, x=0.01, ha="left", fontsize=FONT_SIZE, color=PALE)
    figure.savefig(path, format="png")


def _draw_attribute(axes: Axes, rule: Rule, tally: Tally) -> None:
    own, paper = tally.values.get(rule.key, Counter()), paper_counts(rule)
    values, title = list(rule.values), rule.name
    if len(values) > MAX_VALUES:
        values = [value for value in values if value in dict(own.most_common(MAX_VALUES))]
        title += f" (the {len(values)} most frequent of {len(rule.values)} values)"
    bars = [(own, OWN), (paper, PAPER)] if paper else [(own, OWN)]
    height = 0.8 / len(bars)
    for number, (counts, color) in enumerate(bars):
        shares = [100 * counts.get(value, 0) / sum(counts.values()) for value in values]
        places = np.arange(len(values)) + (number - (len(bars) - 1) / 2) * height
        drawn = axes.barh(places, shares, height, color=color)
        axes.bar_label(drawn, fmt="%.1f", padding=3, fontsize=FONT_SIZE - 2, color=PALE)
    names = [value if len(value) <= MAX_NAME else value[: MAX_NAME - 3] + "..." for value in values]
    # Not as mathematics: a price range may well be called $$.
    axes.set_yticks(range(len(values)), names, fontsize=FONT_SIZE - 1, color=INK, parse_math=False)
    axes.set_xlim(0, 115)  # of every panel, so that bars of all can be compared; room for the numbers
    _finish(axes, title)
    axes.set_xticks([])
    axes.spines["bottom"].set_visible(False)
    axes.spines["left"].set_bounds(-0.5, len(values) - 0.5)


# ---------------------------------------------------------------------------------------------------------------------
# Lengths and counts


def plot_lengths(tally: Tally, path: Path) -> None:
    """Draws a PNG of three histograms: words a review, reviews a user and photos a user, of what the rows show."""
    figure = Figure(figsize=(5.2 * PANELS, 4.0), dpi=110, layout="constrained")
    panels = figure.subplots(1, PANELS)
    told = {
        "Words a review": (tally.words, "reviews"),
        "Reviews a user": (tally.reviews, "users"),
        "Photos a user": (tally.photos, "users"),
    }
    for axes, (title, (counts, unit)) in zip(panels, told.items(), strict=True):
        _draw_histogram(axes, title, counts, unit)
    figure.savefig(path, format="png")


def _draw_histogram(axes: Axes, title: str, counts: Counter[int], unit: str) -> None:
    numbers, times = np.array(sorted(counts.items())).T
    first, last = numbers[0], numbers[-1]
    step = max(1, -(-(last - first + 1) // BINS))  # whole numbers, so that no bin holds more of them than another
    edges = np.arange(first, last + step + 1, step) - 0.5
    heights, _ = np.histogram(numbers, edges, weights=times)
    axes.bar(edges[:-1] + step / 2, heights, width=0.92 * step, color=OWN)
    mean = np.average(numbers, weights=times)
    axes.axvline(mean, color=INK, linewidth=1.4, linestyle="--")
    _finish(axes, f"{title}: {mean:.1f} on average")
    axes.set_ylabel(unit, fontsize=FONT_SIZE - 1, color=INK)
    room = max(0, LEAST_RANGE - (edges[-1] - edges[0])) / 2  # a single number is no wall
    axes.set_xlim(edges[0] - room - 0.5 * step, edges[-1] + room + 0.5 * step)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1, steps=[1, 2, 5, 10]))
    axes.yaxis.set_major_formatter("{x:,.0f}")
    axes.grid(axis="y", color="#E5E5E5")


def _finish(axes: Axes, title: str) -> None:
    axes.set_title(title, loc="left", fontsize=FONT_SIZE + 1, color=INK, parse_math=False)
    axes.tick_params(labelsize=FONT_SIZE - 1, colors=INK)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


# ---------------------------------------------------------------------------------------------------------------------
# Photos


def draw_sheet(corpus: Corpus, path: Path) -> int:
    """Draws a PNG of up to COLUMNS x LINES photos of the rows, and returns how many; one that fails is left out."""
    rows = (row for rows in corpus.splits.values() for row in rows)
    photo_ids = (photo.photo_id for row in rows for shown in row.reviews for photo in shown.photos)
    tiles = list(islice(_tiles(corpus, photo_ids), COLUMNS * LINES))
    columns, lines = max(1, min(COLUMNS, len(tiles))), max(1, -(-len(tiles) // COLUMNS))
    sheet = PIL.Image.new("RGB", (columns * (TILE + GAP) + GAP, lines * (TILE + GAP) + GAP), "white")
    for number, tile in enumerate(tiles):
        line, column = divmod(number, COLUMNS)
        left, top = GAP + column * (TILE + GAP), GAP + line * (TILE + GAP)
        sheet.paste(tile, (left + (TILE - tile.width) // 2, top + (TILE - tile.height) // 2))
    sheet.save(path, "PNG", optimize=True)
    return len(tiles)


def _tiles(corpus: Corpus, photo_ids: Iterable[str]) -> Iterable[PIL.Image.Image]:
    # Twice as many as fit: enough, where a few cannot be drawn.
    for photo_id in first_by_hash(photo_ids, 2 * COLUMNS * LINES, "sheet"):
        try:
            yield _tile(corpus.album.content(photo_id))
        except DECODING_ERRORS:
            continue


def _tile(content: bytes) -> PIL.Image.Image:
    """The photo upright, whole and on white, its longer side TILE pixels."""
    with warnings.catch_warnings(), PIL.Image.open(io.BytesIO(content), formats=PHOTO_FORMATS) as photo:
        warnings.simplefilter("ignore")
        photo.draft("RGB", (TILE, TILE))  # a large JPEG is decoded small
        upright = PIL.ImageOps.exif_transpose(photo)
        if upright.mode.startswith("I;16"):
            upright = upright.point(lambda value: value / 256, "L")
        colored = upright.convert("RGBA" if upright.has_transparency_data else "RGB")
    scale = TILE / max(colored.size)
    small = colored.resize([max(1, round(scale * side)) for side in colored.size])
    tile = PIL.Image.new("RGB", small.size, "white")
    tile.paste(small, mask=small if small.mode == "RGBA" else None)
    return tile
