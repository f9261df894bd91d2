"""Checkpoints on the disk: which are there, which are taken, which go."""

import pytest
import torch
from accelerate import Accelerator

from training import checkpoints as rooms
from training.checkpoints import Checkpoints, find_checkpoint, list_checkpoints
from training.failures import TrainingFailure
from training.state import TrainingState


def store(folder, limit=None, **run):
    accelerator = Accelerator(cpu=True)
    accelerator.free_memory()
    return Checkpoints(accelerator, folder, {"batch_size": 4} | run, save_steps=2, limit=limit)


def names(folder):
    return [path.name for path in list_checkpoints(folder)]


def evaluated(state, average):
    state.end_period({"epoch": state.epoch, "step": state.step, "dev_f1": {"average": average}}, ends_epoch=True)


def saved_epochs(folder, scores, limit=None):
    """A run of two steps an epoch, a checkpoint after each of them."""
    kept, state = store(folder, limit), TrainingState()
    for score in scores:
        for batches in (1, 2):
            state.step, state.batches = state.step + 1, batches
            if batches == 1:
                kept.save(state)
        evaluated(state, score)
        kept.save(state)
    return state


def test_the_limit_spares_the_best_and_the_newest(tmp_path):
    saved_epochs(tmp_path, [10.0, 30.0, 20.0, 25.0], limit=1)
    assert names(tmp_path) == ["checkpoint-4-epoch-2", "checkpoint-8-epoch-4"]
    saved_epochs(tmp_path / "two", [10.0, 30.0], limit=2)
    assert names(tmp_path / "two") == ["checkpoint-3", "checkpoint-4-epoch-2"]
    saved_epochs(tmp_path / "all", [10.0])
    assert names(tmp_path / "all") == ["checkpoint-1", "checkpoint-2-epoch-1"]


def test_the_only_checkpoint_stays_whatever_the_limit(tmp_path):
    kept, state = store(tmp_path, limit=1), TrainingState()
    for step in (1, 2, 3):
        state.step = state.batches = step
        kept.save(state)
        assert names(tmp_path) == [f"checkpoint-{step}"]


def test_a_checkpoint_has_no_name_before_all_of_it_is_on_the_disk(tmp_path, monkeypatch):
    kept, state = store(tmp_path), TrainingState()
    state.step = state.batches = 1
    kept.save(state)
    state.step = state.batches = 2
    for place in ("write_json", "_sync"):
        with monkeypatch.context() as killed:
            killed.setattr(rooms, place, lambda *args, **options: (_ for _ in ()).throw(KeyboardInterrupt))
            with pytest.raises(KeyboardInterrupt):
                kept.save(state)
        assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-1"]
    assert find_checkpoint(tmp_path, "auto") == tmp_path / "checkpoint-1"
    kept.save(state)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-1", "checkpoint-2"]


def test_what_only_looks_like_a_checkpoint_is_not_picked_up(tmp_path):
    for name in ("checkpoint-9", "checkpoint-x", ".unfinished-checkpoint-8", "checkpoint-3-epoch-1"):
        (tmp_path / name).mkdir()
    for name in ("checkpoint-x", ".unfinished-checkpoint-8", "checkpoint-3-epoch-1"):
        (tmp_path / name / "run.json").write_text("{}")
    assert names(tmp_path) == ["checkpoint-3-epoch-1"]
    assert find_checkpoint(tmp_path, None) is None
    assert find_checkpoint(tmp_path / "absent", "auto") is None
    assert find_checkpoint(tmp_path, str(tmp_path / "checkpoint-3-epoch-1")) == tmp_path / "checkpoint-3-epoch-1"
    with pytest.raises(ValueError, match=r"checkpoint-3-epoch-1'\], got '.*checkpoint-9'"):
        find_checkpoint(tmp_path, str(tmp_path / "checkpoint-9"))


def test_steps_are_ordered_by_number_and_an_epochs_end_comes_after_its_last_step(tmp_path):
    for name in ("checkpoint-10", "checkpoint-9", "checkpoint-10-epoch-2", "checkpoint-100"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "run.json").write_text("{}")
    assert names(tmp_path) == ["checkpoint-9", "checkpoint-10", "checkpoint-10-epoch-2", "checkpoint-100"]


def test_a_state_comes_back_as_it_was_saved(tmp_path):
    state, restored = TrainingState(seconds=50.0), TrainingState()
    state._cpu_started -= 30
    state.end_step(3, 12, skipped=True)
    state.period.add({"loss": torch.tensor(0.1)}, torch.tensor(7.0))
    state.recent.add({"loss": torch.tensor(0.2)}, torch.tensor(5.0))
    state.history = [{"epoch": 1, "step": 2, "dev_f1": {"average": 1 / 3}}]
    store(tmp_path).load(store(tmp_path).save(state), restored)
    assert 50 < restored.seconds < 100 and 30 < restored.cpu_seconds < 50
    assert vars(restored.period) == vars(state.period) and vars(restored.recent) == vars(state.recent)
    for name in (
        "step",
        "batches",
        "users",
        "skipped",
        "skipped_in_a_row",
        "epoch",
        "history",
        "period_began",
        "cpu_period_began",
        "waited",
    ):
        assert getattr(restored, name) == getattr(state, name)


def test_what_more_processes_counted_goes_to_the_first(tmp_path):
    state = TrainingState()
    state.step = 4
    state.period.add({"loss": torch.tensor(1.0)}, torch.tensor(2.0))
    path = store(tmp_path).save(state)
    state.period.add({"loss": torch.tensor(4.0)}, torch.tensor(4.0))  # (1 x 2 + 4 x 4) / 6
    torch.save(state.state_dict(), path / "training_state_1.bin")
    restored = TrainingState()
    store(tmp_path).load(path, restored)
    assert restored.step == 4
    assert restored.period.read(["loss"], Accelerator(cpu=True)) == {"loss": pytest.approx(20 / 8)}


def test_the_checkpoint_that_a_hub_repository_has_is_found_by_its_step(tmp_path):
    state = saved_epochs(tmp_path, [10.0, 30.0])
    (tmp_path / f"checkpoint-{state.step}-epoch-2").rename(tmp_path / "last-checkpoint")
    assert names(tmp_path) == ["checkpoint-1", "checkpoint-2-epoch-1", "checkpoint-3", "last-checkpoint"]
    assert find_checkpoint(tmp_path, "auto") == tmp_path / "last-checkpoint"
    assert find_checkpoint(tmp_path, str(tmp_path / "last-checkpoint")) == tmp_path / "last-checkpoint"


@pytest.mark.parametrize("spoiled", ["weight", "average"])
def test_what_is_not_finite_is_never_saved(tmp_path, spoiled):
    kept = store(tmp_path)
    layer = torch.nn.Linear(2, 2)
    layer, optimizer = kept.accelerator.prepare(layer, torch.optim.AdamW(layer.parameters()))
    layer(torch.ones(2)).sum().backward()
    optimizer.step()
    kept.save(TrainingState())
    state = TrainingState()
    state.step = 1
    tensor = layer.weight if spoiled == "weight" else optimizer.state[layer.bias]["exp_avg_sq"]
    tensor.data.view(-1)[0] = float("nan")
    with pytest.raises(TrainingFailure, match="step 1: of 1 weights the values"):
        kept.save(state)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-0"]
