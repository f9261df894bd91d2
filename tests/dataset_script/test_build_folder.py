"""Where a build writes: one at a time, nothing left of a killed one, and no output lost."""

import subprocess
import sys

import pytest

from dataset_script.build_folder import build_folder
from tests import ROOT


@pytest.fixture
def output(tmp_path):
    return tmp_path / "corpus"


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_what_is_published_is_all_that_stays(output):
    with build_folder(output) as place:
        (place.corpus / "new").touch()
        (place.scratch / "spilled").touch()
        place.publish()
    assert names(output.parent) == ["corpus"] and names(output) == ["new"]


def test_a_failure_leaves_the_output_as_it_was(output):
    output.mkdir()
    (output / "old").touch()
    with pytest.raises(ValueError, match=r"the build of .*corpus cannot go on: .*disk"), build_folder(output):
        raise OSError(28, "the disk is full")
    assert names(output.parent) == ["corpus"] and names(output) == ["old"]


def test_what_a_killed_build_left_is_removed(output):
    left = output.with_name(".corpus.building")
    for room in ("corpus", "scratch", "earlier"):
        (left / room).mkdir(parents=True)
        (left / room / "half").touch()
    output.mkdir()
    with build_folder(output) as place:
        assert names(place.corpus) == names(place.scratch) == []
    assert names(output.parent) == ["corpus"]


def test_an_output_that_a_killed_build_had_moved_away_is_put_back(output):
    earlier = output.with_name(".corpus.building") / "earlier"
    earlier.mkdir(parents=True)
    (earlier / "old").touch()
    with build_folder(output):
        assert names(output) == ["old"]


def test_two_builds_of_one_output_do_not_meet(output):
    program = f"""
from pathlib import Path
from dataset_script.build_folder import build_folder
with build_folder(Path({str(output)!r})):
    print(flush=True)
    input()
"""
    with subprocess.Popen(
        [sys.executable, "-c", program], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        other.stdout.readline()
        with pytest.raises(ValueError, match="another build of .*corpus is at work"), build_folder(output):
            pass
        other.communicate(b"\n")
    with build_folder(output):
        pass
