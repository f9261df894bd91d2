"""Pushes the output folder to the Hub beside the training, which no failure of a push holds up or stops.

A push is of a snapshot, taken while the trainer stands still. One thread pushes, one snapshot at a time; a newer one
takes the place of one that waits, or of one that failed and is to be tried again.
"""

import json
import logging
import os
import random
import shlex
import shutil
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from fnmatch import fnmatch
from pathlib import Path
from typing import NamedTuple

from huggingface_hub import HfApi
from huggingface_hub import utils as hub_utils
from huggingface_hub.errors import HfHubHTTPError

from files.output_files import UNFINISHED
from publishing.hub_answers import check_access, is_passing
from publishing.run_files import ADAPTER, LOG_FOLDER, PREDICTIONS, PROGRESS, RESULTS, WEIGHTS

logger = logging.getLogger(__name__)

HUB_STRATEGIES = ("end", "every_save", "checkpoint")
LAST_CHECKPOINT = "last-checkpoint"  # where the Hub has the checkpoint to resume from
STAGING = f"{UNFINISHED}-push"
# Files of the folder that are not pushed; the last checkpoint of one that came from the Hub is an old one.
IGNORED = [f"{UNFINISHED}*", "*.tmp", "checkpoint-*", "checkpoints/*", f"{LAST_CHECKPOINT}/*", PREDICTIONS]
# Only ever replaced as a whole, so that a hard link keeps what it was; other files may be appended to.
REPLACED_SUFFIXES = {".safetensors", ".bin", ".pt", ".pth", ".distcp"}
# What a run replaces of an earlier one's, and takes from the Hub until it has something in its place.
STALE = (f"{LAST_CHECKPOINT}/*", f"{ADAPTER}/*", f"{LOG_FOLDER}/*", *RESULTS, *PROGRESS)
FIRST_WAIT, LONGEST_WAIT = 1.0, 300.0  # seconds from a failed push to the next try, doubled each time
FINAL_TRIES = 6  # of the push at the end, with half a minute of waiting between them


class PushResult(NamedTuple):
    """How the last push ended: at `url`, or not for `reason`, and then `command` uploads the folder later."""

    url: str | None = None
    reason: str | None = None
    command: str | None = None

    def __str__(self) -> str:
        later = f"Not pushed to the Hub, {self.reason}\nUpload the folder later with\n\n    {self.command}\n"
        return f"Pushed to {self.url}" if self.url else later


class _Snapshot(NamedTuple):
    number: int
    folder: Path
    message: str


class HubUploader:
    """Pushes `folder` to a Hub model repository, which the first push creates. For the main process only.

    Args:
        hub_model_id: `user/name`, or `name` for the token's user.
        folder: its weights are only ever replaced as a whole (`os.replace`), by the thread that calls `on_save`.
        hub_private_repo: of a repository that is created; default: as its namespace has it.
        hub_token: default: `HF_TOKEN` or that of `hf auth login`.
        hub_strategy: `end`: push in `finish` only; `every_save`: in each `on_save` too; `checkpoint`: and with the
            checkpoint to resume from, as `last-checkpoint`: who downloads the repository goes on from there.
        stale: patterns of files of the repository that go with a push unless it holds them; if there are any, other
            weights too, once it has some.

    Raises:
        ValueError: at construction, if there is no such strategy or no repository can have that name.
    """

    def __init__(
        self,
        hub_model_id: str,
        folder: str | os.PathLike,
        hub_private_repo: bool | None = None,
        hub_token: str | None = None,
        hub_strategy: str = "every_save",
        stale: Sequence[str] = STALE,
    ):
        if hub_strategy not in HUB_STRATEGIES:
            raise ValueError(f"hub_strategy must be one of {list(HUB_STRATEGIES)}, got {hub_strategy!r}")
        hub_utils.validate_repo_id(hub_model_id)
        self.hub_model_id, self.folder, self.hub_private_repo = hub_model_id, Path(folder), hub_private_repo
        self.hub_strategy, self._api = hub_strategy, HfApi(token=hub_token)
        self._stale = list(stale)
        self._checkpoint: Path | None = None
        self._repo: str | None = None  # its URL, once it is there
        self._told: set[int | type] = set()
        shutil.rmtree(self.folder / STAGING, ignore_errors=True)  # of a killed run
        self._thread = threading.Thread(target=self._work, name="hub-upload", daemon=True)

        self._changed = threading.Condition()  # guards what follows
        self._waiting: _Snapshot | None = None
        self._requested = self._pushed = self._failures = 0
        self._not_before = self._refused_until = 0.0  # time.monotonic()
        self._deadline: float | None = None  # set by finish
        self._error: BaseException | None = None

    def check_access(self, create: bool = False) -> None:
        """Asks the Hub, before there is anything to push, whether that will be taken. Of a Hub that is away it only
        warns: that may pass.

        Args:
            create: make the repository, too, which tells more: see `publishing.hub_answers.check_access`.

        Raises:
            ValueError: if there is no token, or it may not write there.
        """
        try:
            check_access(self._api, self.hub_model_id, private=self.hub_private_repo, create=create)
        except (hub_utils.httpx.HTTPError, OSError, json.JSONDecodeError) as error:
            logger.warning("Whether %s can be pushed to is not known yet: %s", self.hub_model_id, _one_line(error))

    def on_save(self, step: int, checkpoint: str | os.PathLike | None = None) -> None:
        """Has the folder pushed as it is now, unless the strategy is `end`. Never waits for the Hub, never raises.

        `step` is for the commit's message, `checkpoint` the newest complete folder to resume from.
        """
        if checkpoint is not None:
            self.hold(checkpoint)
        if self.hub_strategy != "end":
            self._request(f"Training in progress, step {step}")

    def hold(self, checkpoint: str | os.PathLike) -> None:
        """Has the next pushes hold this checkpoint, if the strategy is `checkpoint`."""
        if self.hub_strategy == "checkpoint":
            self._checkpoint = Path(checkpoint)

    def finish(self, timeout: float = 1800.0) -> PushResult:
        """Pushes the folder as it is now, and waits for that up to `timeout` seconds. Never raises."""
        self._request("End of training")
        with self._changed:
            self._deadline = time.monotonic() + timeout
            self._failures, self._not_before = 0, self._refused_until
            self._changed.notify_all()
        if self._thread.ident is not None:
            self._thread.join(timeout)
        with self._changed:
            if self._pushed == self._requested:
                return PushResult(url=self._repo)
            reason = _one_line(self._error) if self._error else f"not done within {timeout:g} seconds"
        present = _files(self.folder)
        excluded = [pattern for pattern in IGNORED if any(fnmatch(path, pattern) for path in present)]
        words = ["hf", "upload", self.hub_model_id, os.path.abspath(self.folder), "."]
        words += ["--private"] * bool(self.hub_private_repo) + [f"--exclude={pattern}" for pattern in excluded]
        return PushResult(reason=reason, command=shlex.join(words))

    def _request(self, message: str) -> None:
        """Leaves a snapshot to the thread, in the place of one that waits still."""
        self._requested += 1
        snapshot = _Snapshot(self._requested, self.folder / STAGING / str(self._requested), message)
        try:
            snapshot.folder.mkdir(parents=True)
            _copy_folder(self.folder, snapshot.folder, IGNORED)
            if self._checkpoint is not None:
                _copy_folder(self._checkpoint, snapshot.folder / LAST_CHECKPOINT, [])
        except OSError as error:
            return self._failed(snapshot, error, whole=False)
        with self._changed:
            replaced, self._waiting = self._waiting, snapshot
            self._changed.notify_all()
        if replaced is not None:
            shutil.rmtree(replaced.folder, ignore_errors=True)
        if self._thread.ident is None:
            self._thread.start()

    def _work(self) -> None:
        # The client warns of each of its own retries and draws bars into the training's.
        hub_utils.logging.set_verbosity_error()
        hub_utils.disable_progress_bars()
        while (snapshot := self._next()) is not None:
            try:
                self._push(snapshot)
            except (hub_utils.httpx.HTTPError, OSError, RuntimeError, ValueError) as error:
                self._failed(snapshot, error)
            else:
                with self._changed:
                    self._failures, self._pushed = 0, snapshot.number
                    self._error = None if self._pushed == self._requested else self._error
                shutil.rmtree(snapshot.folder, ignore_errors=True)
        shutil.rmtree(self.folder / STAGING, ignore_errors=True)

    def _next(self) -> _Snapshot | None:
        """The newest snapshot, as soon as there is one and its time has come; None when no more is to be done."""
        with self._changed:
            while True:
                now = time.monotonic()
                if self._deadline is not None and (not self._waiting or max(now, self._not_before) > self._deadline):
                    return None
                if self._waiting and now >= self._not_before:
                    snapshot, self._waiting = self._waiting, None
                    return snapshot
                self._changed.wait(self._not_before - now if self._waiting else None)

    def _push(self, snapshot: _Snapshot) -> None:
        weights = self._stale and any(path.match(name) for path in snapshot.folder.iterdir() for name in WEIGHTS)
        if self._repo is None:
            repo = self._api.create_repo(self.hub_model_id, private=self.hub_private_repo, exist_ok=True)
            self._repo, self.hub_model_id = str(repo), repo.repo_id
        self._api.upload_folder(
            repo_id=self.hub_model_id,
            folder_path=snapshot.folder,
            commit_message=snapshot.message,
            delete_patterns=[*self._stale, *(WEIGHTS if weights else ())],
        )

    def _failed(self, snapshot: _Snapshot, error: BaseException, whole: bool = True) -> None:
        """Puts a whole snapshot back or gives it up; warns of each kind of failure once."""
        if isinstance(error, RuntimeError) and error.__cause__ is not None:
            error = error.__cause__  # what the network or the Hub said of a large file
        passing, seconds = is_passing(error), _seconds_asked(error)
        with self._changed:
            longest = min(FIRST_WAIT * 2.0 ** min(self._failures, 20), LONGEST_WAIT)
            now, wait = time.monotonic(), longest * random.uniform(0.5, 1)
            self._error, self._failures, self._refused_until = error, self._failures + 1, now + seconds
            self._not_before = max(now + wait, self._refused_until)
            again = whole and passing and (self._deadline is None or self._failures < FINAL_TRIES)
            if again and self._waiting is None:
                self._waiting = snapshot
            else:
                shutil.rmtree(snapshot.folder, ignore_errors=True)
        kind = error.response.status_code if isinstance(error, HfHubHTTPError) else type(error)
        if kind not in self._told:
            self._told.add(kind)
            follows = "is tried again" if again else "is not tried again before the next save"
            logger.warning("A push to %s failed and %s: %s", self.hub_model_id, follows, _one_line(error))


def _files(folder: Path) -> list[str]:
    # Not by rglob, which fails where the thread takes a snapshot away under it.
    paths = (Path(parent, name) for parent, _, names in os.walk(folder) for name in sorted(names))
    return [path.relative_to(folder).as_posix() for path in paths if path.is_file()]


def _copy_folder(folder: Path, target: Path, ignored: list[str]) -> None:
    """Copies what is not ignored; weights become hard links where that can be."""
    for path in hub_utils.filter_repo_objects(_files(folder), ignore_patterns=ignored):
        source, copy = folder / path, target / path
        copy.parent.mkdir(parents=True, exist_ok=True)
        if copy.suffix in REPLACED_SUFFIXES:
            with suppress(OSError):  # another file system, or one without hard links
                os.link(source.resolve(), copy)
                continue
        shutil.copyfile(source, copy)


def _seconds_asked(error: BaseException) -> float:
    """For how many seconds the Hub asks to be left alone."""
    if not isinstance(error, HfHubHTTPError):
        return 0.0
    headers = error.response.headers
    limit, asked = hub_utils.parse_ratelimit_headers(headers), headers.get("Retry-After", "")
    seconds = limit.reset_in_seconds if limit is not None and not limit.remaining else 0
    return float(asked if asked.isdigit() else seconds)


def _one_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
