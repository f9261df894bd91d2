"""Losses that are no numbers, and memory that does not suffice."""

import math
import os
import re
import signal
import sys

import pytest
import torch
from accelerate import Accelerator

import train
from cli.logs import set_log_level
from tests.training.test_train import SMALL, run, same, train_only
from training import guards
from training.arguments import JointTrainingArguments
from training.batch_size import largest_that_fits
from training.checkpoints import list_checkpoints
from training.failures import TrainingFailure
from training.guards import check_step
from training.joint_step import JointStep

OUT_OF_MEMORY = "CUDA out of memory. Tried to allocate 20.00 MiB"


def check(norm, in_a_row=0, most=3, scaled=False, **losses):
    losses = {name: torch.tensor(value) for name, value in losses.items()}
    return check_step(3, torch.tensor(norm), losses, in_a_row, most, scaled)


def test_a_step_whose_gradient_is_not_finite_is_not_taken_and_the_first_loss_that_spoils_it_is_named(capsys):
    set_log_level("info")
    assert check(1.0, text=1.0, loss=1.0) and not capsys.readouterr().err
    assert not check(float("nan"), text=1.0, fusion=float("inf"), loss=float("inf"))
    assert capsys.readouterr().err == "step 3 is skipped: fusion is inf\n"
    assert not check(float("inf"), text=1.0, loss=1.0)
    assert capsys.readouterr().err == "step 3 is skipped: gradient norm is inf\n"
    assert not check(float("inf"), scaled=True, loss=1.0) and not capsys.readouterr().err
    with pytest.raises(TrainingFailure, match="step 3: text is nan; so many steps in a row had to be skipped: 3"):
        check(float("nan"), in_a_row=2, text=float("nan"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("size", "kept"), [("2m", []), ("12m", ["checkpoint-1"]), ("18m", ["checkpoint-1", "checkpoint-2-epoch-1"])]
)
def test_a_full_disk_ends_a_run_in_a_sentence_and_leaves_what_is_whole(corpus, small_disk, size, kept):
    flags = SMALL | {"dataset": corpus, "output_dir": '"$DISK/model"', "save_steps": 1}
    words = " ".join(f"--{name} {value}" for name, value in flags.items())
    result = small_disk(size, f'{sys.executable} train.py {words}; echo "status $?"; ls -A "$DISK/model"')
    _, left = result.stdout.split("status 1\n")
    assert [name for name in left.splitlines() if name.startswith((".", "checkpoint"))] == kept
    said = [line for line in result.stderr.splitlines() if line.startswith("train.py: ")]
    last = f"the last good checkpoint is .*/model/{kept[-1]}" if kept else r"there is no checkpoint \(--save_steps\)"
    assert re.fullmatch(f"train.py: .*/model cannot be written, its disk has 0 MiB left: .*; {last}", said[-1])


FORWARD = JointStep.forward


def spoil(monkeypatch, spoiled):
    """Has each forward pass of a run end in `spoiled`, which is told the batches so far."""
    forward, calls = FORWARD, []

    def broken(self, batch):
        calls.append(len(batch["labels"]))
        output = forward(self, batch)
        return spoiled(output, calls)

    monkeypatch.setattr(JointStep, "forward", broken)
    return calls


def nan_at(*steps):
    """Spoils the loss of these forward passes."""

    def spoiled(output, calls):
        if len(calls) in steps:
            output.losses["mask_image"] = output.losses["mask_image"] * float("nan")
            output.loss = output.loss * float("nan")
        return output

    return spoiled


def test_a_step_that_is_not_finite_changes_nothing_and_is_counted(corpus, tmp_path, monkeypatch, capsys):
    spoil(monkeypatch, nan_at(2))
    _, history = run(corpus, tmp_path / "model", batch_size=2, save_steps=1, log_steps=1)
    states = [torch.load(path / "pytorch_model.bin") for path in list_checkpoints(tmp_path / "model")]
    assert same(states[0], states[1]) and not same(states[1], states[2])
    said = capsys.readouterr()
    assert "step 2 is skipped: mask_image is nan" in said.err and "1 steps skipped" in said.out
    assert history[0]["skipped_steps"] == 1 and math.isfinite(history[0]["train_loss_mask_image"])


def test_too_many_steps_in_a_row_end_the_run_with_the_last_good_checkpoint(corpus, tmp_path, monkeypatch):
    spoil(monkeypatch, nan_at(1, 3, 4))
    last = r"step 4: mask_image is nan; .*: 2; .*model/checkpoint-3\. .*--learning_rate"
    with pytest.raises(TrainingFailure, match=last):
        run(corpus, tmp_path / "model", batch_size=2, save_steps=1, max_skipped_steps=2)
    spoil(monkeypatch, nan_at())
    run(corpus, tmp_path / "model", batch_size=2, save_steps=1, resume_from_checkpoint="auto", learning_rate=0.001)


def test_a_signal_after_a_ruined_weight_saves_nothing(corpus, tmp_path, monkeypatch):
    """And every later run goes on from what was good."""
    step, steps = torch.optim.AdamW.step, []

    def spoiling(self, *args, **kwargs):
        result = step(self, *args, **kwargs)
        steps.append(1)
        if len(steps) == 2:
            self.param_groups[0]["params"][0].data.fill_(float("nan"))
            os.kill(os.getpid(), signal.SIGTERM)
        return result

    monkeypatch.setattr(torch.optim.AdamW, "step", spoiling)
    with pytest.raises(TrainingFailure, match="step 2: of 1 weights .*; the last good checkpoint is .*checkpoint-1"):
        run(corpus, tmp_path / "model", batch_size=2, num_epochs=3, save_steps=1)
    assert [path.name for path in list_checkpoints(tmp_path / "model")] == ["checkpoint-1"]


def test_weights_that_are_no_numbers_end_a_run_with_photos_by_the_same_words(corpus, tmp_path, monkeypatch):
    """Nothing on the way, as the attention to photos, fails first."""
    step = torch.optim.AdamW.step

    def spoiling(self, *args, **kwargs):
        result = step(self, *args, **kwargs)
        for group in self.param_groups:
            for weight in group["params"]:
                weight.data.fill_(float("nan"))
        return result

    monkeypatch.setattr(torch.optim.AdamW, "step", spoiling)
    with pytest.raises(TrainingFailure, match=r"step 3: fusion is nan; .*; there is no checkpoint \(--save_steps\)"):
        run(corpus, tmp_path / "model", batch_size=2, max_skipped_steps=2)


def test_a_gradient_that_is_no_number_is_skipped_though_its_loss_is_one(corpus, tmp_path, monkeypatch):
    def infinite_slope(output, calls):
        output.loss = output.loss + (output.loss - output.loss.detach()).sqrt()
        return output

    spoil(monkeypatch, infinite_slope)
    with pytest.raises(TrainingFailure, match="step 1: gradient norm is nan; .*; there is no checkpoint"):
        run(corpus, tmp_path / "model", max_skipped_steps=1)


def test_out_of_memory_names_the_flags_that_help_with_their_values(corpus, tmp_path, monkeypatch):
    def raises(output, calls):
        raise RuntimeError(OUT_OF_MEMORY)

    spoil(monkeypatch, raises)
    with pytest.raises(TrainingFailure) as failure:
        run(corpus, tmp_path / "model", gradient_checkpointing=True)
    message = str(failure.value)
    for words in ("20.00 MiB", "--auto_batch_size true", "--batch_size below 4", "--max_text_tokens below 600"):
        assert words in message
    assert "--gradient_checkpointing" not in message  # is on already


@pytest.mark.parametrize(
    ("flags", "advised"),
    [
        ({}, True),
        ({"freeze_vision": True}, False),
        ({"paradigm": "unimodal"}, False),
        ({"system": "bart"}, False),
        ({"system": "llava"}, True),
        ({"vision_learning_rate": 1e-5}, False),  # refused beside it
    ],
)
def test_out_of_memory_advises_to_freeze_vision_where_photos_are_seen_and_it_is_not_frozen(flags, advised):
    arguments = JointTrainingArguments(dataset="x", output_dir="y", **flags)
    advice = guards.memory_advice(RuntimeError(OUT_OF_MEMORY), arguments)
    assert ("--freeze_vision true" in advice) is advised


def test_out_of_memory_advises_no_number_below_the_least():
    arguments = JointTrainingArguments(dataset="x", output_dir="y", batch_size=1, num_reviews=2)
    advice = guards.memory_advice(RuntimeError(OUT_OF_MEMORY), arguments)
    assert "--num_reviews below 2" in advice and "below 1;" not in advice and "--batch_size below" not in advice


def test_auto_batch_size_halves_until_it_fits_and_keeps_the_global_batch(corpus, tmp_path, monkeypatch):
    expected = train_only(corpus, tmp_path / "by hand", batch_size=2, gradient_accumulation_steps=4)

    def fits_two(output, calls):
        if calls[-1] > 2:
            raise RuntimeError(OUT_OF_MEMORY)
        return output

    calls = spoil(monkeypatch, fits_two)
    trained = train_only(corpus, tmp_path / "model", batch_size=8, auto_batch_size=True)
    assert calls == [8, 4, 2] + [2] * 4
    assert same(trained, expected)


@pytest.mark.parametrize("freeze", [False, True])
def test_auto_batch_size_tries_what_training_does(base, corpus, tmp_path, monkeypatch, freeze):
    forward, modes = JointStep.forward, []

    def noted(self, batch):
        modes.append((self.model.text_model.training, self.model.vision_model.training))
        return forward(self, batch)

    monkeypatch.setattr(JointStep, "forward", noted)
    train_only(corpus, tmp_path / "model", model=base[0], auto_batch_size=True, freeze_vision=freeze)
    assert modes == [(True, not freeze)] * 3  # a trial and two steps


def test_auto_batch_size_tries_each_objective_that_may_be_drawn(corpus, tmp_path, monkeypatch):
    forward, tried = JointStep.forward, []

    def broken(self, batch):
        tried.append((len(batch["labels"]), *batch["objectives"]))
        if tried[-1] == (4, "mask_profile"):
            raise RuntimeError(OUT_OF_MEMORY)
        return forward(self, batch)

    monkeypatch.setattr(JointStep, "forward", broken)
    train_only(corpus, tmp_path / "model", batch_size=4, auto_batch_size=True, objective_schedule="sampled")
    objectives = ["fusion", "text", "mask_image", "mask_profile"]
    assert tried[:8] == [(size, name) for size in (4, 2) for name in objectives]
    assert {size for size, _ in tried[8:]} == {2}


def test_other_errors_are_not_hidden():
    tried = []

    def attempt(batch_size):
        tried.append(batch_size)
        raise RuntimeError(OUT_OF_MEMORY if batch_size > 3 else "shapes do not fit")

    with pytest.raises(RuntimeError, match="shapes"):
        largest_that_fits(6, attempt, Accelerator(cpu=True))
    assert tried == [6, 3]
    with pytest.raises(RuntimeError, match="out of memory"):
        largest_that_fits(
            1, lambda batch_size: (_ for _ in ()).throw(RuntimeError(OUT_OF_MEMORY)), Accelerator(cpu=True)
        )
    with pytest.raises(RuntimeError, match="shapes"), guards.explained_failures(None, None):
        raise RuntimeError("shapes do not fit")
    assert train.TrainingFailure is TrainingFailure
