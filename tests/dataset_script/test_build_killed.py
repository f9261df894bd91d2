"""Builds that are killed at any moment, or run out of disk: run again, they make the corpus of a build left alone."""

import random
import shutil
import signal
import subprocess
import sys
import time

import datasets
import pytest

from tests import ROOT
from tests.raw_corpus import hand_written, jpeg

pytestmark = pytest.mark.slow

KILLS = 12
# Says when it has imported all, which takes longer than the build.
PROGRAM = """
import sys
from dataset_script import mmprofile_yelp
print("begins", flush=True)
sys.exit(mmprofile_yelp.main(sys.argv[1:]))
"""


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    corpus = hand_written()
    corpus.files = {photo: jpeg((9 * n, 0, 99), size=(900, 700)) for n, photo in enumerate(corpus.files)}
    return corpus.write(tmp_path_factory.mktemp("raw") / "raw", gz=True)


def start(raw, output, *flags):
    words = ["--data_dir", raw, "--output", output, "--config", "default", "full", *flags]
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *map(str, words)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout.readline() == "begins\n"
    return process


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def alone(raw, tmp_path_factory):
    """The corpus of a build left alone, and its seconds."""
    output = tmp_path_factory.mktemp("alone") / "corpus"
    process = start(raw, output)
    began = time.monotonic()
    process.communicate()
    assert process.returncode == 0
    return contents(output), time.monotonic() - began


@pytest.mark.parametrize("flags", [(), ("--overwrite",)])
def test_a_build_killed_at_any_moment_leaves_nothing_half_written(raw, alone, tmp_path, flags):
    whole, seconds = alone
    output, moments = tmp_path / "corpus", random.Random(len(flags))
    if flags:
        start(raw, output).communicate()
    for _ in range(KILLS):
        process = start(raw, output, *flags)
        time.sleep(moments.uniform(0, seconds))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        if output.exists():
            assert contents(output) == whole
            if not flags:
                shutil.rmtree(output)
        else:
            with pytest.raises(FileNotFoundError):
                datasets.load_dataset(str(output), cache_dir=str(tmp_path / "hf"))
    process = start(raw, output, *flags)
    process.communicate()
    assert process.returncode == 0 and contents(output) == whole
    assert [path.name for path in tmp_path.iterdir() if path.name != "hf"] == ["corpus"]


@pytest.mark.parametrize("size", [8_192, 65_536, 262_144])
def test_a_disk_that_is_full_ends_the_build_in_a_sentence_and_leaves_nothing(raw, small_disk, size):
    build = f'{sys.executable} -m dataset_script.mmprofile_yelp --data_dir {raw} --output "$DISK/corpus"'
    result = small_disk(size, f'{build}; echo "status $?"; ls -A "$DISK"')
    assert result.stdout.endswith("status 2\n"), result.stdout
    last = result.stderr.splitlines()[-1]
    assert "No space left on device" in last and ("cannot go on" in last or "cannot be unpacked" in last)


def test_a_scratch_that_is_full_is_named(raw, small_disk, tmp_path):
    build = f"{sys.executable} -m dataset_script.mmprofile_yelp --data_dir {raw} --output {tmp_path / 'corpus'}"
    result = small_disk(8_192, f'{build} --scratch "$DISK"; ls -A "$DISK"')
    last = result.stderr.splitlines()[-1]
    assert "No space left on device" in last and str(tmp_path / "disk") in last
    assert result.stdout == "" and not (tmp_path / "corpus").exists()
