"""Tells what a user's answer depends on apart, before and after, at the cost of reading texts.

Of photos that stand in the dataset there is a look at the length and the end, of those that are files at the size and
the time of the last change: as `corpora.digest` takes them.
"""

import hashlib
import json
import os
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from corpora.digest import END, file_facts

DIGITS = 32


def user_digest(read: Callable[[], Any]) -> str:
    """32 hexadecimal digits: of the reviews, captions and photos that a model may see of a user, which of them belong
    together, and where the photos stand among all.

    Args:
        read: returns a `prediction.inputs.User` with facts in place of photos, or raises the `ValueError` that is the
            user's problem.
    """
    try:
        user = read()
    except ValueError as error:
        seen = {"error": str(error)}
    else:
        names = ("reviews", "captions", "images", "positions", "num_images", "photos_of")
        seen = {name: getattr(user, name) for name in names}
    return hashlib.sha256(json.dumps(seen).encode()).hexdigest()[:DIGITS]


def photos_as_facts(reviews: pa.Array) -> pa.ListArray:
    """A corpus' `reviews`, (users) lists, with `size` and `bytes`, which are the last ones, of each photo."""
    texts = reviews.flatten()
    fields = dict(zip((field.name for field in texts.type), texts.flatten(), strict=True))
    photos = fields["images"].flatten()
    facts = dict(zip((field.name for field in photos.type), photos.flatten(), strict=True))
    facts = {
        "bytes": pc.binary_slice(facts["bytes"], -END),
        "size": pc.binary_length(facts["bytes"]),
        "path": facts["path"],
    }
    images = _lists(fields["images"], _structs(facts, photos))
    return _lists(reviews, _structs({"text": fields["text"], "captions": fields["captions"], "images": images}, texts))


def facts_of(photo: dict) -> list | None:
    """What of a photo, one of `photos_as_facts`, a digest takes."""
    if photo["bytes"]:
        return [photo["size"], photo["bytes"].hex()]
    return photo["path"] and [photo["path"], file_facts(photo["path"])]


def file_facts_of(photo: Any) -> list | None:
    """What of a photo as a user has it, bytes or a path, a digest takes, wherever a path starts from."""
    if isinstance(photo, bytes):
        return [len(photo), photo[-END:].hex()]
    return photo and [os.path.abspath(photo), file_facts(photo)]


def _lists(of: pa.Array, values: pa.Array) -> pa.ListArray:
    """The lists of an array, with other values; an empty list where there is none."""
    counts = pc.fill_null(pc.list_value_length(of), 0).to_numpy(zero_copy_only=False)
    return pa.ListArray.from_arrays(pa.array([0, *counts.cumsum().tolist()], pa.int32()), values)


def _structs(fields: dict[str, pa.Array], of: pa.StructArray) -> pa.StructArray:
    return pa.StructArray.from_arrays(list(fields.values()), list(fields), mask=pc.is_null(of))
