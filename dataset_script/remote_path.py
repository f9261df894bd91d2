"""A raw folder's path: of this machine, or an address like hdfs://host/yelp or s3a://bucket/yelp.

fsspec reads addresses, with the package that it names for the scheme (s3fs for S3). Spark reads what it can read
itself by the same address, through Hadoop.
"""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO, Any, NamedTuple
from urllib.parse import unquote

SCHEME = r"[A-Za-z][A-Za-z0-9+.-]+://"


class Size(NamedTuple):
    st_size: int


class RemotePath:
    """A file or folder of a file system of fsspec's: of `pathlib.Path`'s methods those that a build needs."""

    def __init__(self, files: Any, address: str) -> None:
        """`files`: an `fsspec.AbstractFileSystem`."""
        self._files, self.address = files, address.rstrip("/")
        self._path = files._strip_protocol(self.address)
        pure = PurePosixPath(self.address)
        self.name, self.suffix, self.stem = pure.name, pure.suffix, pure.stem

    def __truediv__(self, name: str) -> "RemotePath":
        return RemotePath(self._files, f"{self.address}/{name}")

    def __str__(self) -> str:
        return self.address

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RemotePath) and self.address == other.address

    def __hash__(self) -> int:
        return hash(self.address)

    def __lt__(self, other: "RemotePath") -> bool:
        return self.address < other.address

    def resolve(self) -> "RemotePath":
        """There are no links."""
        return self

    def is_relative_to(self, folder: str) -> bool:
        return f"{self.address}/".startswith(f"{folder}/")

    def relative_to(self, folder: str) -> PurePosixPath:
        return PurePosixPath(self.address).relative_to(folder)

    def iterdir(self) -> Iterator["RemotePath"]:
        for path in self._files.ls(self._path, detail=False):
            name = path.rstrip("/").rpartition("/")[2]
            if path.rstrip("/") != self._path.rstrip("/"):  # S3 lists the folder itself, where it has an object
                yield self / name

    def is_file(self) -> bool:
        return self._files.isfile(self._path)

    def is_dir(self) -> bool:
        return self._files.isdir(self._path)

    def stat(self) -> Size:
        return Size(self._files.size(self._path))

    def open(self, mode: str) -> IO[bytes]:
        return self._files.open(self._path, mode)

    def read_bytes(self) -> bytes:
        return self._files.cat_file(self._path)


AnyPath = Path | RemotePath


def any_path(given: str | Path) -> AnyPath:
    """The path of this machine for a name, or a file: URI; else that of an address.

    Raises:
        ValueError: for an address whose scheme fsspec does not know, or lacks the package for.
    """
    text = str(given)
    if local := re.fullmatch(r"file:(?://(?:localhost)?)?(/.*)", text, re.DOTALL):
        return Path(unquote(local[1])).resolve()
    if not re.match(SCHEME, text):
        return Path(given).resolve()
    import fsspec

    try:
        files, _path = fsspec.url_to_fs(text)
    except (ValueError, ImportError, OSError) as error:
        fitting = "a folder, or an address that fsspec reads"
        raise ValueError(f"data_dir must be {fitting}, got {text!r}: {error}") from None
    return RemotePath(files, text)


def copy_to(path: AnyPath, target: Path) -> None:
    """The file's bytes, into a file of this machine."""
    with path.open("rb") as source, target.open("wb") as file:
        shutil.copyfileobj(source, file, 2**20)
