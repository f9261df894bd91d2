"""Predictions that stand in a folder, read without the model and the input that they were made of."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from mmprofile import ProfileSchema
from prediction.notes import notes_of
from prediction.store import ROOM

SHARD = re.compile(r"part-(\d{5,})-of-(\d{5,})\.parquet")
NEEDED = ("user_id", "profile", "probabilities", "truth")


def shard_paths(folder: str | os.PathLike, finished: bool = True) -> list[Path]:
    """The shards of an output folder of predict.py, in the input's order.

    Args:
        finished: whether all have to be there.

    Raises:
        ValueError: if there is none, there are some of two runs, or one is missing.
    """
    room = Path(folder) / ROOM
    found = {path: SHARD.fullmatch(path.name) for path in (sorted(room.iterdir()) if room.is_dir() else [])}
    numbers = {path: tuple(map(int, match.groups())) for path, match in found.items() if match}
    if not numbers:
        raise ValueError(f"{str(folder)!r} is no output folder of predict.py: it holds no {ROOM}/part-*.parquet")
    if len(totals := sorted({total for _, total in numbers.values()})) > 1:
        raise ValueError(f"{str(room)!r} holds shards of {' and of '.join(map(str, totals))}, of more than one run")
    if finished and len(numbers) < totals[0]:
        raise ValueError(
            f"{str(folder)!r} is unfinished, {len(numbers)} of {totals[0]} shards are there; start predict.py again,"
            " it goes on where it stopped"
        )
    return sorted(numbers, key=numbers.__getitem__)


class StoredPredictions:
    """The finished predictions of a run.

    Args:
        folder: the output folder of predict.py.

    Attributes:
        shards: their paths, in the input's order.
        schema: of the profiles. Shards of older code do not say how many values an attribute takes: then it is as
            many as the first profile has.
        notes: the model, see `prediction.notes`, and `predicted_at`, when the first and the last shard was written;
            only what shards say.

    Raises:
        ValueError: if the folder is no finished one, or a file is no shard.
    """

    def __init__(self, folder: str | os.PathLike):
        self.folder = Path(folder)
        self.shards = shard_paths(folder)
        schemas = [_columns(path) for path in self.shards]
        notes = [notes_of(schema) for schema in schemas]
        given = notes[0].get("profile_schema")
        self.schema = self._schema_of(schemas[0]) if given is None else ProfileSchema(given)
        self.notes = {name: value for name, value in notes[0].items() if name != "profile_schema"}
        if times := sorted(filter(None, (each.get("predicted_at") for each in notes))):
            self.notes["predicted_at"] = [times[0], times[-1]]

    def read(self, columns: list[str]) -> Iterator[dict]:
        """The rows of all shards, in the input's order."""
        for path in self.shards:
            for batch in pq.ParquetFile(path).iter_batches(columns=columns):
                yield from batch.to_pylist()

    def _schema_of(self, columns: pa.Schema) -> ProfileSchema:
        profile = next((row["profile"] for row in self.read(["profile"]) if row["profile"] is not None), {})
        return ProfileSchema(
            [
                {
                    "name": field.name.replace("_", " ").title(),
                    "values": [value.name for value in field.type],
                    "count": len(value) if isinstance(value := profile.get(field.name), list) else 1,
                }
                for field in columns.field("probabilities").type
            ]
        )


def _columns(path: Path) -> pa.Schema:
    try:
        columns = pq.read_schema(path)
    except pa.ArrowException:
        raise ValueError(f"{str(path)!r} is not a whole Parquet file") from None
    if missing := [name for name in NEEDED if name not in columns.names]:
        raise ValueError(f"{str(path)!r} is no shard of predict.py, {' and '.join(missing)} missing")
    return columns
