"""Predictions brought up to date: the rows of users whose input is the same stay, those of others are computed.

New rows are written beside the predictions, in `update/`, each with the digest of what it was found from: an update
that was killed goes on with these, even if the input has changed once more. When all are there, the whole of the new
predictions is made beside the old one, and the two folders take each other's place in one step: who reads finds the
one or the other. Files in which nothing changed are not written again.
"""

import hashlib
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from files.exchange import exchange, mend_exchange
from files.output_files import UNFINISHED, remove_unfinished, replacing, unfinished_folder, write_json
from mmprofile import Profile
from prediction.encodings import keep_encodings_of
from prediction.notes import noted
from prediction.store import GONE_FILE, ROOM, RUN, STAGE, PredictionFolder, check_columns, write_parquet

COMPUTED = "computed"
TABLES = 16  # files that are held in memory at a time, see `Tables`

Place = tuple[Path, int]  # a file, and a row of it


class NewRows(PredictionFolder):
    """Where an update writes what it computes: files that are named after what is in them.

    Args:
        of: the folder that is updated.
        rows: row numbers in the input.
        shard_users: how many of them a file has.
    """

    def __init__(self, of: PredictionFolder, rows: Sequence[int], shard_users: int):
        self.folder, self.schema, self.ids, self.digests = of.folder, of.schema, of.ids, of.digests
        self.notes = of.notes
        self.shards = [rows[i : i + shard_users] for i in range(0, len(rows), shard_users)]

    def path(self, shard: int) -> Path:
        content = " ".join(f"{self.digests[row]}{self.ids[row]}" for row in self.shards[shard])
        name = hashlib.sha256(content.encode()).hexdigest()[:16]
        return self.folder / STAGE / COMPUTED / f"part-{name}.parquet"


class Tables:
    """Tables of files: those that were asked for last are held in memory; one that is asked for again later is laid
    out on the disk, where its rows are read one by one. So a file is unpacked twice at most, whatever the order.

    Args:
        room: a folder for what is laid out.
    """

    def __init__(self, room: Path):
        self.room = room
        self.seen: set[Path] = set()
        self.laid_out: dict[Path, pa.Table] = {}
        self.recent = lru_cache(TABLES)(self._read)

    def __call__(self, path: Path) -> pa.Table:
        return self.laid_out[path] if path in self.laid_out else self.recent(path)

    def _read(self, path: Path) -> pa.Table:
        table = pq.read_table(path)
        if path in self.seen:
            name = str(self.room / f"{len(self.laid_out)}.arrow")
            with pa.OSFile(name, "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
                writer.write_table(table.combine_chunks())
            with pa.memory_map(name) as file:
                self.laid_out[path] = table = pa.ipc.open_file(file).read_all()
        self.seen.add(path)
        return table


class Update:
    """An update of a folder that `PredictionFolder.begin` took as one.

    Args:
        folder: of the input as it is now, with its digests.

    Raises:
        ValueError: if the folder's files have other columns.
    """

    def __init__(self, folder: PredictionFolder):
        self.folder, self.stage = folder, folder.folder / STAGE
        files = sorted((folder.folder / ROOM).glob("*.parquet"))
        self.stored: dict[str, Place] = {}  # user -> what stands in the predictions
        self.known: dict[tuple[str, str | None], Place] = {}  # user and digest -> what can be taken
        for path in [*files, *sorted((self.stage / COMPUTED).glob("*.parquet"))]:
            check_columns(path, folder.schema)
            table = pq.read_table(path, columns=["user_id", "digest"])
            keys = zip(table["user_id"].to_pylist(), table["digest"].to_pylist(), strict=True)
            for row, key in enumerate(keys):
                self.known[key] = path, row
                if path.parent.name == ROOM:
                    self.stored[key[0]] = path, row

    def new_rows(self, processes: int) -> NewRows:
        """What is to be computed, in files for so many processes."""
        folder, size = self.folder, max(map(len, self.folder.shards))
        rows = [row for row, key in enumerate(self._keys()) if key not in self.known]
        (self.stage / COMPUTED).mkdir(parents=True, exist_ok=True)
        return NewRows(folder, rows, max(1, min(size, -(-len(rows) // processes))))

    def finish(self, run: Mapping, truths: Sequence[Profile | None], keep_gone: bool, now: datetime) -> dict:
        """Has the new predictions, and the run that they are of, take the old ones' place.

        Args:
            truths: the true profile of each user in the input.
            keep_gone: users that are gone keep their row, marked.
            now: since when they are gone that were there before.

        Returns:
            How many users' rows were `kept` and how many are of `gone` users.
        """
        done = Update(self.folder)  # with what was computed
        new, schema = self.stage / ROOM, noted(self.folder.schema, self.folder.notes)
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(parents=True)
        keys, here = self._keys(), set(self.folder.ids)
        gone = [place for user_id, place in self.stored.items() if user_id not in here] if keep_gone else []
        with unfinished_folder(self.stage / f"{UNFINISHED}-tables") as room:
            tables = Tables(room)
            for shard, rows in enumerate(self.folder.shards):
                places = [done.known[keys[row]] for row in rows]
                table = _taken(places, tables, schema)
                table = _with_column(table, "truth", [truths[row] for row in rows])
                table = _with_column(table, "gone_since", [None] * len(rows))
                _write(new / self.folder.path(shard).name, table, places, tables)
            if gone:
                table = _taken(gone, tables, schema)
                since = [before or now for before in table["gone_since"].to_pylist()]
                _write(new / GONE_FILE, _with_column(table, "gone_since", since), gone, tables)
        exchange(self.folder.folder / ROOM, new)
        write_json(self.folder.folder / RUN, run)
        keep_encodings_of(self.folder.folder, self.folder.ids)
        shutil.rmtree(self.stage, ignore_errors=True)
        kept = sum(key in self.known and self.known[key][0].parent.name == ROOM for key in keys)
        return {"kept": kept, "gone": len(gone)}

    def _keys(self) -> list[tuple[str, str | None]]:
        return list(zip(self.folder.ids, self.folder.digests, strict=True))


def mend(folder: str | os.PathLike) -> None:
    """Ends the exchange that a killed update was at, and removes the file that it was writing."""
    mend_exchange(Path(folder) / ROOM, Path(folder) / STAGE / ROOM)
    remove_unfinished(Path(folder) / STAGE / COMPUTED)


def _taken(places: Sequence[Place], tables: Tables, schema: pa.Schema) -> pa.Table:
    """The rows that stand at these places, in their order."""
    rows_of: dict[Path, list[int]] = {}
    order: dict[Path, list[int]] = {}
    for number, (path, row) in enumerate(places):
        rows_of.setdefault(path, []).append(row)
        order.setdefault(path, []).append(number)
    parts = [tables(path).take(rows) for path, rows in rows_of.items()]
    back = sorted(range(len(places)), key=[number for path in rows_of for number in order[path]].__getitem__)
    return pa.concat_tables([schema.empty_table(), *parts]).take(back).combine_chunks()


def _with_column(table: pa.Table, name: str, values: Iterable) -> pa.Table:
    place = table.schema.get_field_index(name)
    return table.set_column(place, table.schema.field(name), pa.array(list(values), table.schema.field(name).type))


def _write(path: Path, table: pa.Table, places: Sequence[Place], tables: Tables) -> None:
    """Writes a file, or takes the old one where it is the same."""
    old = places[0][0]
    if not tables(old).equals(table):
        write_parquet(path, table)
        return
    with replacing(path) as temporary:
        try:
            os.link(old, temporary)
        except OSError:  # a file system without links
            shutil.copyfile(old, temporary)
