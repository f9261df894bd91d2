"""Who is drawn and which photos are opened: rows as if all photos had been, and no more held than is drawn."""

import ibis
import pyarrow as pa
import pytest
from ibis.expr.types import Table

from dataset_script import engines, photos
from tests.dataset_script.test_engines import HASH, fingerprint
from tests.raw_corpus import RULES, hand_written, plan

SIZES = {"train_size": 2, "validation_size": 1, "test_size": 1}
BROKEN = ["bistro-0", "pizzeria-1", "pizzeria-3"]


def rows(corpus):
    """Split and row of each user, without the label that hangs on the others' prices."""
    found = {}
    for split, users in corpus.splits.items():
        for user_id, reviews, profile in users:
            found[user_id] = (split, reviews, {**profile, "budget_range": None})
    return found


@pytest.fixture
def opened(monkeypatch):
    """The photos that are read, in their order."""
    found, read = [], photos.read_photo
    monkeypatch.setattr(
        photos, "read_photo", lambda raw, photo, most: (found.append(photo), read(raw, photo, most))[1]
    )
    return found


@pytest.mark.parametrize("seed", range(4))
def test_rows_are_those_of_a_list_without_the_photos_that_do_not_decode(tmp_path, seed):
    # With bistro-0 dan has 10 reviews with a photo and not 20, and is not in a row; the others' rows change.
    raw = hand_written()
    raw.files |= dict.fromkeys(BROKEN, b"no photo")
    options = SIZES | {"min_photo_reviews": 12, "seed": seed}
    with_broken = plan(raw.write(tmp_path / "with"), **options)
    raw.photos = [photo for photo in raw.photos if photo["photo_id"] not in BROKEN]
    without = plan(raw.write(tmp_path / "without"), **options)
    assert rows(with_broken) == rows(without) and len(rows(without)) == 4
    assert "dan" not in rows(with_broken)


def test_a_user_who_falls_short_is_counted_and_gives_way(tmp_path):
    raw = hand_written()
    raw.files |= dict.fromkeys(BROKEN, b"no photo")
    folder = raw.write(tmp_path / "raw")
    everybody = plan(folder, min_photo_reviews=12, all_users=True)
    # By the list hal, jon and kim have too few; dan by the files.
    assert everybody.ledger.left["users with at least 12 reviews with a listed photo"] == 8
    assert everybody.ledger.dropped["users", "fewer than 12 reviews with a photo"] == 4
    assert everybody.ledger.left["users drawn"] == len(rows(everybody)) == 6
    short = {user for seed in range(9) for user in rows(plan(folder, min_photo_reviews=12, seed=seed, **SIZES))}
    assert short == rows(everybody).keys()


@pytest.mark.slow
def test_spark_draws_again_as_duckdb_does(tmp_path):
    pytest.importorskip("pyspark")
    raw = hand_written()
    raw.files |= dict.fromkeys(BROKEN, b"no photo")
    folder, options = raw.write(tmp_path / "raw"), SIZES | {"min_photo_reviews": 12}
    spark, duck = plan(folder, engine="local[2]", **options), plan(folder, **options)
    assert spark.splits == duck.splits and spark.ledger == duck.ledger


def test_too_few_users_whose_photos_decode_say_where_the_others_went(tmp_path):
    raw = hand_written()
    raw.files = dict.fromkeys(raw.files, b"no photo")
    with pytest.raises(ValueError, match=r"but 0 users are left\. Left: .*photo does not decode \(8\)"):
        plan(raw.write(tmp_path / "raw"))


def test_only_photos_of_the_drawn_are_opened_and_each_once(tmp_path, opened):
    raw = hand_written()
    # Each review has photos of its own.
    named = [review["review_id"] for review in raw.reviews]
    raw.photos = [{"photo_id": f"of-{n}", "review_id": review_id} for n, review_id in enumerate(named)]
    raw.files = {photo["photo_id"]: raw.files["slice-0"] for photo in raw.photos}
    corpus = plan(raw.write(tmp_path / "raw"), max_reviews=5, **SIZES)
    shown = {photo for _, reviews, _ in rows(corpus).values() for review in reviews for photo in review.photos}
    assert sorted(opened) == sorted(photo.photo_id for photo in shown) and len(opened) == 4 * 5


def multiplied(times):
    """The hand-written corpus so many times over: other users, places, dates and attributes."""
    raw = hand_written()
    for name in ("businesses", "reviews", "photos"):
        records = getattr(raw, name)
        copies = [
            {key: f"{value}x{n}" if key.endswith("_id") else value for key, value in record.items()}
            for n in range(times)
            for record in records
        ]
        setattr(raw, name, copies)
    for n, record in enumerate(raw.reviews):
        record["date"] = f"2020-{n % 12 + 1:02}-{n // 12 % 28 + 1:02}T{n // 336 % 24:02}:00:00+01:00"
    for n, business in enumerate(raw.businesses):
        if business["attributes"]:
            business["attributes"] = business["attributes"] | {"Unused": str(n), "HappyHour": "True " + " " * n}
    raw.files = {f"{name}x{n}": content for name, content in raw.files.items() for n in range(times)}
    return raw


@pytest.mark.parametrize("all_users", [False, True])
def test_what_python_gathers_at_once_does_not_grow_with_the_corpus(tmp_path, monkeypatch, all_users):
    gathered, most = Table.to_pyarrow, {}

    def gather(table, **options):
        result = gathered(table, **options)
        most[times] = max(most.get(times, 0), result.num_rows)
        return result

    monkeypatch.setattr(Table, "to_pyarrow", gather)
    for times in (1, 4):
        corpus = plan(multiplied(times).write(tmp_path / str(times)), all_users=all_users, **SIZES)
        assert corpus.ledger.left["users drawn"] == (8 * times if all_users else 4)
    assert most[1] == most[4] <= len(RULES)


def test_a_stream_passes_no_more_at_once_than_asked_for(monkeypatch):
    backend = ibis.duckdb.connect()
    numbers = backend.create_table("numbers", pa.table({"n": range(5000)}))
    monkeypatch.setattr(engines, "STREAMED_ROWS", 3)
    lengths = [batch.num_rows for batch in engines.stream(backend, numbers)]
    assert sum(lengths) == 5000 and max(lengths) <= 3


def test_rows_are_the_same_however_few_pass_at_once(tmp_path, monkeypatch):
    folder = hand_written().write(tmp_path / "raw")
    monkeypatch.setattr(engines, "STREAMED_ROWS", 3)
    assert fingerprint(plan(folder)) == HASH
