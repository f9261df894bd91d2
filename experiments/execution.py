"""Runs done one by one or side by side, and one that was killed from where it stood.

They are done by as many processes as there are jobs, one run behind the other, so that what takes seconds to import is
imported once.
"""

import multiprocessing
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from statistics import mean
from typing import Any

from experiments.plan import EVALUATION, OF_EVALUATION, PROFILES, SENTIMENT, TRAIN, Run, Scale
from experiments.results import is_done, keep, known_seconds
from files.output_files import read_json, write_json
from publishing.run_files import ALL_RESULTS

ROOT = Path(__file__).parent.parent
CHECKPOINTS = "checkpoint-*"  # of a run's folder
MADE = "made.json"  # beside a synthesized corpus: what it was made by


Trainer = Callable[[str, list[str], Path], str | None]  # of `training_processes`


class RunFailed(RuntimeError):
    """A run has ended with an error; the message names its log."""


@dataclass
class Place:
    """Where a scale's runs lie.

    Attributes:
        output: corpus, models and logs.
        results: what is kept of each run.
        dataset: the corpus that train.py reads.
    """

    output: Path
    results: Path
    dataset: str

    def folder(self, run: Run) -> Path:
        """What the program writes of a run."""
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
    if isinstance(value, list):
        return " ".join(map(_word, value))
    if isinstance(value, bool):
        return str(value).lower()
    return "null" if value is None else str(value)


def arguments_of(run: Run, place: Place) -> list[str]:
    """Of the run's program."""
    if run.program == PROFILES:
        assert run.trained is not None
        flags = {"dataset": place.dataset, "model": place.folder(run.trained), "output": place.folder(run)}
        return words(flags | run.flags)
    if run.program == SENTIMENT:
        assert run.trained is not None
        return words({"profiles": place.folder(run.trained), "output": place.folder(run)} | run.flags)
    flags: dict[str, Any] = {"dataset": place.dataset} | run.flags
    flags |= {"output_dir": place.folder(run), "save_predictions": True, "photo_cache": place.output / "photos"}
    if run.trained is None:
        flags |= {"resume_from_checkpoint": "auto", "checkpoints_total_limit": 1}
    else:
        flags |= {"do_train": False, "model": place.folder(run.trained)}
    return words(flags)


@contextmanager
def training_processes(jobs: int) -> Iterator[Trainer]:
    """What has one of so many processes run a program by arguments, and append what it tells to a log; it returns
    None, or why the run ended with an error. They end with this process, however it ends."""
    before = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = str(max(1, (os.cpu_count() or 1) // jobs))  # read when torch is imported
    try:
        spawn = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(jobs, spawn, initializer=_end_with, initargs=(os.getpid(),)) as pool:
            yield lambda program, arguments, log: pool.submit(_do_by, program, arguments, log).result()
    finally:
        if before is None:
            del os.environ["OMP_NUM_THREADS"]
        else:
            os.environ["OMP_NUM_THREADS"] = before


def _end_with(parent: int) -> None:
    """Has this process end when the other one does."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.2)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _do_by(program: str, arguments: list[str], log: Path) -> str | None:
    """As the processes of `training_processes` do; each run begins with Accelerate's state made anew."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "a", encoding="utf-8") as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    from accelerate.state import AcceleratorState
    from accelerate.utils import release_memory

    release_memory()
    AcceleratorState._reset_state()
    try:
        if program == TRAIN:
            import train

            train.main(arguments)
        elif program == PROFILES:
            from experiments import held_out

            held_out.main(arguments)
        else:
            from experiments import sentiment

            sentiment.main(arguments)
    except (Exception, SystemExit) as error:
        print(f"{type(error).__name__}: {error}", flush=True)
        return f"{error}".strip().splitlines()[0] if f"{error}".strip() else type(error).__name__
    return None


def do(run: Run, place: Place, trainer: Trainer) -> None:
    """Does a run, goes on with it, or takes it as it is, and keeps its results.

    Raises:
        RunFailed: if it ends with an error.
    """
    folder, log, began = place.folder(run), place.log(run), time.monotonic()
    if run.trained is not None and not _is_whole(place.folder(run.trained)):
        do(run.trained, place, trainer)  # whose results are kept, and its model is gone
    if not _is_whole(folder):
        if not any(folder.glob(CHECKPOINTS)):  # of one that was stopped early nothing is of use
            shutil.rmtree(folder, ignore_errors=True)
        if reason := trainer(run.program, arguments_of(run, place), log):
            raise RunFailed(f"run {run.digest} ({describe(run)}) has ended: {reason}; see {log}")
    if not is_done(place.results, run):
        keep(place.results, run, folder, {"seconds": time.monotonic() - began})
    for checkpoint in folder.glob(CHECKPOINTS):
        shutil.rmtree(checkpoint, ignore_errors=True)


def _is_whole(folder: Path) -> bool:
    return (folder / ALL_RESULTS).is_file()


def describe(run: Run) -> str:
    """A run in a few words."""
    trained = run.chain[0]
    names = ("system", "paradigm", "objectives", "seed")
    told = [f"{name} {_word(trained.flags[name])}" for name in names if name in trained.flags]
    if run.trained is not None:
        how = "evaluated" if run.program == TRAIN else run.program
        own = [f"{name} {_word(value)}" for name, value in run.flags.items() if name not in OF_EVALUATION]
        told.append(f"{how} with {' and '.join(own)}" if own else f"{how} again")
    return ", ".join(told)


def do_all(runs: Sequence[Run], place: Place, jobs: int, tell: Callable[[str], None], minutes: float) -> None:
    """Does what is not done of the runs, so many side by side; `tell` gets a line whenever one ends.

    Args:
        runs: of `all_runs`: a run stands before what needs it.
        minutes: that a run takes about, of which none is known yet.

    Raises:
        RunFailed: behind the others that were at work, if one fails; no further run is begun then.
    """
    left = [run for run in runs if not is_done(place.results, run)]
    done, working, failure = len(runs) - len(left), dict[Future, Run](), None
    with training_processes(jobs) as trainer, ThreadPoolExecutor(jobs) as pool:
        while (left and failure is None) or working:
            while failure is None and len(working) < jobs and (run := _next(left, list(working.values()), place)):
                left.remove(run)
                working[pool.submit(do, run, place, trainer)] = run
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


def _next(left: Sequence[Run], working: Sequence[Run], place: Place) -> Run | None:
    """The first that needs nothing that another one may be making."""
    gone = {one.digest for run in working for one in run.chain[:-1] if not _is_whole(place.folder(one))}
    at_work = gone | {run.digest for run in working}
    waiting = at_work | {run.digest for run in left}
    return next((run for run in left if not any(one.digest in waiting for one in run.chain[:-1])), None)


def seconds_left(runs: Sequence[Run], results: Path, minutes: float) -> float:
    """Of one process, by what runs of the same kind took so far."""
    known = known_seconds(results)
    others = (EVALUATION, PROFILES, SENTIMENT)
    every = [seconds for kind, times in known.items() if kind.split()[0] not in others for seconds in times]
    usual = mean(every) if every else 60 * minutes
    total = 0.0
    for run in runs:
        total += mean(known[run.kind]) if run.kind in known else usual / (4 if run.trained else 1)
    return total


def time_left_told(seconds: float) -> str:
    """Hours and minutes."""
    return str(timedelta(minutes=round(seconds / 60)))[:-3]
