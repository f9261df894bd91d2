"""A raw folder: where its files are, and what a build finds wrong in them.

Nothing in a raw folder is trusted. A file that is missing or ambiguous is a `ValueError`; no path outside the folder
is opened, but by a link that whoever builds allows. What cannot be used is dropped and counted by its reason in a
`Ledger`.
"""

import gzip
import json
import re
import zlib
from codecs import BOM_UTF8, BOM_UTF16_BE, BOM_UTF16_LE
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from .raw_folder import PARQUET, find_file, find_folder, unpack_command
from .remote_path import AnyPath, RemotePath, any_path
from .sources import EXTENSION, RoleSource, Sources

FILE_PATTERNS = {
    "business": ("*business.json", "*business.parquet"),
    "review": ("*review.json", "*review.parquet"),
    "photos": ("*photos.json", "*photo.json", "*photos.parquet", "*photo.parquet"),
}
# How files begin: an array of objects, and one object around such an array.
ARRAY, LIST_WITHIN = re.compile(rb"\s*\[\s*\{"), re.compile(rb'\s*\{\s*"[^"]*"\s*:\s*\[\s*\{')
BEGINNING = 2**16  # bytes, by which a file is judged
# How files begin that hold no text in UTF-8 -> what they are.
OTHER_FORMS = {
    BOM_UTF16_LE: "UTF-16",
    BOM_UTF16_BE: "UTF-16",
    b"\x1f\x8b": "packed by gzip, once more than its name says",
    b"PK\3\4": "packed by zip",
    b"{\0": "UTF-16",
    b"\0": "UTF-16 or no text",
}
NEEDED = "an object a line is needed"
CUT_SHORT = "compressed file is cut short or broken from here on"
BLANKS = b"\t\n\x0b\x0c\r "
NO_RECORD = b"0\n"


@dataclass
class Ledger:
    """What each step of a build left, in order; what was dropped, by (file or "users", reason); and what else whoever
    builds should know, as sentences."""

    left: dict[str, int] = field(default_factory=dict)
    dropped: Counter[tuple[str, str]] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)

    def drop(self, where: str, reason: str, count: int = 1) -> None:
        if count:
            self.dropped[where, reason] += count

    @property
    def drops(self) -> str:
        """What was dropped, in a line."""
        return "; ".join(f"{where}: {why} ({n})" for (where, why), n in sorted(self.dropped.items())) or "nothing"

    def __str__(self) -> str:
        return f"Left: {self.left}. Dropped: {self.drops}. {' '.join(self.notes)}"


@dataclass(frozen=True)
class RawFolder:
    """Where the raw files are: three files of JSON lines, plain or .gz, or of Parquet, and the folder of photos.

    Args:
        extension: of the photos' files, behind the `photo_id`.
        sources: how a role's file is read, where it is not one of the four-file form.
        allow_links: whether files and photos may lie outside of `root`, behind a symbolic link.
    """

    root: AnyPath
    business: AnyPath
    review: AnyPath
    photos: AnyPath
    photo_folder: AnyPath
    extension: str = EXTENSION
    sources: Sources = field(default_factory=dict)
    allow_links: bool = False

    def file(self, role: str) -> AnyPath:
        """The file that has the role's records."""
        return {"business": self.business, "review": self.review, "photos": self.photos}[role]

    def form(self, role: str) -> str:
        """Of the role's file: one of `sources.FORMS`."""
        return "parquet" if self.file(role).suffix == PARQUET else self._holder(role).form

    def delimiter(self, role: str) -> str:
        """Of a CSV."""
        return self._holder(role).delimiter

    def _holder(self, role: str) -> RoleSource:
        listed_in = self.sources.get(role, RoleSource(role)).listed_in or role
        return self.sources.get(listed_in, RoleSource(listed_in))

    @property
    def files(self) -> dict[str, AnyPath]:
        """By role; photos that are listed in another role's records have no file."""
        return {role: self.file(role) for role in FILE_PATTERNS if self._holder(role).role == role}


def find_raw_files(data_dir: str | Path, sources: Sources | None = None, allow_links: bool = False) -> RawFolder:
    """Finds the raw files in `data_dir`, a folder or an address as `any_path` takes it.

    Raises:
        ValueError: if a file is missing, present twice or outside the folder, or the folder cannot be read.
    """
    root = any_path(data_dir)
    try:
        return _find_raw_files(root, str(data_dir), sources, allow_links)
    except OSError as error:
        raise ValueError(f"data_dir {str(data_dir)!r} cannot be read: {error}") from None


def _find_raw_files(root: AnyPath, given: str, sources: Sources | None, allow_links: bool) -> RawFolder:
    if not root.is_dir():
        is_archive = not isinstance(root, RemotePath) and root.is_file()
        command = unpack_command(Path(given), Path(given).parent) if is_archive else None
        hint = f"; this unpacks the archive:\n\n    {command}\n" if command else ""
        raise ValueError(f"data_dir must be a folder with the raw files, got {given!r}{hint}")
    sources = sources or {}
    photos = sources.get("photos", RoleSource("photos"))
    files = {}
    for role, patterns in FILE_PATTERNS.items():
        source = sources.get(role, RoleSource(role))
        if source.listed_in is None:
            patterns = (source.file,) if source.file else patterns
            files[role] = find_file(root, patterns, allow_links, photos.folder)
        else:
            files[role] = files[source.listed_in]
    photo_folder = find_folder(root, photos.folder, allow_links, f"<photo_id>{photos.extension} files")
    return RawFolder(
        root, **files, photo_folder=photo_folder, extension=photos.extension, sources=sources, allow_links=allow_links
    )


def plain_lines(path: AnyPath, scratch: Path, longest: int, ledger: Ledger, copied: bool = False) -> AnyPath:
    """The file itself, or, of a .gz, its lines unpacked into `scratch`, for an engine to read with all its threads.

    A mark at the beginning that says that it is UTF-8 is left out; such a file is copied.

    A .gz that is cut short gives the lines before the cut; of a line with more than `longest` bytes, which could fill
    memory and disk, nothing is kept. Both are counted.

    Args:
        copied: copy any file. In a copy, and what is unpacked, a line that ends with no object is `NO_RECORD`: behind
            one that ends where a value is to come, as `{"text":`, DuckDB takes the next line for none as well.

    Raises:
        ValueError: if `scratch` has not the space, or the file does not begin with lines of an object each: it is one
            array, objects take several lines or share one, there is none, or it is no text in UTF-8.
    """
    packed = path.suffix == ".gz"
    start = beginning(path)
    _check_beginning(path.name, start.removeprefix(BOM_UTF8))
    if not packed and not copied and not start.startswith(BOM_UTF8):
        return path
    plain = scratch / (path.stem if packed else path.name)
    try:
        if packed:
            _unpack(path, plain, longest, ledger)
        else:
            with path.open("rb") as marked, plain.open("wb") as lines:
                marked.seek(len(BOM_UTF8) * start.startswith(BOM_UTF8))
                _copy_lines(marked, lines, longest)
    except OSError as error:
        raise ValueError(f"{path.name} cannot be unpacked into {scratch}: {error}") from None
    return plain


def beginning(path: AnyPath) -> bytes:
    """How the file begins; nothing of a .gz that is broken from the start."""
    with (
        path.open("rb") as packed,
        gzip.GzipFile(fileobj=packed) if path.suffix == ".gz" else packed as file,
        suppress(gzip.BadGzipFile, EOFError, zlib.error),
    ):
        return file.read(BEGINNING)
    return b""


def check_text(name: str, start: bytes) -> None:
    """Raises `ValueError` for a file that begins as no text in UTF-8 does."""
    for beginning, what in OTHER_FORMS.items():
        if start.startswith(beginning):
            raise ValueError(f"{name} is {what}; lines in UTF-8 are needed")


def _check_beginning(name: str, start: bytes) -> None:
    check_text(name, start)
    lines = [line.strip() for line in start.split(b"\n") if line.strip()]
    are_objects = [line.startswith(b"{") for line in lines]
    if ARRAY.match(start) or (start.lstrip().startswith(b"[") and not any(are_objects)):
        raise ValueError(f"{name} is one JSON array; {NEEDED} (jq -c '.[]' writes so)")
    if lines and not any(are_objects):
        raise ValueError(f"{name} has no JSON object in its first lines; {NEEDED}")
    if _is_cut_object(start):
        raise ValueError(f"{name} has JSON objects over several lines; {NEEDED} (jq -c . writes so)")
    if len(lines) == 1 and LIST_WITHIN.match(start):
        raise ValueError(f"{name} is one JSON object around a list; {NEEDED} (jq -c '.[][]' writes so)")
    # One line alone may be broken.
    if lines and all(behind := [_behind_object(line) for line in lines[:2]]):
        if behind[0].startswith(b"\r"):
            raise ValueError(f"{name} ends its lines by CR, without LF; {NEEDED} (tr '\\r' '\\n' writes so)")
        if behind[0] == b",":
            raise ValueError(f"{name} has commas behind its JSON objects; {NEEDED} and nothing behind it")
        raise ValueError(f"{name} has several JSON objects in a line; {NEEDED} (jq -c . writes so)")


def _is_cut_object(start: bytes) -> bool:
    """Whether an object begins in the first line and goes on in the second, which is no object of its own."""
    first, ends, rest = start.strip().partition(b"\n")
    second = rest.lstrip().partition(b"\n")[0].strip()
    if not first.startswith(b"{") or not ends or second.startswith(b'{"'):
        return False
    try:
        json.loads(first)
    except json.JSONDecodeError as error:
        return error.pos >= len(error.doc.rstrip())  # nothing is wrong with it but that it ends
    except (ValueError, RecursionError):
        pass
    return False


def _behind_object(line: bytes) -> bytes:
    """What stands behind an object that the line begins with, if this is another one or a comma."""
    text = line.decode(errors="replace")  # the last line may be cut within a letter
    try:
        _, end = json.JSONDecoder().raw_decode(text)
    except (ValueError, RecursionError):
        return b""
    return text[end:].lstrip(" \t").encode() if text[end:].lstrip()[:1] in ("{", ",") else b""


def _harmless(line: bytes) -> bytes:
    """See `plain_lines`."""
    end = line.rstrip(BLANKS)[-1:]
    return line if end in (b"", b"}") else NO_RECORD


def _copy_lines(source: IO[bytes], lines: IO[bytes], longest: int) -> None:
    """A line of more than `longest` bytes as it is."""
    is_part = False
    while line := source.readline(longest):
        goes_on = len(line) == longest and not line.endswith(b"\n")
        lines.write(line if is_part or goes_on else _harmless(line))
        is_part = goes_on


def _unpack(path: AnyPath, plain: Path, longest: int, ledger: Ledger) -> None:
    from datasets.utils import tqdm  # which takes seconds, and is for a build alone

    with path.open("rb") as packed, gzip.GzipFile(fileobj=packed) as unpacked, plain.open("wb") as lines:
        size = path.stat().st_size
        with tqdm(total=size, unit="B", unit_scale=True, desc=f"unpacking {path.name}") as bar:
            for number, line in enumerate(_bounded_lines(unpacked, path.name, longest, ledger)):
                lines.write(_harmless(line if number else line.removeprefix(BOM_UTF8)))
                if number % 1000 == 0:
                    bar.update(packed.tell() - bar.n)
            bar.update(size - bar.n)


def _bounded_lines(stream: gzip.GzipFile, label: str, longest: int, ledger: Ledger) -> Iterator[bytes]:
    skipping = False
    while True:
        try:
            line = stream.readline(longest)
        except (OSError, EOFError, zlib.error):
            ledger.drop(label, CUT_SHORT)
            return
        if not line:
            return
        whole = line.endswith(b"\n") or len(line) < longest
        if skipping or not whole:
            ledger.drop(label, "line is too long", count=not skipping)
            skipping = not whole
        else:
            yield line
