"""Runs that end, or are evaluated, at other places than the ends of their epochs."""

import json

import pytest

from tests.training.test_train import run, same, weights
from tests.training.test_train_resume import stopped_run, untimed
from training import evaluations
from training.checkpoints import list_checkpoints

FLAGS = {"batch_size": 2, "save_steps": 100}  # four steps an epoch


def test_an_evaluation_is_done_after_so_many_steps_and_at_the_end_of_an_epoch(corpus, tmp_path):
    results, history = run(corpus, tmp_path / "model", eval_steps=3, num_epochs=2, **FLAGS)
    assert [(record["step"], record["epoch"]) for record in history] == [(3, 0.75), (4, 1), (6, 1.5), (8, 2)]
    kept = [path.name for path in list_checkpoints(tmp_path / "model")]
    assert kept == [
        "checkpoint-3-epoch-0.75",
        "checkpoint-4-epoch-1",
        "checkpoint-6-epoch-1.5",
        "checkpoint-8-epoch-2",
    ]
    assert results["best_epoch"] in (0.75, 1, 1.5, 2)


@pytest.mark.slow
def test_evaluations_within_an_epoch_change_no_weight(corpus, tmp_path):
    for name, steps in (("often", {"eval_steps": 1}), ("at the end", {})):
        run(corpus, tmp_path / name, objectives=["fusion"], **steps, **FLAGS)
    ends = [list_checkpoints(tmp_path / name)[-1] / "pytorch_model.bin" for name in ("often", "at the end")]
    assert ends[0].read_bytes() == ends[1].read_bytes()


@pytest.mark.parametrize(("steps", "ends"), [(2, [(2, 0.5)]), (4, [(4, 1)]), (6, [(4, 1), (6, 1.5)])])
def test_max_steps_end_a_run_whatever_num_epochs_says(corpus, tmp_path, steps, ends):
    _, history = run(corpus, tmp_path / "model", max_steps=steps, **FLAGS)
    assert [(record["step"], record["epoch"]) for record in history] == ends
    assert history[-1]["learning_rate"] == pytest.approx(0.01 / steps)  # of the last step; the schedule ends there


@pytest.mark.slow
def test_a_run_ends_when_its_patience_does(corpus, tmp_path, monkeypatch):
    scores, evaluate = iter([20.0, 30.0, 25.0, 30.0, 90.0]), evaluations.evaluate_model

    def scored(*args):
        evaluation = evaluate(*args)
        evaluation.f1["average"] = next(scores)
        return evaluation

    monkeypatch.setattr(evaluations, "evaluate_model", scored)
    results, history = run(corpus, tmp_path / "model", num_epochs=5, early_stopping_patience=2, batch_size=4)
    assert [record["dev_f1"]["average"] for record in history] == [20.0, 30.0, 25.0, 30.0]
    assert results["best_epoch"] == 2


@pytest.mark.slow
def test_a_run_stopped_in_any_evaluation_is_the_run_left_alone(corpus, tmp_path, monkeypatch):
    flags = FLAGS | {"eval_steps": 3, "max_steps": 6, "eval_batch_size": 2, "log_steps": 2}
    results, history = run(corpus, tmp_path / "alone", **flags)
    flags["resume_from_checkpoint"] = "auto"
    for at in (1, 5, 2, 6, 3, 7, 4):
        stopped_run(corpus, tmp_path / "model", at, monkeypatch, **flags)
    again, told = run(corpus, tmp_path / "model", **flags)
    assert same(weights(tmp_path / "model"), weights(tmp_path / "alone"))
    assert untimed(told) == untimed(history)
    assert again | {"train_seconds": 0} == results | {"train_seconds": 0}
    assert json.loads((tmp_path / "model" / "all_results.json").read_text())["best_epoch"] == results["best_epoch"]
