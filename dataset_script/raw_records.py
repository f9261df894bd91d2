"""The records of a raw folder as tables of an engine, one a role, with the fields of the four-file form."""

from collections.abc import Mapping
from pathlib import Path

import ibis
from ibis.backends import BaseBackend

from .csv_lines import csv_lines
from .engines import MAX_LINE_BYTES, connect, read_lines
from .parquet_records import copy_parquet, read_parquet
from .raw_files import Ledger, RawFolder, plain_lines
from .raw_folder import parts
from .remote_path import AnyPath, RemotePath, copy_to
from .source_lines import copy_records, source_records
from .sources import REQUIRED


class RawRecords:
    """Reads roles of a raw folder over one engine, each file unpacked once."""

    def __init__(
        self, raw: RawFolder, backend: BaseBackend, memory_limit: str, threads: int, scratch: Path, ledger: Ledger
    ) -> None:
        """See `connect`."""
        self._raw, self._backend, self._ledger = raw, backend, ledger
        self._memory_limit, self._threads, self._scratch = memory_limit, threads, scratch
        self._plain: dict[tuple[AnyPath, bool], AnyPath] = {}
        self._near: dict[RemotePath, Path] = {}

    def read(self, role: str, fields: Mapping[str, str], copied: bool) -> ibis.Table:
        """The records of a role; a line that is none is a row of nulls.

        Args:
            fields: as `read_lines` takes them.
            copied: as `plain_lines` takes it.
        """
        if role not in self._raw.sources and self._raw.form(role) == "parquet":
            return read_parquet(self._backend, self._file(role), fields, REQUIRED[role], role)
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
        is_copy = self._raw.file(role).suffix == ".gz" or self._raw.form(role) != "jsonl"
        return not is_copy and (self._backend.name == "duckdb" or role in self._raw.sources)

    def _file(self, role: str) -> AnyPath:
        """Where an engine reads it: Spark where it lies, DuckDB, and whatever must be unpacked, on this machine."""
        path = self._raw.file(role)
        is_read_there = self._backend.name != "duckdb" and role not in self._raw.sources
        if not isinstance(path, RemotePath) or (is_read_there and path.suffix != ".gz"):
            return path
        if path not in self._near:
            self._near[path] = self._fetched(path, self._scratch / f"near_{len(self._near)}")
        return self._near[path]

    def _fetched(self, path: RemotePath, place: Path) -> Path:
        place.mkdir()
        files = parts(path)
        target = place / path.name
        try:
            if files == [path]:
                copy_to(path, target)
            else:
                target.mkdir()
                for part in files:
                    copy_to(part, target / part.name)
        except OSError as error:
            raise ValueError(f"{path} cannot be copied into {self._scratch}: {error}") from None
        return target

    def _lines(self, role: str, copied: bool) -> AnyPath:
        path = self._file(role)
        if (path, copied) not in self._plain:
            self._plain[path, copied] = self._unpacked(role, path, copied)
        return self._plain[path, copied]

    def _unpacked(self, role: str, path: AnyPath, copied: bool) -> AnyPath:
        place = self._scratch / f"raw_{len(self._plain)}"  # files of several folders may have one name
        place.mkdir()
        if self._raw.form(role) == "parquet":
            lines = place / f"{path.stem}.jsonl"
            with connect("duckdb", self._memory_limit, self._threads, place) as ducks:
                copy_parquet(ducks, path, lines)
            return lines
        if self._raw.form(role) == "csv":
            return csv_lines(path, self._raw.delimiter(role), place, MAX_LINE_BYTES, self._ledger)
        return plain_lines(path, place, MAX_LINE_BYTES, self._ledger, copied)
