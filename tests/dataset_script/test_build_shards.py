"""The shards of a build: as many as their size asks for, whose rows are those of a single one."""

import time

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dataset_script import corpus_shards, photos
from dataset_script.corpus_shards import plan_shards, row_bytes, write_split
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
    monkeypatch.setattr(corpus_shards, "BATCH_BYTES", 1)
    build(raw, tmp_path / "several", max_reviews=10)
    lengths = [[pq.read_metadata(shard).num_rows for shard in train_shards(tmp_path / n)] for n in ("one", "several")]
    assert lengths == [[6], [2, 3, 1]]  # a shard is full with the first row above its size
    assert rows_of(tmp_path / "one", tmp_path) == rows_of(tmp_path / "several", tmp_path)


def test_a_row_group_has_as_many_rows_as_their_own_photos_allow(raw, tmp_path, monkeypatch):
    corpus = plan(raw)
    sizes = [row_bytes(row, corpus.album) for row in corpus.splits["train"]]
    monkeypatch.setattr(corpus_shards, "BATCH_BYTES", sum(sizes[:3]))
    build(raw, tmp_path / "corpus")
    (shard,) = train_shards(tmp_path / "corpus")
    metadata = pq.read_metadata(shard)
    groups = [metadata.row_group(n) for n in range(metadata.num_row_groups)]
    assert groups[0].num_rows == 3 and sum(group.num_rows for group in groups) == 6
    assert all(group.total_byte_size < sum(sizes[:3]) + 30_000 for group in groups)


def test_a_large_row_stands_alone_and_makes_no_other_group_smaller(monkeypatch):
    monkeypatch.setattr(corpus_shards, "BATCH_BYTES", 100)
    monkeypatch.setattr(corpus_shards, "BATCH_ROWS", 4)
    monkeypatch.setattr(datasets.config, "MAX_SHARD_SIZE", 500)
    sizes = [10, 10, 900, 50, 50, 1, *[10] * 9]
    assert plan_shards(sizes, int) == [[[10, 10], [900]], [[50, 50], [1, 10, 10, 10], [10] * 4, [10] * 2]]


def test_threads_hold_no_more_row_groups_than_there_is_room_for(tmp_path, monkeypatch):
    monkeypatch.setattr(corpus_shards, "BATCH_BYTES", 10)
    monkeypatch.setattr(corpus_shards, "FULL_GROUPS", 2)
    monkeypatch.setattr(datasets.config, "MAX_SHARD_SIZE", 1)
    held, most = [], []

    def table(rows, example, features):
        held.append(rows)
        most.append(len(held))
        time.sleep(0.01)
        held.pop()
        return pa.table({"n": [1]})

    monkeypatch.setattr(corpus_shards, "_table", table)
    features = datasets.Features({"n": datasets.Value("int64")})
    info = write_split(tmp_path, "train", Numbered(30), lambda row: 10, dict, features, 8)
    assert info.num_examples == len(list(tmp_path.iterdir())) == len(most) == 30
    assert max(most) == 2


class Numbered(list):
    """Rows that are numbers."""

    def __init__(self, count):
        super().__init__(range(count))

    def between(self, start, stop):
        return iter(self[start:stop])


def test_shards_that_wait_are_not_written_once_one_has_failed(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "MAX_SHARD_SIZE", 1)
    monkeypatch.setattr(corpus_shards, "BATCH_ROWS", 1)
    features = datasets.Features({"n": datasets.Value("int64")})

    def example(row):
        time.sleep(0.01)
        if row == 1:
            raise ValueError("changed")
        return {"n": row}

    with pytest.raises(ValueError, match="changed"):
        write_split(tmp_path, "train", Numbered(100), lambda row: 2, example, features, 2)
    assert len(list(tmp_path.iterdir())) < 20


@pytest.mark.parametrize("threads", [1, 3])
def test_shards_are_the_same_whatever_the_threads(raw, tmp_path, monkeypatch, threads):
    monkeypatch.setattr(datasets.config, "MAX_SHARD_SIZE", "200KB")
    monkeypatch.setattr(corpus_shards, "BATCH_BYTES", 1)
    build(raw, tmp_path / "all")
    build(raw, tmp_path / "some", threads=threads)
    first, second = ([path.read_bytes() for path in train_shards(tmp_path / name)] for name in ("all", "some"))
    assert first == second and len(first) > 1


def test_two_configurations_open_each_photo_once_to_decode_it(raw, tmp_path, monkeypatch):
    decoded, prove = [], photos.prove_decodable
    monkeypatch.setattr(
        photos, "prove_decodable", lambda content, most: (decoded.append(content), prove(content, most))
    )
    build(raw, tmp_path / "corpus", config=["default", "full"])
    assert len(decoded) == len(set(decoded)) == 8
