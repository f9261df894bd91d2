"""The command killed at random moments, in CI at smoke scale."""

import os
import random
import signal
import subprocess
import sys
import time

import pytest

from experiments.execution import Place, do_all, make_corpus
from experiments.plan import ALL, SENTIMENT, all_runs, chosen_tables, read_scale
from experiments.results import Kept, Rated, is_done, read_kept, read_rated
from publishing.run_files import ALL_RESULTS
from tests import ROOT

pytestmark = pytest.mark.slow
# Before each kill but the first up to so many further runs end, and then up to so many seconds pass.
MOST_RUNS, MOST_SECONDS = 3, 9.0
KILLS = 10
TIMES = ("seconds", "train_seconds")
SCALE = read_scale("smoke")
RUNS = all_runs(chosen_tables([ALL]), SCALE, 1)


def start(folder, log) -> subprocess.Popen:
    arguments = [ALL, "--scale", "smoke", "--jobs", "2"]
    arguments += ["--output", str(folder / "out"), "--results", str(folder / "results")]
    command = [sys.executable, "-m", "experiments.run", *arguments]
    with open(log, "a") as file:
        return subprocess.Popen(command, cwd=ROOT, stdout=file, stderr=subprocess.STDOUT, start_new_session=True)


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


def kill(process: subprocess.Popen) -> None:
    """The command alone: its processes end by themselves."""
    assert process.poll() is None
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    ends = time.monotonic() + 10
    while alive(process.pid) and time.monotonic() < ends:
        time.sleep(0.1)
    assert not alive(process.pid)


def test_a_command_that_is_killed_again_and_again_ends_with_the_results_of_runs_left_alone(tmp_path):
    chance, times, stopped, log = random.Random(0), {}, {}, tmp_path / "log"
    results, folders = tmp_path / "killed" / "results" / "smoke", tmp_path / "killed" / "out" / "smoke" / "runs"
    for number in range(KILLS):
        process, more = start(tmp_path / "killed", log), number and chance.randint(0, MOST_RUNS)
        while process.poll() is None and sum(is_done(results, run) for run in RUNS) < len(times) + more:
            time.sleep(0.1)
        time.sleep(chance.uniform(0, MOST_SECONDS))
        kill(process)
        done = {run.digest: read(results, run).told["seconds"] for run in RUNS if is_done(results, run)}
        assert times == {digest: done[digest] for digest in times}  # none of them is done twice
        times = done
        begun = [run for run in RUNS if (folders / run.digest).is_dir() and run.digest not in done]
        stopped |= {run.digest: run for run in begun if not (folders / run.digest / ALL_RESULTS).is_file()}
    assert len(RUNS) > len(times) > 5  # kills fell among the runs, and into some
    assert start(tmp_path / "killed", log).wait() == 0, log.read_text()

    alone = Place(tmp_path / "alone", tmp_path / "left_alone", str(make_corpus(SCALE, tmp_path / "data")))
    again = [run for run in RUNS if any(run.digest == one.digest for kept in stopped.values() for one in kept.chain)]
    assert again
    do_all(again, alone, 2, lambda line: None, SCALE.minutes)
    for run in again:
        assert found(read(results, run)) == found(read(alone.results, run))
    for run in RUNS:
        read(results, run)
