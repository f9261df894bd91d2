"""What was taken for what, and whether probabilities keep their word."""

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from scoring.plots import calibration, confusion, plot_calibration, plot_confusion, wilson_interval
from tests.tiny_corpus import SCHEMA as YELP
from tests.tiny_folder import SCHEMA

MOOD, FOOD = SCHEMA.attributes


def row(mood, food, true_mood, true_food, mood_probability=0.5, food_probability=0.5) -> dict:
    return {
        "profile": {"mood": mood, "favorite_food": food},
        "probabilities": {"mood": {mood: mood_probability}, "favorite_food": dict.fromkeys(food, food_probability)},
        "truth": {"mood": true_mood, "favorite_food": true_food},
    }


def failed(true_mood, true_food) -> dict:
    return {"profile": None, "probabilities": None, "truth": {"mood": true_mood, "favorite_food": true_food}}


ROWS = [
    row("Calm", ["Pizza", "Soup"], "Calm", ["Pizza", "Soup"], 0.9, 0.95),
    row("Shy", ["Pizza", "Soup"], "Calm", ["Pizza", "Cake"], 0.94, 0.55),
    row("Shy", ["Soup", "Cake"], "Shy", ["Pizza", "Soup"], 0.5, 1.0),
    failed("Loud", ["Soup", "Cake"]),
]


def test_confusion_counts_what_was_taken_for_what_and_for_nothing():
    assert confusion(ROWS, MOOD).tolist() == [[1, 0, 1, 0], [0, 0, 0, 1], [0, 0, 1, 0]]


def test_a_value_missed_counts_as_the_one_that_was_written_in_its_place():
    assert confusion(ROWS, FOOD).tolist() == [[2, 0, 1, 0], [0, 2, 0, 1], [0, 1, 0, 1]]


def test_a_value_missed_counts_in_parts_where_several_were_wrong():
    values = [value for attribute in YELP.attributes if attribute.count == 2 for value in attribute.values]
    profiles = {"favorite_category": values[:2]}, {"favorite_category": values[2:4]}
    counts = confusion([{"truth": profiles[0], "profile": profiles[1]}], YELP.attributes[1])
    assert counts[0].tolist()[:5] == counts[1].tolist()[:5] == [0, 0, 0.5, 0.5, 0]
    assert counts.sum() == 2


def test_calibration_sets_probabilities_against_the_share_that_is_right():
    found = calibration(ROWS, SCHEMA)
    mood = found["mood"]
    assert [cell["values"] for cell in mood["bins"]] == [1, 2]
    assert mood["bins"][0] == {"probability": 0.5, "accuracy": 1.0, "values": 1}
    assert mood["bins"][1] == {"probability": pytest.approx(0.92), "accuracy": 0.5, "values": 2}
    assert mood["expected_error"] == pytest.approx((0.5 * 1 + 0.42 * 2) / 3)
    # Six values: 0.95 twice and 1.0 twice in the last bin, three of the four right; 0.55 twice, one right.
    assert [(c["accuracy"], c["values"]) for c in found["favorite_food"]["bins"]] == [(0.5, 2), (0.75, 4)]


def test_where_nothing_was_predicted_there_is_nothing_to_calibrate():
    assert calibration([failed("Shy", ["Soup", "Cake"])], SCHEMA)["mood"] == {"expected_error": None, "bins": []}


@pytest.mark.parametrize("rows", [ROWS, ROWS[3:]])
def test_figures_are_drawn_whatever_was_predicted(tmp_path, rows):
    plot_confusion(rows, SCHEMA, tmp_path / "confusion.png", "Test split")
    plot_calibration(calibration(rows, SCHEMA), SCHEMA, tmp_path / "calibration.png", "Test split")
    for name in ("confusion", "calibration"):
        with Image.open(tmp_path / f"{name}.png") as image:
            image.load()
            assert image.format == "PNG" and image.width > 800
    assert sorted(path.name for path in tmp_path.iterdir()) == ["calibration.png", "confusion.png"]


@pytest.fixture
def figures(monkeypatch):
    """The figures saved, as they were."""
    saved, save = [], Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda self, *a, **k: (saved.append(self), save(self, *a, **k))[1])
    return saved


def test_figures_name_the_split_that_they_are_of(tmp_path, figures):
    plot_confusion(ROWS, SCHEMA, tmp_path / "confusion.png", "Test split, 4 users")
    plot_calibration(calibration(ROWS, SCHEMA), SCHEMA, tmp_path / "calibration.png", "Test split, 4 users")
    titles = [" ".join(figure.get_suptitle().split()) for figure in figures]
    assert titles == [
        "Test split, 4 users: what each true value was taken for",
        "Test split, 4 users: probability against truth, with 95 % intervals; on top the values in each bin",
    ]


def test_each_bin_of_the_calibration_has_its_interval_and_its_number_of_values(tmp_path, figures):
    rows = [ROWS[1]] * 11_999 + ROWS
    plot_calibration(calibration(rows, SCHEMA), SCHEMA, tmp_path / "calibration.png", "Test split")
    mood = figures[0].axes[0]
    assert [text.get_text() for text in mood.texts] == ["1", "12k"]
    assert [text.get_position()[0] for text in mood.texts] == pytest.approx([0.55, 0.95])
    (bars,) = mood.containers[0].lines[2]
    ends = [segment[:, 1].tolist() for segment in bars.get_segments()]
    assert ends == [pytest.approx([0.2065, 1], abs=1e-4), pytest.approx([0, 0.00047], abs=1e-4)]


@pytest.mark.parametrize(("right", "values"), [(8, 10), (0, 1), (1, 1), (475, 500)])
def test_the_ends_of_an_interval_are_shares_just_so_far_from_what_was_seen(right, values):
    share = right / values
    ends = [end.item() for end in wilson_interval(np.array([share]), np.array([values]))]
    assert ends[0] < ends[1] and 0 <= round(ends[0], 9) <= share <= round(ends[1], 9) <= 1
    for end in ends:
        assert abs(share - end) == pytest.approx(1.96 * max(end * (1 - end) / values, 0) ** 0.5, abs=1e-9)
