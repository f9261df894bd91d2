"""Row groups of Parquet files on a disk, on the Hub and in a bucket, and what is wrong with one in a sentence."""

import io
import shutil

import datasets
import fsspec
import numpy as np
import pandas
import pytest
from datasets import DatasetDict
from huggingface_hub import HfApi
from PIL import Image

from corpora.opening import open_beside_stream, open_corpus, photo_folder
from corpora.shards import Shards, UnreadableRow
from tests.tiny_corpus import features, png, tiny_dataset, user
from tests.tiny_shards import write_shards

USERS = 24


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shards") / "corpus"
    write_shards(folder, USERS)
    return folder


def shards(name, **options):
    opened = open_beside_stream(str(name))
    return Shards(opened.files, photo_folder(str(name)), opened.features, **options)


def rows(of: Shards):
    """All rows, as a map-style split has them."""
    tables = [of.read(number) for number in range(len(of.sizes))]
    users = [row for table in tables for row in table.to_pylist()]
    return [row | labels for row, labels in zip(users, list(of.labels), strict=True)]


def test_row_groups_have_the_rows_of_the_split(folder):
    found, whole = shards(folder), open_corpus(str(folder))["train"]
    assert found.sizes.tolist() == [3, 3, 2] * 3
    assert rows(found) == list(whole) and len(whole) == USERS
    assert found.features["profile"] == whole.features["profile"]


def test_the_first_users_are_those_of_the_first_row_groups(folder):
    found = shards(folder, limit=7)
    assert found.sizes.tolist() == [3, 3, 1]
    assert rows(found) == list(open_corpus(str(folder))["train"].select(range(7)))


def test_files_of_pandas_have_photos_of_the_folder_and_labels_of_what_stands_beside_them(tmp_path):
    reviews = [{"text": "good", "images": [{"path": "photos/a.png"}], "captions": ["x"]}]
    profile = user(0)["profile"]
    users = pandas.DataFrame([{"user_id": "u0", "reviews": reviews, "profile": profile}])
    users.to_parquet(tmp_path / "train.parquet")
    found = Shards([str(tmp_path / "train.parquet")], tmp_path, features())
    (row,) = rows(found)
    assert row["reviews"][0]["images"] == [{"bytes": None, "path": str(tmp_path / "photos/a.png")}]
    assert row["profile"] == profile


def test_a_corpus_in_a_bucket_is_that_of_the_disk(folder, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", False)  # what is no path is elsewhere
    bucket = fsspec.filesystem("memory")
    for path in folder.iterdir():
        bucket.pipe(f"/bucket/corpus/{path.name}", path.read_bytes())
    opened = open_beside_stream("memory://bucket/corpus")
    assert rows(Shards(opened.files)) == rows(shards(folder))
    assert {name: len(split) for name, split in opened.splits.items()} == {"validation": 4, "test": 4}


def noisy(number: int) -> dict:
    """Reviews with a photo of 50 kB."""
    pixels = np.random.default_rng(number).integers(0, 256, (128, 128, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return {"reviews": [{"text": "good", "images": [{"bytes": buffer.getvalue(), "path": None}], "captions": ["x"]}]}


def test_of_a_split_on_the_hub_comes_what_is_asked_for(tmp_path, hub):
    write_shards(tmp_path / "corpus", changed={number: noisy(number) for number in range(USERS)})
    api = HfApi(hub.endpoint, token=hub.token)
    api.create_repo("user/corpus", repo_type="dataset")
    api.upload_folder(repo_id="user/corpus", repo_type="dataset", folder_path=tmp_path / "corpus")
    before = set(datasets.config.HF_DATASETS_CACHE.rglob("*"))
    found = shards("user/corpus")
    made = set(datasets.config.HF_DATASETS_CACHE.rglob("*")) - before
    assert {path.stem.split("-")[1] for path in made if path.suffix == ".arrow"} == {"validation", "test"}
    sizes = {name: len(content) for name, content in hub.files("user/corpus", "dataset").items()}
    train = {name: size for name, size in sizes.items() if name.startswith("train")}
    assert len(train) == 3
    assert all(0 < hub.sent[name] < 0.3 * size for name, size in train.items())  # footers and labels
    assert rows(found) == rows(shards(tmp_path / "corpus"))
    assert all(hub.sent[name] < 1.4 * size for name, size in train.items())


def test_a_digest_is_of_what_the_files_hold_and_not_of_where_they_are(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "copy")
    assert shards(tmp_path / "copy").digest() == shards(folder).digest()
    write_shards(tmp_path / "other", USERS, changed={20: {"reviews": user(20, reviews=5)["reviews"]}})
    assert shards(tmp_path / "other").digest() != shards(folder).digest()


def test_a_user_whose_reviews_cannot_be_read_is_named_when_the_row_group_comes(tmp_path):
    wrong = [{"text": None, "images": [png(1)], "captions": [None]}]
    write_shards(tmp_path / "corpus", changed={10: {"reviews": wrong}})
    found = shards(tmp_path / "corpus")
    assert found.read(2).num_rows == 2
    with pytest.raises(UnreadableRow, match="train-00001-of-00003.parquet': user 'u10' has a review without a text"):
        found.read(3)


def test_a_user_without_a_profile_is_named_before_anything_is_trained(tmp_path):
    write_shards(tmp_path / "corpus", changed={10: {"profile": user(10)["profile"] | {"stars": None}}})
    with pytest.raises(ValueError, match="user 'u10' has a profile that is none: stars takes indices from 0 to 4"):
        shards(tmp_path / "corpus")


def test_a_file_that_goes_or_is_cut_short_is_named(tmp_path):
    write_shards(tmp_path / "corpus")
    found, last = shards(tmp_path / "corpus"), tmp_path / "corpus" / "train-00002-of-00003.parquet"
    content = last.read_bytes()
    last.unlink()
    with pytest.raises(UnreadableRow, match="train-00002.*cannot be read: .*No such file"):
        found.read(8)
    last.write_bytes(content[:-20])
    with pytest.raises(ValueError, match="train-00002-of-00003.parquet' is not a whole Parquet file"):
        Shards(open_beside_stream(str(tmp_path / "corpus")).files)


def test_files_with_other_labels_or_without_a_column_are_named(tmp_path):
    write_shards(tmp_path / "corpus")
    files = sorted(map(str, (tmp_path / "corpus").glob("train*")))
    other = features()
    other["profile"] = {"stars": other["profile"]["stars"]}
    stars = tiny_dataset(3).map(lambda row: {"profile": {"stars": row["profile"]["stars"]}}, features=other)
    stars.to_parquet(files[1])
    with pytest.raises(ValueError, match="same class labels, those of .*train-00001.* and .*train-00000.* differ"):
        Shards(files)
    tiny_dataset(3).remove_columns("reviews").to_parquet(files[1])
    with pytest.raises(ValueError, match=r"train-00001.*: the dataset needs .*\['reviews'\] missing"):
        Shards(files)


def test_what_is_not_parquet_is_not_streamed(tmp_path):
    DatasetDict({"train": tiny_dataset(3)}).save_to_disk(tmp_path / "saved")
    with pytest.raises(ValueError, match="streaming reads Parquet files"):
        open_beside_stream(str(tmp_path / "saved"))
    write_shards(tmp_path / "corpus")
    with pytest.raises(ValueError, match=r"streaming reads .* \['test', 'train', 'validation'\] of parquet"):
        open_beside_stream(str(tmp_path / "corpus"), streamed="other")
