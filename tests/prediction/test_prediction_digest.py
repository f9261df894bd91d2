"""The digest of an input: another one as soon as an answer may be another, the same however often it is read."""

import json
import os
import subprocess
import sys

import pytest
from datasets import Dataset, concatenate_datasets

from prediction.inputs import DatasetUsers, LineUsers, open_users
from tests.tiny_corpus import SCHEMA, features, png, tiny_dataset, user, write_corpus

STRANGER = """
import sys
from mmprofile import ProfileSchema
from prediction.inputs import open_users
print(open_users(sys.argv[1], None, "test", ProfileSchema(), None, None).digest())
"""


def digest_of(rows: list[dict]) -> str:
    return DatasetUsers(Dataset.from_list(rows, features=features()), SCHEMA).digest()


def with_review(**fields) -> dict:
    found = user(1)
    found["reviews"][2] |= fields
    return found


def with_stars(label: int | None) -> dict:
    found = user(1)
    found["profile"]["stars"] = label
    return found


@pytest.mark.parametrize(
    "changed",
    [
        user(1) | {"user_id": "v1"},
        user(1) | {"reviews": user(1)["reviews"][:3]},
        user(1) | {"reviews": []},
        with_review(text=user(1)["reviews"][2]["text"].replace("likes", "hates")),
        with_review(text=None),
        with_review(captions=["photo 0 of review 2", "photo 1 of review 3"]),
        with_review(captions=["photo 0 of review 2", None]),
        with_review(captions=["photo 0 of review 2", ""]),
        with_review(captions=["photo 0 of review 2p", "hoto 1 of review 2"]),
        with_review(images=[png(26)]),
        with_review(images=[png(26), None]),
        with_review(images=[png(26), {"bytes": png(27)["bytes"] + b"more", "path": None}]),
        with_review(images=[png(26), png(27) | {"path": "b.png"}]),
        with_review(images=[png(26), png(28)]),  # of the same length
        with_review(images=[png(26), {"bytes": None, "path": "b.png"}]),
        with_stars(None),
        with_stars((user(1)["profile"]["stars"] + 1) % 5),
    ],
)
def test_a_dataset_of_which_anything_changed_is_another(changed):
    assert digest_of([user(0), changed, user(2)]) != digest_of([user(0), user(1), user(2)])


def test_the_pieces_that_a_dataset_lies_in_do_not_matter():
    parts = [tiny_dataset(6).select(range(start, start + 2)).flatten_indices() for start in (0, 2, 4)]
    pieces = concatenate_datasets(parts)
    assert len(pieces.data.column("reviews").chunks) == 3
    assert DatasetUsers(pieces, SCHEMA).digest() == DatasetUsers(tiny_dataset(6), SCHEMA).digest()


def test_no_photo_is_decoded():
    broken = {"bytes": b"no photo", "path": None}
    assert digest_of([with_review(images=[broken, broken])]) == digest_of([with_review(images=[broken, broken])])


def test_a_file_of_which_a_byte_changed_is_another(tmp_path):
    found = set()
    for fields in ({}, {"reviews": ["evil"]}, {"images": ["a.png"]}, {"captions": ["x"]}, {"profile": None}):
        line = {"user_id": "a", "reviews": ["good"]} | fields
        (tmp_path / "users.jsonl").write_text(json.dumps(line))
        found.add(LineUsers(tmp_path / "users.jsonl", SCHEMA).digest())
    assert len(found) == 5


@pytest.mark.parametrize("change", ["larger", "later", "gone"])
@pytest.mark.parametrize("kind", ["dataset", "file"])
def test_another_photo_under_the_same_path_is_another_input(tmp_path, kind, change):
    path = tmp_path / "a.png"
    path.write_bytes(png(3)["bytes"])
    (tmp_path / "users.jsonl").write_text(json.dumps({"user_id": "a", "reviews": ["good"], "images": ["a.png"]}))
    rows = [with_review(images=[{"bytes": None, "path": str(path)}] * 2)]

    def digest() -> str:
        return digest_of(rows) if kind == "dataset" else LineUsers(tmp_path / "users.jsonl", SCHEMA).digest()

    before = digest()
    assert digest() == before
    if change == "gone":
        path.unlink()
    elif change == "larger":
        path.write_bytes(png(3, size=16)["bytes"])
    else:
        path.write_bytes(png(4)["bytes"])
        os.utime(path, (1, 1))  # a clock may be coarse
    assert digest() != before


@pytest.mark.parametrize("kind", ["dataset", "file"])
def test_another_process_finds_the_same(tmp_path, kind):
    (tmp_path / "file").write_text(json.dumps({"user_id": "a", "reviews": ["good"]}))
    write_corpus(tmp_path / "dataset")
    command = [sys.executable, "-c", STRANGER, str(tmp_path / kind)]
    found = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    assert found == open_users(str(tmp_path / kind), None, "test", SCHEMA, None, None).digest() and len(found) == 64
