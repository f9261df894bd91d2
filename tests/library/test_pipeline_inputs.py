"""The `user-profiling` pipeline takes users in whatever holds them, and a model that is an object."""

import subprocess
import sys
from types import GeneratorType

import numpy as np
import pandas as pd
import pytest
import torch
from datasets import Dataset, List
from datasets import Image as DatasetsImage
from PIL import Image
from transformers import AutoModelForSeq2SeqLM, AutoProcessor, pipeline

from mmprofile.pipeline_mmprofile import UserProfilingPipeline

PHOTOS = [Image.new("RGB", (8, 8), color) for color in ("red", "green")]
USERS = [
    {"reviews": ["The pizza was great .", "Loud music"], "images": PHOTOS, "captions": ["a cake", None]},
    {"reviews": ["cold soup , never again"], "images": None, "captions": None},
    {"reviews": ["kind staff"], "images": PHOTOS[:1], "captions": []},
]


class Rows(torch.utils.data.Dataset):
    def __len__(self):
        return len(USERS)

    def __getitem__(self, index):
        return USERS[index]


class Stream(torch.utils.data.IterableDataset):
    def __iter__(self):
        return iter(USERS)


def frame() -> pd.DataFrame:
    """Its labels are no positions, and its lists are arrays, as of a Parquet file."""
    columns = {name: [user[name] for user in USERS] for name in ("reviews", "captions")}
    arrays = {name: [v if v is None else np.array(v, object) for v in values] for name, values in columns.items()}
    return pd.DataFrame(arrays | {"images": [user["images"] for user in USERS]}, index=[7, 8, 9])


def undecoded() -> Dataset:
    return Dataset.from_list(USERS).cast_column("images", List(DatasetsImage(decode=False)))


SIZED = {
    "list": lambda: USERS,
    "tuple": lambda: tuple(USERS),
    "array": lambda: np.array(USERS, dtype=object),
    "column": lambda: pd.Series(USERS, index=[3, 4, 5]),
    "records": lambda: frame().to_dict("records"),
    "view": lambda: dict(enumerate(USERS)).values(),
    "dataset": lambda: Dataset.from_list(USERS),
    "dataset, photos undecoded": undecoded,
    "dataset as pandas": lambda: Dataset.from_list(USERS).with_format("pandas"),
    "dataset as pandas, photos undecoded": lambda: undecoded().with_format("pandas"),
    "dataset as numpy": lambda: Dataset.from_list(USERS).with_format("numpy"),
    "dataset as torch": lambda: Dataset.from_list(USERS).with_format("torch"),
    "frame": frame,
    "frame with nan": lambda: frame().fillna(float("nan")),
}
STREAMS = {
    "generator": lambda: (user for user in USERS),
    "map": lambda: map(dict, USERS),
    "iter": lambda: iter(USERS),
    "zip": lambda: (user for user, _ in zip(USERS, range(3), strict=True)),
    "stream of datasets": lambda: Dataset.from_list(USERS).to_iterable_dataset(),
    "torch's dataset": Rows,
    "torch's stream": Stream,
}


@pytest.fixture(scope="module")
def scores(profiler) -> list[float]:
    return [profiler(user)["log_probability"] for user in USERS]


def scores_of(answers) -> list[float]:
    return [answer["log_probability"] for answer in answers]


@pytest.mark.parametrize("kind", SIZED)
def test_what_has_a_length_is_answered_by_a_list(profiler, scores, kind):
    answers = profiler(SIZED[kind](), batch_size=2)
    assert type(answers) is list
    assert scores_of(answers) == pytest.approx(scores, abs=1e-4)


@pytest.mark.parametrize("kind", STREAMS)
def test_what_has_none_is_answered_by_an_iterator(profiler, scores, kind):
    answers = profiler(STREAMS[kind](), batch_size=2)
    assert iter(answers) is answers and type(answers) is GeneratorType
    assert scores_of(answers) == pytest.approx(scores, abs=1e-4)


def test_a_stream_is_read_batch_by_batch(profiler):
    seen = []
    answers = profiler(map(lambda user: seen.append(0) or user, USERS), batch_size=1)
    next(answers)
    assert len(seen) < len(USERS)


@pytest.mark.parametrize("nothing", [[], (), {}.values(), iter(()), np.array([], object), pd.Series([], dtype=object)])
def test_no_users_have_no_answers(profiler, nothing):
    assert list(profiler(nothing)) == []


@pytest.mark.parametrize("wrong", [{"reviews": "good"}, "good", 3, None])
def test_the_place_of_what_is_no_user_is_named_in_a_stream_too(profiler, wrong):
    for users in (iter([USERS[0], wrong]), pd.Series([USERS[0], wrong], index=[5, 6]), [USERS[0], wrong]):
        with pytest.raises(ValueError, match=r"^user 1: a user"):
            list(profiler(users))


@pytest.mark.parametrize("kind", ["array", "row"])
def test_one_user_in_an_array_or_a_row_of_pandas_has_one_answer(profiler, scores, kind):
    user = np.array(USERS[0], dtype=object) if kind == "array" else frame().iloc[0]
    assert profiler(user)["log_probability"] == pytest.approx(scores[0], abs=1e-4)


@pytest.mark.parametrize("wrong", [np.array(3), np.array("good", dtype=object), torch.tensor(3)])
def test_an_array_of_no_user_is_refused(profiler, wrong):
    with pytest.raises(ValueError, match="^a user is a dict"):
        profiler(wrong)


def test_a_row_in_another_format_of_datasets_is_refused_by_its_name(profiler):
    with pytest.raises(ValueError, match="^user 0: a user is a dict with reviews .*, got <Table>$"):
        profiler(Dataset.from_list(USERS).with_format("arrow"))


def test_a_single_users_error_names_no_place(profiler):
    with pytest.raises(ValueError, match="^a user's reviews are a list"):
        profiler({"reviews": "good"})


@pytest.mark.parametrize("wrong", ["good", b"good", 3, None])
def test_what_holds_no_users_is_refused(profiler, wrong):
    with pytest.raises(ValueError, match="a user is a dict"):
        profiler(wrong)


@pytest.mark.parametrize(
    "wrong",
    [
        {"reviews": ["good"], "images": b"secret" * 99},
        {"reviews": ["good"], "images": [b"secret" * 99]},
        {"reviews": ["good"], "images": [{"bytes": b"secret" * 99}]},
        {"reviews": b"secret" * 99},
        {"reviews": [b"secret"]},
        {"reviews": ["good"], "captions": [b"secret"]},
        {"photos": [b"secret" * 99]},
        [b"secret" * 99],
        b"secret" * 99,
    ],
    ids=str,
)
def test_an_error_quotes_no_bytes_of_a_file(profiler, wrong):
    with pytest.raises(ValueError) as error:
        profiler(wrong)
    assert "secret" not in str(error.value) and len(str(error.value)) < 300


def test_a_model_that_is_an_object_is_taken_with_its_processor(folder, scores):
    model = AutoModelForSeq2SeqLM.from_pretrained(folder, trust_remote_code=True)
    processor = AutoProcessor.from_pretrained(folder, trust_remote_code=True)
    of_object = pipeline("user-profiling", model=model, processor=processor)
    assert (of_object.model, of_object.processor) == (model, processor)
    assert scores_of(of_object(USERS)) == pytest.approx(scores, abs=1e-4)
    assert type(of_object).__name__ == UserProfilingPipeline.__name__


@pytest.mark.slow
def test_a_process_that_knows_the_folder_alone_takes_the_object_too_and_is_warned_of_nothing(folder, tmp_path):
    script = """if True:
        import sys
        from transformers import AutoModelForSeq2SeqLM, AutoProcessor, pipeline
        model = AutoModelForSeq2SeqLM.from_pretrained(sys.argv[1], trust_remote_code=True)
        processor = AutoProcessor.from_pretrained(sys.argv[1], trust_remote_code=True)
        profiler = pipeline("user-profiling", model=model, processor=processor)
        by_path = pipeline("user-profiling", model=sys.argv[1], trust_remote_code=True)
        user = {"reviews": ["kind staff"]}
        print(profiler(user)["text"] == by_path(user)["text"])
    """
    ran = subprocess.run([sys.executable, "-c", script, folder], cwd=tmp_path, capture_output=True, text=True)
    assert ran.stdout == "True\n", ran.stderr
    assert "registered" not in ran.stderr
