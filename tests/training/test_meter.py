"""What is told of a run while it trains."""

import re

import pytest
import torch
from accelerate import Accelerator
from torch.utils.flop_counter import FlopCounterMode

from tests.tiny_models import tiny_model
from tests.training.test_objectives import BLACK, batch_of_views
from tests.training.test_train import run, train_only
from training import meter as meters
from training.flops import StepFlops, peak_flops
from training.joint_step import SharedJointStep
from training.meter import Meter, TimeLeft, log_line
from training.objectives import OBJECTIVES, select_views
from training.state import TrainingState


class Counts:
    """A `StepFlops` of 10 FLOPs and 5 tokens a user."""

    @staticmethod
    def of(batches):
        users = sum(len(batch["labels"]) for batch in batches)
        return torch.tensor(10.0 * users, dtype=torch.float64), torch.tensor(5.0 * users)


@pytest.fixture
def clock(monkeypatch):
    """Seconds, which the test moves."""
    now = [100.0]
    monkeypatch.setattr(meters.time, "monotonic", lambda: now[0])
    return now


def metered(log_steps=None, peak=None):
    state = TrainingState()
    return state, Meter(Accelerator(cpu=True), state, ["text", "fusion"], Counts(), log_steps, peak)


def take(state, meter, clock, loss, tokens=1.0, seconds=1.0):
    """A step of two users."""
    clock[0] += seconds
    values = {"text": torch.tensor(loss), "loss": torch.tensor(2 * loss)}
    state.recent.add(values, torch.tensor(tokens))
    state.end_step(1, 2, skipped=False)
    meter.add([{"labels": torch.zeros(2, 3)}], torch.tensor(loss))


def test_what_is_read_is_of_all_steps_since_the_last_time(clock):
    state, meter = metered(peak=100.0)
    take(state, meter, clock, 1.0)
    take(state, meter, clock, 4.0, tokens=3.0)
    meter.pause(0.5)
    values = meter.read({"learning_rate": 0.25})
    assert values == {
        "loss": pytest.approx(6.5),  # (1 x 2 + 3 x 8) / 4
        "loss_text": pytest.approx(3.25),
        "learning_rate": 0.25,
        "grad_norm": 4.0,
        "users_per_second": pytest.approx(4 / 1.5),
        "tokens_per_second": pytest.approx(20 / 1.5),
        "mfu": pytest.approx(40 / 1.5 / 100),
        "skipped_steps": 0,
    }
    take(state, meter, clock, 7.0)
    assert meter.read({"learning_rate": 0.25})["loss_text"] == 7.0


def test_a_log_is_due_by_steps_or_by_the_pace_of_those_before(clock):
    state, meter = metered(log_steps=3)
    due = []
    for _ in range(6):
        take(state, meter, clock, 1.0)
        due.append(meter.due)
        if meter.due:
            meter.read({"learning_rate": 0.1})
    assert due == [False, False, True] * 2
    state, meter = metered()
    due = []
    for _ in range(11):
        take(state, meter, clock, 1.0, seconds=2.0)
        due.append(meter.due)
        if meter.due:
            meter.read({"learning_rate": 0.1})
    assert due == [True] + [False] * 4 + [True] + [False] * 4 + [True]  # ten seconds apart


def test_the_time_left_is_that_of_steps_and_evaluations(clock):
    left = TimeLeft()
    assert left.seconds(10, 2) == 0
    clock[0] += 50
    left.begin()
    for kind, seconds in (("step", 1.0), ("step", 2.0), ("evaluation", 30.0)):
        clock[0] += seconds
        left.done(kind)
    assert left.seconds(10, 2) == 75


def test_a_line_says_where_the_run_is_and_how_long_it_will_take():
    values = {
        "loss": 1.0,
        "loss_text": 0.5,
        "learning_rate": 1e-3,
        "grad_norm": 2.0,
        "users_per_second": 3.0,
        "tokens_per_second": 4000.0,
        "mfu": 0.41,
        "skipped_steps": 2,
    }
    assert log_line(values, "step 7/9", 3725.2) == (
        "step 7/9: loss 1.000 (text 0.500), learning rate 1.00e-03, gradient norm 2.00, 3.0 users/s, 4,000 tokens/s,"
        " MFU 41%, 2 steps skipped, 1:02:05 left"
    )


@pytest.mark.parametrize("objectives", [list(OBJECTIVES), ["text"], ["fusion", "mask_profile"]])
def test_flops_are_about_those_that_torch_counts(objectives):
    views = select_views("combined", objectives)
    model = tiny_model(text={"dropout_rate": 0.0}).train()
    joint = SharedJointStep(model, views, BLACK)
    batch = batch_of_views(views, 3, 2)
    for text in batch["texts"].values():
        text["attention_mask"].fill_(1)  # padding is computed, too, and does not count as work
    with FlopCounterMode(display=False) as counter:
        joint(batch).loss.backward()
    flops, tokens = StepFlops(model, views).of([batch])
    assert flops.item() == pytest.approx(counter.get_total_flops(), rel=0.2)
    targets = (batch["labels"] >= 0).sum().item() * len(views)
    assert tokens.item() == targets + sum(text["input_ids"].numel() for text in batch["texts"].values())


def test_a_peak_is_known_of_gpus_with_numbers_of_16_bits(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA H200")
    gpu = torch.device("cuda")
    assert peak_flops(gpu, "bf16") == 989e12
    assert peak_flops(gpu, "no") is None and peak_flops(torch.device("cpu"), "bf16") is None
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Another")
    assert peak_flops(gpu, "bf16") is None


def test_a_run_tells_each_step_of_all_batches_and_the_level_says_how_much(corpus, tmp_path, capsys):
    flags = {"batch_size": 2, "save_steps": 1, "num_epochs": 1}
    train_only(corpus, tmp_path / "told", log_steps=1, **flags)
    lines = re.findall(r"^step (\d+)/4, epoch 1/1: loss .* left$", capsys.readouterr().out, re.M)
    assert lines == ["1", "2", "3", "4"]
    run(corpus, tmp_path / "silent", log_steps=1, log_level="warning", max_test_users=1, **flags)
    assert not capsys.readouterr().out
