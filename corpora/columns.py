"""A corpus' columns as they are read here, from what other programs write: pandas, pyarrow, `Dataset.from_list`.

`reviews` becomes a list of structs in which `text` is a string, `images` a list of structs of `bytes` and `path`, and
`captions` a list of strings; other fields of a review stay. Photos' bytes are neither copied nor decoded.
"""

import os
from collections.abc import Callable

import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset, Features
from datasets.table import InMemoryTable

REVIEW_COLUMNS = ("text", "images", "captions")


def unified(dataset: Dataset, folder: str | os.PathLike = "") -> Dataset:
    """A dataset as `load_dataset` returns it, with `user_id` and `reviews` as they are read here.

    Args:
        folder: to which photos' paths are relative, where there are no bytes.

    Raises:
        ValueError: if a column is missing, or of a type that cannot become what is read.
    """
    found = unified_columns(dataset.data.table, folder)
    table = dataset.data.replace_schema_metadata(None)  # whose features are those of before
    # What is right already stays where it is, on the disk: other processes find it there.
    is_other = any(column.type != table.column(name).type for name, column in found.items())
    if is_other or _any_path(found["reviews"].chunks):
        changed = table.table
        for name, column in found.items():
            changed = changed.set_column(changed.column_names.index(name), name, column)
        table = InMemoryTable(changed)
    info = dataset.info.copy()
    read = Features.from_arrow_schema(pa.schema([(name, column.type) for name, column in found.items()]))
    info.features = Features(dict(dataset.features) | read)
    return Dataset(table, info=info, split=dataset.split)


def unified_columns(table: pa.Table, folder: str | os.PathLike = "") -> dict[str, pa.ChunkedArray]:
    """The columns `user_id` and `reviews` of a table as they are read here; arguments and errors as of `unified`."""
    if missing := {"user_id", "reviews"} - set(table.column_names):
        raise ValueError(f"the dataset needs the columns user_id and reviews, {sorted(missing)} missing")
    ids, reviews = (table.column(name) for name in ("user_id", "reviews"))
    if not _is_text(ids.type):
        raise ValueError(
            f"a user_id is a text, got {type_in_words(ids.type)}; convert the column (astype(str) in pandas)"
        )
    _check_reviews(reviews.type)
    chunks = [_reviews(chunk, os.fspath(folder)) for chunk in reviews.chunks]
    unified_reviews = pa.chunked_array(chunks, chunks[0].type) if chunks else reviews
    return {"user_id": pc.cast(ids, pa.string()), "reviews": unified_reviews}


def is_text_profile(kind: pa.DataType) -> bool:
    """Whether a column `profile` has for each attribute a text or a list of texts, and no class labels."""
    return pa.types.is_struct(kind) and all(
        _is_text(field.type) or (_is_list(field.type) and _is_text(field.type.value_type)) for field in kind
    )


def _check_reviews(kind: pa.DataType) -> None:
    what = "reviews are a list of structs of text, images and captions, for each user"
    if not _is_list(kind) or not pa.types.is_struct(kind.value_type):
        raise ValueError(f"{what}, got {type_in_words(kind)}")
    fields = {field.name: field.type for field in kind.value_type}
    if missing := [name for name in REVIEW_COLUMNS if name not in fields]:
        raise ValueError(f"{what}, {', '.join(missing)} missing (null where there is none)")
    if not _is_text(fields["text"]):
        raise ValueError(f"the text of a review is a text, got {type_in_words(fields['text'])}")
    if not _is_null_or_list(fields["captions"], _is_text):
        raise ValueError(f"the captions of a review are a list of texts, got {type_in_words(fields['captions'])}")
    if not _is_null_or_list(fields["images"], _is_photo):
        raise ValueError(
            "the images of a review are a list of photos, each its file's bytes, its path or a struct of bytes and"
            f" path, got {type_in_words(fields['images'])}"
        )


def _reviews(column: pa.Array, folder: str) -> pa.ListArray:
    """(users) -> (users): lists of reviews."""

    def review(values: pa.StructArray) -> pa.StructArray:
        fields = _fields(values)
        fields["text"] = pc.cast(fields["text"], pa.string())
        fields["captions"] = _lists(fields["captions"], lambda captions: pc.cast(captions, pa.string()))
        fields["images"] = _lists(fields["images"], lambda photos: _photos(photos, folder))
        return _struct(fields, values)

    return _lists(column, review)


def _any_path(chunks: list[pa.Array]) -> bool:
    """Whether there is but a path of a photo."""
    for chunk in chunks:
        photos = chunk.values.field("images").values  # to flatten lists of which some are null copies their values
        content, path = (photos.field(name) for name in ("bytes", "path"))
        if pc.any(pc.and_(pc.is_null(content), pc.is_valid(path))).as_py():
            return True
    return False


def _photos(values: pa.Array, folder: str) -> pa.StructArray:
    """(photos) -> (photos): structs of bytes and path."""
    kind, fields = values.type, {}
    if pa.types.is_struct(kind):
        fields = _fields(values)
    elif _is_bytes(kind):
        fields["bytes"] = values
    elif _is_text(kind):
        fields["path"] = values
    content, path = (fields.get(name, pa.nulls(len(values))) for name in ("bytes", "path"))
    if not pa.types.is_large_binary(content.type):  # of which one chunk may hold more than binary can
        content = pc.cast(content, pa.binary())
    path = pc.cast(path, pa.string())
    if folder and content.null_count:
        is_relative = pc.and_(pc.is_null(content), pc.invert(pc.match_substring_regex(path, r"^/|^\w+:")))
        path = pc.if_else(is_relative, pc.binary_join_element_wise(folder, path, "/"), path)
    return _struct({"bytes": content, "path": path}, values)


def _lists(column: pa.Array, convert: Callable[[pa.Array], pa.Array]) -> pa.ListArray:
    """The same lists, of converted values; of nothing but null lists where the column is of type null."""
    if pa.types.is_null(column.type):
        column = pa.nulls(len(column), pa.list_(pa.null()))
    elif pa.types.is_fixed_size_list(column.type):
        column = pc.cast(column, pa.list_(column.type.value_type))
    offsets = pa.array(column.offsets.to_numpy(), pa.int32())
    return pa.ListArray.from_arrays(offsets, convert(column.values), mask=pc.is_null(column))


def _struct(fields: dict[str, pa.Array], values: pa.Array) -> pa.StructArray:
    """Structs of these fields; null where the values are."""
    return pa.StructArray.from_arrays(list(fields.values()), list(fields), mask=pc.is_null(values))


def _fields(values: pa.StructArray) -> dict[str, pa.Array]:
    return dict(zip((field.name for field in values.type), values.flatten(), strict=True))


def _is_text(kind: pa.DataType) -> bool:
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    tests = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view, pa.types.is_null)
    return any(test(kind) for test in tests)


def _is_bytes(kind: pa.DataType) -> bool:
    tests = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view, pa.types.is_fixed_size_binary)
    return any(test(kind) for test in tests)


def _is_list(kind: pa.DataType) -> bool:
    return any(test(kind) for test in (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list))


def _is_null_or_list(kind: pa.DataType, of: Callable[[pa.DataType], bool]) -> bool:
    return pa.types.is_null(kind) or (_is_list(kind) and of(kind.value_type))


def _is_photo(kind: pa.DataType) -> bool:
    if not pa.types.is_struct(kind):
        return _is_text(kind) or _is_bytes(kind)
    fields = {field.name: field.type for field in kind}
    content, path = (fields.get(name, pa.null()) for name in ("bytes", "path"))
    known = {"bytes", "path"} & set(fields)
    return bool(known) and (_is_bytes(content) or pa.types.is_null(content)) and _is_text(path)


def type_in_words(kind: pa.DataType) -> str:
    """A type in words."""
    if pa.types.is_null(kind):
        return "nothing but nulls"
    if _is_text(kind):
        return "texts"
    if _is_bytes(kind):
        return "bytes"
    if _is_list(kind):
        return f"lists of {type_in_words(kind.value_type)}"
    if pa.types.is_struct(kind):
        return f"structs of {', '.join(field.name for field in kind) or 'no field'}"
    return f"values of type {kind}"
