"""Tolerant readers of a raw folder: business, review and photo lines, and the photos themselves.

Nothing in a raw folder is trusted. A line or a photo that cannot be used is dropped and counted by its reason in a
`Ledger`; a file that is missing or ambiguous is a `ValueError`; no path outside the folder is opened, not even through
a symbolic link.
"""

import gzip
import io
import json
import re
import struct
import warnings
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from hashlib import blake2b
from pathlib import Path
from typing import BinaryIO, NamedTuple, TypeVar

import datasets
import PIL.Image
from datasets.utils import tqdm

from .derivation import Evidence, business_evidence

FILE_PATTERNS = {
    "business": ("*business.json",),
    "review": ("*review.json",),
    "photos": ("*photos.json", "*photo.json"),
}
PHOTO_FOLDER = "photos"

# A line this long is no review. The bound keeps a .gz file without a line end from filling the memory.
MAX_LINE_BYTES = 16 * 2**20

PLAIN_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,199}")

# Formats whose decoders are Pillow's own; others start programs (EPS) or need plug-ins on the reader's machine.
PHOTO_FORMATS = ("JPEG", "PNG", "WEBP", "GIF")

# What Pillow's decoders raise on damaged bytes.
DECODING_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    EOFError,
    MemoryError,
    AttributeError,
    RuntimeError,
    struct.error,
    zlib.error,
)

T = TypeVar("T")
R = TypeVar("R", bound=tuple)


class Rejected(ValueError):
    """A record or photo that cannot be used; its message is the reason that the report counts."""


@dataclass
class Ledger:
    """What a build has read, by file; dropped, by (file or "users", reason); and what each step left, in order."""

    read: Counter[str] = field(default_factory=Counter)
    left: dict[str, int] = field(default_factory=dict)
    dropped: Counter[tuple[str, str]] = field(default_factory=Counter)

    def drop(self, where: str, reason: str, count: int = 1) -> None:
        if count:
            self.dropped[where, reason] += count


class Business(NamedTuple):
    """A line of business.json: what the derivation needs of it. `fingerprint` stands first, so that it sorts."""

    fingerprint: str
    business_id: str
    evidence: Evidence


class Photo(NamedTuple):
    """A line of photos.json; `owner` is what the photo belongs to, one of `photo_owners` of its reviews."""

    fingerprint: str
    photo_id: str
    caption: str
    owner: tuple[str, ...]


class Review(NamedTuple):
    """A line of review.json; `date` is `YYYY-MM-DD HH:MM:SS`, `stars` 1 to 5. The first pass blanks the text."""

    fingerprint: bytes
    review_id: str
    user_id: str
    business_id: str
    date: str
    stars: float
    words: int
    text: str


@dataclass(frozen=True)
class RawFolder:
    """Where the raw files are: three files of JSON lines, plain or .gz, and the folder of photos."""

    root: Path
    business: Path
    review: Path
    photos: Path
    photo_folder: Path


def find_raw_files(data_dir: str | Path) -> RawFolder:
    """Finds the raw files in `data_dir`; a file missing, present twice or outside the folder is a `ValueError`."""
    root = Path(data_dir).resolve()
    if not root.is_dir():
        raise ValueError(f"data_dir must be a folder with the raw files, got {str(data_dir)!r}")
    files = {role: _find_one(root, patterns) for role, patterns in FILE_PATTERNS.items()}
    photo_folder = root / PHOTO_FOLDER
    if not photo_folder.is_dir():
        raise ValueError(f"{root} holds no folder {PHOTO_FOLDER!r} with <photo_id>.jpg files")
    return RawFolder(root, **files, photo_folder=_inside(root, photo_folder))


def _find_one(root: Path, patterns: tuple[str, ...]) -> Path:
    accepted = [pattern + ending for pattern in patterns for ending in ("", ".gz")]
    found = sorted(
        path
        for path in root.iterdir()
        if not path.name.startswith(".") and path.is_file() and any(fnmatchcase(path.name, a) for a in accepted)
    )
    if len(found) != 1:
        given = ", ".join(path.name for path in found) or "none"
        raise ValueError(f"{root} must hold exactly one file named {' or '.join(accepted)}, found {given}")
    return _inside(root, found[0])


def _inside(root: Path, path: Path) -> Path:
    resolved = path.resolve()
    if not resolved.is_relative_to(root):
        raise ValueError(f"{path} leads to {resolved}, outside the raw folder {root}")
    return path


def read_records(path: Path, parse: Callable[[dict], T], label: str, ledger: Ledger) -> Iterator[T]:
    """Yields `parse(record)` for each JSON line of `path` that can be used; counts the others under `label`."""
    with path.open("rb") as file, tqdm(total=path.stat().st_size, unit="B", unit_scale=True, desc=label) as bar:
        lines = gzip.GzipFile(fileobj=file) if path.suffix == ".gz" else file
        for number, line in enumerate(_bounded_lines(lines, label, ledger)):
            if number % 1000 == 0:
                bar.update(file.tell() - bar.n)
            if not line.strip():
                continue
            ledger.read[label] += 1
            try:
                yield parse(_json_object(line))
            except Rejected as rejected:
                ledger.drop(label, str(rejected))
        bar.update(file.tell() - bar.n)


def _bounded_lines(stream: BinaryIO, label: str, ledger: Ledger) -> Iterator[bytes]:
    skipping = False
    while True:
        try:
            line = stream.readline(MAX_LINE_BYTES)
        except (OSError, EOFError, zlib.error):
            ledger.drop(label, "compressed file is cut short or broken from here on")
            return
        if not line:
            return
        whole = line.endswith(b"\n") or len(line) < MAX_LINE_BYTES
        if skipping or not whole:
            ledger.drop(label, "line is too long", count=not skipping)
            skipping = not whole
        else:
            yield line


def _json_object(line: bytes) -> dict:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        raise Rejected("malformed JSON") from None
    if not isinstance(record, dict):
        raise Rejected("not a JSON object")
    return record


def keep_one(kept: dict[str, R], key: str, record: R) -> bool:
    """Of the records with one id keeps the smallest, so that the order of lines has no say; True for a new id."""
    other = kept.get(key)
    if other is None or record < other:
        kept[key] = record
    return other is None


def parse_business(record: dict) -> Business:
    """Reads a line of business.json; raises `Rejected`. Attributes and categories may be null or anything else."""
    evidence = business_evidence(record)
    return Business(repr(evidence), _id(record, "business_id"), evidence)


def parse_photo(record: dict) -> Photo:
    """Reads a line of photos.json; raises `Rejected`, also where `photo_id` could be a path."""
    photo_id = _id(record, "photo_id")
    if not PLAIN_NAME.fullmatch(photo_id):
        raise Rejected("photo_id is no plain name")
    caption = record.get("caption")
    caption = caption.strip() if isinstance(caption, str) and _is_unicode(caption) else ""
    owner = _photo_owner(record)
    return Photo(repr((caption, owner)), photo_id, caption, owner)


def _photo_owner(record: dict) -> tuple[str, ...]:
    review_id, user_id = _optional_id(record, "review_id"), _optional_id(record, "user_id")
    if review_id is not None:
        return "review", review_id
    if user_id is None:
        return "business", _id(record, "business_id")
    business_id = _optional_id(record, "business_id")
    return ("user", user_id) if business_id is None else ("visit", user_id, business_id)


def photo_owners(review: Review) -> tuple[tuple[str, ...], ...]:
    """The owners whose photos are `review`'s: itself, its user's visit, its user, the business for everyone."""
    return (
        ("review", review.review_id),
        ("visit", review.user_id, review.business_id),
        ("user", review.user_id),
        ("business", review.business_id),
    )


def parse_review(record: dict) -> Review:
    """Reads a line of review.json; raises `Rejected`."""
    review_id, user_id, business_id = (_id(record, key) for key in ("review_id", "user_id", "business_id"))
    text, date, stars = _string(record, "text"), _date(record), _stars(record)
    content = "\0".join((user_id, business_id, date, str(stars), text))
    fingerprint = blake2b(content.encode(), digest_size=8).digest()
    return Review(fingerprint, review_id, user_id, business_id, date, stars, len(text.split()), text)


def _string(record: dict, key: str) -> str:
    value = record.get(key)
    if value is None:
        raise Rejected(f"{key} is missing or null")
    if not isinstance(value, str):
        raise Rejected(f"{key} is not a string")
    if not _is_unicode(value):
        raise Rejected(f"{key} is not valid Unicode")
    return value


def _is_unicode(text: str) -> bool:
    # JSON can escape half a surrogate pair, which no UTF-8 file, Parquet included, can hold.
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _id(record: dict, key: str) -> str:
    value = _string(record, key)
    if not value:
        raise Rejected(f"{key} is empty")
    return value


def _optional_id(record: dict, key: str) -> str | None:
    return None if record.get(key) in (None, "") else _id(record, key)


def _date(record: dict) -> str:
    try:
        moment = datetime.fromisoformat(_string(record, "date"))
        if moment.tzinfo is not None:
            moment = moment.astimezone(UTC).replace(tzinfo=None)
    except Rejected:
        raise
    except (ValueError, OverflowError):
        raise Rejected("date is no date") from None
    return moment.isoformat(sep=" ", timespec="seconds")


def _stars(record: dict) -> float:
    stars = record.get("stars")
    if isinstance(stars, bool) or not isinstance(stars, (int, float)):
        raise Rejected("stars is missing, null or not a number")
    if not 1 <= stars <= 5:
        raise Rejected("stars is outside 1 to 5")
    return float(stars)


def read_photo(raw: RawFolder, photo_id: str, max_bytes: int) -> bytes:
    """Returns the file's own bytes; raises `Rejected` where there is no such file inside the raw folder."""
    try:
        path = (raw.photo_folder / f"{photo_id}.jpg").resolve()
        if not path.is_relative_to(raw.root):
            raise Rejected("photo leads outside the raw folder")
        if not path.is_file():
            raise Rejected("photo has no file")
        if path.stat().st_size > max_bytes:
            raise Rejected("photo file has too many bytes")
        return path.read_bytes()
    except (OSError, RuntimeError):  # RuntimeError: a symbolic link that leads to itself
        raise Rejected("photo cannot be read") from None


def prove_decodable(content: bytes, max_pixels: int) -> None:
    """Raises `Rejected` unless `content` decodes as `datasets.Image` will decode it for the reader of a row.

    The pixels are counted from the header, before anything is decoded.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with PIL.Image.open(io.BytesIO(content), formats=PHOTO_FORMATS) as header:
                width, height = header.size
            if width * height <= max_pixels:
                datasets.Image().decode_example({"bytes": content, "path": None})
        except PIL.Image.DecompressionBombError:
            raise Rejected("photo has too many pixels") from None
        except DECODING_ERRORS:
            raise Rejected("photo does not decode") from None
    if width * height > max_pixels:
        raise Rejected("photo has too many pixels")
