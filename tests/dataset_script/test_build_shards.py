"""The shards of a build: as many as their size asks for, whose rows are those of a single one."""

import datasets
import pyarrow.parquet as pq
import pytest

from dataset_script import mmprofile_yelp
from dataset_script.mmprofile_yelp import build
from tests.raw_corpus import hand_written, jpeg, plan

PHOTO_BYTES = 5000


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    """Six rows of `train` with some 30 photos each, of some 5 kB."""
    raw = hand_written()
    photos = {photo: jpeg((20 * n, 9, 9)) for n, photo in enumerate(raw.files)}
    raw.files = {photo: content.ljust(PHOTO_BYTES, b"\0") for photo, content in photos.items()}
    return raw.write(tmp_path_factory.mktemp("shards") / "raw")


def train_shards(folder):
    return sorted((folder / "data" / "default").glob("train*.parquet"))


def rows_of(folder, tmp_path):
    corpus = datasets.load_dataset(str(folder), cache_dir=str(tmp_path / "hf"))
    return {name: split.with_format("arrow")[:].to_pylist() for name, split in corpus.items()}


def test_small_shards_hold_the_rows_of_one(raw, tmp_path, monkeypatch):
    build(raw, tmp_path / "one", max_reviews=10)
    monkeypatch.setattr(datasets.config, "MAX_SHARD_SIZE", "200KB")
    monkeypatch.setattr(mmprofile_yelp, "BATCH_BYTES", 1)
    build(raw, tmp_path / "several", max_reviews=10)
    lengths = [[pq.read_metadata(shard).num_rows for shard in train_shards(tmp_path / n)] for n in ("one", "several")]
    assert lengths == [[6], [2, 3, 1]]  # a shard is full with the first row above its size
    assert rows_of(tmp_path / "one", tmp_path) == rows_of(tmp_path / "several", tmp_path)


@pytest.mark.parametrize(("rows", "groups"), [(1, [1] * 6), (4, [4, 2]), (1000, [6])])
def test_a_batch_has_as_many_rows_as_its_photos_bytes_allow(raw, tmp_path, monkeypatch, rows, groups):
    shown = [row for split in plan(raw).splits.values() for row in split]
    photos = sorted((sum(len(review.photos) for review in row.reviews) for row in shown), reverse=True)
    monkeypatch.setattr(mmprofile_yelp, "BATCH_BYTES", PHOTO_BYTES * sum(photos[:rows]))
    build(raw, tmp_path / "corpus")
    (shard,) = train_shards(tmp_path / "corpus")
    metadata = pq.read_metadata(shard)
    assert [metadata.row_group(n).num_rows for n in range(metadata.num_row_groups)] == groups
