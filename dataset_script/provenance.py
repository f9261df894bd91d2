"""Where raw files come from: their sizes and digests, and whether a program made them.

`synthesize.py` leaves a file beside those that it writes, which fits no others. What is not known to be synthetic is
taken for people's own texts and photos. The file holds digests, because the real Yelp's files have the same names, and
may be unpacked over the synthetic ones.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

from .raw_files import RawFolder
from .raw_folder import parts
from .remote_path import AnyPath

MARKER = "synthetic.json"


class RawFile(NamedTuple):
    """A raw file as it lies there, packed or not; `sha256` in hexadecimal digits.

    Of a folder of part files, all of them one after the other by name: cat FOLDER/*.parquet | sha256sum.
    """

    name: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Source:
    """What is known of the raw files.

    Args:
        kind: `yelp`, `platform` (another one), or `synthetic`.
        files: by the role that `RawFolder` calls each by.
        arguments: of the program that wrote synthetic ones.
    """

    kind: str
    files: Mapping[str, RawFile]
    arguments: Mapping[str, int] | None = None


def raw_files(raw: RawFolder) -> dict[str, RawFile]:
    """By role; reads each file whole, a gigabyte in one or two seconds."""
    return {role: _raw_file(path) for role, path in raw.files.items()}


def _raw_file(path: AnyPath) -> RawFile:
    files = parts(path)
    return RawFile(path.name, sum(part.stat().st_size for part in files), _digest(*files))


def mark_synthetic(folder: Path, files: Iterable[Path], arguments: Mapping[str, int]) -> None:
    """Says in `folder` that `files` are synthetic, and by which arguments of the program they come again."""
    content = {"arguments": dict(arguments), "sha256": {path.name: _digest(path) for path in files}}
    (folder / MARKER).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def synthetic_arguments(raw: RawFolder, files: Mapping[str, RawFile] | None = None) -> dict[str, int] | None:
    """The arguments that the synthetic files were written with; None for files that are not known to be synthetic.

    Args:
        files: those of `raw_files`, where they are at hand.
    """
    try:
        content = json.loads((raw.root / MARKER).read_bytes())
        arguments = {name: int(value) for name, value in content["arguments"].items()}
        digests = dict(content["sha256"])
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None
    files = raw_files(raw) if files is None else files
    return arguments if all(digests.get(file.name) == file.sha256 for file in files.values()) else None


def _digest(*paths: AnyPath) -> str:
    digest = sha256()
    for path in paths:
        with path.open("rb") as file:
            while some := file.read(2**20):
                digest.update(some)
    return digest.hexdigest()
