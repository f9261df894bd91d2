"""Tells corpora apart, at the cost of reading their texts: of photos there is a look at the ends."""

import hashlib
import os
from collections.abc import Iterable

import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset

END = 64  # bytes of a photo; a PNG's hold its checksums, a JPEG's are others as soon as anything before is


def corpus_digest(dataset: Dataset, columns: Iterable[str]) -> str:
    """64 hexadecimal digits: of these columns' texts and labels, and of photos their paths, numbers of bytes and ends,
    or where only a path is there what `update_by_file` takes.

    The columns are read a piece at a time, however they are cut into pieces.
    """
    digests = {}
    for name in columns:
        for chunk in dataset.data.column(name).chunks:
            _digest_values(chunk, name, digests)
    return hashlib.sha256("".join(f"{name} {digests[name].hexdigest()} " for name in digests).encode()).hexdigest()


def update_by_file(digest, paths: Iterable[str]) -> None:
    """Adds to a digest of hashlib's the sizes of files and when they were changed last; they are not read."""
    for path in paths:
        digest.update(f"{file_facts(path)} ".encode())


def file_facts(path: str) -> str:
    """A file's size and when it was changed last; it is not read. "-" where it is not there."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):  # not there, or no path of this machine
        return "-"
    return f"{found.st_size} {found.st_mtime_ns}"


def _digest_values(values: pa.Array, name: str, digests: dict) -> None:
    """Adds an Arrow column's values, or a part of them, to the digests of the column and of all that is within it."""
    digest, inner = digests.setdefault(name, hashlib.sha256()), []
    if isinstance(values, pa.StructArray):
        numbers = values.is_valid()
        inner = list(zip((field.name for field in values.type), values.flatten(), strict=True))
        fields = dict(inner)
        if set(fields) == {"bytes", "path"}:  # a photo
            elsewhere = fields["path"].filter(pc.is_null(fields["bytes"])).drop_null()
            update_by_file(digests.setdefault(f"{name} file", hashlib.sha256()), elsewhere.to_pylist())
    elif pa.types.is_nested(values.type):  # lists
        numbers, inner = pc.list_value_length(values), [("item", pc.list_flatten(values))]
    elif pa.types.is_integer(values.type):  # of labels
        numbers = values
    elif pa.types.is_binary(values.type) or pa.types.is_large_binary(values.type):  # photos
        numbers = pc.binary_length(values)
        ends = pc.binary_slice(values, -END).drop_null()
        digests.setdefault(f"{name} end", hashlib.sha256()).update(b"".join(ends.to_pylist()))
    elif pa.types.is_string(values.type) or pa.types.is_large_string(values.type):
        numbers = pc.binary_length(values)
        texts = digests.setdefault(f"{name} text", hashlib.sha256())
        texts.update("".join(values.drop_null().to_pylist()).encode())
    else:  # no answer depends on it
        numbers = values.is_valid()
    digest.update(pc.fill_null(pc.cast(numbers, pa.int64()), -1).to_numpy().tobytes())
    for part, items in inner:
        _digest_values(items, f"{name}.{part}", digests)
