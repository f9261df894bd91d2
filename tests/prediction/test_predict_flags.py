"""Flags of predict.py: each changes something, and what cannot be done is refused."""

# ruff: noqa: F811 - fixtures are imported

import json
import os
import shutil
from contextlib import nullcontext

import pytest
from transformers import AutoModelForSeq2SeqLM, AutoProcessor

from files.unreadable_photos import UnreadablePhoto
from mmprofile import COMBINATIONS, cut_history
from mmprofile.configuration_mmprofile import ProfileSchema
from prediction import arguments
from tests.files.test_output_files import held
from tests.prediction.test_predict import corpus, model, rows_of, run, whole  # noqa: F401
from tests.tiny_corpus import SCHEMA, png, tiny_dataset, user
from tests.tiny_folder import save_tiny_folder


@pytest.mark.parametrize(
    "flags",
    [
        {"num_reviews": 1},
        {"num_images": 2},
        {"max_calls": 3},
        {"dtype": "bfloat16"},
        {"split": "train"},
        {"views": "all"},
    ],
)
def test_a_flag_changes_the_answers(model, corpus, whole, tmp_path, flags):
    run(model, corpus, tmp_path / "out", **flags)
    keys = ("user_id", "log_probability", "image_weights")
    assert [[row[key] for key in keys] for row in rows_of(tmp_path / "out")] != [
        [row[key] for key in keys] for row in rows_of(whole[0])
    ]


def test_combinations_are_the_librarys():
    assert tuple(arguments.COMBINATIONS) == tuple(COMBINATIONS)


def test_views_drawn_beside_are_answered_with_the_others(model, corpus, tmp_path):
    run(model, corpus, tmp_path / "out", views="all", draws=1, batch_size=5)
    network = AutoModelForSeq2SeqLM.from_pretrained(model, trust_remote_code=True)
    processor = AutoProcessor.from_pretrained(model, trust_remote_code=True)
    texts = [review["text"] for review in user(207)["reviews"]]
    parts = cut_history(len(texts), 3, draws=1)
    assert len(parts) == 3
    inputs = processor(
        reviews=[[texts[n] for n in part] for part in parts],
        images=[[png(20 * 207 + 3 * n)["bytes"] for n in part] for part in parts],
        captions=[[f"photo 0 of review {n}" for n in part] for part in parts],
    )
    (expected,) = network.generate_profiles(**inputs, tokenizer=processor.tokenizer, max_calls=2, views=[3])
    row = rows_of(tmp_path / "out")[7]
    assert row["text"] == expected.text
    assert row["log_probability"] == pytest.approx(expected.log_probability, abs=1e-3)
    assert sum(row["image_weights"]) == pytest.approx(1)


@pytest.mark.parametrize("combination", COMBINATIONS)
def test_a_whole_history_is_read_view_by_view_and_answered_together(model, corpus, tmp_path, combination):
    run(model, corpus, tmp_path / "out", views="all", combination=combination, batch_size=5)
    network = AutoModelForSeq2SeqLM.from_pretrained(model, trust_remote_code=True)
    processor = AutoProcessor.from_pretrained(model, trust_remote_code=True)
    texts = [review["text"] for review in user(207)["reviews"]]
    photos = [png(20 * 207 + 3 * number)["bytes"] for number in range(len(texts))]
    captions = [f"photo 0 of review {number}" for number in range(len(texts))]
    parts = [slice(0, 1), slice(1, 4)]  # the newest has what is left over
    assert len(texts) == 4
    inputs = processor(
        reviews=[texts[part] for part in parts],
        images=[photos[part] for part in parts],
        captions=[captions[part] for part in parts],
    )
    (expected,) = network.generate_profiles(
        **inputs, tokenizer=processor.tokenizer, max_calls=2, views=[2], combination=combination, output_fusion=True
    )
    row = rows_of(tmp_path / "out")[7]
    assert row["text"] == expected.text
    assert row["log_probability"] == pytest.approx(expected.log_probability, abs=1e-3)
    weights = [weight for weight in row["image_weights"] if weight]
    assert weights == pytest.approx([weight for weight in expected.image_weights if weight], abs=1e-4)
    assert sum(weights) == pytest.approx(1, abs=1e-4)


def test_without_a_bound_all_is_proved_and_a_second_start_is_the_same_run(model, tmp_path):
    (tmp_path / "lines.jsonl").write_text(json.dumps({"user_id": "a", "reviews": ["good"]}))
    flags = {"max_calls": None, "max_decoder_tokens": 0}
    for _ in range(2):
        run(model, tmp_path / "lines.jsonl", tmp_path / "out", **flags)
    assert [row["exact"] for row in rows_of(tmp_path / "out")] == [True]
    with pytest.raises(ValueError, match="'max_decoder_tokens': 0.* not .*'max_decoder_tokens': None"):
        run(model, tmp_path / "lines.jsonl", tmp_path / "out", **flags | {"max_decoder_tokens": None})


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
        ({"dataset": "nowhere"}, "there is no corpus 'nowhere'"),
        ({"split": "dev"}, "not 'dev'"),
        ({"output": None}, "--output is needed, or --show N alone"),
        ({"output": None, "show": 1, "evaluate": True}, "--output is needed"),
        ({"batch_size": 0}, "batch_size is at least 1, got 0"),
        ({"on_bad_photo": "warn"}, r"on_bad_photo must be one of \['stop', 'skip'\], got 'warn'"),
        ({"min_coverage": 2.0}, "min_coverage is from 0 to 1, got 2.0"),
        ({"dtype": "int4"}, r"dtype must be one of \['float32', .* 'int8', 'fastest'\], got 'int4'"),
    ],
)
def test_what_cannot_be_done_is_said_before_anything_is_written(model, corpus, tmp_path, flags, message):
    with pytest.raises(ValueError, match=message):
        run(flags.pop("model", model), flags.pop("dataset", corpus), **{"output": tmp_path / "out"} | flags)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("on_bad_photo", ["skip", "stop"])
def test_a_photo_that_cannot_be_read_is_left_out_or_ends_the_run(model, tmp_path, on_bad_photo):
    (tmp_path / "broken.png").write_bytes(png(3)["bytes"][:40])
    (tmp_path / "whole.png").write_bytes(png(3)["bytes"])
    user = {"user_id": "a", "reviews": ["good"], "images": ["whole.png", "broken.png"]}
    (tmp_path / "users.jsonl").write_text(json.dumps(user))
    stops = pytest.raises(UnreadablePhoto, match="user 'a', photo 1: image '.*broken.png' is broken")
    with stops if on_bad_photo == "stop" else nullcontext():
        run(model, tmp_path / "users.jsonl", tmp_path / "out", on_bad_photo=on_bad_photo)
    assert len(rows_of(tmp_path / "out")) == (on_bad_photo == "skip")


def test_an_output_that_is_a_file_is_refused(model, corpus, tmp_path):
    (tmp_path / "out").write_text("kept")
    with pytest.raises(ValueError, match="output must be a folder that can be written, got .*out: "):
        run(model, corpus, tmp_path / "out")


def test_an_output_in_which_another_run_is_at_work_is_refused(model, corpus, tmp_path):
    with held(tmp_path / "out"), pytest.raises(ValueError, match="another run is at work in .*out; wait"):
        run(model, corpus, tmp_path / "out", overwrite_output=True)


@pytest.mark.parametrize("size", [None, 0, 100, 5000])
def test_a_model_without_whole_weights_is_refused(model, corpus, tmp_path, size):
    shutil.copytree(model, tmp_path / "model")
    weights = tmp_path / "model" / "model.safetensors"
    if size is None:
        weights.unlink()
    else:
        os.truncate(weights, size)
    with pytest.raises(ValueError, match="the model '.*model' cannot be loaded: "):
        run(tmp_path / "model", corpus, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("fields", [{"reviews": ["evil"]}, {"images": ["a.png"], "captions": ["a place"]}])
def test_a_changed_file_gets_no_stale_answers(model, tmp_path, fields):
    (tmp_path / "a.png").write_bytes(png(3)["bytes"])
    lines, line = tmp_path / "users.jsonl", {"user_id": "a", "reviews": ["good"]}
    lines.write_text(json.dumps(line))
    run(model, lines, tmp_path / "out")
    (before,) = rows_of(tmp_path / "out")
    lines.write_text(json.dumps(line | fields))
    with pytest.raises(ValueError, match="the input has other users, texts.*--overwrite_output true"):
        run(model, lines, tmp_path / "out")
    run(model, lines, tmp_path / "out", overwrite_output=True)
    assert rows_of(tmp_path / "out")[0]["log_probability"] != before["log_probability"]


def test_true_profiles_that_came_later_are_another_input(model, tmp_path):
    lines, line = tmp_path / "users.jsonl", {"user_id": "a", "reviews": ["good"]}
    lines.write_text(json.dumps(line))
    run(model, lines, tmp_path / "out")
    lines.write_text(json.dumps(line | {"profile": SCHEMA.profile_from_labels(tiny_dataset(1)[0]["profile"])}))
    with pytest.raises(ValueError, match="or true profiles; --update true, choose another output or --over"):
        run(model, lines, tmp_path / "out", evaluate=True)
    assert "f1" in run(model, lines, tmp_path / "out", evaluate=True, overwrite_output=True)


def test_other_settings_of_the_processor_are_another_run(model, corpus, tmp_path):
    shutil.copytree(model, tmp_path / "model")
    run(tmp_path / "model", corpus, tmp_path / "out")
    settings = tmp_path / "model" / "processor_config.json"
    settings.write_text(settings.read_text().replace('"max_images": 4', '"max_images": 2'))
    with pytest.raises(
        ValueError, match="holds predictions with {\"model's processor_config.json\": '[0-9a-f]{16}'}, not"
    ):
        run(tmp_path / "model", corpus, tmp_path / "out")


def test_half_a_character_in_a_review_is_shown(model, tmp_path, capsys):
    (tmp_path / "users.jsonl").write_text(json.dumps({"user_id": "a", "reviews": ["good \ud83d"]}))
    run(model, tmp_path / "users.jsonl", show=1)
    assert "review     good ?" in capsys.readouterr().out


def test_draws_beside_a_single_view_are_refused(model, corpus, tmp_path):
    with pytest.raises(ValueError, match="--draws 2 is of a history in several views, and here it is one"):
        run(model, corpus, tmp_path / "out", views=1, draws=2)
    assert not (tmp_path / "out").exists()


def test_evaluation_without_true_profiles_is_refused(model, tmp_path):
    (tmp_path / "users.jsonl").write_text(json.dumps({"user_id": "a", "reviews": ["good"]}))
    with pytest.raises(ValueError, match="--evaluate needs the true profile of every user"):
        run(model, tmp_path / "users.jsonl", tmp_path / "out", evaluate=True)


def test_captions_that_a_model_was_trained_with_are_missed_aloud(model, tmp_path, capsys):
    (tmp_path / "users.jsonl").write_text(json.dumps({"user_id": "a", "reviews": ["good"]}))
    run(model, tmp_path / "users.jsonl", show=1)
    assert "trained with captions, and the input has none" in capsys.readouterr().err
