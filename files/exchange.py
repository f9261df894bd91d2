"""Two folders that take each other's place in one step, so that who reads one of them finds it always there."""

import ctypes
import os
import secrets
import sys
from pathlib import Path

AT_FDCWD, RENAME_EXCHANGE = -100, 2  # of Linux' renameat2
RENAME_SWAP = 2  # of macOS' renamex_np


def exchange(one: str | os.PathLike, other: str | os.PathLike) -> None:
    """Each path is the other's afterwards, whole, and there at any time.

    Where neither system nor file system can do that, `one` is away for a moment, see `mend_exchange`.

    Raises:
        OSError: if one of them is not there, or cannot be renamed.
    """
    if _at_once(os.fsencode(one), os.fsencode(other)):
        return
    aside = _aside(Path(other)).with_suffix(f".{secrets.token_hex(4)}")
    os.rename(one, aside)
    os.rename(other, one)
    os.rename(aside, other)


def mend_exchange(one: str | os.PathLike, other: str | os.PathLike) -> None:
    """Ends what was killed in `exchange` of these; does nothing where it was not."""
    for aside in Path(other).parent.glob(f"{_aside(Path(other)).name}.*"):
        if not Path(one).exists() and Path(other).exists():
            os.rename(other, one)
        if not Path(other).exists():
            os.rename(aside, other)


def _aside(path: Path) -> Path:
    return path.with_name(f"{path.name}-aside")


def _at_once(one: bytes, other: bytes) -> bool:
    library = ctypes.CDLL(None)
    if hasattr(library, "renameat2"):
        return library.renameat2(AT_FDCWD, one, AT_FDCWD, other, RENAME_EXCHANGE) == 0
    if sys.platform == "darwin":
        return library.renamex_np(one, other, RENAME_SWAP) == 0
    return False
