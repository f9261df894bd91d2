"""Predictions on the disk: Parquet shards of a run that may be killed, and goes on where it stopped.

A run's folder holds `run.json`, what the answers depend on, and `predictions/`, one file a shard of the input's rows.
A shard is written under a temporary name and renamed, so that one that stands is whole; which rows it has follows from
its number alone, whichever process of however many writes it. `prediction.updating` brings a folder up to date with
another input, `prediction.forgetting` takes users out of it.
"""

import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from files.output_files import UNFINISHED, read_json, remove_unfinished, replacing, write_json
from mmprofile import ProfileSchema
from prediction.notes import noted

ROOM = "predictions"
GONE_FILE = "gone.parquet"  # among them: of users that are no longer in the input, see `prediction.updating`
RUN = "run.json"
RESULTS = "results.json"
TABLE = "table"  # of `prediction.flat`
OTHERWISE = "choose another output or --overwrite_output true"
COUNTED = ["text", "exact", "coverage", "photos_left_out", "tokens_left_out"]
ENCODINGS = "encodings"  # that are kept, see `prediction.encodings`
STAGE = "update"  # of an update that is not finished, see `prediction.updating`


def arrow_schema(schema: ProfileSchema, vector_size: int | None = None) -> pa.Schema:
    """The columns of a shard. Of a user without a prediction all but `user_id`, `truth` and `problems` are null.

    `decided` is the profile without what is not sure enough, null where no precision was asked for.
    `image_weights` has a number for each photo of the user in the input, 0 for one that the model did not see. `views`
    is how many the answer is of, without those in which no word stands.
    `digest` tells what the answer was found from, see `prediction.digests`; `gone_since` is when the user was missed
    first in the input, null for who is there. With a `vector_size` the last column is `vector`, lists of so many
    32-bit numbers.
    """
    vector = [] if vector_size is None else [("vector", pa.list_(pa.float32(), vector_size))]
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
            ("views", pa.int64()),
            ("truth", profile),
            ("photos_left_out", pa.int64()),
            ("tokens_left_out", pa.int64()),
            ("problems", pa.list_(pa.string())),
            ("digest", pa.string()),
            ("gone_since", pa.timestamp("us", tz="UTC")),
            *vector,
        ]
    )


class PredictionFolder:
    """The folder of one run.

    Args:
        folder: created if it is not there.
        schema: of the profiles.
        ids: of the input's users, in order.
        shard_users: how many of them a shard has.
        vector_size: see `arrow_schema`.
        digests: of what each of them has; None where nothing will be compared with it.

    Attributes:
        notes: what shards say of their model, see `model_notes`.
    """

    def __init__(
        self,
        folder: str | os.PathLike,
        schema: ProfileSchema,
        ids: list[str],
        shard_users: int,
        vector_size: int | None = None,
        digests: Sequence[str | None] | None = None,
    ):
        self.folder = Path(folder)
        self.schema = arrow_schema(schema, vector_size)
        self.notes: dict = {}
        self.ids, self.digests = ids, [None] * len(ids) if digests is None else list(digests)
        self.shards: list[Sequence[int]] = [
            range(len(ids))[i : i + shard_users] for i in range(0, len(ids), shard_users)
        ]

    def begin(self, run: Mapping, overwrite: bool = False, update: bool = False) -> None:
        """Makes the folder ready for a run, or for the rest of it.

        Args:
            run: all that the answers depend on, as JSON has it.
            overwrite: forget what the folder holds of another run.
            update: the users may be others. `run` is not written then: the folder holds the other run still.

        Raises:
            ValueError: if the folder holds another run, or other files.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        room, begun = self.folder / ROOM, self.folder / RUN
        if overwrite:
            for name in (ROOM, TABLE, STAGE, ENCODINGS):
                shutil.rmtree(self.folder / name, ignore_errors=True)
            for name in (RUN, RESULTS):
                (self.folder / name).unlink(missing_ok=True)
        if begun.exists():
            try:
                other = read_json(begun)
            except ValueError as error:
                raise ValueError(f"{error}; {OTHERWISE}") from error
            run = json.loads(json.dumps(run))
            names = [name for name in {**other, **run} if not (update and name == "users")]
            if changed := [name for name in names if other.get(name) != run.get(name)]:
                was, now = ({name: values.get(name) for name in changed} for values in (other, run))
                reason = ": the input has other users, texts, photos, captions or true profiles" * ("users" in changed)
                hint = "--update true, " * (changed == ["users"])
                raise ValueError(f"{self.folder} holds predictions with {was}, not {now}{reason}; {hint}{OTHERWISE}")
        elif not overwrite and any(not path.name.startswith(UNFINISHED) for path in self.folder.iterdir()):
            raise ValueError(f"{self.folder} holds other files; {OTHERWISE}")
        room.mkdir(parents=True, exist_ok=True)
        remove_unfinished(room)
        if not update:
            write_json(begun, run)

    def path(self, shard: int) -> Path:
        return self.folder / ROOM / f"part-{shard:05d}-of-{len(self.shards):05d}.parquet"

    def pending(self) -> list[int]:
        """The shards that are not finished.

        Raises:
            ValueError: if a finished shard has not the users that it should have, or has other columns.
        """
        pending = []
        for shard, rows in enumerate(self.shards):
            path = self.path(shard)
            if not path.exists():
                pending.append(shard)
                continue
            check_columns(path, self.schema)
            found = pq.read_table(path, columns=["user_id", "digest"])
            if found["user_id"].to_pylist() != [self.ids[row] for row in rows]:
                raise ValueError(f"{path} has not the users {rows[0]} to {rows[-1]} of the input; delete it")
            if found["digest"].to_pylist() != [self.digests[row] for row in rows]:
                raise ValueError(f"{path} is of other reviews, photos or captions; --update true, or {OTHERWISE}")
        return pending

    def write(self, shard: int, rows: Mapping[int, Mapping]) -> None:
        """Writes a shard; it stands whole or not at all.

        Args:
            shard: its number.
            rows: for each row number of the shard the columns' values; those that are missing are null.
        """
        columns = [{"user_id": self.ids[r], "digest": self.digests[r], **rows[r]} for r in self.shards[shard]]
        write_parquet(self.path(shard), pa.Table.from_pylist(columns, schema=noted(self.schema, self.notes)))

    def read(self, columns: list[str] | None = None) -> Iterator[dict]:
        """The rows of all shards, which are finished, in the input's order."""
        for shard in range(len(self.shards)):
            for batch in pq.ParquetFile(self.path(shard)).iter_batches(columns=columns):
                yield from batch.to_pylist()


def write_parquet(path: Path, table: pa.Table) -> None:
    """Writes a Parquet file; it stands whole or not at all."""
    with replacing(path) as temporary, open(temporary, "wb") as file:
        pq.write_table(table, file)
        file.flush()
        os.fsync(file.fileno())


def check_columns(path: Path, schema: pa.Schema) -> None:
    """Raises a `ValueError` where a file has not the columns of `arrow_schema`: another version wrote it."""
    found = pq.read_schema(path)
    if not found.equals(schema):
        raise ValueError(f"{path} has the columns {found.names}, not {schema.names} of these types; {OTHERWISE}")


def count_rows(rows: Iterable[Mapping]) -> dict:
    """Figures of predictions, as `results.json` has them, from their columns `COUNTED`."""
    number, predicted, exact, coverage, left_out, shortened = 0, 0, 0, 0.0, 0, 0
    for row in rows:
        number += 1
        predicted += row["text"] is not None
        exact += bool(row["exact"])
        coverage += row["coverage"] or 0
        left_out += row["photos_left_out"]
        shortened += row["tokens_left_out"] > 0
    return {
        "users": number,
        "predicted": predicted,
        "not_predicted": number - predicted,
        "photos_left_out": left_out,
        "texts_shortened": shortened,
        "exact_share": exact / predicted if predicted else None,
        "mean_coverage": coverage / predicted if predicted else None,
    }
