"""Losses that are no numbers, and memory that does not suffice."""

import re
import sys

import pytest
import torch
from accelerate import Accelerator

import train
from tests.training.test_train import SMALL, base, corpus, run, same, train_only, weights  # noqa: F401
from tests.training.test_train_resume import untimed
from training import guards
from training.guards import LossWatch, TrainingFailure, largest_that_fits
from training.objectives import JointTrainingModel

OUT_OF_MEMORY = "CUDA out of memory. Tried to allocate 20.00 MiB"


def values(**losses):
    return {name: torch.tensor(value) for name, value in losses.items()}


def test_the_first_loss_that_is_no_number_is_named_with_its_step():
    watch = LossWatch()
    watch.note(1, values(text=1.0, loss=1.0))
    assert watch.check() == {"text": 1.0, "loss": 1.0} and watch.check() == {}
    watch.note(2, values(text=1.0, fusion=2.0, loss=1.5))
    watch.note(3, values(text=1.0, fusion=float("inf"), loss=float("inf")))
    watch.note(4, values(text=float("nan"), fusion=1.0, loss=float("nan")))
    with pytest.raises(TrainingFailure, match="step 3: fusion is inf"):
        watch.check()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("size", "kept"), [("2m", []), ("12m", ["checkpoint-1"]), ("18m", ["checkpoint-1", "checkpoint-2-epoch-1"])]
)
def test_a_full_disk_ends_a_run_in_a_sentence_and_leaves_what_is_whole(corpus, small_disk, size, kept):  # noqa: F811
    flags = SMALL | {"dataset": corpus, "output_dir": '"$DISK/model"', "save_steps": 1}
    words = " ".join(f"--{name} {value}" for name, value in flags.items())
    result = small_disk(size, f'{sys.executable} train.py {words}; echo "status $?"; ls -A "$DISK/model"')
    _, left = result.stdout.split("status 1\n")
    assert [name for name in left.splitlines() if name.startswith((".", "checkpoint"))] == kept
    said = [line for line in result.stderr.splitlines() if line.startswith("train.py: ")]
    last = f"the last good checkpoint is .*/model/{kept[-1]}" if kept else r"there is no checkpoint \(--save_steps\)"
    assert re.fullmatch(f"train.py: .*/model cannot be written, its disk has 0 MiB left: .*; {last}", said[-1])


def spoil(monkeypatch, at, spoiled):
    """Has the `at`-th forward pass of a run end in `spoiled`."""
    forward, calls = JointTrainingModel.forward, []

    def broken(self, batch):
        calls.append(len(batch["labels"]))
        output = forward(self, batch)
        return spoiled(output, calls)

    monkeypatch.setattr(JointTrainingModel, "forward", broken)
    return calls


def test_a_run_stops_at_a_loss_that_is_no_number_and_names_the_last_good_checkpoint(corpus, tmp_path, monkeypatch):  # noqa: F811
    def third_is_nan(output, calls):
        if len(calls) == 3:
            output.losses["mask_image"] = output.losses["mask_image"] * float("nan")
            output.loss = output.loss * float("nan")
        return output

    spoil(monkeypatch, 3, third_is_nan)
    with pytest.raises(TrainingFailure, match=r"step 3: mask_image is nan; .*model/checkpoint-2\. .*--learning_rate"):
        run(corpus, tmp_path / "model", batch_size=2, save_steps=1)


def test_weights_that_are_no_numbers_stop_a_run_with_photos_by_the_same_words(corpus, tmp_path, monkeypatch):  # noqa: F811
    """Nothing on the way, as the attention to photos, fails first."""

    calls = spoil(monkeypatch, 2, lambda output, calls: output)
    step = torch.optim.AdamW.step

    def spoiling(self, *args, **kwargs):
        result = step(self, *args, **kwargs)
        if len(calls) == 2:
            for group in self.param_groups:
                for weight in group["params"]:
                    weight.data.fill_(float("nan"))
        return result

    monkeypatch.setattr(torch.optim.AdamW, "step", spoiling)
    with pytest.raises(TrainingFailure, match=r"step 3: fusion is nan; there is no checkpoint \(--save_steps\)"):
        run(corpus, tmp_path / "model", batch_size=2)


def test_a_gradient_that_is_no_number_stops_the_run_before_it_is_saved(corpus, tmp_path, monkeypatch):  # noqa: F811
    def infinite_slope(output, calls):
        output.loss = output.loss + (output.loss - output.loss.detach()).sqrt()
        return output

    spoil(monkeypatch, 1, infinite_slope)
    with pytest.raises(TrainingFailure, match="step 1: gradient norm is nan; there is no checkpoint"):
        run(corpus, tmp_path / "model", save_steps=1)


def test_out_of_memory_names_the_flags_that_help_with_their_values(corpus, tmp_path, monkeypatch):  # noqa: F811
    def raises(output, calls):
        raise RuntimeError(OUT_OF_MEMORY)

    spoil(monkeypatch, 1, raises)
    with pytest.raises(TrainingFailure) as failure:
        run(corpus, tmp_path / "model", gradient_checkpointing=True)
    message = str(failure.value)
    for words in ("20.00 MiB", "--auto_batch_size true", "--batch_size below 4", "--max_text_tokens below 600"):
        assert words in message
    assert "--gradient_checkpointing" not in message  # is on already


def test_auto_batch_size_halves_until_it_fits_and_keeps_the_global_batch(corpus, tmp_path, monkeypatch):  # noqa: F811
    _, expected = run(corpus, tmp_path / "by hand", batch_size=2, gradient_accumulation_steps=4)

    def fits_two(output, calls):
        if calls[-1] > 2:
            raise RuntimeError(OUT_OF_MEMORY)
        return output

    calls = spoil(monkeypatch, 1, fits_two)
    _, history = run(corpus, tmp_path / "model", batch_size=8, auto_batch_size=True)
    assert calls == [8, 4, 2] + [2] * 4
    assert untimed(history) == untimed(expected)
    assert same(weights(tmp_path / "model"), weights(tmp_path / "by hand"))


@pytest.mark.parametrize("freeze", [False, True])
def test_auto_batch_size_tries_what_training_does(base, corpus, tmp_path, monkeypatch, freeze):  # noqa: F811
    forward, modes = JointTrainingModel.forward, []

    def noted(self, batch):
        modes.append((self.model.text_model.training, self.model.vision_model.training))
        return forward(self, batch)

    monkeypatch.setattr(JointTrainingModel, "forward", noted)
    train_only(corpus, tmp_path / "model", model=base[0], auto_batch_size=True, freeze_vision=freeze)
    assert modes == [(True, not freeze)] * 3  # a trial and two steps


def test_auto_batch_size_tries_each_objective_that_may_be_drawn(corpus, tmp_path, monkeypatch):  # noqa: F811
    forward, tried = JointTrainingModel.forward, []

    def broken(self, batch):
        tried.append((len(batch["labels"]), *batch["objectives"]))
        if tried[-1] == (4, "mask_profile"):
            raise RuntimeError(OUT_OF_MEMORY)
        return forward(self, batch)

    monkeypatch.setattr(JointTrainingModel, "forward", broken)
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
