"""A dry run tells what a run will take, and leaves nothing."""

import re

import pytest

from tests.tiny_corpus import write_corpus
from tests.training.test_train import main
from training import batching, dry_run
from training.failures import TrainingFailure
from training.joint_step import JointStep

FLAGS = {"dry_run": True, "batch_size": 2, "num_epochs": 3}


def test_a_dry_run_counts_steps_evaluations_and_time_and_writes_nothing(corpus, tmp_path, monkeypatch, capsys):
    calls, users, forward, loader = [], [], JointStep.forward, dry_run.training_loader

    def noting(self, batch):
        calls.append(len(users))
        return forward(self, batch)

    def noting_users(split, *args):
        users.append(split["user_id"])
        return loader(split, *args)

    monkeypatch.setattr(JointStep, "forward", noting)
    monkeypatch.setattr(dry_run, "training_loader", noting_users)
    monkeypatch.setattr(batching, "review_lengths", lambda split: [[1, 1], [9], [2, 6], *[[1]] * (len(split) - 3)])
    monkeypatch.setattr(dry_run, "seconds_of_evaluation", lambda run: 5.0)
    found = main(corpus, tmp_path / "model", eval_steps=3, **FLAGS)
    assert (found["steps"], found["evaluations"]) == (12, 6)
    assert len(calls) == 5 and list(users[0]) == ["u1", "u2"]  # the longest, one to warm up and three
    assert found["train_seconds"] == pytest.approx(12 * found["step_seconds"])
    assert found["seconds"] > found["train_seconds"] + 6 * 5.0
    assert found["memory_bytes"] > 1 << 27
    assert re.search(r"the run is 12 steps and 6 evaluations: about \d+:\d\d:\d\d", capsys.readouterr().out)
    assert not (tmp_path / "model").exists()


def test_a_dry_run_leaves_an_earlier_run_as_it_is_and_asks_no_hub(corpus, base, hub):
    before = {path: path.stat().st_mtime_ns for path in base[0].rglob("*")}
    main(corpus, base[0], overwrite_output_dir=True, push_to_hub=True, hub_model_id="user/dry", **FLAGS)
    assert {path: path.stat().st_mtime_ns for path in base[0].rglob("*")} == before
    assert not hub.requests and not hub.repos


def test_a_dry_run_finds_what_would_end_the_run(corpus, tmp_path, monkeypatch):
    write_corpus(tmp_path / "corpus", replaced={(201, 0, 0): {"bytes": b"no photo", "path": None}})
    with pytest.raises(ValueError, match="split 'test', user 'u201', photo 1 of review 1"):
        main(tmp_path / "corpus", tmp_path / "model", **FLAGS)

    def raises(self, batch):
        raise RuntimeError("CUDA out of memory. Tried to allocate 20.00 MiB")

    monkeypatch.setattr(JointStep, "forward", raises)
    with pytest.raises(TrainingFailure, match="--batch_size below 2"):
        main(corpus, tmp_path / "model", **FLAGS)
