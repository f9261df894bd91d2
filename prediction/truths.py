"""The true profiles of users, once they are known: of a JSONL or Parquet file, or of a corpus."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Features

from corpora.checks import labels_schema
from corpora.columns import is_text_profile
from corpora.opening import open_corpus, table_kind
from mmprofile import Profile, ProfileSchema, shown

COLUMNS = ["user_id", "profile"]


def read_truths(
    name: str, config: str | None, split: str, revision: str | None, schema: ProfileSchema
) -> dict[str, Profile]:
    """User id -> profile. Of a user whose profile is null nothing is known, who is left out.

    Args:
        name: a JSONL file, a line for each user with `user_id` and `profile` (`{"stars": "4", ...}`) and perhaps other
            fields; a Parquet file with these two columns, the profile's values as texts or class labels; or a corpus
            that `open_corpus` takes.
        config, split, revision: of the corpus.
        schema: of the predictions.

    Raises:
        ValueError: if there is no such file or split, it has no profiles or those of another schema, a line or a row
            is not valid, an id occurs twice, or no profile is known.
    """
    path = Path(name)
    kind = table_kind(path) if path.is_file() else "corpus"
    rows = _lines(path) if kind is None else _rows(name, kind, config, split, revision, schema)
    truths: dict[str, Profile] = {}
    seen = set()
    for where, user, profile in rows:
        if not isinstance(user, str):
            raise ValueError(f"{where} of {name!r}: a user_id is a text, got {shown(user)}")
        if user in seen:
            raise ValueError(f"{where} of {name!r}: user_id {shown(user)} occurs twice")
        seen.add(user)
        if not _is_known(profile):
            continue
        try:
            truths[user] = schema.validate(profile)
        except (ValueError, TypeError) as error:
            raise ValueError(f"{where} of {name!r}, user {shown(user)}: {error}") from None
    if not truths:
        raise ValueError(f"{name!r} has no true profile")
    return truths


def _is_known(profile: Any) -> bool:
    """Whether there is anything in it; columns of structs may have one of nulls for none."""
    values = profile.values() if isinstance(profile, dict) else [profile]
    return any(value is not None and value != [] for value in values)


def _lines(path: Path) -> Iterator[tuple[str, Any, Any]]:
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                fields = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise ValueError(f"line {number} of {str(path)!r} is not JSON: {error}") from None
            if not isinstance(fields, dict) or not set(COLUMNS) <= set(fields):
                raise ValueError(f"line {number} of {str(path)!r} needs an object with user_id and profile")
            yield f"line {number}", fields["user_id"], fields["profile"]


def _rows(
    name: str, kind: str, config: str | None, split: str, revision: str | None, schema: ProfileSchema
) -> Iterator[tuple[str, Any, Any]]:
    if kind == "parquet":  # which need not have reviews, as a corpus
        _check_columns(name, pq.read_schema(name).names)
        table = pq.read_table(name, columns=COLUMNS)
        rows, features = table.to_pylist(), Features.from_arrow_schema(table.schema)
        profiles = table.schema.field("profile").type
    else:
        splits = open_corpus(name, config, revision)
        if split not in splits:
            raise ValueError(f"{name!r} has the splits {list(splits)}, not {split!r}")
        _check_columns(name, splits[split].column_names)
        dataset: Any = splits[split].select_columns(COLUMNS)
        rows, features, profiles = dataset, dataset.features, dataset.data.schema.field("profile").type
    if pa.types.is_null(profiles):
        return
    has_labels = not is_text_profile(profiles)
    if has_labels and (given := labels_schema(features)) != schema:
        raise ValueError(f"the predictions are of {schema.to_list()}, {name!r} has {given.to_list()}")
    for number, row in enumerate(rows):
        profile = row["profile"]
        if has_labels and _is_known(profile):
            try:
                profile = schema.profile_from_labels(profile)
            except (ValueError, TypeError) as error:
                raise ValueError(f"row {number} of {name!r}, user {shown(row['user_id'])}: {error}") from None
        yield f"row {number}", row["user_id"], profile


def _check_columns(name: str, columns: list[str]) -> None:
    if missing := [column for column in COLUMNS if column not in columns]:
        raise ValueError(f"true profiles have the columns {COLUMNS}, {name!r} lacks {missing}")
