"""Builds that are killed at any moment, or run out of disk: run again, they make the corpus of a build left alone."""

import os
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
# Says when it has imported all, which takes longer than the build, and when it is at the call that it is asked for,
# where it waits if it is asked to. Rows are so large for a shard that threads write many.
PROGRAM = """
import itertools, os, sys, time
import datasets
from dataset_script import corpus_rows, corpus_shards, engines, mmprofile_yelp, photos
datasets.config.MAX_SHARD_SIZE, corpus_shards.BATCH_BYTES = 300_000, 200_000
owner, name, number = os.environ.get("AT", "corpus_shards _table 1").split()
owner = eval(owner)
called, calls = getattr(owner, name), itertools.count(1)
def call(*arguments):
    if next(calls) == int(number):
        print("there", flush=True)
        time.sleep(float(os.environ.get("WAIT", 0)))
    return called(*arguments)
setattr(owner, name, call)
print("begins", flush=True)
sys.exit(mmprofile_yelp.main(sys.argv[1:]))
"""


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    corpus = hand_written()
    corpus.files = {photo: jpeg((9 * n, 0, 99), size=(900, 700)) for n, photo in enumerate(corpus.files)}
    return corpus.write(tmp_path_factory.mktemp("raw") / "raw", gz=True)


def start(raw, output, *flags, **environment):
    words = ["--data_dir", raw, "--output", output, "--config", "default", "full", *flags]
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *map(str, words)],
        cwd=ROOT,
        env=os.environ | environment,
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


# A call in the middle of each stage that threads or temporary files make, and the files that are then half-written.
STAGES = {
    "photos are opened": ("photos.Album _proof 4", "scratch/mmprofile-*/*rows*.parquet"),
    "rows are kept": ("corpus_rows.Tally add 2", "scratch/*rows*/train.parquet"),
    "shards are written": ("corpus_shards _table 5", "corpus/data/default/train-*.parquet"),
    "the second configuration is written": ("corpus_shards _table 12", "corpus/data/full/train-*.parquet"),
}


@pytest.mark.parametrize("stage", STAGES)
def test_a_build_killed_in_a_parallel_stage_leaves_nothing_half_written(raw, alone, tmp_path, stage):
    at, half_written = STAGES[stage]
    whole, _seconds = alone
    process = start(raw, tmp_path / "corpus", AT=at, WAIT="600")
    assert "there\n" in iter(process.stdout.readline, "")  # behind the reports of what is derived
    there = list((tmp_path / ".corpus.building").glob(half_written))
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert there and not (tmp_path / "corpus").exists()
    process = start(raw, tmp_path / "corpus")
    process.communicate()
    assert process.returncode == 0 and contents(tmp_path / "corpus") == whole
    assert [path.name for path in tmp_path.iterdir()] == ["corpus"]


@pytest.fixture
def on_small_disk(raw, small_disk, tmp_path):
    """A build on a disk of so many bytes: what it prints, with its status and what it leaves, and why it ends."""
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)

    def run(size, folder, *flags):
        words = map(str, [sys.executable, program, "--data_dir", folder, "--output", '"$DISK/corpus"', *flags])
        result = small_disk(size, f'PYTHONPATH={ROOT} {" ".join(words)}; echo "status $?"; ls -A "$DISK"')
        return result.stdout, result.stderr.partition("error: ")[2]

    return run


@pytest.mark.parametrize("size", [8_192, 65_536, 262_144])
def test_a_disk_that_is_full_ends_the_build_in_a_sentence_and_leaves_nothing(raw, on_small_disk, size):
    printed, why = on_small_disk(size, raw)
    assert printed.endswith("status 2\n"), printed
    assert "No space left on device" in why and ("cannot go on" in why or "cannot be unpacked" in why)


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_a_disk_that_is_full_while_threads_write_shards_leaves_nothing(raw, alone, on_small_disk, share):
    whole, _seconds = alone
    printed, why = on_small_disk(int(share * sum(map(len, whole.values()))), raw, "--config", "default", "full")
    assert "there\n" in printed and printed.endswith("status 2\n"), printed
    assert "No space left on device" in why and "cannot go on" in why


def test_a_disk_that_the_engine_fills_with_what_memory_does_not_hold_is_left_empty(on_small_disk, tmp_path):
    corpus, noise = hand_written(), random.Random(0)
    for review in corpus.reviews:
        review["text"] = " ".join(noise.randbytes(1350).hex() for _ in range(290))
    folder = corpus.write(tmp_path / "raw")
    printed, why = on_small_disk(2**25, folder, "--memory_limit", "150MB", "--threads", "1")
    assert printed == "begins\nstatus 2\n"
    assert why.startswith("DuckDB cannot go on") and "max_temp_directory_size" in why


def test_a_scratch_that_is_full_is_named(raw, small_disk, tmp_path):
    build = f"{sys.executable} -m dataset_script.mmprofile_yelp --data_dir {raw} --output {tmp_path / 'corpus'}"
    result = small_disk(8_192, f'{build} --scratch "$DISK"; ls -A "$DISK"')
    last = result.stderr.splitlines()[-1]
    assert "No space left on device" in last and str(tmp_path / "disk") in last
    assert result.stdout == "" and not (tmp_path / "corpus").exists()
