"""A split's Parquet files, wherever they are: read a row group at a time, for what is larger than memory and disk."""

import hashlib
import io
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import PurePosixPath
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Dataset, Features
from datasets.table import InMemoryTable, table_cast
from fsspec.core import url_to_fs

from corpora.checks import check_profiles, labels_schema, review_problems
from corpora.columns import unified_columns
from files.unreadable_photos import Unreadable

AT_ONCE = 16  # files whose footers and labels are read


class UnreadableRow(Unreadable):
    """A user's row, or the file that has it, that cannot be read in the middle of a run."""


class Group(NamedTuple):
    """A row group, or the first so many users of it."""

    file: str
    metadata: pq.FileMetaData
    number: int  # in the file
    users: int


class Shards:
    """The rows of a split by their row groups, in the order of the files; all labels are read at once.

    Args:
        files: paths or URLs that fsspec reads, hf:// and s3:// among them.
        folder: to which photos' paths are relative, where there are no bytes.
        features: of the columns; default: what the first file says.
        limit: only the first so many users.

    Attributes:
        groups: those with users.
        sizes: (groups,), of each its users.
        labels: the column `profile` of all users.

    Raises:
        ValueError: names the file that cannot be read or does not fit the first, or the user without a profile.
    """

    def __init__(
        self,
        files: Sequence[str],
        folder: str | os.PathLike = "",
        features: Features | None = None,
        limit: int | None = None,
    ):
        self.folder = folder
        with ThreadPoolExecutor(AT_ONCE) as pool:
            footers = list(pool.map(lambda file: _read(file, None, lambda parquet: parquet.metadata), files))
            found = _joint_features(files, footers)
            self.features = features or found
            _check_columns(files, footers)
            self.groups = _groups(files, footers, limit)
            self.sizes = np.array([group.users for group in self.groups], dtype=np.int64)
            schema = labels_schema(self.features)
            kept = Features({name: self.features[name] for name in ("user_id", "profile")})
            parts = pool.map(lambda group: self._columns(group, list(kept)), self.groups)
            labels = []
            for part in parts:
                users = Dataset(InMemoryTable(table_cast(part, kept.arrow_schema)), fingerprint="labels")
                check_profiles(users, schema)
                labels.append(users.data.table.select(["profile"]))
        if not labels:
            raise ValueError("the split has no rows")
        table = pa.concat_tables(labels).combine_chunks()
        self.labels = Dataset(InMemoryTable(table.replace_schema_metadata(None)), fingerprint="labels")

    def read(self, number: int) -> pa.Table:
        """`user_id` and `reviews` of a group's users, as `corpora.columns.unified` has them.

        Raises:
            UnreadableRow: names the file, and the first user whose reviews training cannot read.
        """
        group = self.groups[number]
        try:
            found = unified_columns(self._columns(group, ["user_id", "reviews"]), self.folder)
            for place, problem in _problems(found["reviews"]):
                raise ValueError(f"user {found['user_id'][place].as_py()!r} has {problem}")
        except ValueError as error:
            raise UnreadableRow(f"{group.file!r}: {error}") from None
        return pa.table(found)

    def digest(self) -> str:
        """64 hexadecimal digits: of the files' names and footers, which tell where each column begins, how long it is
        and, where it was counted, its least and greatest value. What is read of a split costs no reading of it."""
        digest = hashlib.sha256()
        for file, metadata in dict((group.file, group.metadata) for group in self.groups).items():
            footer = io.BytesIO()
            metadata.write_metadata_file(footer)
            digest.update(f"{PurePosixPath(file).name} ".encode() + footer.getvalue())
        return digest.hexdigest()

    @staticmethod
    def _columns(group: Group, names: list[str]) -> pa.Table:
        def read(parquet: pq.ParquetFile) -> pa.Table:
            return parquet.read_row_group(group.number, columns=names, use_threads=False)

        table = _read(group.file, group.metadata, read)
        return table.replace_schema_metadata(None).slice(0, group.users)


def _read(file: str, metadata: pq.FileMetaData | None, read: Callable[[pq.ParquetFile], Any]) -> Any:
    """What `read` reads of a file; of what lies elsewhere what it asks for alone."""
    try:
        files, path = url_to_fs(file)
        with files.open(path, "rb", cache_type="none") as opened:
            return read(pq.ParquetFile(opened, metadata=metadata, pre_buffer=True))
    except pa.ArrowException:
        raise ValueError(f"{file!r} is not a whole Parquet file") from None
    except OSError as error:  # the Hub's and other hosts' answers among them
        raise ValueError(f"{file!r} cannot be read: {error}") from error


def _groups(files: Sequence[str], footers: Sequence[pq.FileMetaData], limit: int | None) -> list[Group]:
    groups, left = [], limit
    for file, metadata in zip(files, footers, strict=True):
        for number in range(metadata.num_row_groups):
            users = metadata.row_group(number).num_rows
            if left is not None:
                users = min(users, left)
                left -= users
            if users:
                groups.append(Group(file, metadata, number, users))
    return groups


def _joint_features(files: Sequence[str], footers: Sequence[pq.FileMetaData]) -> Features:
    """The first file's, whose labels are those of all."""
    found = [Features.from_arrow_schema(metadata.schema.to_arrow_schema()) for metadata in footers]
    for file, features in zip(files, found, strict=True):
        if features.get("profile") != found[0].get("profile"):
            both = f"{file!r} and {files[0]!r}"
            raise ValueError(f"the files of a corpus have the same class labels, those of {both} differ")
    return found[0]


def _check_columns(files: Sequence[str], footers: Sequence[pq.FileMetaData]) -> None:
    """Raises a `ValueError` that names the first file whose columns cannot be read here."""
    for file, metadata in zip(files, footers, strict=True):
        try:
            unified_columns(metadata.schema.to_arrow_schema().empty_table())
        except ValueError as error:
            raise ValueError(f"{file!r}: {error}") from None


def _problems(reviews: pa.ChunkedArray):
    """`review_problems` of a column."""
    first = 0
    for chunk in reviews.chunks:
        yield from ((first + place, problem) for place, problem in review_problems(chunk))
        first += len(chunk)
