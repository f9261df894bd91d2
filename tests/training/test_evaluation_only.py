"""A trained model evaluated again: the same figures where nothing changed, those of elsewhere where asked, no weight
touched, and nothing told of a training that is not known."""

import json
import math
import re
import shutil
from types import SimpleNamespace

import pytest
import torch
import yaml
from datasets import Dataset
from huggingface_hub import HfApi, ModelCard
from safetensors.torch import save_file

from corpora.checks import labels_schema
from tests import ROOT
from tests.tiny_corpus import features, tiny_dataset, user
from tests.training.test_trackers import READ
from tests.training.test_train import run, same, weights
from training import evaluation_only
from training.arguments import CONDITIONS, JointTrainingArguments
from training.evaluation_only import load_evaluated, read_history
from training.joint_step import JointStep


@pytest.fixture
def trained(base, tmp_path, monkeypatch):
    """A copy of a trained folder, under its name, with a checkpoint; nothing can be trained."""
    folder = tmp_path / "model"
    shutil.copytree(base[0], folder)
    (folder / "checkpoint-2").mkdir()
    (folder / "checkpoint-2" / "run.json").write_text("{}")
    monkeypatch.setattr(JointStep, "forward", None)
    return folder


def evaluate(corpus, folder, **flags):
    return run(corpus, folder, **{"do_train": False} | flags)


def test_evaluating_a_folder_again_writes_what_training_wrote_and_changes_no_weight(
    corpus, base, trained, whole_run, capsys
):
    written = {name: (trained / name).read_bytes() for name in ("README.md", "all_results.json")}
    for name in (*written, "calibration.png", "confusion.png", "curves.png"):
        (trained / name).rename(trained / f"old-{name}")
    (trained / "old-all_results.json").rename(trained / "all_results.json")  # which knows the training's length
    # Flags of training do not count: those of the run do.
    flags = {"learning_rate": 5.0, "paradigm": "multimodal", "vocab_size": 90, "seed": 9}
    with whole_run():
        results, _ = evaluate(corpus, trained, test_conditions=[*CONDITIONS], **flags)
    assert results == base[1]
    assert {name: (trained / name).read_bytes() for name in written} == written
    assert (trained / "calibration.png").is_file() and (trained / "confusion.png").is_file()
    assert (trained / "curves.png").is_file() and (trained / "checkpoint-2" / "run.json").is_file()
    assert same(weights(trained), weights(base[0]))
    assert "the run that made the model had" not in capsys.readouterr().err


def test_another_split_of_another_corpus_is_named_and_what_is_not_known_of_the_training_is_not_told(
    trained, tmp_path, capsys
):
    other = tmp_path / "elsewhere"
    other.mkdir()
    tiny_dataset(3).to_parquet(other / "validation-00000-of-00001.parquet")
    results, _ = evaluate(other, trained, test_split="validation", max_eval_users=2, num_beams=2)
    assert results["test_corpus"] == {
        "name": "elsewhere",
        "config": None,
        "dataset": "./elsewhere",
        "split": "validation",
        "users": 2,
    }
    assert results["test_resolution"]["users"] == 2 and "majority class" not in results["test_f1"]
    assert "num_beams is 2, the run that made the model had 1" in capsys.readouterr().err
    text = (trained / "README.md").read_text()
    assert "on the validation split of the corpus `elsewhere` (2 users)" in text
    assert "the corpus `corpus`: 8 users for training" in text and "| `learning_rate` | 0.01 | 5e-05 |" in text
    assert {r.dataset_split for r in ModelCard.load(trained / "README.md").data.eval_results} == {"validation"}

    for name in ("recipe.yaml", "metrics.jsonl", "all_results.json", "curves.png"):
        (trained / name).unlink()
    (trained / "metrics.jsonl").touch()  # which `run` reads
    results, history = evaluate(other, trained, test_split="validation", paradigm="unimodal")
    assert history == [] and not {"best_epoch", "train_seconds", "train_corpus"} & results.keys()
    told = (trained / "README.md").read_text()
    assert "in the `combined` paradigm" in told and "curves.png" not in told and not (trained / "curves.png").exists()
    assert "random weights" not in told and "learning_rate" not in told and "epochs" not in told


@pytest.mark.slow
def test_a_model_elsewhere_is_copied_with_what_its_run_told_and_pushed(
    corpus, base, trained, whole_run, tmp_path, hub
):
    flags = {"push_to_hub": True, "hub_model_id": "user/again", "num_reviews": 2, "fusion": "concat"}
    with whole_run():
        results, history = evaluate(corpus, tmp_path / "copy", model=trained, test_conditions=[*CONDITIONS], **flags)
    assert same(weights(tmp_path / "copy"), weights(base[0])) and history == base[2]
    assert results["train_seconds"] == base[1]["train_seconds"]
    for name in ("recipe.yaml", "README.md", "model.safetensors", "all_results.json"):
        assert hub.files("user/again")[name] == (tmp_path / "copy" / name).read_bytes()
    assert "random weights (the tiny preset)" in (tmp_path / "copy" / "README.md").read_text()
    assert json.loads((trained / "all_results.json").read_text()) == json.loads(json.dumps(base[1]))


def other_schema(folder):
    folder.mkdir()
    stars_alone = features()
    stars_alone["profile"] = {"stars": stars_alone["profile"]["stars"]}
    rows = [user(number) | {"profile": {"stars": 0}} for number in range(3)]
    Dataset.from_list(rows, features=stars_alone).to_parquet(folder / "test-00000-of-00001.parquet")
    return folder


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"output_dir": "nothing"}, "nothing holds no model to evaluate: train one"),
        ({"dataset": "other"}, r"the model writes profiles of .*Favorite Category.*, the corpus has \[.*Stars"),
        ({"dataset_revision": "v1"}, "--dataset_revision v1 is for a corpus of the Hub"),
        ({"system": "bart"}, "model' is a checkpoint of the system 'mmprofile', got 'bart'"),
        ({"test_split": "dev"}, r"has the splits \['test', 'train', 'validation'\], got test_split='dev'"),
        ({"model": "model"}, "model holds files already, .* leave --model out"),
        ({"resume_from_checkpoint": "auto"}, "--do_train false resumes nothing"),
        ({"do_train": True, "test_split": "dev"}, "test_split='dev' is of use with --do_train false"),
    ],
)
def test_what_cannot_be_evaluated_is_refused_and_the_folder_left_as_it_was(
    corpus,
    trained,
    tmp_path,
    monkeypatch,
    flags,
    message,
):
    monkeypatch.chdir(tmp_path)
    other_schema(tmp_path / "other")
    before = {path: path.stat().st_mtime_ns for path in trained.rglob("*")}
    with pytest.raises(ValueError, match=message):
        evaluate(flags.get("dataset", corpus), trained, **flags)
    assert {path: path.stat().st_mtime_ns for path in trained.rglob("*")} == before
    assert not (tmp_path / "nothing").exists()


class Reached(Exception):
    """Ends an evaluation early."""


def ended_at(monkeypatch, name):
    """Has an evaluation end where it would call something; returns the list in which what that is given will be."""
    given = []

    def end(*args, **_):
        given.extend(args)
        raise Reached

    monkeypatch.setattr(evaluation_only, name, end)
    return given


@pytest.mark.parametrize(("trusted", "at"), [(True, "here"), (False, "here"), (True, "hub")])
def test_a_copy_has_the_code_that_is_run_the_weights_as_they_are_and_the_adapter(
    corpus,
    trained,
    tmp_path,
    monkeypatch,
    hub,
    trusted,
    at,
):
    source = trained
    with open(trained / "modeling_mmprofile.py", "a") as file:
        file.write("\n\nMMProfileForConditionalGeneration.is_foreign = True\n")
    halved = {name: weight.bfloat16() for name, weight in weights(trained).items()}
    save_file(halved, trained / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((trained / "config.json").read_text())
    (trained / "config.json").write_text(json.dumps(config | {"dtype": "bfloat16"}))
    (trained / "adapter").mkdir()
    (trained / "adapter" / "adapter_config.json").write_text('{"r": 2}')
    if at == "hub":
        (trained / "checkpoint-2" / "large.safetensors").touch()
        HfApi(hub.endpoint, hub.token).create_repo("user/foreign")
        HfApi(hub.endpoint, hub.token).upload_folder(repo_id="user/foreign", folder_path=trained)
        source = "user/foreign"
    given = ended_at(monkeypatch, "evaluate_saved")
    with pytest.raises(Reached):
        evaluate(corpus, tmp_path / "copy", model=source, trust_remote_code=trusted)
    assert getattr(given[0], "is_foreign", False) is trusted
    code = trained if trusted else ROOT
    for name in ("modeling_mmprofile.py", "processing_mmprofile.py", "handler.py"):
        assert (tmp_path / "copy" / name).read_bytes() == (code / name).read_bytes()
    for name in ("adapter/adapter_config.json", "recipe.yaml", "metrics.jsonl", "tokenizer.json"):
        assert (tmp_path / "copy" / name).read_bytes() == (trained / name).read_bytes()
    assert not list((tmp_path / "copy").glob("checkpoint-*"))
    asked = " ".join(hub.requests)
    assert ("/adapter/adapter_config.json" in asked) is (at == "hub") and "/large.safetensors" not in asked
    copied = weights(tmp_path / "copy")
    assert same(copied, halved) and {weight.dtype for weight in copied.values()} == {torch.bfloat16}


def test_the_majority_class_is_of_the_users_and_by_the_stream_that_the_run_had(corpus, trained, monkeypatch):
    recipe = yaml.safe_load((trained / "recipe.yaml").read_text())
    (trained / "recipe.yaml").write_text(yaml.safe_dump(recipe | {"max_train_users": 3, "streaming": True}))
    opened = []
    monkeypatch.setattr(evaluation_only, "open_corpus", lambda *given: opened.append(given))  # all of it
    given = ended_at(monkeypatch, "check_content")
    load, loaded = evaluation_only.load_evaluated, []
    monkeypatch.setattr(evaluation_only, "load_evaluated", lambda *given: loaded.append(load(*given)) or loaded[0])
    with pytest.raises(Reached):
        evaluate(corpus, trained)
    whole = Dataset.from_parquet(str(next(corpus.glob("*train*.parquet"))))
    assert not opened and list(loaded[0]["train"]["profile"]) == list(whole["profile"])[:3]
    assert len(given[0]) == 4  # of the test split, which is read


def test_a_corpus_that_cannot_be_streamed_is_read_whole_though_the_run_streamed_its_own(tmp_path):
    tiny_dataset(3).to_parquet(tmp_path / "validation-00000-of-00001.parquet")
    flags = {"dataset": str(tmp_path), "streaming": True, "do_train": False, "test_split": "validation"}
    schema = labels_schema(features())
    found = load_evaluated(JointTrainingArguments(**flags, output_dir="x"), schema)
    assert set(found) == {"validation"} and len(found["validation"]) == 3
    with pytest.raises(ValueError, match=r"has the splits \['validation'\], got test_split='test'"):
        evaluation_only.load_evaluated(
            JointTrainingArguments(**flags | {"test_split": "test"}, output_dir="x"), schema
        )


def test_trackers_get_the_results_in_the_place_of_those_of_the_training(corpus, trained):
    last = json.loads((trained / "metrics.jsonl").read_text().splitlines()[-1])["step"]
    for users in (2, 3):
        results, _ = evaluate(corpus, trained, report_to="tensorboard", max_eval_users=users)
        read = READ["tensorboard"](trained)
        assert read["test_corpus/users"] == [(last + 1, users)]
        assert read["test_average_f1"] == [(last + 1, pytest.approx(results["test_average_f1"]))]


def test_what_the_main_process_refuses_the_others_refuse_before_there_is_a_folder(corpus, tmp_path, monkeypatch):
    def broadcast(found):
        assert found == [None, None]
        found[1] = ValueError("the output holds files already")

    monkeypatch.setattr("training.agreement.broadcast_object_list", broadcast)
    flags = {"dataset": str(corpus), "output_dir": str(tmp_path / "copy"), "model": "x", "do_train": False}
    with pytest.raises(ValueError, match="holds files already"):
        evaluation_only.evaluate_only(JointTrainingArguments(**flags), SimpleNamespace(is_main_process=False))


def test_what_was_not_a_number_in_the_metrics_is_none_again(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"epoch": 1, "train_loss": null}\n')
    assert math.isnan(read_history(tmp_path)[0]["train_loss"])
    (tmp_path / "metrics.jsonl").write_text("{")
    with pytest.raises(ValueError, match=re.escape(f"{tmp_path}/metrics.jsonl is not a line of JSON")):
        read_history(tmp_path)
