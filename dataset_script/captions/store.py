"""What captioning has on the disk: a corpus' Parquet shards, and the captions of a run that may be killed.

A run keeps what it has in the folder `.NAME.captioning` beside its output NAME: `run.json`, what the captions depend
on; `journal/`, a JSONL file for each process of each start, a line a photo; and `corpus/`, the output as far as it is
written. What a process has put on the disk stays, whatever kills it: a start reads all journals, leaves out the line
that a kill has cut, and writes a journal of its own. `corpus` becomes NAME by a rename at the very end.
"""

import contextlib
import fcntl
import json
import os
import secrets
import shutil
import sys
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

CARD = "README.md"
# What a Parquet path has for each list, under the names of several writers; the field names are what is left.
LIST_LEVELS = {"list", "element", "item", "bag", "array"}
# 64-bit offsets: the strings of a large corpus take more than 2 GiB.
TEXT = pa.large_string()
CAPTION_SCHEMA = pa.schema([("photo_id", TEXT), ("caption", TEXT), ("problem", TEXT)])


# ---------------------------------------------------------------------------------------------------------------------
# Shards


class Survey(NamedTuple):
    """The distinct photos of a corpus, in the order in which they first occur.

    ids: strings (photos,).
    places: int64 (photos, 3), where a photo first occurs: shard, row group, number among the row group's photos.
    """

    ids: pa.Array
    places: np.ndarray


def find_shards(corpus: Path) -> list[Path]:
    """The Parquet files of a corpus, relative to its folder, in order.

    Raises:
        ValueError: if there are none.
    """
    shards = [path for path in corpus_files(corpus) if path.suffix == ".parquet"]
    if not shards:
        raise ValueError(
            f"dataset must be a folder with a corpus' Parquet files, got {str(corpus)!r}; one of the Hub comes with"
            " hf download --repo-type dataset NAME --local-dir FOLDER"
        )
    return shards


def corpus_files(corpus: Path) -> list[Path]:
    """Every file of the folder, relative to it, but hidden ones: git's, those of downloads, and what macOS leaves."""
    files = (path.relative_to(corpus) for path in corpus.rglob("*") if path.is_file())
    return sorted(path for path in files if not any(part.startswith(".") for part in path.parts))


def survey_photos(corpus: Path, shards: Sequence[Path]) -> Survey:
    """Finds every photo once, without reading one.

    Raises:
        ValueError: if a shard is broken or has other columns, or its photos have not an id and a caption field each.
    """
    chunks, groups, sizes = [], [], []
    for number, shard in enumerate(shards):
        with open_shard(corpus / shard) as file:
            for group in range(file.num_row_groups):
                ids = _photo_ids(file, group, shard)
                chunks += ids
                groups.append((number, group))
                sizes.append(sum(map(len, ids)))
    ids = pa.chunked_array(chunks, TEXT)
    distinct = pc.unique(ids)
    # Numbers in the order of first occurrence, so a photo is new where the number exceeds all before it.
    numbers = pc.index_in(ids, value_set=distinct).to_numpy()
    first = np.flatnonzero(np.diff(np.maximum.accumulate(numbers), prepend=-1))
    ends = np.cumsum(sizes, dtype=np.int64)
    group = np.searchsorted(ends, first, side="right")
    starts = ends - np.asarray(sizes, dtype=np.int64)
    places = np.column_stack([np.asarray(groups, dtype=np.int64).reshape(-1, 2)[group], first - starts[group]])
    return Survey(distinct, places)


def open_shard(path: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(path)
    except pa.ArrowInvalid as error:
        raise ValueError(f"{path} is no whole Parquet file: {error}") from None


def _leaves(file: pq.ParquetFile, *fields: str) -> list[str]:
    """The Parquet paths of fields of a review, such as `images.path`."""
    paths = [file.metadata.schema.column(i).path for i in range(file.metadata.num_columns)]
    named = {".".join(part for part in path.split(".") if part not in LIST_LEVELS): path for path in paths}
    if missing := [field for field in fields if f"reviews.{field}" not in named]:
        raise ValueError(f"a shard must have the columns {list(fields)} in its reviews, it lacks {missing}")
    return [named[f"reviews.{field}"] for field in fields]


def _photo_ids(file: pq.ParquetFile, group: int, shard: Path) -> list[pa.Array]:
    try:
        columns = _leaves(file, "photo_ids", "images.path", "photo_captions", "captions")
        reviews = file.read_row_group(group, columns=columns[:3], use_threads=False)["reviews"]
    except (ValueError, OSError) as error:
        raise ValueError(f"{shard}: {error}") from None
    chunks = []
    for chunk in reviews.chunks:
        review = chunk.flatten()
        lengths = [pc.list_value_length(review.field(name)) for name in ("photo_ids", "images", "photo_captions")]
        ids = review.field("photo_ids").flatten()
        if not lengths[0].equals(lengths[1]) or not lengths[0].equals(lengths[2]) or ids.null_count:
            raise ValueError(f"{shard}: every photo of a review must have an entry in photo_ids and photo_captions")
        chunks.append(ids.cast(TEXT))
    return chunks


def read_photos(path: Path, group: int) -> pa.ChunkedArray:
    """The bytes of a row group's photos, in the survey's order; null for one that is not in the file."""
    with open_shard(path) as file:
        reviews = file.read_row_group(group, columns=_leaves(file, "images.bytes"), use_threads=False)["reviews"]
    chunks = [chunk.flatten().field("images").flatten().field("bytes") for chunk in reviews.chunks]
    return pa.chunked_array(chunks, pa.binary())


Fill = Callable[[pa.StructArray], pa.ListArray]


def fill_from(captions: pa.Table) -> Fill:
    """Fills the column with the captions of a table, `CAPTION_SCHEMA`, by photo_id; null where it has none."""
    # An empty caption is none.
    texts = pc.if_else(pc.equal(captions["caption"], ""), None, captions["caption"]).combine_chunks()
    ids = captions["photo_id"].combine_chunks()

    def fill(reviews: pa.StructArray) -> pa.ListArray:
        lists = reviews.field("photo_ids")
        return _with_values(lists, texts.take(pc.index_in(lists.values.cast(TEXT), value_set=ids)))

    return fill


def fill_from_people(reviews: pa.StructArray) -> pa.ListArray:
    """Fills the column with what people wrote under their photos; null where nothing."""
    lists = reviews.field("photo_captions")
    return _with_values(lists, pc.if_else(pc.equal(lists.values, ""), None, lists.values))


def _with_values(lists: pa.ListArray, values: pa.Array) -> pa.ListArray:
    """Other values in the same lists."""
    kind = pa.list_(pa.field(lists.type.value_field.name, values.type))
    return pa.Array.from_buffers(kind, len(lists), lists.buffers()[:2], lists.null_count, lists.offset, [values])


def write_shard(source: Path, target: Path, scratch: Path, fill: Fill) -> None:
    """Writes a shard again with other captions: same row groups, encodings and metadata.

    Args:
        target: where it then stands, whole or not at all.
        scratch: where it stands until then, in the same file system.
    """
    with open_shard(source) as file:
        if file.metadata.num_rows == 0:
            shutil.copyfile(source, scratch)
        else:
            _write_row_groups(file, scratch, fill)
    with open(scratch, "rb+") as written:
        os.fsync(written.fileno())
    target.parent.mkdir(parents=True, exist_ok=True)
    os.replace(scratch, target)


def _write_row_groups(file: pq.ParquetFile, path: Path, fill: Fill) -> None:
    schema = file.schema_arrow
    index = schema.get_field_index("reviews")
    with pq.ParquetWriter(path, schema, **_writer_options(file.metadata)) as writer:
        for group in range(file.num_row_groups):
            table = file.read_row_group(group, use_threads=False)
            filled = [_with_captions(chunk, fill) for chunk in table["reviews"].chunks]
            column = pa.chunked_array(filled, schema.field(index).type)
            writer.write_table(table.set_column(index, schema.field(index), column), row_group_size=len(table))


def _with_captions(reviews: pa.ListArray, fill: Fill) -> pa.ListArray:
    review = reviews.values
    fields = list(review.type)
    columns = [
        fill(review).cast(field.type) if field.name == "captions" else review.field(field.name) for field in fields
    ]
    filled = pa.StructArray.from_arrays(columns, fields=fields, mask=review.is_null())
    validity_and_offsets = reviews.buffers()[:2]
    return pa.Array.from_buffers(
        reviews.type, len(reviews), validity_and_offsets, reviews.null_count, reviews.offset, [filled]
    )


def _writer_options(metadata: pq.FileMetaData) -> dict:
    """How the file was written, so that the Hub finds the parts of it that it already has."""
    columns = [metadata.row_group(0).column(i) for i in range(metadata.num_columns)]
    chunking = (metadata.metadata or {}).get(b"content_defined_chunking")
    return {
        "compression": {c.path_in_schema: c.compression.replace("UNCOMPRESSED", "NONE") for c in columns},
        "use_dictionary": [c.path_in_schema for c in columns if c.has_dictionary_page],
        "write_page_index": columns[0].has_column_index,
        "use_content_defined_chunking": json.loads(chunking) if chunking else False,
    }


def caption_bytes(path: Path) -> int:
    """How much memory a shard's captions take in Arrow, as a dataset card counts it."""
    with open_shard(path) as file:
        return file.read(columns=_leaves(file, "captions"), use_threads=False).nbytes


# ---------------------------------------------------------------------------------------------------------------------
# Runs


class CaptionRun:
    """The folder of one run.

    Args:
        output: where the captioned corpus shall stand.
    """

    def __init__(self, output: Path):
        self.output = output
        self.folder = output.with_name(f".{output.name}.captioning")
        self.corpus = self.folder / "corpus"
        self._journals = self.folder / "journal"
        self._settings = self.folder / "run.json"
        self._earlier = self.folder / "earlier"
        self._whole = self.folder / "corpus-is-whole"

    def take(self, process: int = 0) -> None:
        """Keeps other runs out as long as this one lives in its process; the main process, 0, comes first.

        Raises:
            ValueError: if a process of another start is still alive, or there can be no such folder.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ValueError(f"output must be a folder that can be written, got {self.output}: {error}") from None
        # A process locks the byte of its number. The lock ends with the process, and workers that it forks lack it.
        lock = open(self.folder / "lock", "ab")  # noqa: SIM115
        weakref.finalize(self, lock.close)
        everything, mine = (0, 0), (1, process)
        try:
            fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB, *(mine if process else everything))
            if process == 0:
                fcntl.lockf(lock, fcntl.LOCK_UN, 0, 1)  # from byte 1 to the end
        except (BlockingIOError, PermissionError):
            raise ValueError(
                f"another process is still at work in {self.folder}; wait for its end, or end it"
            ) from None
        except OSError as error:  # some file systems of clusters have no locks
            print(f"{self.folder} cannot be locked ({error}): start no second run for it", file=sys.stderr)

    def begin(self, settings: Mapping, overwrite: bool = False) -> None:
        """Makes the folder ready for a run, or for the rest of it.

        Args:
            settings: all that the captions depend on, as JSON has it.
            overwrite: forget what the folder holds of another run.

        Raises:
            ValueError: if the folder holds another run.
        """
        other = self.settings() if self._settings.exists() else {}
        changed = sorted(name for name in {**other, **settings} if other.get(name) != settings.get(name))
        if other and changed and not overwrite:
            was, now = ({name: values.get(name) for name in changed} for values in (other, settings))
            raise ValueError(
                f"{self.folder} holds captions with {was}, not {now}; choose another output or --overwrite_output"
            )
        if changed:
            self._settings.unlink(missing_ok=True)
            for room in (self._journals, self.corpus):
                shutil.rmtree(room, ignore_errors=True)
        self._journals.mkdir(exist_ok=True)
        unfinished = self._settings.with_suffix(".unfinished")
        unfinished.write_text(json.dumps(settings, indent=2), encoding="utf-8")
        os.replace(unfinished, self._settings)

    def settings(self) -> dict:
        return json.loads(self._settings.read_text(encoding="utf-8"))

    @contextlib.contextmanager
    def journal(self, process: int):
        """A function that puts captions on the disk: rows of `CAPTION_SCHEMA`, safe once it returns."""
        path = self._journals / f"{process:05d}-{secrets.token_hex(4)}.jsonl"
        with open(path, "xb") as file:

            def write(rows: Iterable[Mapping[str, str | None]]) -> None:
                file.write(b"".join(json.dumps(row).encode() + b"\n" for row in rows))
                file.flush()
                os.fsync(file.fileno())

            yield write

    def captions(self) -> pa.Table:
        """What all starts of the run have put on the disk, `CAPTION_SCHEMA`. Lines that are not whole are left out."""
        tables = [CAPTION_SCHEMA.empty_table()]
        for path in sorted(self._journals.glob("*.jsonl")):
            whole, _, _ = path.read_bytes().rpartition(b"\n")
            rows = []
            for line in whole.split(b"\n"):
                with contextlib.suppress(ValueError):
                    rows.append(json.loads(line))
            tables.append(pa.Table.from_pylist(rows, schema=CAPTION_SCHEMA))
        return pa.concat_tables(tables)

    def scratch(self, process: int) -> Path:
        return self.folder / f"{process:05d}.unfinished"

    def was_published(self) -> bool:
        """Completes the publication of a run that was killed in it."""
        if whole := self._whole.exists():
            self.publish()
            print(f"{self.output} was complete already, and now is in its place")
        return whole

    def publish(self) -> None:
        """Puts the corpus, which is whole, in the output's place, and forgets the run."""
        self._whole.touch()
        if self.corpus.exists():
            if self.output.exists():
                self.output.rename(self._earlier)
            self.corpus.rename(self.output)
        shutil.rmtree(self.folder)
