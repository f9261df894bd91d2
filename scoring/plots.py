"""What predictions are worth, in figures and numbers: what was taken for what, and whether probabilities keep their
word. Rows are those of `predictions`: `profile` (None where there is no prediction), `probabilities` and `truth`."""

import os
import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from files.output_files import replacing
from mmprofile import ProfileAttribute, ProfileSchema
from scoring.reporting import COLORS, FONT_SIZE, INK, PALE, table_order

PANELS = 3  # a row of a figure
MAX_NUMBERED = 12  # values up to which the cells have numbers in them
MAX_LABELLED = 30
BINS = 10  # of the calibration, of equal width
CHARACTERS = 9  # of the title, an inch
Z = 1.96  # standard deviations within which 95 % lie
NO_PREDICTION = "none"


def values_of(profile: Mapping[str, str | list[str] | None] | None, key: str) -> list[str]:
    """The values that a profile has of an attribute; none where there is no profile, or the attribute has none."""
    if profile is None:
        return []
    value = profile[key]
    return [value] if isinstance(value, str) else list(value or ())


def confusion(rows: Sequence[Mapping], attribute: ProfileAttribute) -> np.ndarray:
    """Counts (values, values + 1): how often a true value (row) was taken for another (column), the last for none.

    Of an attribute with several values a true one that was missed counts in equal parts as each of the values that
    were predicted and are not true.
    """
    at = {value: index for index, value in enumerate(attribute.values)}
    counts = np.zeros((len(at), len(at) + 1))
    for row in rows:
        true, predicted = values_of(row["truth"], attribute.key), values_of(row["profile"], attribute.key)
        wrong = [at[value] for value in predicted if value not in true] if predicted else [len(at)]
        for value in true:
            if value in predicted:
                counts[at[value], at[value]] += 1
            else:
                counts[at[value], wrong] += 1 / len(wrong)
    return counts


def calibration(rows: Sequence[Mapping], schema: ProfileSchema, bins: int = BINS) -> dict[str, dict]:
    """How often the values predicted are right, against their probabilities (Guo et al., 2017), by attribute.

    Args:
        bins: of equal width, from 0 to 1.

    Returns:
        key -> `bins`, those that are not empty, each with the mean `probability` and `accuracy` of its `values` (how
        many); and `expected_error`, the mean distance of the two over values (expected calibration error), None
        where nothing was predicted.
    """
    found = {}
    for key in schema.keys:
        probability, right = _probabilities(rows, key)
        place = np.minimum((probability * bins).astype(int), bins - 1)
        cells = [(probability[place == index], right[place == index]) for index in np.unique(place)]
        filled = [{"probability": p.mean(), "accuracy": r.mean(), "values": len(p)} for p, r in cells]
        filled = [{name: number.item() if name != "values" else number for name, number in b.items()} for b in filled]
        error = sum(abs(b["probability"] - b["accuracy"]) * b["values"] for b in filled)
        found[key] = {"expected_error": error / len(probability) if filled else None, "bins": filled}
    return found


def _probabilities(rows: Sequence[Mapping], key: str) -> tuple[np.ndarray, np.ndarray]:
    """Of each value predicted its probability, and whether it is true."""
    pairs = [
        (row["probabilities"][key][value], value in values_of(row["truth"], key))
        for row in rows
        for value in values_of(row["profile"], key)
    ]
    return np.array([p for p, _ in pairs], float), np.array([right for _, right in pairs], float)


def wilson_interval(share: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where the true share lies with 95 % confidence, if so many values were drawn one by one (Wilson's score)."""
    squared = Z**2 / values
    middle = (share + squared / 2) / (1 + squared)
    width = Z / (1 + squared) * np.sqrt(share * (1 - share) / values + squared / (4 * values))
    return middle - width, middle + width


def plot_confusion(rows: Sequence[Mapping], schema: ProfileSchema, path: str | os.PathLike, of: str) -> None:
    """Draws a PNG, a panel an attribute: `confusion`, each row in percent.

    Args:
        of: what the rows are of, e.g. "Test split, 500 users", for the title.
    """
    figure, panels = _figure(schema, f"{of}: what each true value was taken for", width=5.2, height=4.6)
    for axes, attribute in zip(panels, table_order(schema), strict=True):
        counts = confusion(rows, attribute)
        names = [*attribute.values, NO_PREDICTION]
        if not counts[:, -1].any():
            counts, names = counts[:, :-1], names[:-1]
        percent = 100 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1e-9)
        axes.imshow(percent, cmap="Blues", vmin=0, vmax=100, aspect="auto")
        axes.set_title(attribute.name, loc="left", fontsize=FONT_SIZE, color=INK)
        axes.set_xlabel("predicted, percent of the row", fontsize=FONT_SIZE - 1, color=INK)
        axes.set_ylabel("true (how often)", fontsize=FONT_SIZE - 1, color=INK)
        _label_cells(axes, names, attribute, counts, percent)
    _save(figure, path)


def _label_cells(axes: Axes, names: list[str], attribute: ProfileAttribute, counts: np.ndarray, percent: np.ndarray):
    size = FONT_SIZE - 2 if len(names) <= MAX_NUMBERED else FONT_SIZE - 5
    if len(names) <= MAX_LABELLED:
        slant = {"rotation": 40, "ha": "right", "rotation_mode": "anchor"} if max(map(len, names)) > 8 else {}
        true = [f"{value} ({total:.0f})" for value, total in zip(attribute.values, counts.sum(axis=1), strict=True)]
        axes.set_xticks(range(len(names)), names, fontsize=size, **slant)
        axes.set_yticks(range(len(true)), true, fontsize=size)
    if len(names) <= MAX_NUMBERED:
        for (row, column), share in np.ndenumerate(percent):
            color = "white" if share > 60 else INK
            axes.text(column, row, f"{share:.0f}", ha="center", va="center", fontsize=size, color=color)


def plot_calibration(found: Mapping[str, Mapping], schema: ProfileSchema, path: str | os.PathLike, of: str) -> None:
    """Draws a PNG, a panel an attribute: what `calibration` found, each bin with its interval and number of values.

    Args:
        of: what was predicted, as of `plot_confusion`.
    """
    title = f"{of}: probability against truth, with 95 % intervals; on top the values in each bin"
    figure, panels = _figure(schema, title, width=4.2, height=4.2)
    for axes, attribute in zip(panels, table_order(schema), strict=True):
        bins, error = found[attribute.key]["bins"], found[attribute.key]["expected_error"]
        x, y, values = (np.array([cell[name] for cell in bins]) for name in ("probability", "accuracy", "values"))
        axes.plot([0, 1], [0, 1], color=PALE, linewidth=1.2, linestyle=":")
        if bins:
            low, high = wilson_interval(y, values)
            sides = np.maximum([y - low, high - y], 0)  # of 0 and 1 but for rounding
            axes.errorbar(x, y, sides, fmt="o", markersize=6, color=COLORS[0], elinewidth=1.6, capsize=3)
        for place, number in zip(x, values, strict=True):
            center = (min(int(BINS * place), BINS - 1) + 0.5) / BINS  # two means may be closer than a number is wide
            look = {"ha": "center", "fontsize": FONT_SIZE - 3, "color": PALE}
            axes.text(center, 1.01, _short(number), transform=axes.get_xaxis_transform(), **look)
        mean = "nothing predicted" if error is None else f"mean distance {error:.3f}"
        axes.set_title(f"{attribute.name}: {mean}", loc="left", pad=18, fontsize=FONT_SIZE, color=INK)
        axes.set_xlabel("probability of the value predicted", fontsize=FONT_SIZE - 1, color=INK)
        axes.set_ylabel("share that is true", fontsize=FONT_SIZE - 1, color=INK)
        axes.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03))
        axes.grid(color="#E5E5E5")
        axes.spines[["top", "right"]].set_visible(False)
    _save(figure, path)


def _short(number: int) -> str:
    """In four characters or so."""
    return str(number) if number < 10_000 else f"{number / 1000:.0f}k"


def _figure(schema: ProfileSchema, title: str, width: float, height: float) -> tuple[Figure, list[Axes]]:
    """A figure with a title and a panel for each attribute, of so many inches."""
    number = len(schema.attributes)
    columns = min(PANELS, number)
    rows = -(-number // columns)
    figure = Figure(figsize=(width * columns, height * rows), dpi=110, layout="constrained")
    words = textwrap.fill(title, round(width * columns * CHARACTERS))
    figure.suptitle(words, x=0.01, ha="left", fontsize=FONT_SIZE + 1, color=INK)
    panels = figure.subplots(rows, columns, squeeze=False).flatten().tolist()
    for axes in panels[number:]:
        axes.remove()
    for axes in panels[:number]:
        axes.tick_params(labelsize=FONT_SIZE - 2, colors=INK)
    return figure, panels[:number]


def _save(figure: Figure, path: str | os.PathLike) -> None:
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png")
