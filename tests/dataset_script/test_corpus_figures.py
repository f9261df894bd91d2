"""The figures of a corpus: drawn for any schema, any size and any photo, by the looks of the training's figures."""

import io
import json

import numpy as np
import pyarrow as pa
import pytest
from PIL import ExifTags, Image

from dataset_script import corpus_figures
from dataset_script.corpus import Corpus
from dataset_script.corpus_figures import draw_sheet, plot_attributes, plot_lengths, write_figures
from dataset_script.corpus_rows import REVIEWS, Photo, Review, RowReview, Tally, UserRow
from dataset_script.photos import Rejected
from dataset_script.profile_rules import Rule, read_rules
from dataset_script.raw_files import Ledger
from scoring import reporting
from tests import ROOT
from tests.raw_corpus import RULES, hand_written, jpeg, plan

FILM_RULES = read_rules(ROOT / "tests" / "film_schema.yaml")
TILE, GAP = corpus_figures.TILE, corpus_figures.GAP


def encode(image, kind="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


class Shoebox:
    """An album of photos by their ids; an exception among them is raised."""

    def __init__(self, photos):
        self.photos, self.opened = photos, []

    def content(self, photo_id):
        self.opened.append(photo_id)
        if isinstance(self.photos[photo_id], Exception):
            raise self.photos[photo_id]
        return self.photos[photo_id]


def corpus_of(photos, rules=(), profiles=({},), words=5):
    """A user a profile, who has all the photos in one review."""
    shown = tuple(Photo(photo_id, "") for photo_id in photos)
    review = Review("r", "u", "b", "2020-01-01 00:00:00", 5.0, " ".join(["word"] * words))
    rows = tuple(UserRow(f"u{n}", (RowReview(review, shown),), profile) for n, profile in enumerate(profiles))
    dates = ("2012-01-01", "2021-12-31")
    return Corpus(tuple(rules), {"train": rows}, Shoebox(photos), {}, Ledger(), {}, dates, tally_of(rows))


def tally_of(rows):
    """Of users with one review each."""
    lines = []
    for place, (_user_id, ((review, photos),), profile) in enumerate(rows):
        photo_ids, captions = [photo.photo_id for photo in photos], [photo.caption for photo in photos]
        of_row = {"place": place, "profile": json.dumps(profile), "wrote": 0, "of": 0}
        lines.append(review._asdict() | of_row | {"photo_ids": photo_ids, "captions": captions})
    tally = Tally()
    tally.add(pa.RecordBatch.from_pylist(lines, REVIEWS))
    return tally


def sheet(tmp_path, photos):
    """The sheet, an array (height, width, 3), and how many photos are in it."""
    corpus = corpus_of(photos)
    number = draw_sheet(corpus, tmp_path / "sheet.png")
    return np.asarray(Image.open(tmp_path / "sheet.png")), number


def size(path):
    with Image.open(path) as image:
        return image.size


def bars(monkeypatch, tmp_path, rules, tally):
    """What `plot_attributes` draws: title -> (names of the values, percents of this corpus, percents of the paper)."""
    figures = []
    monkeypatch.setattr(corpus_figures.Figure, "savefig", lambda figure, *path, **options: figures.append(figure))
    plot_attributes(rules, tally, tmp_path / "attributes.png")
    found = {}
    for axes in figures[0].axes:
        shares = [[round(float(bar.get_width()), 1) for bar in container] for container in axes.containers]
        names = [label.get_text() for label in axes.get_yticklabels()]
        found[axes.get_title("left")] = (names, shares[0], shares[1] if len(shares) > 1 else None)
    return found


def test_a_build_gets_three_figures_a_configuration(tmp_path):
    corpus = plan(hand_written().write(tmp_path / "raw"))
    shown = write_figures(tmp_path, "default", corpus)
    assert list(shown) == [f"figures/default-{what}.png" for what in ("attributes", "lengths", "photos")]
    assert shown["figures/default-photos.png"].startswith("8 of the photos")
    assert "Table 6" in shown["figures/default-attributes.png"]
    for path in shown:
        image = Image.open(tmp_path / path)
        assert image.format == "PNG" and len(np.unique(np.asarray(image.convert("L")))) > 2


def test_attributes_stand_beside_the_papers(monkeypatch, tmp_path):
    corpus = plan(hand_written().write(tmp_path / "raw"))
    drawn = bars(monkeypatch, tmp_path, RULES, corpus.tally)
    names, own, paper = drawn["Stars"]
    assert (names, own) == (["1", "2", "3", "4", "5"], [12.5, 12.5, 25.0, 25.0, 25.0])
    assert paper == [0.0, 1.9, 16.1, 74.7, 7.3]
    names, own, paper = drawn["Favorite Category"]
    assert (names[2], own[2], paper[2]) == ("Event Planning & Services", 25.0, 23.5)
    assert drawn["Preferred Meal"] == (["Lunch", "Dinner"], [75.0, 25.0], [40.5, 59.5])


def test_a_percent_is_as_long_in_every_panel(monkeypatch, tmp_path):
    tally = plan(hand_written().write(tmp_path / "raw")).tally
    figures = []
    monkeypatch.setattr(corpus_figures.Figure, "savefig", lambda figure, *path, **options: figures.append(figure))
    plot_attributes(RULES, tally, tmp_path / "attributes.png")
    figures[0].draw_without_rendering()
    pixels = [np.diff(axes.transData.transform([(0, 0), (1, 0)])[:, 0]).item() for axes in figures[0].axes]
    assert len(pixels) == len(RULES)
    assert max(pixels) == pytest.approx(min(pixels), rel=0.02)


def test_attributes_that_the_paper_has_not_stand_alone(monkeypatch, tmp_path):
    profile = {"score": "7", "genre": "Drama", "length": "Long", "company": "Alone"}
    drawn = bars(monkeypatch, tmp_path, FILM_RULES, corpus_of({}, FILM_RULES, [profile]).tally)
    assert drawn["Genre"] == (["Drama", "Comedy", "Horror"], [100.0, 0.0, 0.0], None)
    meals = Rule("Preferred Meal", ("Breakfast", "Supper"), "majority", of=("supper",), yes="Supper")
    tally = corpus_of({}, [meals], [{"preferred_meal": "Supper"}]).tally
    assert bars(monkeypatch, tmp_path, [meals], tally)["Preferred Meal"] == (
        ["Breakfast", "Supper"],
        [0.0, 100.0],
        None,
    )


def test_values_are_no_mathematics_and_long_or_many_ones_are_cut(tmp_path, monkeypatch):
    prices = Rule("Price $_{", ("$", "$$^"), "majority", of=("price",), yes="$")
    names = Rule("Word", ("a " * 199 + "a", "b" * 200, *map(str, range(40))), "top", of=("words",))
    profiles = [{"price_$_{": "$", "word": "39"}, {"price_$_{": "$$^", "word": "b" * 200}]
    tally = corpus_of({}, [prices, names], profiles).tally
    plot_attributes([prices, names], tally, tmp_path / "attributes.png")
    assert size(tmp_path / "attributes.png")[0] < 2000
    drawn = bars(monkeypatch, tmp_path, [prices, names], tally)
    values, own, _ = drawn["Word (the 2 most frequent of 42 values)"]
    assert (values, own) == (["b" * (corpus_figures.MAX_NAME - 3) + "...", "39"], [50.0, 50.0])


@pytest.mark.parametrize(("words", "photos"), [(1, 1), (300, 3), (1000, 200)])
def test_lengths_are_drawn_of_the_least_and_the_most(tmp_path, words, photos):
    corpus = corpus_of(dict.fromkeys(map(str, range(photos))), words=words)
    plot_lengths(corpus.tally, tmp_path / "lengths.png")
    assert size(tmp_path / "lengths.png") == (1716, 440)


TURNED = Image.Exif()
TURNED[ExifTags.Base.Orientation] = 6
ODD = {
    "a pixel": encode(Image.new("RGB", (1, 1), (250, 0, 0))),
    "a line": encode(Image.new("RGB", (10_000, 10), (250, 0, 0))),
    "CMYK": encode(Image.new("CMYK", (30, 20), (0, 255, 255, 0)), "JPEG"),
    "palette": encode(Image.new("RGB", (30, 20), (250, 0, 0)).quantize(2)),
    "grey and alpha": encode(Image.new("LA", (30, 20), (10, 128))),
    "16 bits": encode(Image.new("I;16", (30, 20), 30_000)),
    "one bit": encode(Image.new("1", (30, 20), 0)),
    "turned": encode(Image.new("RGB", (40, 20), (250, 0, 0)), "JPEG", exif=TURNED),
    "GIF": encode(Image.new("P", (30, 20), 0), "GIF", transparency=0),
}


@pytest.mark.parametrize("kind", ODD)
def test_an_odd_photo_is_drawn(tmp_path, kind):
    pixels, number = sheet(tmp_path, {"photo": ODD[kind]})
    assert (number, pixels.shape) == (1, (TILE + 2 * GAP, TILE + 2 * GAP, 3))
    # What can be seen through is white: the half-seen grey of 10 is 132, the GIF is not there.
    assert abs(int(pixels.min()) - {"grey and alpha": 132, "16 bits": 117, "GIF": 255}.get(kind, 0)) < 15


def test_a_photo_stands_upright_whole_and_on_white(tmp_path):
    inked = np.argwhere(sheet(tmp_path, {"photo": ODD["turned"]})[0].min(axis=2) < 100)
    height, width = inked.max(axis=0) - inked.min(axis=0) + 1
    assert (height, width) == (TILE, TILE // 2)


def test_a_photo_that_fails_leaves_its_place_to_others(tmp_path):
    broken = {
        "changed": Rejected("gone"),
        "html": b"<html>",
        "cut": jpeg(size=(300, 300))[:200],
        "deep": MemoryError(),
    }
    assert sheet(tmp_path, broken | {"good": jpeg((250, 0, 0))})[1] == 1
    pixels, number = sheet(tmp_path, broken)
    assert number == 0 and (pixels == 255).all()


def test_the_sheet_is_drawn_by_a_hash_and_opens_no_more_than_it_shows(tmp_path):
    photos = {f"{n:03}": jpeg((n, 0, 0)) for n in range(200)}
    corpora = [corpus_of(photos), corpus_of(dict(reversed(photos.items())))]
    for corpus in corpora:
        assert draw_sheet(corpus, tmp_path / "sheet.png") == 50
    first, second = (corpus.album.opened for corpus in corpora)
    assert first == second and len(first) == 50 and first != sorted(first)
    assert size(tmp_path / "sheet.png") == (10 * (TILE + GAP) + GAP, 5 * (TILE + GAP) + GAP)


def test_the_looks_are_those_of_the_training():
    ours = (corpus_figures.OWN, corpus_figures.INK, corpus_figures.PALE, corpus_figures.FONT_SIZE)
    assert ours == (reporting.COLORS[0], reporting.INK, reporting.PALE, reporting.FONT_SIZE)
