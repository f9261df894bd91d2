"""The folder that a build writes in, beside its output: one build at a time, and nothing left of a killed one."""

import fcntl
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO


class BuildFolder:
    """`.NAME.building` beside the output NAME: a `corpus` in the making, and a `scratch` for what goes at the end."""

    def __init__(self, output: Path) -> None:
        self.output = output
        self.folder = output.with_name(f".{output.name}.building")
        self.corpus, self.scratch = self.folder / "corpus", self.folder / "scratch"
        self._earlier = self.folder / "earlier"

    def clear(self) -> None:
        """Removes what a killed build has left, and puts back the output if the kill came between two renames."""
        if self._earlier.exists() and not self.output.exists():
            self._earlier.rename(self.output)
        for room in (self.corpus, self.scratch, self._earlier):
            if room.exists():
                shutil.rmtree(room)

    def publish(self) -> None:
        """Puts the corpus, which is whole, in the output's place."""
        if self.output.exists():
            self.output.rename(self._earlier)
        self.corpus.rename(self.output)


@contextmanager
def build_folder(output: Path) -> Iterator[BuildFolder]:
    """A `BuildFolder`, empty at first, and gone at the end with all that was not published.

    Raises:
        ValueError: if it cannot be written, if another build of `output` is at work, or for an `OSError` within.
    """
    place = BuildFolder(output)
    try:
        place.folder.mkdir(parents=True, exist_ok=True)
        lock = open(place.folder / "lock", "wb")  # noqa: SIM115
    except OSError as error:
        raise ValueError(f"output must be a folder that can be written, got {output}: {error}") from None
    with lock:
        _lock(lock, place)
        try:
            place.clear()
            place.corpus.mkdir()
            place.scratch.mkdir()
            yield place
        except OSError as error:
            raise ValueError(f"the build of {output} cannot go on: {error}") from None
        finally:
            shutil.rmtree(place.folder, ignore_errors=True)


def _lock(lock: IO, place: BuildFolder) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise ValueError(f"another build of {place.output} is at work in {place.folder}; wait for its end") from None
    except OSError:  # some file systems of clusters have no locks
        pass
