"""Synthetic raw files are known as such, and nothing else is."""

import gzip
import json
import shutil

import pytest

from dataset_script.provenance import MARKER, synthetic_arguments
from dataset_script.raw_files import find_raw_files
from dataset_script.synthesize import synthesize
from tests.raw_corpus import hand_written

REVIEW = "yelp_academic_dataset_review.json"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made") / "raw"
    synthesize(folder, num_users=2, seed=5, num_businesses=20, image_size=16)
    return folder


@pytest.fixture
def raw(made, tmp_path):
    return shutil.copytree(made, tmp_path / "raw")


def test_synthetic_files_tell_their_arguments_wherever_they_are_moved(raw):
    assert synthetic_arguments(find_raw_files(raw)) == {"users": 2, "seed": 5, "businesses": 20, "image_size": 16}


def test_files_without_the_marker_are_not_synthetic(raw, tmp_path):
    assert synthetic_arguments(find_raw_files(hand_written().write(tmp_path / "hand"))) is None
    (raw / MARKER).unlink()
    assert synthetic_arguments(find_raw_files(raw)) is None


@pytest.mark.parametrize("name", [REVIEW, "yelp_academic_dataset_business.json", "photos.json"])
def test_other_files_under_the_synthetic_ones_names_are_not_synthetic(raw, name):
    with (raw / name).open("a") as file:
        file.write("{}\n")
    assert synthetic_arguments(find_raw_files(raw)) is None


def test_a_file_of_another_name_is_not_synthetic(raw):
    content = (raw / REVIEW).read_bytes()
    (raw / REVIEW).unlink()
    (raw / f"{REVIEW}.gz").write_bytes(gzip.compress(content))
    assert synthetic_arguments(find_raw_files(raw)) is None


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "7", '{"arguments": {}}', '{"arguments": 1, "sha256": {}}', "\x00"]
)
def test_a_marker_that_is_none_marks_nothing(raw, content):
    (raw / MARKER).write_text(content)
    assert synthetic_arguments(find_raw_files(raw)) is None


def test_an_argument_that_is_no_number_marks_nothing(raw):
    content = json.loads((raw / MARKER).read_text())
    (raw / MARKER).write_text(json.dumps(content | {"arguments": {"users": "**everyone**"}}))
    assert synthetic_arguments(find_raw_files(raw)) is None
