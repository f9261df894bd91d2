"""The rows of a corpus between its derivation and its shards: in a file, of which a few are in memory at once."""

import json
import shutil
import tempfile
import weakref
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from .profile_rules import Profile

# Of the file: so many rows are read at once, or fewer where their texts have more characters.
GROUP_ROWS, GROUP_CHARACTERS = 100, 2**24

Item = TypeVar("Item")


class Review(NamedTuple):
    """A review of a row; `date` is `YYYY-MM-DD HH:MM:SS`."""

    review_id: str
    user_id: str
    business_id: str
    date: str
    stars: float
    text: str


class Photo(NamedTuple):
    photo_id: str
    caption: str


class RowReview(NamedTuple):
    """A review of a row, with its photos in the order of the row."""

    review: Review
    photos: tuple[Photo, ...]


class UserRow(NamedTuple):
    """A row of the dataset, its photos not yet read."""

    user_id: str
    reviews: tuple[RowReview, ...]
    profile: Profile


_STRINGS = pa.list_(pa.string())
_REVIEW = {name: pa.float64() if name == "stars" else pa.string() for name in Review._fields}
_REVIEW |= {"photo_ids": _STRINGS, "captions": _STRINGS}
_SCHEMA = pa.schema(
    {"user_id": pa.string(), "reviews": pa.list_(pa.struct(list(_REVIEW.items()))), "profile": pa.string()}
)


class RowFolder:
    """A folder for the files of `Rows`, that goes with the last of them."""

    def __init__(self, parent: str) -> None:
        """`parent`: where it is made; "" is where temporary files are."""
        self.path = Path(tempfile.mkdtemp(prefix="mmprofile-rows-", dir=parent or None))
        weakref.finalize(self, shutil.rmtree, self.path, ignore_errors=True)


class Rows:
    """The rows of a split, to be gone over any number of times: each time they are read from the file."""

    def __init__(self, folder: RowFolder, split: str) -> None:
        self._folder = folder  # kept as long as this
        self._path = folder.path / f"{split}.parquet"

    def write(self, rows: Iterable[UserRow]) -> None:
        """Takes the rows, a group at a time."""
        with pq.ParquetWriter(self._path, _SCHEMA) as file:
            for group in bounded(rows, _characters, GROUP_ROWS, GROUP_CHARACTERS):
                file.write_table(pa.Table.from_pylist([_record(row) for row in group], _SCHEMA))

    def __len__(self) -> int:
        return pq.read_metadata(self._path).num_rows

    def __iter__(self) -> Iterator[UserRow]:
        return self.between(0, len(self))

    def between(self, start: int, stop: int) -> Iterator[UserRow]:
        """The rows from `start` up to `stop`, without those before being read."""
        with pq.ParquetFile(self._path) as file:
            first = 0
            for group in range(file.metadata.num_row_groups):
                last = first + file.metadata.row_group(group).num_rows
                if first < stop and last > start:
                    rows = file.read_row_group(group).slice(max(0, start - first), stop - max(start, first))
                    yield from map(_row, rows.to_pylist())
                first = last

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Rows) and len(self) == len(other) and all(map(UserRow.__eq__, self, other))

    __hash__ = None  # pyright: ignore[reportAssignmentType]


def bounded(items: Iterable[Item], size: Callable[[Item], int], count: int, total: int) -> Iterator[list[Item]]:
    """The items in lists of up to `count`, whose sizes add up to `total` at most; a larger item stands alone."""
    some, sizes = [], 0
    for item in items:
        here = size(item)
        if some and (len(some) == count or sizes + here > total):
            yield some
            some, sizes = [], 0
        some.append(item)
        sizes += here
    if some:
        yield some


def _characters(row: UserRow) -> int:
    return sum(len(shown.review.text) for shown in row.reviews)


def _record(row: UserRow) -> dict:
    reviews = [
        shown.review._asdict()
        | {"photo_ids": [photo.photo_id for photo in shown.photos], "captions": [p.caption for p in shown.photos]}
        for shown in row.reviews
    ]
    return {"user_id": row.user_id, "reviews": reviews, "profile": json.dumps(row.profile)}


def _row(record: dict) -> UserRow:
    reviews = []
    for shown in record["reviews"]:
        photos = map(Photo, shown.pop("photo_ids"), shown.pop("captions"))
        reviews.append(RowReview(Review(**shown), tuple(photos)))
    return UserRow(record["user_id"], tuple(reviews), json.loads(record["profile"]))


@dataclass
class Tally:
    """What a report and its figures tell of the rows, counted as they pass.

    Args:
        values: by attribute, how often each value occurs; of a user with two values, both count.
        words: reviews by their number of words.
        reviews: users by their number of reviews.
        photos: users by their number of photos.
        written: reviews of a fitting length that the users wrote.
        with_photo: of these, those with a listed photo, before the newest were taken; without photos that were known
            not to decode when the user's row was settled.
    """

    users: int = 0
    values: dict[str, Counter[str]] = field(default_factory=dict)
    words: Counter[int] = field(default_factory=Counter)
    reviews: Counter[int] = field(default_factory=Counter)
    photos: Counter[int] = field(default_factory=Counter)
    written: int = 0
    with_photo: int = 0

    def add(self, row: UserRow, written: int = 0, with_photo: int = 0) -> None:
        self.users += 1
        for key, label in row.profile.items():
            self.values.setdefault(key, Counter()).update(label if isinstance(label, list) else [label])
        self.words.update(len(shown.review.text.split()) for shown in row.reviews)
        self.reviews[len(row.reviews)] += 1
        self.photos[sum(len(shown.photos) for shown in row.reviews)] += 1
        self.written += written
        self.with_photo += with_photo

    @classmethod
    def of(cls, rows: Sequence[UserRow]) -> "Tally":
        """Of rows without what else their users wrote."""
        tally = cls()
        for row in rows:
            tally.add(row)
        return tally
