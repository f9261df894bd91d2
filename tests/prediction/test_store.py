"""The shards of a run: whole or not there, of this run or refused, in the input's order."""

import json

import pyarrow as pa
import pytest
from datasets import load_dataset

from prediction.store import PredictionFolder
from tests.tiny_folder import SCHEMA

IDS = ["a", "b", "c", "d", "e"]
RUN = {"model": "m", "shard_users": 2, "max_calls": None}
PROFILE = {"mood": "Shy", "favorite_food": ["Pizza", "Cake"]}
ROW = {
    "profile": PROFILE,
    "decided": PROFILE | {"mood": None},
    "text": SCHEMA.render(PROFILE),
    "log_probability": -1.5,
    "exact": True,
    "probabilities": {
        "mood": {"Calm": 0.25, "Loud": 0.0, "Shy": 0.75},
        "favorite_food": {"Pizza": 1.0, "Soup": 0.5, "Cake": 0.5},
    },
    "coverage": 0.9,
    "runners_up": [{"profile": PROFILE, "text": "second", "log_probability": -2.0}],
    "image_weights": [0.0, 1.0],
    "gate": 0.1,
    "views": 2,
    "truth": PROFILE,
    "photos_left_out": 1,
    "tokens_left_out": 5,
    "problems": ["photo 0: broken"],
}


def folder(path, ids=IDS, shard_users=2) -> PredictionFolder:
    return PredictionFolder(path / "out", SCHEMA, ids, shard_users)


def begun(path) -> PredictionFolder:
    found = folder(path)
    found.begin(RUN)
    return found


def files(path) -> list[str]:
    return sorted(file.name for file in (path / "out" / "predictions").iterdir())


def test_a_row_comes_back_as_it_was_written_and_missing_columns_as_none(tmp_path):
    found = begun(tmp_path)
    found.write(0, {1: {"problems": ["no review"], "photos_left_out": 0, "tokens_left_out": 0}, 0: ROW})
    found.write(1, {2: ROW, 3: ROW})
    found.write(2, {4: ROW})
    rows = list(found.read())
    assert [row["user_id"] for row in rows] == IDS
    assert rows[0] == {"user_id": "a", "digest": None, "gone_since": None} | ROW
    filled = {name for name, value in rows[1].items() if value is not None}
    assert filled == {"user_id", "problems", "photos_left_out", "tokens_left_out"}
    assert list(found.read(["text"]))[4] == {"text": ROW["text"]}


def test_datasets_loads_the_shards_as_they_lie(tmp_path):
    found = begun(tmp_path)
    for shard, rows in enumerate(found.shards):
        found.write(shard, dict.fromkeys(rows, ROW))
    loaded = load_dataset(str(tmp_path / "out" / "predictions"), cache_dir=tmp_path / "cache")["train"]
    assert loaded["user_id"] == IDS
    assert loaded[3]["probabilities"] == ROW["probabilities"]


def test_a_run_goes_on_with_the_shards_that_are_missing(tmp_path):
    found = begun(tmp_path)
    assert found.pending() == [0, 1, 2]
    found.write(1, {2: ROW, 3: ROW})
    again = begun(tmp_path)
    assert again.pending() == [0, 2]
    assert files(tmp_path) == ["part-00001-of-00003.parquet"]


def test_a_shard_that_cannot_be_written_is_not_there_and_what_a_kill_left_is_cleared(tmp_path):
    found = begun(tmp_path)
    with pytest.raises(pa.ArrowInvalid):
        found.write(0, {0: ROW, 1: ROW | {"log_probability": "high"}})
    leftover = tmp_path / "out" / "predictions" / ".unfinished-1a2b3c4d-part-00000-of-00003.parquet"
    leftover.write_bytes(b"half")
    assert begun(tmp_path).pending() == [0, 1, 2]
    assert files(tmp_path) == []


def test_a_shard_of_other_users_is_refused(tmp_path):
    begun(tmp_path).write(0, {0: ROW, 1: ROW})
    others = folder(tmp_path, ids=["b", "a", "c", "d", "e"])
    with pytest.raises(ValueError, match="part-00000.* has not the users 0 to 1"):
        others.pending()


def test_a_changed_input_is_named_as_the_reason(tmp_path):
    folder(tmp_path).begin(RUN | {"users": "12ab"})
    with pytest.raises(
        ValueError, match="not {'users': '34cd'}: the input has other users, texts, .*or true profiles; "
    ):
        folder(tmp_path).begin(RUN | {"users": "34cd"})


@pytest.mark.parametrize(("text", "message"), [("{", "is not JSON"), ("[1]", "must hold an object, got list")])
def test_a_broken_run_is_named_and_can_be_overwritten(tmp_path, text, message):
    begun(tmp_path)
    (tmp_path / "out" / "run.json").write_text(text)
    with pytest.raises(ValueError, match=f"out/run.json {message}.*--overwrite_output true"):
        folder(tmp_path).begin(RUN)
    folder(tmp_path).begin(RUN, overwrite=True)
    assert json.loads((tmp_path / "out" / "run.json").read_text()) == RUN


def test_a_folder_of_another_run_or_of_something_else_is_refused_unless_told(tmp_path):
    begun(tmp_path).write(0, {0: ROW, 1: ROW})
    other = RUN | {"model": "n", "max_calls": 3}
    with pytest.raises(ValueError, match=r"predictions with \{'model': 'm', 'max_calls': None\}, not \{'model': 'n'"):
        folder(tmp_path).begin(other)
    (tmp_path / "out" / "results.json").write_text("{}")
    folder(tmp_path).begin(other, overwrite=True)
    assert folder(tmp_path).pending() == [0, 1, 2]
    assert json.loads((tmp_path / "out" / "run.json").read_text()) == other
    assert not (tmp_path / "out" / "results.json").exists()
    (tmp_path / "model" / "out").mkdir(parents=True)
    (tmp_path / "model" / "out" / "config.json").write_text("{}")
    with pytest.raises(ValueError, match="holds other files"):
        folder(tmp_path / "model").begin(RUN)
    assert [file.name for file in (tmp_path / "model" / "out").iterdir()] == ["config.json"]
