"""What other programs write is read as the loading script's corpus is, or refused in a sentence."""

import pandas
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset, load_dataset
from datasets.table import InMemoryTable

from corpora.checks import check_rows
from corpora.columns import unified
from prediction.inputs import DatasetUsers
from tests.tiny_corpus import SCHEMA, features, png, tiny_dataset, user
from training.batching import UserExamples

PHOTO = png(7)["bytes"]


def review(text="good", images=(), captions=()) -> dict:
    return {"text": text, "images": images, "captions": captions}


def by_pandas(rows, path):
    pandas.DataFrame(rows).to_parquet(path)


def by_datasets(rows, path):
    Dataset.from_list(rows).to_parquet(path)


def large(kind: pa.DataType) -> pa.DataType:
    """A type with 64-bit offsets everywhere."""
    if pa.types.is_list(kind):
        return pa.large_list(large(kind.value_type))
    if pa.types.is_struct(kind):
        return pa.struct([(field.name, large(field.type)) for field in kind])
    return {pa.string(): pa.large_string(), pa.binary(): pa.large_binary()}.get(kind, kind)


def by_polars(rows, path):
    """As polars and R write: large types, and dictionaries for texts that repeat."""
    table = pa.Table.from_pylist(rows)
    table = table.cast(pa.schema([(field.name, large(field.type)) for field in table.schema]))
    table = table.set_column(0, "user_id", table["user_id"].dictionary_encode())
    pq.write_table(table, path)


def read(path) -> Dataset:
    return unified(load_dataset("parquet", data_files=str(path), split="train", cache_dir=str(path.parent / "cache")))


WRITERS = [by_pandas, by_datasets, by_polars]
IMAGES = {
    "bytes and path": ({"bytes": PHOTO, "path": "a.png"}, {"bytes": PHOTO, "path": "a.png"}),
    "another order": ({"path": "a.png", "bytes": PHOTO}, {"bytes": PHOTO, "path": "a.png"}),
    "bytes alone": ({"bytes": PHOTO}, {"bytes": PHOTO, "path": None}),
    "path alone": ({"path": "/a.png"}, {"bytes": None, "path": "/a.png"}),
    "no path": ({"bytes": PHOTO, "path": None}, {"bytes": PHOTO, "path": None}),
    "raw bytes": (PHOTO, {"bytes": PHOTO, "path": None}),
    "a text": ("/a.png", {"bytes": None, "path": "/a.png"}),
    "more fields": ({"bytes": PHOTO, "path": "a.png", "width": 8}, {"bytes": PHOTO, "path": "a.png"}),
    "null": (None, None),
}


@pytest.mark.parametrize("write", WRITERS)
@pytest.mark.parametrize("form", IMAGES)
def test_photos_of_any_form_are_read(tmp_path, write, form):
    written, expected = IMAGES[form]
    rows = [{"user_id": "a", "reviews": [review(images=[written, written], captions=["x", None])]}]
    rows += [{"user_id": "b", "reviews": [review("bad", images=[], captions=[])]}, {"user_id": "c", "reviews": []}]
    write(rows, tmp_path / "users.parquet")
    found = read(tmp_path / "users.parquet")
    assert found["reviews"][0] == [review(images=[expected] * 2, captions=["x", None])]
    assert found["reviews"][1:] == [[review("bad", images=[], captions=[])], []]
    users = DatasetUsers(found, SCHEMA)
    assert (users.ids, users.lengths.tolist(), users.has_captions) == (["a", "b", "c"], [4, 3, 0], True)
    assert users[0].images == [expected and (expected["bytes"] or expected["path"])]


@pytest.mark.parametrize("write", WRITERS)
@pytest.mark.parametrize("nothing", [None, []])
def test_a_corpus_without_a_photo_or_caption_is_read(tmp_path, write, nothing):
    rows = [{"user_id": name, "reviews": [review(images=nothing, captions=nothing)]} for name in "ab"]
    write([row | {"profile": None} for row in rows], tmp_path / "users.parquet")
    users = DatasetUsers(read(tmp_path / "users.parquet"), SCHEMA)
    assert (users[1].reviews, users[1].images, users.has_captions, users.has_profiles) == (["good"], [], False, False)


def test_fields_may_stand_in_another_order_and_others_beside_them(tmp_path):
    rows = [{"reviews": [{"stars": 4, "captions": ["x"], "images": [{"path": "/a"}], "text": "good"}], "user_id": "a"}]
    by_datasets(rows, tmp_path / "users.parquet")
    (found,) = read(tmp_path / "users.parquet")["reviews"][0]
    assert found == {"stars": 4} | review(images=[{"bytes": None, "path": "/a"}], captions=["x"])


def test_training_sees_of_another_form_what_it_sees_of_the_loading_scripts(tmp_path):
    rows = [user(number) for number in range(3)]
    own = unified(Dataset.from_list(rows, features=features()))
    for row in rows:
        for written in row["reviews"]:
            written["images"] = [image["bytes"] for image in written["images"]]
    other = unified(Dataset.from_list(rows).cast_column("profile", features()["profile"]))
    check_rows(other, SCHEMA)
    names = ("user_id", "reviews", "images", "captions", "profile", "photo_names")
    expected, seen = (
        [[getattr(example, name) for name in names] for example in (UserExamples(split, SCHEMA)[n] for n in range(3))]
        for split in (own, other)
    )
    assert seen == expected and expected[0][2]


def test_what_is_right_already_stays_on_the_disk(tmp_path):
    tiny_dataset(3).to_parquet(tmp_path / "users.parquet")
    found = read(tmp_path / "users.parquet")
    assert found.cache_files and found["reviews"] == unified(tiny_dataset(3))["reviews"]


def test_no_photo_is_copied():
    rows = [{"user_id": "a", "reviews": [review(images=[PHOTO, None]), review(images=None)]}]
    rows += [{"user_id": "b", "reviews": None}, {"user_id": "c", "reviews": [review(images=[PHOTO])]}]
    dataset = Dataset.from_list(rows).select(range(1, 3))
    written, read = (
        split.data.column("reviews").chunk(0).values.field("images").values for split in (dataset, unified(dataset))
    )
    assert written.buffers()[-1].address == read.field("bytes").buffers()[-1].address
    assert unified(dataset)["reviews"][0] is None and len(unified(dataset)["reviews"][1][0]["images"]) == 1


def test_lists_of_a_fixed_length_are_read():
    kind = pa.list_(
        pa.struct([("text", pa.string()), ("images", pa.list_(pa.binary(), 2)), ("captions", pa.null())]), 1
    )
    table = pa.table(
        {"user_id": ["a", "b"], "reviews": pa.array([[review(images=[PHOTO, PHOTO], captions=None)], None], kind)}
    )
    found = unified(Dataset(InMemoryTable(table)))["reviews"]
    assert [photo["bytes"] for photo in found[0][0]["images"]] == [PHOTO, PHOTO] and found[1] is None


def test_paths_without_bytes_are_relative_to_the_folder():
    images = ["a.png", "/b.png", "hf://datasets/x/c.png", "../d.png", None]
    paths = unified(Dataset.from_list([{"user_id": "a", "reviews": [review(images=images)]}]), "/corpus")
    expected = ["/corpus/a.png", "/b.png", "hf://datasets/x/c.png", "/corpus/../d.png"]
    assert [image and image["path"] for image in paths["reviews"][0][0]["images"]] == [*expected, None]
    embedded = [{"user_id": "a", "reviews": [review(images=[{"bytes": b"x", "path": "a.png"}])]}]
    assert unified(Dataset.from_list(embedded), "/corpus")["reviews"][0][0]["images"][0]["path"] == "a.png"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"reviews": []}, r"needs the columns user_id and reviews, \['user_id'\] missing"),
        ({"user_id": 1, "reviews": [review()]}, r"a user_id is a text, got values of type int64; .*astype\(str\)"),
        (
            {"user_id": "a", "reviews": ["good"]},
            "a list of structs of text, images and captions, .* lists of texts$",
        ),
        ({"user_id": "a", "reviews": "good"}, "a list of structs of .*, got texts"),
        ({"user_id": "a", "reviews": [{"text": "good"}]}, r"images, captions missing \(null where there is none\)"),
        ({"user_id": "a", "reviews": [review(text=3)]}, "the text of a review is a text, got values of type int64"),
        ({"user_id": "a", "reviews": [review(captions="x")]}, "captions of a review are a list of texts, got texts"),
        ({"user_id": "a", "reviews": [review(images=[[1, 2]])]}, "images of a review .* path, got lists of lists of"),
        ({"user_id": "a", "reviews": [review(images=[{"url": "x"}])]}, "images .* got lists of structs of url"),
    ],
)
def test_a_column_that_cannot_be_read_is_named_in_a_sentence(row, message):
    with pytest.raises(ValueError, match=message) as refused:
        unified(Dataset.from_list([row]))
    assert len(str(refused.value)) < 200 and "Value(" not in str(refused.value)
