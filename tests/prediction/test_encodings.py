"""Encodings that are kept: the answers are the same, and a new review has its own view encoded alone."""

# ruff: noqa: F811 - fixtures are imported

import json

import pytest
import torch

from mmprofile.modeling_mmprofile import MMProfileForConditionalGeneration
from prediction.encodings import KeptEncodings, encodings_path
from prediction.inputs import User
from tests.prediction.test_predict import corpus, model, rows_of, run  # noqa: F401
from tests.prediction.test_updating import lines  # noqa: F401
from tests.tiny_corpus import SCHEMA, png
from tests.tiny_folder import save_tiny_folder

VIEWS = {"views": "all", "num_reviews": 2, "expand_per_call": 12}
KEPT = VIEWS | {"keep_encodings": True}


@pytest.fixture
def encoded(monkeypatch) -> list[int]:
    """How many views each call of the encoder had."""
    found, encode = [], MMProfileForConditionalGeneration.encode

    def counted(self, input_ids=None, *args, **kwargs):
        found.append(len(input_ids))
        return encode(self, input_ids, *args, **kwargs)

    monkeypatch.setattr(MMProfileForConditionalGeneration, "encode", counted)
    return found


def user(number: int, folder, *texts: str) -> dict:
    reviews = []
    for place, text in enumerate(texts):
        name = f"{number}-{text[-1]}.png"
        if not (folder / name).exists():
            (folder / name).write_bytes(png(20 * number + 7 * place)["bytes"])
        reviews.append({"text": text, "images": [name], "captions": [f"of {text}"]})
    return {"user_id": f"u{number}", "reviews": reviews}


def assert_same(rows: list[dict], others: list[dict], **near) -> None:
    assert len(rows) == len(others) > 0
    numbers = ("log_probability", "image_weights", "gate", "coverage")
    for row, other in zip(rows, others, strict=True):
        for name in numbers:
            expected = None if other[name] is None else pytest.approx(other[name], **near)
            assert row[name] == expected
        assert [row[n] for n in ("user_id", "text", "problems", "tokens_left_out", "exact")] == [
            other[n] for n in ("user_id", "text", "problems", "tokens_left_out", "exact")
        ]


@pytest.mark.parametrize("flags", [{}, {"batch_size": 1}, {"num_workers": 1, "batches_at_once": 2}])
def test_the_answers_are_those_without(model, corpus, tmp_path, flags):
    run(model, corpus, tmp_path / "without", **VIEWS | flags)
    run(model, corpus, tmp_path / "out", **KEPT | flags)
    assert_same(rows_of(tmp_path / "out"), rows_of(tmp_path / "without"), abs=1e-5, rel=1e-5)


@pytest.mark.parametrize("fields", [{}, {"fusion": "concat"}, {"paradigm": "unimodal"}])
def test_a_new_review_costs_its_own_view_alone(lines, encoded, tmp_path, fields):
    save_tiny_folder(tmp_path / "model", SCHEMA, **fields)
    first, texts = user(1, tmp_path, "bad a"), [f"good {letter}" for letter in "edcba"]
    path = lines(first, user(2, tmp_path, *texts[1:]))
    run(tmp_path / "model", path, tmp_path / "out", **KEPT)
    assert encoded == [3]
    encoded.clear()
    path = lines(first, user(2, tmp_path, *texts))
    results = run(tmp_path / "model", path, tmp_path / "out", update=True, **KEPT)
    assert (results["kept"], results["users_this_time"], encoded) == (1, 1, [1])
    run(tmp_path / "model", path, tmp_path / "scratch", **VIEWS)
    assert_same(rows_of(tmp_path / "out"), rows_of(tmp_path / "scratch"), abs=1e-4, rel=1e-5)
    assert sum(encoded) == 1 + 4


def test_without_a_batch_around_them_the_numbers_are_the_same(model, lines, encoded, tmp_path):
    path = lines(user(1, tmp_path, "good a"))
    run(model, path, tmp_path / "out", **KEPT)
    before = rows_of(tmp_path / "out")
    (file,) = (tmp_path / "out" / "predictions").iterdir()
    file.unlink()
    run(model, path, tmp_path / "out", **KEPT)
    assert encoded == [1] and rows_of(tmp_path / "out") == before


def test_encodings_of_users_who_are_gone_are_removed_and_all_by_a_new_run(model, lines, tmp_path):
    run(model, lines(user(1, tmp_path, "a"), user(2, tmp_path, "b")), tmp_path / "out", **KEPT)
    path = lines(user(1, tmp_path, "a"))
    run(model, path, tmp_path / "out", update=True, **KEPT)
    assert list((tmp_path / "out" / "encodings").glob("*/*")) == [encodings_path(tmp_path / "out", "u1")]
    run(model, path, tmp_path / "out", overwrite_output=True, **VIEWS)
    assert not (tmp_path / "out" / "encodings").exists()


def test_a_view_with_a_photo_that_was_left_out_is_not_kept(model, lines, encoded, tmp_path):
    spoilt = user(1, tmp_path, "good a", "good b", "good c")
    (tmp_path / "1-c.png").write_bytes(b"no photo")
    run(model, lines(spoilt), tmp_path / "out", **KEPT)
    later = user(1, tmp_path, "good d", "good a", "good b", "good c")
    run(model, lines(later), tmp_path / "out", update=True, **KEPT)
    assert encoded == [2, 2]
    (row,) = rows_of(tmp_path / "out")
    assert row["problems"][0].startswith("photo 3: ") and row["photos_left_out"] == 1


def test_where_the_oldest_review_drops_out_all_views_are_encoded(model, lines, encoded, tmp_path):
    texts = [f"good {letter}" for letter in "edcba"]
    for first in (1, 0):
        run(model, lines(user(1, tmp_path, *texts[first : first + 4])), tmp_path / "out", update=True, **KEPT)
    assert encoded == [2, 2]


def test_photos_are_known_from_wherever_the_file_is_named(model, lines, encoded, tmp_path, monkeypatch):
    texts = [f"good {letter}" for letter in "cba"]
    for letter, folder in (("b", tmp_path), ("c", tmp_path.parent)):
        lines(user(1, tmp_path, *texts[texts.index(f"good {letter}") :]))
        monkeypatch.chdir(folder)
        path = (tmp_path / "users.jsonl").relative_to(folder)
        run(model, path, tmp_path / "out", update=True, **KEPT)
    assert encoded == [1, 1]


def test_half_a_file_is_none(model, lines, encoded, tmp_path):
    path = lines(user(1, tmp_path, "good a"))
    run(model, path, tmp_path / "out", **KEPT)
    file = encodings_path(tmp_path / "out", "u1")
    file.write_bytes(file.read_bytes()[:30])
    run(model, lines(user(1, tmp_path, "good b", "good c", "good a")), tmp_path / "out", update=True, **KEPT)
    assert encoded == [1, 2]


@pytest.mark.parametrize("run_of", [{"dtype": "bfloat16"}, {"model's config.json": "12"}])
def test_another_model_or_precision_finds_nothing(tmp_path, run_of):
    view = User("u1", ["good"])
    one, other = (KeptEncodings(tmp_path, {"dtype": "float32"} | its) for its in ({}, run_of))
    one.write("u1", {one.key(view): {"states": torch.ones(2, 3), "problems": [], "tokens_left_out": 0}})
    assert one.load("u1", [one.key(view)]) and not other.load("u1", [other.key(view)])


def test_views_in_sixteen_bits_are_kept_as_they_are(model, lines, tmp_path):
    path = lines(user(1, tmp_path, "good a"))
    run(model, path, tmp_path / "out", dtype="bfloat16", **KEPT)
    run(model, path, tmp_path / "without", dtype="bfloat16", **VIEWS)
    assert_same(rows_of(tmp_path / "out"), rows_of(tmp_path / "without"), abs=1e-2)
    encodings = KeptEncodings(tmp_path / "out", json.loads((tmp_path / "out" / "run.json").read_text()))
    view = User("u1", ["good a"], [str(tmp_path / "1-a.png")], ["of good a"])
    (kept,) = encodings.load("u1", [encodings.key(view)]).values()
    assert kept["states"].dtype == torch.bfloat16


def test_encodings_need_a_folder(model, lines, tmp_path):
    with pytest.raises(ValueError, match="--keep_encodings needs an --output"):
        run(model, lines(user(1, tmp_path, "a")), show=1, keep_encodings=True)
