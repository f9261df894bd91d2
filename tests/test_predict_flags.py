"""Flags of predict.py: each changes something, and what cannot be done is refused."""

# ruff: noqa: F811 - fixtures are imported

import json

import pytest

from mmprofile.configuration_mmprofile import ProfileSchema
from tests.test_predict import corpus, model, rows_of, run, whole  # noqa: F401
from tests.tiny_folder import save_tiny_folder


@pytest.mark.parametrize(
    "flags",
    [{"num_reviews": 1}, {"num_images": 2}, {"max_calls": 3}, {"dtype": "bfloat16"}, {"split": "train"}],
)
def test_a_flag_changes_the_answers(model, corpus, whole, tmp_path, flags):
    run(model, corpus, tmp_path / "out", **flags)
    keys = ("user_id", "log_probability", "image_weights")
    assert [[row[key] for key in keys] for row in rows_of(tmp_path / "out")] != [
        [row[key] for key in keys] for row in rows_of(whole[0])
    ]


def test_search_flags_reach_the_search(model, corpus, whole, tmp_path):
    run(model, corpus, tmp_path / "wide", expand_per_call=64)
    assert rows_of(tmp_path / "wide")[0]["coverage"] > rows_of(whole[0])[0]["coverage"]
    (tmp_path / "lines.jsonl").write_text(json.dumps({"user_id": "a", "reviews": ["good"]}))
    schema = ProfileSchema([{"name": name, "values": list("abcdef")} for name in ("One", "Two")])
    save_tiny_folder(tmp_path / "small", schema)
    found = {}
    for name, flags in {"best": {}, "third": {"num_return_profiles": 3}, "all": {"min_coverage": 1.0}}.items():
        flags = {"num_return_profiles": 1, "min_coverage": 0.0, "expand_per_call": 1, "max_calls": None} | flags
        run(tmp_path / "small", tmp_path / "lines.jsonl", tmp_path / name, **flags)
        (found[name],) = rows_of(tmp_path / name)
    assert found["best"]["coverage"] < found["all"]["coverage"] == 1
    assert [len(found[name]["runners_up"]) for name in found] == [0, 2, 0]
    assert found["best"]["text"] == found["all"]["text"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"model": "nowhere"}, "there is no model 'nowhere'"),
        ({"dataset": "nowhere"}, "there is no JSONL file or dataset 'nowhere'"),
        ({"split": "dev"}, "not 'dev'"),
        ({"output": None}, "--output is needed, or --show N alone"),
        ({"output": None, "show": 1, "evaluate": True}, "--output is needed"),
        ({"batch_size": 0}, "batch_size is at least 1, got 0"),
        ({"min_coverage": 2.0}, "min_coverage is from 0 to 1, got 2.0"),
        ({"dtype": "int8"}, r"dtype must be one of \['float32', 'bfloat16', 'float16'\], got 'int8'"),
    ],
)
def test_what_cannot_be_done_is_said_before_anything_is_written(model, corpus, tmp_path, flags, message):
    with pytest.raises(ValueError, match=message):
        run(flags.pop("model", model), flags.pop("dataset", corpus), **{"output": tmp_path / "out"} | flags)
    assert not (tmp_path / "out").exists()


def test_evaluation_without_true_profiles_is_refused(model, tmp_path):
    (tmp_path / "users.jsonl").write_text(json.dumps({"user_id": "a", "reviews": ["good"]}))
    with pytest.raises(ValueError, match="--evaluate needs the true profile of every user"):
        run(model, tmp_path / "users.jsonl", tmp_path / "out", evaluate=True)


def test_captions_that_a_model_was_trained_with_are_missed_aloud(model, tmp_path, capsys):
    (tmp_path / "users.jsonl").write_text(json.dumps({"user_id": "a", "reviews": ["good"]}))
    run(model, tmp_path / "users.jsonl", show=1)
    assert "trained with captions (combined), and the input has none" in capsys.readouterr().err
