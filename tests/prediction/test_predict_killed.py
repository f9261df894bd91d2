"""predict.py killed and started again, and in two processes: the same rows as in one go, each user once."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests import ROOT
from tests.tiny_corpus import SCHEMA, write_corpus
from tests.tiny_folder import save_tiny_folder

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


def written_shards(output: Path) -> int:
    return len(list(output.glob("predictions/*.parquet")))


def shards_of(output: Path) -> dict[str, list[dict]]:
    return {path.name: pq.read_table(path).to_pylist() for path in sorted(output.glob("predictions/*"))}


@pytest.fixture(scope="module")
def whole(flags, tmp_path_factory) -> dict[str, list[dict]]:
    """The shards of a run in one go."""
    output = tmp_path_factory.mktemp("killed") / "whole"
    finish(start(output, flags))
    return shards_of(output)


@pytest.mark.slow
def test_a_run_that_is_killed_again_and_again_has_each_user_once_with_the_same_answer(flags, whole, tmp_path):
    output, draw, left, seconds = tmp_path / "out", random.Random(0), [0], 0.0
    for _ in range(KILLS):
        process, started = start(output, flags), time.monotonic()
        # Counted from a new shard, as the start of a process takes longer than all its shards; or about its end.
        new = draw.randint(0, 2)
        delay = seconds * draw.uniform(0.7, 1.1) if seconds and not new else draw.uniform(0, 0.1)
        while process.poll() is None and (not output.exists() or written_shards(output) < left[-1] + new):
            assert time.monotonic() < started + 280
            time.sleep(0.002)
        seconds = seconds or time.monotonic() - started
        time.sleep(delay)
        if process.poll() is not None:  # before it could be killed once more
            finish(process)
            break
        os.killpg(process.pid, signal.SIGKILL)  # with its workers
        process.communicate()
        left.append(written_shards(output))
    assert left == sorted(left) and any(0 < shards < SHARDS for shards in left) and len(left) > KILLS // 2, left
    finish(start(output, flags))
    assert shards_of(output) == whole
    ids = [row["user_id"] for rows in whole.values() for row in rows]
    assert ids == [f"u{200 + index}" for index in range(USERS)]


@pytest.mark.slow
def test_two_processes_give_the_rows_of_one(flags, whole, tmp_path):
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2")
    text = finish(start(tmp_path / "out", flags, torchrun))
    assert json.loads((tmp_path / "out" / "results.json").read_text())["num_processes"] == 2
    assert f"{USERS} of {USERS} users predicted, {USERS} of them now" in text
    assert shards_of(tmp_path / "out") == whole
