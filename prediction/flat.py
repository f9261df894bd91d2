"""The predictions of a folder as a flat table, a row a user and a column a value, for programs that know no nested
columns.

    python -m prediction.flat outputs/test

Makes OUTPUT/table, a Parquet file for each of OUTPUT/predictions and of these files alone, at any time: no model is
needed, and `predict.py --flat true` makes the same. A file stands whole or not at all. When it is started again it
writes what is new or has changed since, removes what is gone, and leaves the rest. The columns:

    user_id, text, log_probability, exact, coverage, gate, views, photos_left_out, tokens_left_out, digest, gone_since
    (null for who is in the input): as in the predictions
    profile.stars: the value of an attribute that takes one, as text
    profile.favorite_category.Pizza: of one that takes several, 1 where the profile has the value, else 0
    decided.stars, decided.favorite_category.Pizza: as of the profile
    probability.stars.4: of each value
    truth.stars, truth.favorite_category.Pizza: as of the profile
    runners_up, image_weights, problems: lists, as texts in JSON

They are null where there is no prediction, or no truth. Dots part a name: in keys and values these, blanks and each
of ,;{}()=`" are written as _, and of names that are the same then, but for upper and lower case, the later ones end in
_2, _3. A column's own metadata have the attribute's key and the value as they are. Vectors stay in the predictions.
"""

# ruff: noqa: E402

import argparse


def argument_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", help="the output folder of predict.py")
    return parser


if __name__ == "__main__":  # --help is there before what takes seconds to import
    argument_parser().parse_known_args()

import hashlib
import json
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from files.output_files import WriteFailure, only_run, remove_unfinished
from prediction.store import GONE_FILE, ROOM, TABLE, write_parquet
from prediction.stored import SHARD, shard_paths

SOURCE = b"predictions_sha256"  # of a table's file: the digest of the file that it was made of
PARTED = re.compile(r'[\s.,;{}()=`"]')  # a dot parts names; the others Spark before 3.3 or SQL do not take
NAMES = {"probabilities": "probability"}  # of nested columns, in the table's names


class FlatColumn(NamedTuple):
    """`path`: column, perhaps the attribute's key, and the value; what of it there is."""

    path: tuple[str, ...]
    values: pa.Array


def write_table(folder: str | os.PathLike) -> int:
    """Makes the table of an output folder, of whose run the caller holds the lock, see `only_run`.

    Shards that are not there yet have no file in it; those that are gone, or are of other predictions, have none any
    more.

    Returns:
        How many files were written; the others were there.

    Raises:
        ValueError: if the folder holds no predictions.
    """
    room, sources = Path(folder) / TABLE, _sources(folder)
    room.mkdir(exist_ok=True)
    remove_unfinished(room)
    wanted = {source.name for source in sources}
    for path in list(room.iterdir()):
        if (SHARD.fullmatch(path.name) or path.name == GONE_FILE) and path.name not in wanted:
            path.unlink()
    written = 0
    for source in sources:
        with open(source, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest().encode()
        target = room / source.name
        if _source(target) == digest:
            continue
        table = flat_table(pq.read_table(source))
        table = table.replace_schema_metadata({**(table.schema.metadata or {}), SOURCE: digest})
        write_parquet(target, table)
        written += 1
    return written


def _sources(folder: str | os.PathLike) -> list[Path]:
    """The files of the predictions, also of users who are gone."""
    gone = Path(folder) / ROOM / GONE_FILE
    return shard_paths(folder, finished=False) + [gone] * gone.exists()


def flat_table(table: pa.Table) -> pa.Table:
    """A shard's columns without nested ones, see the module's docstring; its metadata stay."""
    columns = [column for name in table.column_names for column in _flat(name, table)]
    names = column_names([column.path for column in columns])
    fields = [
        pa.field(name, column.values.type, metadata=_metadata(column.path))
        for name, column in zip(names, columns, strict=True)
    ]
    return pa.table([column.values for column in columns], schema=pa.schema(fields, table.schema.metadata))


def column_names(paths: Sequence[tuple[str, ...]]) -> list[str]:
    """A name for each path, different ones even where upper and lower case are one, as in SQL."""
    names, taken = [], set()
    for path in paths:
        plain = ".".join(PARTED.sub("_", part) for part in path)
        name, number = plain, 1
        while name.lower() in taken:
            number += 1
            name = f"{plain}_{number}"
        taken.add(name.lower())
        names.append(name)
    return names


def _flat(name: str, table: pa.Table) -> Iterator[FlatColumn]:
    column = table.column(name).combine_chunks()
    kind = column.type
    if pa.types.is_fixed_size_list(kind):  # a vector
        return
    if name == "probabilities":
        for attribute, its in _fields(column):
            yield from (FlatColumn((NAMES[name], attribute, value), part) for value, part in _fields(its))
    elif pa.types.is_struct(kind):  # a profile
        of_values = table.schema.field("probabilities").type
        values = {field.name: [value.name for value in field.type] for field in of_values}
        for attribute, its in _fields(column):
            if pa.types.is_list(its.type):
                yield from (FlatColumn((name, attribute, v), part) for v, part in _named(its, values[attribute]))
            else:
                yield FlatColumn((name, attribute), its)
    elif pa.types.is_list(kind):
        texts = [None if row is None else json.dumps(row, ensure_ascii=False) for row in column.to_pylist()]
        yield FlatColumn((name,), pa.array(texts, pa.string()))
    else:
        yield FlatColumn((name,), column)


def _fields(column: pa.StructArray) -> Iterator[tuple[str, pa.Array]]:
    """Name and values of each field, null where the struct is."""
    return zip((field.name for field in column.type), column.flatten(), strict=True)


def _named(lists: pa.ListArray, values: list[str]) -> Iterator[tuple[str, pa.Array]]:
    """Of each value 1 where a list has it and 0 where not, null where there is no list."""
    rows = pc.list_parent_indices(lists).to_numpy()
    places = pc.index_in(pc.list_flatten(lists), value_set=pa.array(values)).to_numpy()
    found = np.zeros((len(lists), len(values)), np.int8)
    found[rows, places] = 1
    nothing = pc.is_null(lists).to_numpy(zero_copy_only=False)
    return ((value, pa.array(found[:, place], mask=nothing)) for place, value in enumerate(values))


def _metadata(path: tuple[str, ...]) -> Mapping[str, str] | None:
    return dict(zip(("attribute", "value"), path[1:], strict=False)) or None


def _source(path: Path) -> bytes | None:
    """Of which predictions a file of the table is; None where there is none that could be read."""
    try:
        return (pq.read_schema(path).metadata or {}).get(SOURCE)
    except (FileNotFoundError, pa.ArrowException):
        return None


def main(argv: Sequence[str] | None = None) -> None:
    """The program: see the module's docstring."""
    folder = argument_parser().parse_args(argv).folder
    shard_paths(folder, finished=False)  # before a lock would make the folder
    with only_run(folder):
        written = write_table(folder)
    files = len(_sources(folder))
    print(f"{written} of {files} files written, the others were there. The table is {Path(folder) / TABLE}")


if __name__ == "__main__":
    try:
        main()
    except (ValueError, WriteFailure) as error:
        sys.exit(f"prediction.flat: {error}")
