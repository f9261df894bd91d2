"""predict.py killed and started again, and in two processes: the same rows as in one go, each user once."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.tiny_corpus import SCHEMA, write_corpus
from tests.tiny_folder import save_tiny_folder

ROOT = Path(__file__).parents[1]
USERS, SHARDS = 320, 40
KILLS = 10


@pytest.fixture(scope="module")
def flags(tmp_path_factory) -> list[str]:
    folder = tmp_path_factory.mktemp("killed")
    save_tiny_folder(folder / "model", SCHEMA)
    write_corpus(folder / "corpus", sizes=(4, 4, USERS))
    flags = {"model": folder / "model", "dataset": folder / "corpus", "max_calls": 12, "num_workers": 1}
    flags |= {"batch_size": 4, "shard_users": USERS // SHARDS}
    return [part for name, value in flags.items() for part in (f"--{name}", str(value))]


def start(output: Path, flags: list[str], launcher: tuple[str, ...] = ()) -> subprocess.Popen:
    command = [sys.executable, *launcher, str(ROOT / "predict.py"), *flags, "--output", str(output)]
    environment = os.environ | {"ACCELERATE_USE_CPU": "true"}
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )


def finish(process: subprocess.Popen) -> str:
    try:
        text, _ = process.communicate(timeout=280)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    assert process.returncode == 0, text
    return text


def shards_of(output: Path) -> dict[str, list[dict]]:
    return {path.name: pq.read_table(path).to_pylist() for path in sorted(output.glob("predictions/*"))}


@pytest.fixture(scope="module")
def timed(flags, tmp_path_factory) -> tuple[dict[str, list[dict]], float]:
    """The shards of a run in one go, and its seconds from the start of the process."""
    output, started = tmp_path_factory.mktemp("killed") / "whole", time.monotonic()
    finish(start(output, flags))
    return shards_of(output), time.monotonic() - started


@pytest.fixture(scope="module")
def whole(timed) -> dict[str, list[dict]]:
    return timed[0]


@pytest.mark.slow
def test_a_run_that_is_killed_again_and_again_has_each_user_once_with_the_same_answer(flags, timed, tmp_path):
    (whole, seconds), draw = timed, random.Random(0)
    outputs, left = [tmp_path / "out-0"], []
    while len(left) < KILLS:
        process = start(outputs[-1], flags)
        try:
            process.wait(draw.uniform(0, seconds))
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)  # with its workers
            process.communicate()
            left.append(len(list(outputs[-1].glob("predictions/*.parquet"))))
        else:  # what is left after some kills may be done in less time
            finish(process)
            outputs.append(tmp_path / f"out-{len(outputs)}")
    finish(start(outputs[-1], flags))
    assert any(0 < shards < SHARDS for shards in left), left
    assert [shards_of(output) == whole for output in outputs] == [True] * len(outputs)
    ids = [row["user_id"] for rows in whole.values() for row in rows]
    assert ids == [f"u{200 + index}" for index in range(USERS)]


@pytest.mark.slow
def test_two_processes_give_the_rows_of_one(flags, whole, tmp_path):
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2")
    text = finish(start(tmp_path / "out", flags, torchrun))
    assert "process 1 of 2" in text
    assert f"{USERS} of {USERS} users predicted, {USERS} of them now" in text
    assert shards_of(tmp_path / "out") == whole
