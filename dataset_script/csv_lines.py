"""A CSV file as JSON lines, a record a row, for any engine to read.

A row may go over several lines within quotes, and a quote within quotes is two. A row that is none is dropped and
counted: one with more or fewer values than the header has names, with a quote that is closed too early or not at all,
or with a value of over 128 KiB. An empty value is null.

The engines' own readers serve less. DuckDB's leaves out what a last quote that is never closed holds, without a word,
and ends where CRLF comes after LF; Spark's reads broken quotes otherwise.
"""

import csv
import gzip
import json
import zlib
from codecs import BOM_UTF8
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast

from .raw_files import BEGINNING, CUT_SHORT, Ledger, beginning, check_text
from .remote_path import AnyPath

NO_ROW = "no row of the CSV: other than as many values as the header has, or a broken quote"


def columns_of(path: AnyPath, delimiter: str) -> list[str]:
    """The names in the header.

    Raises:
        ValueError: if there is no header, or it has a name twice.
    """
    check_text(path.name, beginning(path).removeprefix(BOM_UTF8))
    with _open(path) as file:
        rows = csv.reader(_lines(file, path.name, BEGINNING, Ledger()), delimiter=delimiter, strict=True)
        try:
            names = next(rows, [])
        except csv.Error:
            names = []
    if not any(names) or len(set(names)) < len(names) or any(map(_is_broken, names)):
        raise ValueError(f"{path.name} must begin with the different names of its columns, got {names}")
    return names


def csv_lines(path: AnyPath, delimiter: str, scratch: Path, longest: int, ledger: Ledger) -> Path:
    """Writes the rows, all columns of each, into `scratch`.

    Raises:
        ValueError: if there is no header, or `scratch` has not the space.
    """
    names = columns_of(path, delimiter)
    plain = scratch / f"{path.name.partition('.')[0]}.jsonl"
    try:
        with _open(path) as file, plain.open("w", encoding="utf-8") as lines:
            rows = csv.reader(_lines(file, path.name, longest, ledger), delimiter=delimiter, strict=True)
            next(rows)
            for row in _good_rows(rows, path.name, len(names), ledger):
                record = {name: value or None for name, value in zip(names, row, strict=True)}
                lines.write(json.dumps(record, ensure_ascii=False) + "\n")
    except OSError as error:
        raise ValueError(f"{path.name} cannot be written as JSON lines into {scratch}: {error}") from None
    return plain


def _good_rows(rows: Iterator[list[str]], label: str, width: int, ledger: Ledger) -> Iterator[list[str]]:
    while True:
        try:
            row = next(rows)
        except StopIteration:
            return
        except csv.Error:  # the next line begins a row anew
            ledger.drop(label, NO_ROW)
            continue
        if len(row) != width:
            ledger.drop(label, NO_ROW, count=bool(row))  # a blank line is none
        elif any(map(_is_broken, row)):
            ledger.drop(label, "row of the CSV is no UTF-8")
        else:
            yield row


def _is_broken(text: str) -> bool:
    """Whether some of its bytes were no UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


@contextmanager
def _open(path: AnyPath) -> Iterator[IO[bytes]]:
    with path.open("rb") as file, gzip.GzipFile(fileobj=file) if path.suffix == ".gz" else file as lines:
        yield cast(IO[bytes], lines)


def _lines(file: IO[bytes], label: str, longest: int, ledger: Ledger) -> Iterator[str]:
    """Lines, or pieces of longer ones than `longest` bytes, which are values that are too long."""
    is_first = True
    while True:
        try:
            line = file.readline(longest)
        except (OSError, EOFError, zlib.error):
            ledger.drop(label, CUT_SHORT)
            return
        if not line:
            return
        yield (line.removeprefix(BOM_UTF8) if is_first else line).decode(errors="surrogateescape")
        is_first = False
