"""Predictions on the disk: Parquet shards of a run that may be killed, and goes on where it stopped.

A run's folder holds `run.json`, what the answers depend on, and `predictions/`, one file a shard of the input's rows.
A shard is written under a temporary name and renamed, so that one that stands is whole; which rows it has follows from
its number alone, whichever process of however many writes it.
"""

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from files.output_files import UNFINISHED, read_json, remove_unfinished, replacing, write_json
from mmprofile import ProfileSchema

ROOM = "predictions"
RUN = "run.json"
RESULTS = "results.json"
OTHERWISE = "choose another output or --overwrite_output true"


def arrow_schema(schema: ProfileSchema) -> pa.Schema:
    """The columns of a shard. Of a user without a prediction all but `user_id`, `truth` and `problems` are null.

    `decided` is the profile without what is not sure enough, null where no precision was asked for.
    `image_weights` has a number for each photo of the user in the input, 0 for one that the model did not see.
    """
    value = {a.key: pa.string() if a.count == 1 else pa.list_(pa.string()) for a in schema.attributes}
    profile = pa.struct(list(value.items()))
    probabilities = [(a.key, pa.struct([(name, pa.float64()) for name in a.values])) for a in schema.attributes]
    runner_up = pa.struct([("profile", profile), ("text", pa.string()), ("log_probability", pa.float64())])
    return pa.schema(
        [
            ("user_id", pa.string()),
            ("profile", profile),
            ("decided", profile),
            ("text", pa.string()),
            ("log_probability", pa.float64()),
            ("exact", pa.bool_()),
            ("probabilities", pa.struct(probabilities)),
            ("coverage", pa.float64()),
            ("runners_up", pa.list_(runner_up)),
            ("image_weights", pa.list_(pa.float64())),
            ("gate", pa.float64()),
            ("truth", profile),
            ("photos_left_out", pa.int64()),
            ("tokens_left_out", pa.int64()),
            ("problems", pa.list_(pa.string())),
        ]
    )


class PredictionFolder:
    """The folder of one run.

    Args:
        folder: created if it is not there.
        schema: of the profiles.
        ids: of the input's users, in order.
        shard_users: how many of them a shard has.
    """

    def __init__(self, folder: str | os.PathLike, schema: ProfileSchema, ids: list[str], shard_users: int):
        self.folder = Path(folder)
        self.schema = arrow_schema(schema)
        self.ids = ids
        self.shards = [range(i, min(i + shard_users, len(ids))) for i in range(0, len(ids), shard_users)]

    def begin(self, run: Mapping, overwrite: bool = False) -> None:
        """Makes the folder ready for a run, or for the rest of it.

        Args:
            run: all that the answers depend on, as JSON has it.
            overwrite: forget what the folder holds of another run.

        Raises:
            ValueError: if the folder holds another run, or other files.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        room, begun = self.folder / ROOM, self.folder / RUN
        if overwrite:
            shutil.rmtree(room, ignore_errors=True)
            for name in (RUN, RESULTS):
                (self.folder / name).unlink(missing_ok=True)
        if begun.exists():
            try:
                other = read_json(begun)
            except ValueError as error:
                raise ValueError(f"{error}; {OTHERWISE}") from error
            run = json.loads(json.dumps(run))
            if changed := [name for name in {**other, **run} if other.get(name) != run.get(name)]:
                was, now = ({name: values.get(name) for name in changed} for values in (other, run))
                reason = ": the input has other users, texts, photos, captions or true profiles" * ("users" in changed)
                raise ValueError(f"{self.folder} holds predictions with {was}, not {now}{reason}; {OTHERWISE}")
        elif not overwrite and any(not path.name.startswith(UNFINISHED) for path in self.folder.iterdir()):
            raise ValueError(f"{self.folder} holds other files; {OTHERWISE}")
        room.mkdir(parents=True, exist_ok=True)
        remove_unfinished(room)
        write_json(begun, run)

    def path(self, shard: int) -> Path:
        return self.folder / ROOM / f"part-{shard:05d}-of-{len(self.shards):05d}.parquet"

    def pending(self) -> list[int]:
        """The shards that are not finished.

        Raises:
            ValueError: if a finished shard has not the users that it should have.
        """
        pending = []
        for shard, rows in enumerate(self.shards):
            path = self.path(shard)
            if not path.exists():
                pending.append(shard)
            elif pq.read_table(path, columns=["user_id"])["user_id"].to_pylist() != self.ids[rows.start : rows.stop]:
                raise ValueError(f"{path} has not the users {rows.start} to {rows.stop - 1} of the input; delete it")
        return pending

    def write(self, shard: int, rows: Mapping[int, Mapping]) -> None:
        """Writes a shard; it stands whole or not at all.

        Args:
            shard: its number.
            rows: for each row number of the shard the columns' values; those that are missing are null.
        """
        columns = [{"user_id": self.ids[row], **rows[row]} for row in self.shards[shard]]
        with replacing(self.path(shard)) as temporary, open(temporary, "wb") as file:
            pq.write_table(pa.Table.from_pylist(columns, schema=self.schema), file)
            file.flush()
            os.fsync(file.fileno())

    def read(self, columns: list[str] | None = None) -> Iterator[dict]:
        """The rows of all shards, which are finished, in the input's order."""
        for shard in range(len(self.shards)):
            for batch in pq.ParquetFile(self.path(shard)).iter_batches(columns=columns):
                yield from batch.to_pylist()
