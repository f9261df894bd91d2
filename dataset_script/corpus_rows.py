"""The rows of a corpus between its derivation and its shards: in a file, of which a few are in memory at once."""

import json
import shutil
import tempfile
import weakref
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from .profile_rules import Profile

# Of the file: so many rows are read at once, or fewer where their texts have more bytes.
GROUP_ROWS, GROUP_BYTES = 100, 2**24

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
# Reviews, and with each what is its row's: the place among all rows, and two figures of a `Tally`.
_OF_ROW = {"place": pa.int64(), "profile": pa.string(), "wrote": pa.int64(), "of": pa.int64()}
REVIEWS = pa.schema(_REVIEW | _OF_ROW)


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

    def write(self, batches: Iterable[pa.RecordBatch]) -> None:
        """Takes reviews, `REVIEWS` by their places, in batches that part no row."""
        with pq.ParquetWriter(self._path, _SCHEMA) as file:
            for reviews in batches:
                starts = _starts(reviews)
                rows, sizes = _as_rows(reviews, starts), _sums(pc.binary_length(reviews.column("text")), starts)
                start = 0
                for group in bounded(sizes, int, GROUP_ROWS, GROUP_BYTES):
                    file.write_table(rows.slice(start, len(group)))
                    start += len(group)

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


def whole_rows(batches: Iterable[pa.RecordBatch], sizes: Mapping[str, int]) -> Iterator[tuple[str, pa.RecordBatch]]:
    """The reviews, `REVIEWS` by their places, in batches that part no row; with each the split that its rows are of.

    Args:
        sizes: rows of each split.
    """
    ends, lengths = np.cumsum(list(sizes.values())), list(sizes.values())

    def parted(tables: list[pa.Table]) -> Iterator[tuple[str, pa.RecordBatch]]:
        table = pa.concat_tables(tables).combine_chunks()
        places = table.column("place").to_numpy()
        starts, stops = np.searchsorted(places, ends - lengths), np.searchsorted(places, ends)
        for split, start, stop in zip(sizes, starts.tolist(), stops.tolist(), strict=True):
            for batch in table.slice(start, stop - start).to_batches():
                if len(batch):
                    yield split, batch

    open_: list[pa.Table] = []  # that the next batch may go on with
    for batch in batches:
        table = pa.Table.from_batches([batch]).select(REVIEWS.names).cast(REVIEWS)
        places = table.column("place").to_numpy()
        last = int(np.searchsorted(places, places[-1]))
        if last:
            yield from parted([*open_, table.slice(0, last)])
            open_ = []
        open_.append(table.slice(last))
    if open_:
        yield from parted(open_)


def _starts(reviews: pa.RecordBatch) -> np.ndarray:
    """Where each row's reviews begin."""
    return np.flatnonzero(np.diff(reviews.column("place").to_numpy(), prepend=-1))


def _sums(numbers: pa.Array, starts: np.ndarray) -> list[int]:
    """Of the reviews' numbers, those of each row."""
    return np.add.reduceat(numbers.to_numpy(zero_copy_only=False).astype(np.int64), starts).tolist()


def _as_rows(reviews: pa.RecordBatch, starts: np.ndarray) -> pa.Table:
    struct = pa.StructArray.from_arrays([reviews.column(name) for name in _REVIEW], list(_REVIEW))
    lists = pa.ListArray.from_arrays(pa.array([*starts, len(reviews)], pa.int32()), struct)
    user_ids, profiles = (reviews.column(name).take(pa.array(starts)) for name in ("user_id", "profile"))
    return pa.Table.from_arrays([user_ids, lists, profiles], schema=_SCHEMA)


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

    def add(self, reviews: pa.RecordBatch) -> None:
        """Takes reviews as `Rows.write` does."""
        starts = _starts(reviews)
        firsts = reviews.take(pa.array(starts))
        self.users += len(starts)
        for profile in firsts.column("profile").to_pylist():
            for key, label in json.loads(profile).items():
                self.values.setdefault(key, Counter()).update(label if isinstance(label, list) else [label])
        self.words.update(len(text.split()) for text in reviews.column("text").to_pylist())
        self.reviews.update(np.diff(starts, append=len(reviews)).tolist())
        self.photos.update(_sums(pc.list_value_length(reviews.column("photo_ids")), starts))
        self.written += sum(firsts.column("wrote").to_pylist())
        self.with_photo += sum(firsts.column("of").to_pylist())
