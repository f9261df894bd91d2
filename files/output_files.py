"""What a run writes: files that stand whole or not at all, JSON among them, in a folder that no other run has."""

import fcntl
import json
import math
import os
import secrets
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from safetensors import SafetensorError

UNFINISHED = ".unfinished"  # with this begin the names of what is of no use once the run is over
LOCK = f"{UNFINISHED}-lock"
TORCH_WRITER = "inline_container"  # in its errors, which are plain RuntimeErrors and do not say why


class WriteFailure(OSError):
    """What cannot be written where, and how much room there is."""


@contextmanager
def _explained(folder: Path) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        writing = isinstance(error, (OSError, SafetensorError)) or TORCH_WRITER in str(error)
        if not writing or isinstance(error, WriteFailure):
            raise
        left = shutil.disk_usage(folder).free
        raise WriteFailure(f"{folder} cannot be written, its disk has {left >> 20} MiB left: {error}") from error


@contextmanager
def replacing(path: str | os.PathLike) -> Iterator[Path]:
    """A temporary name beside `path`, to write to; what was written takes its place unless the block raises.

    Raises:
        WriteFailure: for an `OSError` within, a full disk for example.
    """
    path = Path(path)
    # Of no other process, which may write the same.
    temporary = path.with_name(f"{UNFINISHED}-{secrets.token_hex(4)}-{path.name}")
    try:
        with _explained(path.parent):
            yield temporary
            os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def unfinished_folder(path: str | os.PathLike) -> Iterator[Path]:
    """A folder, empty at first. What is not moved out of it, or with it, is gone at the end.

    Raises:
        WriteFailure: as `replacing`, and where PyTorch or safetensors cannot write.
    """
    path = Path(path)
    shutil.rmtree(path, ignore_errors=True)
    try:
        with _explained(path.parent):
            path.mkdir(parents=True)
            yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def write_json(path: str | os.PathLike, data) -> None:
    """Writes a JSON file in one move; a number that is not finite becomes null, which JSON has."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(_finite(data), indent=2, allow_nan=False) + "\n", encoding="utf-8")


def read_json(path: str | os.PathLike) -> dict:
    """The object that a JSON file holds.

    Raises:
        ValueError: if it holds none.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} must hold an object, got {type(content).__name__}")
    return content


def append_json(path: str | os.PathLike, record: Mapping) -> None:
    """Appends one line of JSON, on the disk when this returns; a number that is not finite becomes null.

    Raises:
        WriteFailure: as `replacing`.
    """
    with _explained(Path(path).parent), open(path, "a", encoding="utf-8") as file:
        file.write(json.dumps(_finite(record), allow_nan=False) + "\n")
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def only_run(folder: str | os.PathLike) -> Iterator[None]:
    """Holds an output folder, which is made if it is not there, against other processes that would hold it.

    What killed runs have left unfinished in it is removed. The lock ends with the process, however it ends; where the
    file system has no locks, nothing is held.

    Raises:
        ValueError: if another process holds it, or it cannot be a folder.
    """
    folder = Path(folder)
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = _locked(folder / LOCK)
    except BlockingIOError:
        raise ValueError(f"another run is at work in {folder}; wait for its end, or choose another output") from None
    except OSError as error:
        raise ValueError(f"the output must be a folder that can be written, got {folder}: {error}") from error
    with file:
        try:
            remove_unfinished(folder)
            yield
        finally:
            (folder / LOCK).unlink(missing_ok=True)
            with suppress(OSError):  # not empty
                for path in made:
                    path.rmdir()


def remove_unfinished(folder: str | os.PathLike, seconds: float = 0.0) -> None:
    """Removes what killed runs have left in a folder; what is younger than `seconds` may be of one at work."""
    for left in Path(folder).glob(f"{UNFINISHED}*"):
        if left.name == LOCK or time.time() - left.stat().st_mtime < seconds:
            continue
        if left.is_dir():
            shutil.rmtree(left, ignore_errors=True)
        else:
            left.unlink(missing_ok=True)


def _locked(path: Path) -> IO:
    """The open file, locked.

    By `lockf`: `flock` passes its lock on to the data loader's workers, which may outlive a killed run for seconds.
    """
    while True:
        file = open(path, "wb")  # noqa: SIM115
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            file.close()
            raise BlockingIOError from None
        except OSError:  # no locks here
            return file
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                return file
        file.close()  # a run that ends has taken it away


def _finite(data):
    if isinstance(data, Mapping):
        return {key: _finite(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [_finite(value) for value in data]
    return None if isinstance(data, float) and not math.isfinite(data) else data
