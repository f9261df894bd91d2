"""The records of a raw folder as tables of an engine, one a role, with the fields of the four-file form."""

from collections.abc import Mapping
from pathlib import Path

import ibis
from ibis.backends import BaseBackend

from .csv_lines import csv_lines
from .engines import MAX_LINE_BYTES, connect, read_lines
from .raw_files import Ledger, RawFolder, plain_lines
from .source_lines import copy_records, source_records


class RawRecords:
    """Reads roles of a raw folder over one engine, each file unpacked once."""

    def __init__(
        self, raw: RawFolder, backend: BaseBackend, memory_limit: str, threads: int, scratch: Path, ledger: Ledger
    ) -> None:
        """See `connect`."""
        self._raw, self._backend, self._ledger = raw, backend, ledger
        self._memory_limit, self._threads, self._scratch = memory_limit, threads, scratch
        self._plain: dict[tuple[Path, bool], Path] = {}

    def read(self, role: str, fields: Mapping[str, str], copied: bool) -> ibis.Table:
        """The records of a role; a line that is none is a row of nulls.

        Args:
            fields: as `read_lines` takes them.
            copied: as `plain_lines` takes it.
        """
        plain = self._lines(role, copied)
        if role not in self._raw.sources:
            return read_lines(self._backend, plain, fields, role)
        described = (plain, self._raw.file(role).name, role, self._raw.sources, fields, self._ledger)
        if self._backend.name == "duckdb":
            return source_records(self._backend, *described)
        # DuckDB does it for any other engine too, so that the rows are the same.
        place = self._scratch / f"source_{role}"
        place.mkdir(exist_ok=True)
        with connect("duckdb", self._memory_limit, self._threads, place) as ducks:
            copy_records(ducks, source_records(ducks, *described), place / f"{role}.json")
        return read_lines(self._backend, place / f"{role}.json", fields, role)

    def may_lack(self, role: str) -> bool:
        """Whether a broken line may have taken others with it, as DuckDB reads lines that were not copied."""
        is_copy = self._raw.file(role).suffix == ".gz" or self._raw.form(role) == "csv"
        return not is_copy and (self._backend.name == "duckdb" or role in self._raw.sources)

    def _lines(self, role: str, copied: bool) -> Path:
        path = self._raw.file(role)
        if (path, copied) not in self._plain:
            self._plain[path, copied] = self._unpacked(role, path, copied)
        return self._plain[path, copied]

    def _unpacked(self, role: str, path: Path, copied: bool) -> Path:
        place = self._scratch / f"raw_{len(self._plain)}"  # files of several folders may have one name
        place.mkdir()
        if self._raw.form(role) == "csv":
            return csv_lines(path, self._raw.delimiter(role), place, MAX_LINE_BYTES, self._ledger)
        return plain_lines(path, place, MAX_LINE_BYTES, self._ledger, copied)
