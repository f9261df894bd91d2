"""From a name to a corpus' splits; what is wrong with the files is said in a sentence, before they are read."""

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Dataset, DatasetDict, Features, load_dataset, load_dataset_builder, load_from_disk
from datasets.data_files import DataFilesDict, get_data_patterns
from datasets.exceptions import DatasetGenerationError

from corpora.columns import type_in_words, unified

# How a file begins -> the builder of datasets that reads it.
BUILDERS = {b"PAR1": "parquet", b"ARROW1": "arrow"}
SUFFIXES = {".parquet": "parquet", ".arrow": "arrow"}
PACKED = {b"\x1f\x8b": "gzip", b"PK\x03\x04": "zip", b"(\xb5/\xfd": "zstd"}
SAVED = ("dataset_dict.json", "state.json")  # of `save_to_disk`


def open_corpus(name: str, config: str | None = None, revision: str | None = None) -> DatasetDict:
    """The splits of what `load_dataset` takes, of a folder of `save_to_disk`, or the one of a Parquet or Arrow file.

    Photos' paths are relative to the folder, as those of a JSONL file are.

    Args:
        config: a configuration of it, by name.
        revision: a branch, tag or commit of a corpus of the Hub; default: main.

    Raises:
        ValueError: if there is none, a folder or file is to have a revision, a file cannot be read, the files do not
            fit one another, or a column cannot be read here.
    """
    _check_revision(name, revision)
    with _explained(name):
        splits = _load(name, config, revision)
    return DatasetDict({split: unified(dataset, photo_folder(name)) for split, dataset in splits.items()})


class NotStreamable(ValueError):
    """A corpus that can be read whole alone."""


class Opened(NamedTuple):
    """A corpus of which one split is to be streamed: its files, and what they say `features` are if that stands
    beside them; the other splits are read whole."""

    splits: DatasetDict
    files: list[str]
    features: Features | None


def open_beside_stream(
    name: str, config: str | None = None, revision: str | None = None, streamed: str = "train"
) -> Opened:
    """A corpus of Parquet files as `open_corpus` opens it, but for one split, whose files are found and not read.

    Args:
        name: a folder, a name on the Hub, or a URL of a folder that fsspec reads, as s3://bucket/corpus.
        config, revision: as of `open_corpus`.

    Raises:
        NotStreamable: if the files are not Parquet, or the split has none.
        ValueError: as of `open_corpus`.
    """
    _check_revision(name, revision)
    with _explained(name):
        builder = _find(name, config, revision)
    files = {str(split): list(found) for split, found in (builder.config.data_files or {}).items()}
    if builder.name != "parquet" or streamed not in files:
        raise NotStreamable(
            f"streaming reads Parquet files, and {name!r} has {sorted(files)} of {builder.name}; Dataset.to_parquet"
            " writes them"
        )
    features, paths = builder.info.features, [Path(path) for found in files.values() for path in found]
    check_parquet(path for path in paths if path.is_file())
    rest: dict = {split: found for split, found in files.items() if split != streamed}
    with _explained(name):
        local = [Path(path) for found in rest.values() for path in found if Path(path).is_file()]
        joint = features or joint_features(local)
        others = load_dataset("parquet", data_files=rest, features=joint) if rest else DatasetDict()
    assert isinstance(others, DatasetDict)  # all splits, where none is asked for
    splits = DatasetDict({split: unified(dataset, photo_folder(name)) for split, dataset in others.items()})
    return Opened(splits, files[streamed], features)


def _check_revision(name: str, revision: str | None) -> None:
    if revision is not None and (Path(name).exists() or "://" in name):
        raise ValueError(f"--dataset_revision {revision} is for a corpus of the Hub, {name!r} is here")


def photo_folder(name: str) -> Path | str:
    """To which the photos' paths of a corpus are relative."""
    path = Path(name)
    return path.parent if path.is_file() else path if path.is_dir() else ""


@contextmanager
def _explained(name: str) -> Iterator[None]:
    """Gives what `datasets` raises in its block as a `ValueError` that names the corpus."""
    try:
        yield
    except (OSError, RuntimeError) as error:  # the latter of a loading script
        raise ValueError(f"there is no corpus {name!r}: {error}") from error
    except (DatasetGenerationError, pa.ArrowException) as error:
        reason = str(error.__cause__ or error).strip().splitlines()[0]
        raise ValueError(
            f"the files of {name!r} cannot be read as one: each needs the same columns of the same types ({reason})"
        ) from error


def table_kind(path: Path) -> str | None:
    """The builder of datasets that reads a file, None for lines of text.

    Raises:
        ValueError: if the file is packed, or none of what its name says.
    """
    with open(path, "rb") as file:
        beginning = file.read(8)
    for start, kind in PACKED.items():
        if beginning.startswith(start):
            raise ValueError(f"{str(path)!r} is packed ({kind}); unpack it first")
    for start, kind in BUILDERS.items():
        if beginning.startswith(start):
            return kind
    named = SUFFIXES.get(path.suffix.lower())
    if named == "parquet":
        raise ValueError(f"{str(path)!r} is {'empty' if not beginning else 'no Parquet file'}")
    return named


def check_parquet(paths: Iterable[Path]) -> None:
    """Raises a `ValueError` that names the first file which is not whole, has a column that `datasets` cannot read, or
    does not fit those before it."""
    columns, labels, kinds = {}, {}, {}  # -> the first file that has them
    for path in paths:
        table_kind(path)
        try:
            schema, metadata = pq.read_schema(path), pq.read_metadata(path)
        except pa.ArrowException:
            raise ValueError(f"{str(path)!r} is not a whole Parquet file") from None
        if metadata.num_row_groups and not metadata.num_rows:  # which `datasets` cannot read
            raise ValueError(f"{str(path)!r} has no rows; a corpus is without it")
        _check_types(schema, path)
        if kind := _photo_kind(schema):
            kinds.setdefault(kind, path)
        if len(kinds) > 1:
            found = " and ".join(f"{kind} in {str(path)!r}" for kind, path in kinds.items())
            raise ValueError(f"photos are written in one way in all files of a corpus, got {found}")
        columns.setdefault(tuple(sorted(schema.names)), path)
        written = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
        if profile := (written.get("info", {}).get("features") or {}).get("profile"):
            labels.setdefault(json.dumps(profile), path)
        if len(columns) > 1:
            found = "; ".join(f"{str(path)!r} has {', '.join(names)}" for names, path in columns.items())
            raise ValueError(f"the files of a corpus have the same columns: {found}")
        if len(labels) > 1:
            found = " and ".join(repr(str(path)) for path in labels.values())
            raise ValueError(f"the files of a corpus have the same class labels, those of {found} differ")


def _check_types(schema: pa.Schema, path: Path) -> None:
    for field in schema:
        try:
            Features.from_arrow_schema(pa.schema([field]))
        except ValueError:
            raise ValueError(
                f"{str(path)!r}: the column {field.name} has {type_in_words(field.type)}, for which datasets has no"
                " type; leave it out, or write it as text"
            ) from None


def _photo_kind(schema: pa.Schema) -> str | None:
    """How a file has its photos; None where it has none, or no column of reviews."""
    try:
        photo = schema.field("reviews").type.value_type.field("images").type.value_type
    except (KeyError, AttributeError, TypeError):  # the last of a list of what has no fields
        return None
    if pa.types.is_null(photo):
        return None
    is_bytes = pa.types.is_binary(photo) or pa.types.is_large_binary(photo)
    return "structs" if pa.types.is_struct(photo) else "bytes" if is_bytes else "paths"


def joint_features(paths: Sequence[Path]) -> Features | None:
    """What holds the columns of all Parquet files, where the first file's types, which `datasets` takes, do not: of
    nothing but nulls there is no type, in one file no photo may have bytes, in another none a path."""
    schemas = [pq.read_schema(path) for path in paths]
    try:
        merged = pa.unify_schemas(schemas, promote_options="permissive") if schemas else pa.schema([])
    except pa.ArrowException:  # `open_corpus` says so
        return None
    wider = [
        name
        for name in merged.names
        if merged.field(name).type != schemas[0].field(name).type
        and (name in ("user_id", "reviews") or pa.types.is_null(schemas[0].field(name).type))
    ]
    if not wider:
        return None
    held = Features.from_arrow_schema(pa.schema([merged.field(name) for name in wider]))
    return Features(Features.from_arrow_schema(schemas[0]) | held)


def _find(name: str, config: str | None, revision: str | None):
    """The builder that knows a corpus' files."""
    if "://" not in name:
        return load_dataset_builder(name, config, revision=revision)
    patterns = DataFilesDict.from_patterns(get_data_patterns(name), base_path=name)
    return load_dataset_builder("parquet", data_files={str(split): list(found) for split, found in patterns.items()})


def _load(name: str, config: str | None, revision: str | None) -> DatasetDict:
    path = Path(name)
    if any((path / file).is_file() for file in SAVED):
        found = load_from_disk(name)
        return DatasetDict({"train": found}) if isinstance(found, Dataset) else found
    kind = table_kind(path) if path.is_file() else None
    builder = (
        load_dataset_builder(kind, data_files=name) if kind else load_dataset_builder(name, config, revision=revision)
    )
    files = [Path(file) for split in (builder.config.data_files or {}).values() for file in split]
    files = [path for path in files if path.suffix == ".parquet" and path.is_file()]
    check_parquet(files)
    if features := joint_features(files):
        builder = load_dataset_builder(name, config, features=features, revision=revision)
    builder.download_and_prepare()  # what `load_dataset` does with a builder
    found = builder.as_dataset()
    assert isinstance(found, DatasetDict)  # all splits, where none is asked for
    return found
