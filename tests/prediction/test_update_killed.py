"""Updates and forgetting killed again and again: a reader finds whole predictions at any time, old or new ones."""

# ruff: noqa: F811 - fixtures are imported

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests import ROOT
from tests.prediction.test_predict import model, rows_of  # noqa: F401
from tests.prediction.test_predict_killed import finish, start
from tests.prediction.test_updating import line

USERS, KILLS = 60, 10


def lines(path: Path, words: dict[int, str], gone: tuple[int, ...] = ()) -> Path:
    users = [line(number, reviews=[words.get(number, "a place"), "good"]) for number in range(USERS)]
    path.write_text("".join(json.dumps(user) + "\n" for user in users if int(user["user_id"][1:]) not in gone))
    return path


@pytest.fixture(scope="module")
def flags(model) -> list[str]:
    flags = {"model": model, "max_calls": 12, "num_workers": 1, "batch_size": 1, "shard_users": 2}
    return [part for name, value in flags.items() for part in (f"--{name}", str(value))]


@pytest.fixture(scope="module")
def old(flags, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("update_killed")
    finish(start(folder / "out", [*flags, "--dataset", str(lines(folder / "users.jsonl", {}))]))
    return folder / "out"


def read(output: Path) -> dict[str, str] | None:
    """Users' digests in the folder that stands there now; None where it was removed while it was read."""
    folder = os.open(output / "predictions", os.O_DIRECTORY)  # of which the files are read, whatever its name becomes
    try:
        parts = [pq.read_table(path) for path in sorted(Path(f"/proc/self/fd/{folder}").iterdir())]
        if not os.path.samestat(os.fstat(folder), os.stat(output / "predictions")):  # files may have been away
            return None
    except FileNotFoundError:
        return None
    finally:
        os.close(folder)
    table = pa.concat_tables(parts)
    found = dict(zip(table["user_id"].to_pylist(), table["digest"].to_pylist(), strict=True))
    assert len(found) == table.num_rows
    return found


def killed_again_and_again(command, output: Path, draw: random.Random, ready) -> int:
    """How many of `KILLS` starts were killed before their end; `ready` says whether a start has got somewhere."""
    kills = 0
    for _ in range(KILLS):
        process, started = command(), time.monotonic()
        while process.poll() is None and not ready():
            assert time.monotonic() < started + 280
            time.sleep(0.001)
        time.sleep(draw.uniform(0, 0.3))
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            kills += 1
        process.communicate()
    return kills


@pytest.mark.slow
def test_an_update_that_is_killed_again_and_again_is_as_a_run_from_scratch(flags, old, tmp_path):
    output = shutil.copytree(old, tmp_path / "out")
    changed = {number: f"words {number}" for number in range(0, USERS, 2)}
    flags = [*flags, "--dataset", str(lines(tmp_path / "users.jsonl", changed, gone=(5, 6)))]
    finish(start(tmp_path / "scratch", flags))
    whole = rows_of(tmp_path / "scratch")
    allowed = [read(old), {row["user_id"]: row["digest"] for row in whole}]
    looks, failures, ended = [], [], threading.Event()

    def look():
        while not ended.is_set():
            try:
                if (found := read(output)) is not None:
                    looks.append(found in allowed)
            except Exception as error:  # would end with this thread
                failures.append(error)
            time.sleep(0.01)

    reader = threading.Thread(target=look)
    reader.start()
    update = [*flags, "--update", "true", "--gone", "remove"]
    left = [0]

    def computed() -> int:
        return len(list(output.glob("update/computed/part-*")))

    def ready() -> bool:  # another file, or as far as the exchange
        return computed() > left[-1] or (output / "update" / "predictions").exists()

    def command() -> subprocess.Popen:
        left.append(computed())
        return start(output, update)

    try:
        kills = killed_again_and_again(command, output, random.Random(0), ready)
        finish(start(output, update))
    finally:
        ended.set()
        reader.join()
    assert kills >= 5 and max(left) > 0
    assert rows_of(output) == whole
    assert not (output / "update").exists()
    assert failures == [] and len(looks) > 100 and all(looks)


@pytest.mark.slow
def test_forgetting_that_is_killed_again_and_again_forgets_and_keeps_the_rest(old, tmp_path):
    output = shutil.copytree(old, tmp_path / "out")
    before = rows_of(output)
    forgotten = {f"u{number}" for number in range(0, USERS, 3)}
    sitting = [sys.executable, str(ROOT / "predict.py"), "--output", str(output), "--forget", *sorted(forgotten)]

    def command() -> subprocess.Popen:
        return subprocess.Popen(
            sitting, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
        )

    def begun() -> bool:
        return (output / "forgetting.json").exists()

    draw, kills = random.Random(0), 0
    for _ in range(KILLS):
        process = command()
        while process.poll() is None and not begun():
            time.sleep(0.0005)
        time.sleep(draw.uniform(0, 0.02))
        kills += process.poll() is None
        os.killpg(process.pid, signal.SIGKILL) if process.poll() is None else None
        process.communicate()
    assert kills > 0
    if begun() or forgotten & {row["user_id"] for row in rows_of(output)}:  # begun, half of a file may be there
        finish(command())
    assert rows_of(output) == [row for row in before if row["user_id"] not in forgotten]
    assert json.loads((output / "results.json").read_text())["users"] == USERS - len(forgotten)
    assert not (output / "forgetting.json").exists()


@pytest.mark.slow
def test_two_processes_update_as_one(flags, old, tmp_path):
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2")
    changed = {number: f"words {number}" for number in range(5)}
    flags = [*flags, "--dataset", str(lines(tmp_path / "users.jsonl", changed, gone=(9,)))]
    output = shutil.copytree(old, tmp_path / "out")
    text = finish(start(output, [*flags, "--update", "true", "--gone", "remove"], torchrun))
    finish(start(tmp_path / "scratch", flags))
    assert f"{USERS - 1} of {USERS - 1} users predicted, 5 of them now" in text
    assert json.loads((output / "results.json").read_text())["num_processes"] == 2
    assert rows_of(output) == rows_of(tmp_path / "scratch")
