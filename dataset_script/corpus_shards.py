"""The Parquet shards of a split: several are written at once, each a row group after the other.

What a shard holds is decided by the sizes of the photos' files before any is read, so that neither the number of
threads nor their speed has a say. Reading files, and Arrow's writing, go on beside each other in threads.
"""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from threading import Condition

import datasets
import pyarrow as pa
from datasets import config
from datasets.arrow_writer import ParquetWriter
from datasets.utils import tqdm
from datasets.utils.py_utils import convert_file_size_to_int

from .corpus_rows import Rows, UserRow, bounded
from .photos import Album

# Of a row group: so many rows, or fewer where their photos and texts have more bytes. A row is never parted.
BATCH_ROWS, BATCH_BYTES = 100, 128 * 2**20
# Row groups in memory, by their bytes: so many full ones, or a single one that is larger.
FULL_GROUPS = 4


def row_bytes(row: UserRow, album: Album) -> int:
    """At least what the row's photos and texts take in a shard."""
    reviews = (4 * len(shown.review.text) + sum(album.size(p.photo_id) for p in shown.photos) for shown in row.reviews)
    return sum(reviews)


def plan_shards(rows: Iterable[UserRow], size: Callable[[UserRow], int]) -> list[list[list[int]]]:
    """The sizes of the rows, in order: shards of row groups of rows. A shard above `MAX_SHARD_SIZE` is full."""
    most = convert_file_size_to_int(config.MAX_SHARD_SIZE)
    shards, filled = [[]], 0
    for group in bounded(map(size, rows), int, BATCH_ROWS, BATCH_BYTES):
        if filled > most:
            shards.append([])
            filled = 0
        shards[-1].append(group)
        filled += sum(group)
    return shards


def write_split(
    folder: Path,
    split: str,
    rows: Rows,
    size: Callable[[UserRow], int],
    example: Callable[[UserRow], dict],
    features: datasets.Features,
    threads: int,
) -> datasets.SplitInfo:
    """Writes `<split>.parquet`, or several `<split>-<number>-of-<shards>.parquet`.

    Args:
        size: of a row, in bytes.
        example: a row with its photos.
    """
    shards = plan_shards(rows, size)
    room = _Room(FULL_GROUPS * BATCH_BYTES)
    starts = [sum(len(group) for shard in shards[:number] for group in shard) for number in range(len(shards))]

    def write(number: int) -> tuple[int, int]:
        groups = shards[number]
        taken = rows.between(starts[number], starts[number] + sum(map(len, groups)))
        name = f"{split}-{number:05}-of-{len(shards):05}" if len(shards) > 1 else split
        path = folder / f"{name}.parquet"
        with ParquetWriter(features=features, path=str(path)) as writer:
            for group in groups:
                with room.taken(sum(group)):
                    writer.write_table(_table(islice(taken, len(group)), example, features), len(group))
                bar.update(len(group))
            return writer.finalize()

    with tqdm(desc=f"writing {split}", total=len(rows), unit=" rows") as bar, ThreadPoolExecutor(threads) as pool:
        try:
            written = list(pool.map(write, range(len(shards))))
        except BaseException:
            pool.shutdown(cancel_futures=True)  # or all others would be written first
            raise
    examples, size_of_all = map(sum, zip(*written, strict=True))
    return datasets.SplitInfo(split, num_bytes=size_of_all, num_examples=examples)


def _table(rows: Iterator[UserRow], example: Callable[[UserRow], dict], features: datasets.Features) -> pa.Table:
    """A row group. Its photos are held twice while it is made, and once while it is written."""
    encoded = [features.encode_example(example(row)) for row in rows]
    return pa.Table.from_pylist(encoded, features.arrow_schema)


class _Room:
    """So many bytes, for threads to share; who needs more has all to itself."""

    def __init__(self, size: int) -> None:
        self._size = self._free = size
        self._changed = Condition()

    @contextmanager
    def taken(self, size: int) -> Iterator[None]:
        size = min(size, self._size)
        with self._changed:
            self._changed.wait_for(lambda: size <= self._free)
            self._free -= size
        try:
            yield
        finally:
            with self._changed:
                self._free += size
                self._changed.notify_all()
