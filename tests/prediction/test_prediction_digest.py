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
for path in sys.argv[1:]:
    print(open_users(path, None, "test", ProfileSchema(), None, None).digest())
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


def test_another_process_finds_the_same(tmp_path):
    (tmp_path / "file").write_text(json.dumps({"user_id": "a", "reviews": ["good"]}))
    write_corpus(tmp_path / "dataset")
    paths = [str(tmp_path / kind) for kind in ("dataset", "file")]
    found = subprocess.run([sys.executable, "-c", STRANGER, *paths], capture_output=True, text=True, check=True).stdout
    assert found.split() == [open_users(path, None, "test", SCHEMA, None, None).digest() for path in paths]
    assert [len(digest) for digest in found.split()] == [64, 64]


def digests_of(*rows: dict, **options) -> list[str]:
    return DatasetUsers(Dataset.from_list(list(rows), features=features()), SCHEMA, **options).digests()


def without_captions() -> dict:
    found = user(1)
    found["reviews"][2]["captions"] = None
    return found


@pytest.mark.parametrize(
    "changed",
    [
        user(1) | {"reviews": user(1)["reviews"][:3]},  # of all photos the places are told
        user(1) | {"reviews": user(1)["reviews"][1:]},
        user(1) | {"reviews": []},
        with_review(text=user(1)["reviews"][2]["text"].replace("likes", "hates")),
        with_review(captions=["photo 0 of review 3", "photo 1 of review 2"]),
        with_review(captions=["photo 0 of review 2"]),  # which does not fit
        without_captions(),
        with_review(images=[png(28), png(27)]),  # of the same length
        with_review(images=[{"bytes": png(26)["bytes"] + b"more", "path": None}, png(27)]),
        with_review(images=[{"bytes": None, "path": "b.png"}, png(27)]),
        with_review(images=[None, png(27)]),
        with_review(images=None, captions=None),
    ],
)
def test_the_digest_of_a_user_of_whom_anything_changed_is_another_and_the_others_stay(changed):
    before, after = (digests_of(user(0), row, user(2)) for row in (user(1), changed))
    assert len(before) == 3 and all(len(digest) == 32 for digest in before)
    assert [new == old for new, old in zip(after, before, strict=True)] == [True, False, True]


@pytest.mark.parametrize(
    "changed",
    [
        with_stars(None),
        user(1) | {"user_id": "v1"},
        with_review(images=[png(26), png(28)]),  # the second of a review is not looked at
        with_review(images=[png(26) | {"path": "b.png"}, png(27)]),
    ],
)
def test_what_no_answer_depends_on_is_in_no_users_digest(changed):
    assert digests_of(changed) == digests_of(user(1))


def test_reviews_and_photos_that_are_not_shown_are_in_no_users_digest():
    older = user(1)
    older["reviews"][3]["text"] = "another"
    assert digests_of(older) == digests_of(user(1))
    for options in ({"num_reviews": 4}, {"views": None}, {"views": 2}):
        assert digests_of(older, **options) != digests_of(user(1), **options)
    assert digests_of(with_review(images=[png(26), png(28)]), num_images=2) != digests_of(user(1), num_images=2)


def test_the_pieces_that_a_dataset_lies_in_do_not_matter_to_its_users():
    parts = [tiny_dataset(6).select(range(start, start + 2)).flatten_indices() for start in (0, 2, 4)]
    found = DatasetUsers(concatenate_datasets(parts), SCHEMA).digests()
    assert found == DatasetUsers(tiny_dataset(6), SCHEMA).digests() and len(set(found)) == 6


def test_users_of_a_file_keep_their_digests_wherever_the_file_and_their_line_are(tmp_path):
    lines = [json.dumps({"user_id": name, "reviews": ["good"], "images": [f"{name}.png"]}) for name in "ab"]
    found = []
    for name, order in (("one", lines), ("two", lines[::-1])):
        (tmp_path / name).mkdir()
        for photo in "ab":
            (tmp_path / name / f"{photo}.png").write_bytes(png(3)["bytes"])
            os.utime(tmp_path / name / f"{photo}.png", (1, 1))
        (tmp_path / name / "users.jsonl").write_text("\n".join(order))
        users = LineUsers(tmp_path / name / "users.jsonl", SCHEMA)
        found.append(dict(zip(users.ids, users.digests(), strict=True)))
    assert found[0] == found[1] and found[0]["a"] != found[0]["b"]
    os.utime(tmp_path / "two" / "b.png", (2, 2))
    later = dict(zip(users.ids, users.digests(), strict=True))
    assert (later["a"] == found[0]["a"], later["b"] == found[0]["b"]) == (True, False)
