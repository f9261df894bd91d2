"""The command killed at random moments, in CI at smoke scale."""

import os
import random
import signal
import subprocess
import sys
import time

import pytest

from experiments.plan import ALL, SENTIMENT, all_runs, chosen_tables, read_scale
from experiments.results import Kept, Rated, is_done, read_kept, read_rated
from tests import ROOT

pytestmark = pytest.mark.slow
KILLS = 10
TIMES = ("seconds", "train_seconds")
SCALE = read_scale("smoke")


def start(folder, jobs: int, log) -> subprocess.Popen:
    arguments = [ALL, "--scale", "smoke", "--jobs", str(jobs)]
    arguments += ["--output", str(folder / "out"), "--results", str(folder / "results")]
    command = [sys.executable, "-m", "experiments.run", *arguments]
    return subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)


def read(results, run) -> Kept | Rated:
    return (read_rated if run.program == SENTIMENT else read_kept)(results, run)


def found(kept: Kept | Rated) -> dict:
    """What is kept but for times."""
    told = {name: value for name, value in kept.told.items() if name not in TIMES}
    told["epochs"] = [one["dev_f1"] for one in kept.told["epochs"]]
    return vars(kept) | {"told": told}


def alive(group: int) -> bool:
    listed = subprocess.run(["ps", "-eo", "pgid=,stat="], capture_output=True, text=True, check=True).stdout
    return any(line.split()[0] == str(group) and "Z" not in line.split()[1] for line in listed.splitlines())


def test_a_command_that_is_killed_again_and_again_ends_with_the_results_of_one_left_alone(tmp_path):
    chance, runs = random.Random(0), all_runs(chosen_tables([ALL]), SCALE, 1)
    results, times = tmp_path / "killed" / "results" / "smoke", {}
    for _ in range(KILLS):
        with open(tmp_path / "log", "a") as log:
            process = start(tmp_path / "killed", 2, log)
            time.sleep(chance.uniform(5, 45))
            os.kill(process.pid, signal.SIGKILL)  # the command alone: its processes end by themselves
            process.wait()
        ends = time.monotonic() + 10
        while alive(process.pid) and time.monotonic() < ends:
            time.sleep(0.1)
        assert not alive(process.pid)
        done = {run.digest: read(results, run).told["seconds"] for run in runs if is_done(results, run)}
        assert times == {digest: done[digest] for digest in times}  # none of them is done twice
        times = done
    for folder in ("killed", "alone"):
        with open(tmp_path / "log", "a") as log:
            assert start(tmp_path / folder, 2, log).wait() == 0, (tmp_path / "log").read_text()
    for run in runs:
        one, other = (found(read(tmp_path / folder / "results" / "smoke", run)) for folder in ("killed", "alone"))
        assert one == other
    assert len(runs) > len(times) // 2 > 5  # kills fell among them, and not all before the first
