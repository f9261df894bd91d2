"""A photo that cannot be read is found before the first step; where it is not looked for, the run says whose it is."""

import re

import pytest

from tests.tiny_corpus import png, write_corpus
from tests.training.test_train import run
from training.failures import TrainingFailure
from training.joint_step import JointStep

HALF = {"bytes": png(7, size=64)["bytes"][:120], "path": None}
PHOTO = "user 'u2', photo 2 of review 3"


@pytest.fixture(scope="module")
def broken(tmp_path_factory):
    """A corpus in which one of 30 photos of the training split is half a file, and one of the test split's none."""
    folder = tmp_path_factory.mktemp("photos") / "corpus"
    write_corpus(folder, replaced={(2, 2, 1): HALF, (201, 0, 0): {"bytes": b"no photo", "path": None}})
    return folder


@pytest.mark.parametrize("cache", [False, True])
def test_photos_that_cannot_be_read_are_named_before_the_first_step(broken, tmp_path, monkeypatch, cache):
    monkeypatch.setattr(JointStep, "forward", None)
    flags = {"photo_cache": tmp_path / "cache"} if cache else {}
    with pytest.raises(ValueError, match="2 photos of the corpus cannot be read") as refused:
        run(broken, tmp_path / "model", **flags)
    assert re.search(f"split 'train', {PHOTO}: the image of 120 bytes is broken", str(refused.value))
    assert "split 'test', user 'u201', photo 1 of review 1: the image of 8 bytes is none of" in str(refused.value)
    assert ("--check_photos false" in str(refused.value)) != cache


@pytest.mark.parametrize("num_workers", [0, 2])
def test_with_the_check_left_out_a_run_ends_at_the_photo_and_names_it_a_checkpoint_first(
    broken, tmp_path, num_workers
):
    flags = {"check_photos": False, "num_workers": num_workers, "num_reviews": 4, "num_images": 2}
    with pytest.raises(TrainingFailure) as ended:
        run(broken, tmp_path / "model", **flags)
    assert re.fullmatch(
        f"{PHOTO}: the image of 120 bytes is broken[^\n]*; the last good checkpoint is .*checkpoint-[01]",
        str(ended.value),
    )


@pytest.mark.parametrize("flags", [{"objectives": ["text"]}, {"paradigm": "unimodal"}, {"num_images": 0}])
def test_photos_that_nobody_looks_at_need_not_be_read(broken, tmp_path, flags):
    run(broken, tmp_path / "model", **flags)


def test_a_run_that_goes_on_reads_no_photo_for_the_check_again(tmp_path, monkeypatch):
    write_corpus(tmp_path / "corpus", sizes=(4, 2, 2))
    checked = []
    monkeypatch.setattr("training.data.check_photos", lambda *options: checked.append(1))
    run(tmp_path / "corpus", tmp_path / "model", save_steps=1)
    run(tmp_path / "corpus", tmp_path / "model", save_steps=1, resume_from_checkpoint="auto")
    assert checked == [1]
