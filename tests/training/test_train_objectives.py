"""Evaluation shows a model what its objectives showed it, and the saved model says what that was."""

import json

import pytest
from transformers import AutoConfig, ViTModel

import predict
from tests.training.test_train import run
from training.arguments import CONDITIONS

BESIDE_REVIEWS = {"reviews alone", "photos of another user"}


@pytest.fixture(scope="module")
def of_text(corpus, whole_run, tmp_path_factory):
    """A run on the text objective alone: its folder, its results, and how often the vision tower was called."""
    output, calls = tmp_path_factory.mktemp("objectives") / "model", []
    with whole_run("measure_faithfulness"), pytest.MonkeyPatch.context() as patch:
        patch.setattr(ViTModel, "forward", lambda *args, **options: calls.append(1))
        results, _ = run(corpus, output, objectives=["text"], test_conditions=[*CONDITIONS])
    return output, results, len(calls)


def test_a_model_trained_on_text_alone_is_shown_no_photo_in_training_and_evaluation(of_text):
    assert of_text[2] == 0


def test_rows_that_differ_in_photos_alone_are_left_out_where_none_are_seen(of_text, base):
    output, results, _ = of_text
    assert set(base[1]["test_f1"]) - set(results["test_f1"]) == BESIDE_REVIEWS
    assert set(base[1]) - set(results) == {"test_text_only_average_f1", "test_unpaired_average_f1"}
    assert list(results["test_faithfulness"]) == ["views"]
    card = (output / "README.md").read_text()
    assert "The model was trained on reviews alone" in card and "A person's own" not in card
    assert "reviews alone  " not in card and "a vision tower" not in card and "images=[" not in card


def test_the_saved_model_keeps_its_objectives_and_prediction_follows_them(of_text, corpus, tmp_path, capsys):
    assert json.loads((of_text[0] / "config.json").read_text())["objectives"] == ["text"]
    argv = ["--model", str(of_text[0]), "--dataset", str(corpus), "--show", "1"]
    predict.main([*argv, "--max_calls", "2"])
    assert "looked at: none" in capsys.readouterr().out


def test_going_on_with_other_objectives_changes_what_the_model_sees(of_text, corpus, tmp_path):
    flags = {"objectives": ["mask_image"], "paradigm": "multimodal", "test_conditions": ["text_only", "unpaired"]}
    results, _ = run(corpus, tmp_path / "model", model=of_text[0], **flags)
    config = AutoConfig.from_pretrained(tmp_path / "model", trust_remote_code=True)
    assert (config.objectives, config.paradigm) == (["mask_image"], "multimodal")
    assert set(results["test_f1"]) > BESIDE_REVIEWS
