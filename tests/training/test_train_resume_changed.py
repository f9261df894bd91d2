"""Runs that go on with other flags than they began with, and what an output folder keeps of an earlier run."""

import json

import pytest
import torch

from tests.training.test_train import run, same, train_only, weights
from tests.training.test_train_resume import stopped_run, untimed
from training import evaluations
from training.arguments import CONDITIONS
from training.checkpoints import list_checkpoints

FLAGS = {"batch_size": 2, "save_steps": 2, "lr_scheduler": "constant", "learning_rate": 0.003}
GO_ON = FLAGS | {"resume_from_checkpoint": "auto"}
OF_A_WHOLE_RUN = {"README.md", "all_results.json", "calibration.png", "confusion.png"}


def names(folder):
    return {path.name for path in folder.iterdir()}


@pytest.mark.slow
def test_a_finished_run_goes_on_with_more_epochs(corpus, whole_run, tmp_path, capsys):
    whole = {"test_conditions": [*CONDITIONS]}
    with whole_run():
        expected, history = run(corpus, tmp_path / "alone", num_epochs=2, **FLAGS, **whole)
        run(corpus, tmp_path / "model", num_epochs=1, **FLAGS, **whole)
        results, told = run(corpus, tmp_path / "model", num_epochs=2, **GO_ON, **whole)
    assert "checkpoint-4-epoch-1, but num_epochs was 1, is 2" in capsys.readouterr().out
    assert same(weights(tmp_path / "model"), weights(tmp_path / "alone")) and untimed(told) == untimed(history)
    assert results | {"train_seconds": 0} == expected | {"train_seconds": 0}


@pytest.mark.slow
def test_flags_that_change_no_order_may_change_and_are_those_of_today(corpus, tmp_path, capsys):
    run(corpus, tmp_path / "model", num_epochs=1, **FLAGS)
    changed = {"learning_rate": 0.001, "weight_decay": 0.5, "gradient_checkpointing": True, "eval_batch_size": 1}
    changed |= {"num_beams": 2, "max_eval_users": 3, "mixed_precision": "bf16", "max_grad_norm": 0.5, "num_epochs": 2}
    _, history = run(corpus, tmp_path / "model", **GO_ON | changed)
    said = capsys.readouterr().out
    for phrase in (
        "learning_rate was 0.003, is 0.001",
        "num_beams was 1, is 2",
        "mixed_precision was 'no', is 'bf16'",
    ):
        assert phrase in said
    assert [record["learning_rate"] for record in history] == [0.003, 0.001]
    path = list_checkpoints(tmp_path / "model")[-1] / "optimizer.bin"
    groups = torch.load(path, weights_only=True)["param_groups"]
    assert {group["lr"] for group in groups} == {0.001}
    assert max(group["weight_decay"] for group in groups) == 0.5


@pytest.mark.parametrize(("before", "after"), [(None, 0.5), (0.5, None)])
def test_an_average_of_the_weights_may_begin_or_end_within_a_run(corpus, tmp_path, before, after, capsys):
    flags = GO_ON | {"save_steps": 1}
    given = [{} if decay is None else {"ema_decay": decay} for decay in (before, after)]
    train_only(corpus, tmp_path / "model", num_epochs=1, **flags | given[0])
    ended = train_only(corpus, tmp_path / "model", num_epochs=2, **flags | given[1])
    assert f"ema_decay was {before}, is {after}" in capsys.readouterr().out
    trained = torch.load(list_checkpoints(tmp_path / "model")[-1] / "pytorch_model.bin", weights_only=True)
    assert len(ended) > 80 and all(ended[name].isfinite().all() for name in ended) and trained


@pytest.mark.slow
def test_the_folder_keeps_the_averaged_weights_that_scored_best_where_the_run_goes_on_without(
    corpus,
    tmp_path,
    monkeypatch,
):
    scores, evaluate = iter([90.0, 1.0]), evaluations.evaluate_model

    def scored(*given):
        evaluation = evaluate(*given)
        evaluation.f1["average"] = next(scores)
        return evaluation

    monkeypatch.setattr(evaluations, "evaluate_model", scored)
    run(corpus, tmp_path / "model", num_epochs=1, ema_decay=0.9, **FLAGS)
    best = weights(tmp_path / "model")
    (trained,) = [path for path in list_checkpoints(tmp_path / "model") if path.name == "checkpoint-4-epoch-1"]
    results, history = run(corpus, tmp_path / "model", num_epochs=2, **GO_ON)
    assert results["best_epoch"] == 1 and len(history) == 2
    assert same(weights(tmp_path / "model"), best)
    unaveraged = torch.load(trained / "pytorch_model.bin", weights_only=True)
    assert not unaveraged["model.fusion.ffn_in.weight"].equal(best["fusion.ffn_in.weight"])


@pytest.mark.slow
def test_another_batch_size_goes_on_at_the_same_users(corpus, tmp_path, capsys):
    run(corpus, tmp_path / "model", num_epochs=1, **FLAGS | {"save_steps": 1})
    output = tmp_path / "model"
    flags = GO_ON | {"save_steps": 1, "resume_from_checkpoint": output / "checkpoint-1"}
    _, history = run(corpus, output, **flags | {"batch_size": 1})
    assert history[0]["step"] == 1 + 6  # 8 users, of whom 2 were seen
    flags["resume_from_checkpoint"] = output / "checkpoint-3"  # 4 users
    _, history = run(corpus, output, **flags | {"batch_size": 3})
    assert history[0]["step"] == 3 + 2
    assert "1 users of epoch 1 are seen a second time" in capsys.readouterr().out


def test_fewer_steps_than_are_done_end_a_run_with_an_evaluation(corpus, tmp_path, monkeypatch):
    stopped_run(corpus, tmp_path / "model", 4, monkeypatch, **FLAGS)
    _, history = run(corpus, tmp_path / "model", max_steps=2, **GO_ON)
    assert [(record["step"], record["epoch"]) for record in history] == [(3, 0.75)]


def test_a_run_that_is_written_over_leaves_nothing_of_it_beside_new_weights(corpus, tmp_path, monkeypatch):
    output = tmp_path / "model"
    run(corpus, output, **FLAGS)
    (output / "notes.txt").touch()
    assert names(output) >= OF_A_WHOLE_RUN | {"model.safetensors", "curves.png", "notes.txt"}
    stopped_run(corpus, output, 2, monkeypatch, overwrite_output_dir=True, **FLAGS)
    assert names(output) == {"checkpoint-1", "notes.txt", "recipe.yaml"}


@pytest.mark.slow
def test_a_run_that_goes_on_has_no_results_before_its_end(corpus, tmp_path, monkeypatch):
    output = tmp_path / "model"
    run(corpus, output, **FLAGS)
    stopped_run(corpus, output, 2, monkeypatch, num_epochs=2, **GO_ON)
    assert not names(output) & OF_A_WHOLE_RUN
    assert names(output) >= {"model.safetensors", "curves.png", "metrics.jsonl"}  # of the epoch that it went on from
    assert len((output / "metrics.jsonl").read_text().splitlines()) == 1


@pytest.mark.slow
@pytest.mark.parametrize("lost", ["curves.png", "confusion.png", "metrics.jsonl"])
def test_pictures_that_a_kill_has_prevented_are_drawn_when_the_run_goes_on(corpus, tmp_path, lost):
    """Between the last checkpoint and the epoch's pictures."""
    output = tmp_path / "model"
    run(corpus, output, **FLAGS)
    for name in [*OF_A_WHOLE_RUN, lost]:
        (output / name).unlink(missing_ok=True)
    run(corpus, output, **GO_ON)
    card = (output / "README.md").read_text()
    assert names(output) >= OF_A_WHOLE_RUN | {"curves.png"}
    assert all(f"{name}.png" in card for name in ("curves", "confusion", "calibration"))
    assert len((output / "metrics.jsonl").read_text().splitlines()) == 1


@pytest.mark.slow
def test_a_corpus_that_lies_elsewhere_is_the_same_and_bad_flags_lose_nothing(corpus, tmp_path):
    output = tmp_path / "model"
    run(corpus, output, **FLAGS)
    before = json.loads((output / "all_results.json").read_text())
    with pytest.raises(ValueError, match="there is no corpus"):
        run(tmp_path / "nowhere", output, overwrite_output_dir=True, **FLAGS)
    with pytest.raises(ValueError, match="seed was 0, is 1"):
        run(corpus, output, seed=1, **GO_ON)
    assert names(output) >= OF_A_WHOLE_RUN | {"model.safetensors"}
    assert json.loads((output / "all_results.json").read_text()) == before
