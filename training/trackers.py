"""Trackers of a run: which ones, in which runs of theirs, and that none of them ends the training."""

import logging
import math
import re
import shutil
import sqlite3
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from accelerate.tracking import (
    LOGGER_TYPE_TO_CLASS,
    GeneralTracker,
    TensorBoardTracker,
    TrackioTracker,
    get_available_trackers,
)
from accelerate.utils import LoggerType

from files.output_files import read_json, write_json
from publishing.run_files import IDENTITY_FILE, LOG_FOLDER, PROJECT

logger = logging.getLogger(__name__)

FLUSH_SECONDS = 3.0  # that a checkpoint waits, at most, for what was logged before it


def chosen_trackers(report_to: Sequence[str]) -> list[str]:
    """The trackers that `--report_to` names, each once: none of them for `none`, the installed ones for `all`.

    Raises:
        ValueError: if a name is neither of a tracker of Accelerate's nor of one that is registered with it, if a
            package is not installed, or if `none` is not alone.
    """
    there = [str(name) for name in get_available_trackers()]
    registered = [str(name) for name in LOGGER_TYPE_TO_CLASS if str(name) not in LoggerType.list()]
    known = ["none", "all", *map(str, LOGGER_TYPE_TO_CLASS)]
    for name in report_to:
        if name not in known:
            raise ValueError(f"report_to must be of {known}, got {name!r}")
        if name not in ("none", "all", *there, *registered):
            raise ValueError(f"the package of report_to={name!r} is not installed, those of {there} are")
    if "none" in report_to:
        if len(set(report_to)) > 1:
            raise ValueError(f"report_to none stands alone, got {list(report_to)}")
        return []
    if "all" in report_to and not there:
        raise ValueError(f"report_to all needs the package of one of {list(map(str, LOGGER_TYPE_TO_CLASS))}")
    return list(dict.fromkeys(each for name in report_to for each in (there if name == "all" else [name])))


def start_trackers(
    accelerator: Accelerator, trackers: Sequence[str], settings: Mapping, step: int, folder: Path
) -> None:
    """Has `accelerator.log` and `accelerator.end_training` reach these trackers, whose failures are warned of once and
    end nothing. Of all processes; the first one logs.

    A run that is resumed, or started again before its first checkpoint, goes on in the same run of each tracker. What
    TensorBoard and a trackio on this machine hold of later steps is taken back; wandb keeps what it holds of them and
    drops what is logged of them again. Before each checkpoint what was logged is waited for.

    Args:
        trackers: of `chosen_trackers`.
        settings: the run's flags and whatever else describes it; lists become text.
        step: the last one whose values stand, 0 in a new run.
        folder: the output folder; without its `LOG_FOLDER` the run is a new one to the trackers.
    """
    if not trackers or not accelerator.is_main_process:
        return
    logs = folder / LOG_FOLDER
    identity = _identity(logs)
    run = {"name": f"{folder.resolve().name}-{identity[:8]}", "resume": "allow"}
    known: dict[str, dict[str, Any]] = {
        "tensorboard": {"purge_step": step + 1},
        "trackio": {**run, "last_step": step},
        "wandb": {**run, "id": identity},
        "comet_ml": {"experiment_key": identity},
    }
    kept = []
    for name in trackers:
        made = {TensorBoardTracker: OneTensorBoard, TrackioTracker: OneTrackio}.get(
            LOGGER_TYPE_TO_CLASS[name], LOGGER_TYPE_TO_CLASS[name]
        )
        places = [logs] if made.requires_logging_directory else []
        kept.append(KeptTracker(name, partial(made, PROJECT, *places, **known.get(name, {}))))
    accelerator.log_with = kept
    accelerator.init_trackers(PROJECT, {name: _setting(value) for name, value in settings.items()})

    def flush(*_) -> None:
        for tracker in kept:
            tracker.flush()

    accelerator.register_save_state_pre_hook(flush)


def log_results(accelerator: Accelerator, results: Mapping, step: int) -> None:
    """Logs every number of a run's results, see `flat_scalars`, after its last step.

    They stand at the next step, so that they are taken back with later steps when the run goes on from its end.
    """
    accelerator.log(flat_scalars(results), step=step + 1)


def end_trackers(accelerator: Accelerator) -> None:
    """Not by `accelerator.end_training`, which parts the processes."""
    for tracker in accelerator.trackers:
        tracker.finish()


def flat_scalars(results: Mapping, prefix: str = "") -> dict[str, float]:
    """The numbers of nested dicts by paths of their keys, and the two of an interval as `/low` and `/high`.

    What is neither is left out. In a key all but letters, digits, `.`, `_` and `-` becomes `_`.
    """
    flat: dict[str, float] = {}
    for key, value in results.items():
        name = prefix + re.sub(r"[^\w.-]+", "_", str(key))
        match value:
            case bool():
                pass
            case int() | float():
                flat[name] = value
            case Mapping():
                flat |= flat_scalars(value, f"{name}/")
            case [int() | float() as low, int() | float() as high]:
                flat |= {f"{name}/low": low, f"{name}/high": high}
    return flat


class KeptTracker(GeneralTracker):
    """A tracker of which a failure is warned of once and goes no further.

    Numbers that are not finite are left out, and so is `step` among the values, which trackers keep beside them.

    Args:
        make: what makes the tracker when the run starts.
    """

    name, requires_logging_directory = "", False

    def __init__(self, name: str, make: Callable[[], GeneralTracker]):
        super().__init__()
        self.name, self._make, self._warned = name, make, False
        self._tracker: GeneralTracker | None = None  # one that cannot start stays away

    @property
    def tracker(self):
        """What the package has for it; None of one that could not start."""
        tracker: Any = self._tracker  # whose base class does not name what each has
        return None if tracker is None else tracker.tracker

    def start(self):
        with self._kept():
            tracker = self._make()
            tracker.start()
            self._tracker = tracker

    def store_init_configuration(self, values: dict):
        if self._tracker is not None:
            with self._kept():
                self._tracker.store_init_configuration(values)

    def log(self, values: dict, step: int | None = None, **kwargs):
        taken = {name: value for name, value in values.items() if name != "step" and _is_finite(value)}
        if self._tracker is not None and taken:
            with self._kept():
                self._tracker.log(taken, step=step, **kwargs)

    def flush(self):
        """Waits for what was logged, where a tracker lets it wait in this process."""
        if isinstance(self._tracker, OneTrackio):
            with self._kept():
                self._tracker.flush()

    def finish(self):
        if self._tracker is not None:
            with self._kept():
                self._tracker.finish()

    @contextmanager
    def _kept(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # of whatever a tracker's package raises
            if not self._warned:
                told = " ".join(f"{type(error).__name__}: {error}".split())
                logger.warning("The tracker %s fails, the run goes on without what it misses: %s", self.name, told)
            self._warned = True


class OneTensorBoard(TensorBoardTracker):
    """TensorBoard with one set of settings, however often the run was resumed."""

    def start(self):
        settings = re.compile(r"\d+\.\d+")  # each start writes its settings beside the events, named by its time
        for old in (Path(self.logging_dir_param) / self.run_name).glob("*"):
            if old.is_dir() and settings.fullmatch(old.name):
                shutil.rmtree(old)
        super().start()


class OneTrackio(TrackioTracker):
    """trackio without a resumed run's rows of steps that come again, and with a wait for the rows logged.

    Both of the database on this machine; a Space or a server takes no row back.
    """

    def __init__(self, run_name: str, last_step: int, **settings):
        super().__init__(run_name, **settings)
        self._last_step, self._rows = last_step, 0

    def start(self):
        super().start()
        if self.run.url is not None:
            return
        from trackio.fragments import import_inbox_dir
        from trackio.sqlite_storage import SQLiteStorage

        import_inbox_dir()  # rows that stand beside the database, as on a network's file system
        path = SQLiteStorage.get_project_db_path(self.run.project)
        if path.exists():
            with closing(sqlite3.connect(path, timeout=30)) as database, database:
                later = (self.run.name, self._last_step)
                database.execute("DELETE FROM metrics WHERE run_name = ? AND step > ?", later)
        self._rows = self._count()

    def log(self, values: dict, step: int | None = None, **kwargs):
        super().log(values, step, **kwargs)
        self._rows += 1

    def flush(self) -> None:
        """Waits until the database has every row, or for `FLUSH_SECONDS`: trackio writes twice a second."""
        ends = time.monotonic() + FLUSH_SECONDS
        while self.run.url is None and self._count() < self._rows and time.monotonic() < ends:
            time.sleep(0.05)

    def _count(self) -> int:
        from trackio.sqlite_storage import SQLiteStorage

        return SQLiteStorage.get_log_count(self.run.project, run_id=self.run.id)


def _identity(logs: Path) -> str:
    """32 hexadecimal digits that name the run to its trackers; made where the folder has none yet."""
    path = logs / IDENTITY_FILE
    if not path.is_file():
        logs.mkdir(parents=True, exist_ok=True)
        write_json(path, {"id": uuid.uuid4().hex})
    return read_json(path)["id"]


def _setting(value: Any) -> str | float | bool | None:
    """A flag's value as every tracker takes it."""
    if isinstance(value, Sequence) and not isinstance(value, str):
        return " ".join(map(str, value))
    plain = value is None or isinstance(value, str | bool | int | float) and _is_finite(value)
    return value if plain else str(value)


def _is_finite(value: Any) -> bool:
    return not isinstance(value, float) or math.isfinite(value)
