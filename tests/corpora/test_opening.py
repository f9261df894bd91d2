"""Files of a corpus: any that datasets reads, and what is wrong with one in a sentence."""

import gzip
import json

import pandas
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset, DatasetDict

import predict
from corpora.opening import open_beside_stream, open_corpus
from prediction.inputs import open_users
from tests.prediction.test_predict import model, rows_of, run  # noqa: F401
from tests.tiny_corpus import SCHEMA, features, png, tiny_dataset, user, write_corpus
from training.arguments import JointTrainingArguments
from training.data import load_corpus

REVIEWS = [{"text": "good", "images": [{"path": "a.png"}], "captions": ["x"]}]


def open_all(dataset, split="test"):
    return open_users(str(dataset), None, split, SCHEMA, None, None)


def load(dataset):
    return load_corpus(JointTrainingArguments(dataset=str(dataset), output_dir="x"))


def rows(users: int = 2) -> list[dict]:
    """With profiles as texts."""
    names = [tiny_dataset(users)[n] for n in range(users)]
    profiles = [SCHEMA.profile_from_labels(row["profile"]) for row in names]
    return [{"user_id": f"u{n}", "reviews": REVIEWS, "profile": profile} for n, profile in enumerate(profiles)]


def test_a_parquet_file_by_pandas_is_predicted_and_scored(model, tmp_path):  # noqa: F811
    (tmp_path / "a.png").write_bytes(png(3)["bytes"])
    pandas.DataFrame(rows()).to_parquet(tmp_path / "users.parquet")
    results = run(model, tmp_path / "users.parquet", tmp_path / "out", evaluate=True)
    assert (results["predicted"], results["photos_left_out"]) == (2, 0) and "average" in results["f1"]
    assert [row["truth"] for row in rows_of(tmp_path / "out")] == [row["profile"] for row in rows()]


@pytest.mark.parametrize("name", ["users.parquet", "users.arrow", "users"])
def test_a_file_of_any_split_is_its_users(tmp_path, name):
    if name.endswith("arrow"):
        tiny_dataset(3).save_to_disk(tmp_path / "saved")
        next((tmp_path / "saved").glob("*.arrow")).rename(tmp_path / name)
    else:
        tiny_dataset(3).to_parquet(tmp_path / name)
    assert len(open_all(tmp_path / name)) == len(open_all(tmp_path / name, "any")) == 3


def photos_as(type_: pa.DataType, photo) -> pa.Table:
    reviews = pa.list_(
        pa.struct([("text", pa.string()), ("images", pa.list_(type_)), ("captions", pa.list_(pa.string()))])
    )
    values = [[{"text": "a place", "images": [photo], "captions": [None]}]]
    return pa.table({"user_id": [str(photo)], "reviews": pa.array(values, reviews)})


def test_files_that_have_their_photos_in_other_ways_are_told_by_both_names(tmp_path):
    pq.write_table(photos_as(pa.binary(), png(3)["bytes"]), tmp_path / "test-0.parquet")
    pq.write_table(photos_as(pa.string(), "a.png"), tmp_path / "test-1.parquet")
    with pytest.raises(ValueError, match="one way in all files .*, got bytes in .*test-0.* paths in .*test-1"):
        open_all(tmp_path)


NO_BYTES = pa.struct([("bytes", pa.null()), ("path", pa.string())])
NO_PATHS = pa.struct([("bytes", pa.binary()), ("path", pa.null())])
PNG = png(3)["bytes"]


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize(
    ("types", "photos"),
    [
        ((NO_BYTES, NO_PATHS), ({"path": "a.png"}, {"bytes": PNG})),
        ((pa.struct([("path", pa.string())]), NO_PATHS), ({"path": "a.png"}, {"bytes": PNG})),
        ((pa.null(), NO_PATHS), (None, {"bytes": PNG})),
        ((pa.null(), pa.string()), (None, "a.png")),
    ],
)
def test_files_of_which_one_has_no_type_for_what_is_null_are_read_as_one(tmp_path, types, photos, order):
    tables = [photos_as(*pair) for pair in zip(types, photos, strict=True)][::order]
    for number, table in enumerate(tables):
        pq.write_table(table.set_column(0, "user_id", pa.array([f"u{number}"])), tmp_path / f"test-{number}.parquet")
    users, values = open_all(tmp_path), [str(photo) for photo in photos[::order]]
    expected = [PNG if "PNG" in value else str(tmp_path / "a.png") if "a.png" in value else None for value in values]
    assert [users[index].images for index in range(2)] == [[photo] for photo in expected]


def test_class_labels_stay_where_photos_get_a_type_of_all_files(tmp_path):
    for number in range(2):
        rows = [user(number, photos=number)]
        Dataset.from_list(rows, features=features()).to_parquet(tmp_path / f"test-{number}.parquet")
    table = pq.read_table(tmp_path / "test-0.parquet")
    without = pa.array([[{"text": "good", "images": None, "captions": None}]])
    pq.write_table(
        table.set_column(table.schema.get_field_index("reviews"), "reviews", without), tmp_path / "test-0.parquet"
    )
    users = open_all(tmp_path)
    assert users.has_labels and len(users[1].images) == 3 and users[0].profile is not None


def test_a_file_of_no_rows_is_told_in_a_sentence(tmp_path):
    pq.write_table(photos_as(pa.string(), "a.png").slice(0, 0), tmp_path / "none.parquet")
    with pytest.raises(ValueError, match="none.parquet' has no rows"):
        open_all(tmp_path / "none.parquet")


def test_a_folder_of_save_to_disk_is_a_corpus(tmp_path):
    DatasetDict({"test": tiny_dataset(3)}).save_to_disk(tmp_path / "many")
    tiny_dataset(4).save_to_disk(tmp_path / "one")
    assert len(open_all(tmp_path / "many")) == 3
    assert len(open_all(tmp_path / "one", "train")) == 4


def test_a_text_that_is_no_value_is_an_unknown_profile(tmp_path):
    spoilt = rows(3)
    spoilt[1]["profile"] = spoilt[1]["profile"] | {"stars": "9"}
    spoilt[2]["profile"] = None
    pandas.DataFrame(spoilt).to_parquet(tmp_path / "users.parquet")
    users = open_all(tmp_path / "users.parquet")
    assert users.has_profiles and [users[n].profile for n in range(3)] == [rows(1)[0]["profile"], None, None]


@pytest.mark.parametrize("profile", [{"stars": "4"}, {"stars": 4}, {"stars": True}, "4"])
def test_profiles_that_may_mean_something_else_are_refused(tmp_path, profile):
    pandas.DataFrame([{"user_id": "a", "reviews": REVIEWS, "profile": profile}]).to_parquet(tmp_path / "u.parquet")
    with pytest.raises(
        ValueError, match=r"profiles of \['stars', .*has \['stars'\]|needs a profile of class labels: "
    ):
        open_all(tmp_path / "u.parquet")


def others(path):
    Dataset.from_list([{"user_id": "a", "reviews": REVIEWS, "age": 3}]).to_parquet(path)


def other_labels(path):
    changed = features()
    changed["profile"]["stars"].names.reverse()
    Dataset.from_list([user(9)], features=changed).to_parquet(path)


def half(path):
    tiny_dataset(3).to_parquet(path)
    path.write_bytes(path.read_bytes()[:-9])


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            others,
            "the same columns: '.*-00001.parquet' has profile, .*; '.*b-test.parquet' has age, reviews",
        ),
        (other_labels, "the same class labels, those of '.*-00001.parquet' and '.*b-test.parquet' differ$"),
        (half, "'.*b-test.parquet' is not a whole Parquet file$"),
        (lambda path: path.write_bytes(b""), "'.*b-test.parquet' is empty$"),
        (lambda path: path.write_text("user_id,reviews"), "'.*b-test.parquet' is no Parquet file$"),
    ],
)
def test_a_file_of_a_folder_that_is_wrong_is_named(tmp_path, spoil, message):
    write_corpus(tmp_path / "corpus")
    (tmp_path / "corpus" / "test-00000-of-00001.parquet").rename(tmp_path / "corpus" / "a-test.parquet")
    spoil(tmp_path / "corpus" / "b-test.parquet")
    for opened in (open_all, load):
        with pytest.raises(ValueError, match=message):
            opened(tmp_path / "corpus")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("users.parquet", b"", "is empty$"),
        ("users.parquet", b"PAR1PAR1", "is not a whole Parquet file$"),
        ("users.parquet", b"no Parquet", "is no Parquet file$"),
        ("users.arrow", b"no Arrow", "cannot be read"),
        ("users.jsonl", gzip.compress(b"{}", mtime=0), r"is packed \(gzip\); unpack it first$"),
        ("users.json", json.dumps(rows()).encode(), "'.*users.json' is one JSON value; .* a line for each user"),
        ("users.json", json.dumps(rows(), indent=2).encode(), "is one JSON value; .* a line for each user"),
        ("users.json", json.dumps(rows()[0], indent=2).encode(), "is one JSON value; .* a line for each user"),
        ("users.jsonl", b"", "no users"),
        ("users.csv", b"user_id,reviews\n", "line 1 of .*users.csv is not JSON"),
    ],
)
def test_a_file_that_is_none_is_told_in_a_sentence(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message) as refused:
        open_all(tmp_path / name)
    assert len(str(refused.value)) < 300


MAP = pa.map_(pa.string(), pa.string())


@pytest.mark.parametrize(
    ("kind", "values", "message"),
    [
        (pa.list_(pa.null()), [], "reviews are a list of structs of .*, got lists of nothing but nulls$"),
        (pa.list_(pa.string()), ["good"], "reviews are a list of structs of .*, got lists of texts$"),
        (pa.list_(pa.list_(pa.string())), [["good"]], "reviews are a list of structs of .*, got lists of lists of"),
        (pa.list_(pa.binary(3)), [b"ann"], "reviews are a list of structs of .*, got lists of bytes$"),
        (pa.struct([("text", pa.list_(pa.string()))]), {"text": ["good"]}, "got structs of text$"),
        (MAP, [("text", "good")], "users.parquet': the column reviews has values of .*map"),
    ],
)
def test_reviews_of_another_type_in_a_file_are_told_in_a_sentence(tmp_path, kind, values, message):
    table = pa.table({"user_id": ["a"], "reviews": pa.array([values], kind)})
    for path in (tmp_path / "users.parquet", tmp_path / "corpus" / "users.parquet"):
        path.parent.mkdir(exist_ok=True)
        pq.write_table(table, path)
        with pytest.raises(ValueError, match=message) as refused:
            open_corpus(str(path if path.parent == tmp_path else path.parent))
        assert len(str(refused.value)) < 300


@pytest.mark.parametrize("kind", [MAP, pa.list_(pa.struct([("monday", MAP)]))])
def test_a_column_that_datasets_has_no_type_for_is_named_wherever_it_is_opened(tmp_path, kind):
    table = pa.Table.from_pylist([{"user_id": "a", "reviews": REVIEWS}])
    pq.write_table(table.append_column("hours", pa.nulls(1, kind)), tmp_path / "train.parquet")
    for opened in (open_corpus, open_beside_stream):
        with pytest.raises(
            ValueError, match="train.parquet': the column hours has .*, for which datasets has no type; leave"
        ):
            opened(str(tmp_path))


def test_types_that_differ_between_files_are_told_in_a_sentence(tmp_path):
    (tmp_path / "corpus").mkdir()
    Dataset.from_list([{"user_id": "a", "reviews": REVIEWS}]).to_parquet(tmp_path / "corpus" / "test-0.parquet")
    Dataset.from_list([{"user_id": 3, "reviews": "x"}]).to_parquet(tmp_path / "corpus" / "test-1.parquet")
    with pytest.raises(ValueError, match="the files of '.*corpus' cannot be read as one: each needs the same columns"):
        open_corpus(str(tmp_path / "corpus"))


def test_a_file_has_no_splits_to_train_on(tmp_path):
    tiny_dataset(3).to_parquet(tmp_path / "users.parquet")
    with pytest.raises(ValueError, match=r"needs the splits \['train', .* missing"):
        load(tmp_path / "users.parquet")


def test_the_program_refuses_without_a_traceback(model, tmp_path):  # noqa: F811
    (tmp_path / "users.parquet").write_bytes(b"no Parquet")
    with pytest.raises(ValueError, match="is no Parquet file"):
        predict.main(["--model", str(model), "--dataset", str(tmp_path / "users.parquet"), "--show", "1"])


@pytest.mark.parametrize("name", ["corpus", "corpus/test-00000-of-00001.parquet", "users.jsonl"])
def test_a_corpus_that_is_here_has_no_revision(tmp_path, name):
    write_corpus(tmp_path / "corpus")
    (tmp_path / "users.jsonl").write_text('{"user_id": "a", "reviews": ["good"]}')
    with pytest.raises(ValueError, match="dataset_revision.*is"):
        open_users(str(tmp_path / name), None, "test", SCHEMA, None, None, "v1")
