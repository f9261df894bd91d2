"""Metrics, table, JSON and curves: what is written, that it is whole, and that the picture can be read."""

import itertools
import math
import os
import re

import pytest
from matplotlib import pyplot
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from mmprofile.configuration_mmprofile import ProfileSchema
from scoring.reporting import best_epoch, format_table, plot_curves

SCHEMA = ProfileSchema(
    (
        {"name": "Mood", "values": ["Calm", "Wild"]},
        {"name": "Budget Range", "values": ["Low", "High"]},
        {"name": "Home Town", "values": ["Tampa", "Tucson"]},
        {"name": "Stars", "values": ["1", "2", "3"]},
    )
)


def record(epoch, average, losses=None):
    losses = losses or {"fusion": 2 / epoch, "text": 3 / epoch}
    return {
        "epoch": epoch,
        "train_loss": sum(losses.values()) / len(losses),
        **{f"train_loss_{name}": loss for name, loss in losses.items()},
        "dev_loss": 1 / epoch,
        "dev_f1": dict.fromkeys(SCHEMA.keys, average) | {"average": average},
    }


@pytest.fixture
def draw(monkeypatch, tmp_path):
    """Draws the curves, and gives the figure as it was saved."""
    figures, save = [], Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda self, *a, **k: (figures.append(self), save(self, *a, **k))[1])

    def drawn(history, schema=SCHEMA):
        plot_curves(history, schema, tmp_path / "curves.png")
        return figures[-1]

    return drawn


def names(axes):
    """The names at the lines' ends, top first."""
    labels = [text for text in axes.texts if not text.get_text().startswith("best")]
    return [text.get_text() for text in sorted(labels, key=lambda text: -text.xyann[1])]


def test_the_table_has_the_papers_columns_in_its_order():
    rows = {
        "mmprofile": dict(
            zip((*ProfileSchema().keys, "average"), (53.444, 28, 61.55, 58.16, 58.23, 63.93, 53.91), strict=True)
        ),
        "majority class": dict.fromkeys((*ProfileSchema().keys, "average"), 9.5) | {"stars": 100.0},
    }
    assert format_table(rows, ProfileSchema()).split("\n") == [
        "|                |  Stars | Favorite Category | Budget Range | Service Preference | Preferred Meal "
        "| Discount Preference | Average |",
        "| :------------- | -----: | ----------------: | -----------: | -----------------: | -------------: "
        "| ------------------: | ------: |",
        "| mmprofile      |  53.44 |             28.00 |        58.16 |              63.93 |          61.55 "
        "|               58.23 |   53.91 |",
        "| majority class | 100.00 |              9.50 |         9.50 |               9.50 |           9.50 "
        "|                9.50 |    9.50 |",
    ]


def test_below_each_figure_stands_its_interval_where_there_is_one():
    rows = {"mmprofile": record(1, 50.0)["dev_f1"]}
    ends = {"mmprofile": dict.fromkeys(rows["mmprofile"], [48.04, 52.0])}
    *_, figures, below = format_table(rows, SCHEMA, ends).split("\n")
    assert [cell.strip() for cell in figures.split("|")] == ["", "mmprofile", *["50.00"] * 5, ""]
    assert [cell.strip() for cell in below.split("|")] == ["", "95 % interval", *["48.0–52.0"] * 5, ""]
    assert len(figures) == len(below)


def test_attributes_that_the_paper_does_not_have_stand_behind_in_schema_order():
    header = format_table({"mmprofile": record(1, 50.0)["dev_f1"]}, SCHEMA).split("\n")[0]
    cells = [cell.strip() for cell in header.split("|")]
    assert cells == ["", "", "Stars", "Budget Range", "Mood", "Home Town", "Average", ""]


def test_a_row_without_an_attribute_is_refused():
    with pytest.raises(ValueError, match=r"row 'mine' needs .*'mood', 'home_town'\] missing"):
        format_table({"mine": {"stars": 1.0, "budget_range": 2.0, "average": 1.5}}, SCHEMA)


def test_the_first_of_equal_epochs_is_the_best():
    assert best_epoch([record(1, 40.0), record(2, 60.0), record(3, 60.0)]) == 2


def test_the_curves_are_a_wide_png_and_leave_no_other_file_or_open_figure(tmp_path):
    plot_curves([record(1, 40.0), record(2, 60.0)], SCHEMA, tmp_path / "curves.png")
    assert os.listdir(tmp_path) == ["curves.png"]
    with Image.open(tmp_path / "curves.png") as image:
        assert (image.format, image.size) == ("PNG", (1760, 704))
    assert pyplot.get_fignums() == []


def test_each_line_is_named_at_its_end_in_the_order_of_the_ends(draw):
    history = [record(1, 40.0), record(2, 60.0)]
    history[-1]["dev_f1"] |= {"stars": 90.0, "mood": 80.0, "budget_range": 70.0, "home_town": 30.0}
    losses, scores = draw(history).axes
    assert names(losses) == ["text", "all objectives", "fusion", "development"]
    assert names(scores) == ["Stars", "Mood", "Budget Range", "Average", "Home Town"]


@pytest.mark.parametrize("panel", [0, 1])
def test_a_name_with_room_around_it_stands_at_the_height_of_its_lines_end(draw, panel):
    history = [record(1, 40.0, {"text": 3.0}), record(2, 60.0, {"text": 0.03})]  # and 0.5 in development
    history[-1]["dev_f1"] = dict(zip((*SCHEMA.keys, "average"), (10.0, 30.0, 50.0, 70.0, 90.0), strict=True))
    axes = draw(history).axes[panel]
    ends = {line.get_label(): line.get_ydata()[-1] for line in axes.lines if not line.get_label().startswith("_")}
    to_axes = axes.transScale + axes.transLimits
    expected = {name: to_axes.transform((2, end))[1] for name, end in ends.items()}
    found = {text.get_text(): text.xyann[1] for text in axes.texts if text.get_text() in ends}
    assert len(found) == len(ends) >= 2 and found == pytest.approx(expected, abs=0.02)


def test_only_the_development_loss_is_dashed_and_only_the_summaries_are_bold(draw):
    losses, scores = draw([record(1, 40.0), record(2, 60.0)]).axes
    assert [line.get_label() for line in losses.lines if line.get_linestyle() == "--"] == ["development"]
    weights = {text.get_text(): text.get_fontweight() for text in (*losses.texts, *scores.texts)}
    assert {name for name, weight in weights.items() if weight == "bold"} == {
        "all objectives",
        "development",
        "Average",
    }


def test_a_single_objective_has_no_line_for_all(draw):
    losses, _ = draw([record(1, 40.0, {"text": 2.0})]).axes
    assert names(losses) == ["text", "development"]


@pytest.mark.parametrize("attributes", [4, 16])
@pytest.mark.parametrize("ends", [[50.0], [10.0, 90.0], [90.0, 10.0]])
def test_names_never_overlap_nor_leave_the_panel_where_all_lines_end_at_one_point(draw, attributes, ends):
    schema = ProfileSchema(tuple({"name": f"Number {n}", "values": ["Yes", "No"]} for n in range(attributes)))
    history = [record(epoch, end, dict.fromkeys(("fusion", "text"), end)) for epoch, end in enumerate(ends, 1)]
    for line, end in zip(history, ends, strict=True):
        line["dev_f1"] = dict.fromkeys((*schema.keys, "average"), end)
    figure = draw(history, schema)
    assert len(figure.axes) == 2
    for axes in figure.axes:
        boxes = [Text.get_window_extent(text) for text in axes.texts]  # an annotation's own holds its line
        assert len(boxes) >= 4
        assert not any(one.overlaps(other) for one, other in itertools.combinations(boxes, 2))
        assert all(figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1 for box in boxes)
        middles = [
            (box.y0 + box.y1) / 2 for box, text in zip(boxes, axes.texts, strict=True) if text.get_va() == "center"
        ]
        assert axes.bbox.y0 - 5 <= min(middles) and max(middles) <= axes.bbox.y1 + 5  # pixels


@pytest.mark.parametrize("epochs", [1, 2, 7, 40])
def test_epochs_are_whole_numbers_and_the_best_is_marked_on_both_panels(draw, epochs):
    best = (epochs + 1) // 2
    panels = draw([record(n, 90.0 if n == best else 40.0) for n in range(1, epochs + 1)]).axes
    assert len(panels) == 2
    for axes in panels:
        ticks = [tick for tick in axes.get_xticks() if axes.get_xlim()[0] <= tick <= axes.get_xlim()[1]]
        assert ticks and all(tick == round(tick) for tick in ticks)
        assert f"best: epoch {best}" in [text.get_text() for text in axes.texts]
        assert any(set(line.get_xdata()) == {best} for line in axes.lines if line.get_linestyle() == ":")


def test_a_loss_that_is_not_a_number_leaves_the_other_lines(draw):
    losses, _ = draw([record(1, 40.0), record(2, 60.0, {"fusion": math.nan, "text": 1.0})]).axes
    assert names(losses) == ["text", "development"]


@pytest.mark.parametrize("last", [0.001, 2.9])
def test_losses_have_a_logarithmic_axis_with_plain_numbers(draw, last):
    losses, scores = draw([record(1, 40.0, {"text": 3.0}), record(2, 60.0, {"text": last})]).axes
    assert (losses.get_yscale(), scores.get_yscale()) == ("log", "linear")
    low, high = losses.get_ylim()
    shown = [label.get_text() for label in losses.get_yticklabels() if low <= label.get_position()[1] <= high]
    assert len(shown) >= 2 and all(re.fullmatch(r"\d+(\.\d+)?", text) for text in shown)


def test_a_loss_of_zero_leaves_the_other_lines(draw):
    losses, _ = draw([record(1, 40.0), record(2, 60.0, {"fusion": 0.0, "text": 1.0})]).axes
    assert sorted(names(losses)) == ["all objectives", "development", "text"] and losses.get_yscale() == "log"


def test_curves_of_no_epoch_are_refused(tmp_path):
    with pytest.raises(ValueError, match="at least one epoch"):
        plot_curves([], SCHEMA, tmp_path / "curves.png")
    assert os.listdir(tmp_path) == []
