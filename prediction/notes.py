"""What a shard says of itself in its Parquet metadata, so that a file alone tells which model wrote it and when."""

import hashlib
import json
from collections.abc import Mapping
from datetime import UTC, datetime

import pyarrow as pa

from files.public_names import public_name
from mmprofile import ProfileSchema

KEY = b"mmprofile"  # of the metadata; its value is JSON


def model_notes(model: str, revision: str | None, schema: ProfileSchema, run: Mapping) -> dict:
    """What there is to say of all shards of a run.

    Args:
        model: as it was given, a folder or a name of the Hub.
        revision: the commit; None of a folder.
        run: what stands in the folder's `run.json`: of the model's files it has the digests.

    Returns:
        `model`, of a folder the last part of its path: predictions are handed on; `revision`; `model_digest`, 16
        hexadecimal digits over all files of the model; and `profile_schema`.
    """
    files = {name: digest for name, digest in run.items() if name.startswith("model's ")}
    digest = hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()[:16]
    return {
        "model": public_name(model),
        "revision": revision,
        "model_digest": digest,
        "profile_schema": schema.to_list(),
    }


def noted(schema: pa.Schema, notes: Mapping) -> pa.Schema:
    """The columns with these notes, and `predicted_at`, now in UTC, as ISO 8601 has it."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return schema.with_metadata({KEY: json.dumps({**notes, "predicted_at": now})})


def notes_of(schema: pa.Schema) -> dict:
    """What `noted` has added; nothing of a file without notes."""
    return json.loads((schema.metadata or {}).get(KEY, b"{}"))
