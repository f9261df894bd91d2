"""Runs done one by one or side by side, each in a process of its own; one that was killed goes on where it stood."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from statistics import mean
from typing import Any

from experiments.plan import Run, Scale
from experiments.results import is_done, keep, known_seconds
from files.output_files import read_json, write_json
from publishing.run_files import ALL_RESULTS

ROOT = Path(__file__).parent.parent
MADE = "made.json"  # beside a synthesized corpus: what it was made by


class RunFailed(RuntimeError):
    """A run's process has ended with an error; the message names its log."""


@dataclass
class Place:
    """Where a scale's runs lie.

    Attributes:
        output: corpus, models and logs.
        results: what is kept of each run.
        dataset: the corpus that train.py reads.
        threads: of each run's process.
    """

    output: Path
    results: Path
    dataset: str
    threads: int

    def folder(self, run: Run) -> Path:
        """What train.py writes of a run."""
        return self.output / "runs" / run.digest

    def log(self, run: Run) -> Path:
        return self.output / "logs" / f"{run.digest}.log"


def make_corpus(scale: Scale, folder: Path) -> Path:
    """The scale's synthetic corpus, made unless it is there.

    Raises:
        ValueError: if the scale has none of its own, or the folder's is of other flags.
    """
    if scale.corpus is None:
        raise ValueError(f"scale {scale.name} has no corpus of its own: name one by --dataset")
    made = folder / MADE
    if made.is_file():
        if (found := read_json(made)) != scale.corpus:
            raise ValueError(f"{folder} is a corpus made by {found}, not by {scale.corpus}; remove it")
        return folder / "corpus"
    raw = folder / "raw"
    shutil.rmtree(folder, ignore_errors=True)  # of one that was stopped
    folder.mkdir(parents=True)
    modules = {
        "dataset_script.synthesize": {"output": raw} | scale.corpus["synthesize"],
        "dataset_script.mmprofile_yelp": {"data_dir": raw, "output": folder / "corpus", "captions": "photo_captions"}
        | scale.corpus["build"],
    }
    for module, flags in modules.items():
        subprocess.run([sys.executable, "-m", module, *words(flags)], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    write_json(made, scale.corpus)
    return folder / "corpus"


def words(flags: dict[str, Any]) -> list[str]:
    """Flags as the command line has them."""
    found = []
    for name, value in flags.items():
        found += [f"--{name}", *map(_word, value if isinstance(value, list) else [value])]
    return found


def _word(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return "null" if value is None else str(value)


def command(run: Run, place: Place) -> list[str]:
    """Of the process that does a run."""
    flags: dict[str, Any] = {"dataset": place.dataset} | run.flags
    flags |= {"output_dir": place.folder(run), "save_predictions": True, "photo_cache": place.output / "photos"}
    if run.trained is None:
        flags |= {"resume_from_checkpoint": "auto", "checkpoints_total_limit": 1}
    else:
        flags |= {"do_train": False, "model": place.folder(run.trained)}
    return [sys.executable, str(ROOT / "train.py"), *words(flags)]


def do(run: Run, place: Place) -> None:
    """Does a run, goes on with it, or takes it as it is, and keeps its results.

    Raises:
        RunFailed: if its process ends with an error.
    """
    folder, log, began = place.folder(run), place.log(run), time.monotonic()
    if run.trained is not None and not (place.folder(run.trained) / ALL_RESULTS).is_file():
        do(run.trained, place)  # whose results are kept, and its model is gone
    if not (folder / ALL_RESULTS).is_file():
        if run.trained is not None:  # of an evaluation that was stopped nothing is of use
            shutil.rmtree(folder, ignore_errors=True)
        log.parent.mkdir(parents=True, exist_ok=True)
        environment = os.environ | {"OMP_NUM_THREADS": str(place.threads), "TOKENIZERS_PARALLELISM": "false"}
        with open(log, "a", encoding="utf-8") as file:
            ended = subprocess.run(
                command(run, place), cwd=ROOT, env=environment, stdout=file, stderr=subprocess.STDOUT, check=False
            )
        if ended.returncode:
            raise RunFailed(f"run {run.digest} ({describe(run)}) has ended with {ended.returncode}: see {log}")
    if not is_done(place.results, run):
        keep(place.results, run, folder, {"seconds": time.monotonic() - began})
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)


def describe(run: Run) -> str:
    """A run in a few words."""
    trained = run if run.trained is None else run.trained
    names = ("system", "paradigm", "objectives", "seed")
    told = [f"{name} {trained.flags[name]}" for name in names if name in trained.flags]
    return ", ".join(told + [f"evaluated with {run.flags}"] * (run.trained is not None))


def do_all(runs: Sequence[Run], place: Place, jobs: int, tell: Callable[[str], None], minutes: float) -> None:
    """Does what is not done of the runs, so many side by side; `tell` gets a line whenever one ends.

    Args:
        runs: of `all_runs`: a training stands before what is evaluated of it.
        minutes: that a run takes about, of which none is known yet.

    Raises:
        RunFailed: behind the others that were at work, if one fails; no further run is begun then.
    """
    left = [run for run in runs if not is_done(place.results, run)]
    done, working, failure = len(runs) - len(left), dict[Future, Run](), None
    with ThreadPoolExecutor(jobs) as pool:
        while (left and failure is None) or working:
            while failure is None and len(working) < jobs and (run := _next(left, list(working.values()))):
                left.remove(run)
                working[pool.submit(do, run, place)] = run
            ended, _ = wait(working, return_when=FIRST_COMPLETED)
            for future in ended:
                run = working.pop(future)
                if error := future.exception():
                    failure = failure or error
                    tell(str(error))
                    continue
                done += 1
                time_left = seconds_left([*left, *working.values()], place.results, minutes) / jobs
                tell(f"{done} of {len(runs)} runs done, {time_left_told(time_left)} left: {describe(run)}")
    if failure is not None:
        raise failure


def _next(left: Sequence[Run], working: Sequence[Run]) -> Run | None:
    """The first that needs no model that another one may be training."""
    at_work = {one.digest for run in working for one in (run, run.trained) if one is not None}
    waiting = at_work | {run.digest for run in left}
    return next((run for run in left if run.trained is None or run.trained.digest not in waiting), None)


def seconds_left(runs: Sequence[Run], results: Path, minutes: float) -> float:
    """Of one process, by what runs of the same system took so far."""
    known = known_seconds(results)
    every = [seconds for kind, times in known.items() if kind != "evaluation" for seconds in times]
    usual = mean(every) if every else 60 * minutes
    total = 0.0
    for run in runs:
        kind = "evaluation" if run.trained else run.flags.get("system", "mmprofile")
        total += mean(known[kind]) if kind in known else usual / (4 if run.trained else 1)
    return total


def time_left_told(seconds: float) -> str:
    """Hours and minutes."""
    return str(timedelta(minutes=round(seconds / 60)))[:-3]
