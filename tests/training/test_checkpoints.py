"""Checkpoints on the disk: which are there, which are taken, which go."""

import json

import pytest
import torch
from accelerate import Accelerator
from datasets import Dataset, DatasetDict

from tests.tiny_corpus import features, user
from tests.toy_processor import WORDS, toy_image_processor, toy_processor, toy_tokenizer
from training import checkpoints as rooms
from training.checkpoints import (
    Checkpoints,
    TrainingState,
    describe_run,
    find_checkpoint,
    list_checkpoints,
    processor_digest,
)


def store(folder, limit=None, **run):
    accelerator = Accelerator(cpu=True)
    accelerator.free_memory()
    return Checkpoints(accelerator, folder, {"batch_size": 4} | run, save_steps=2, limit=limit)


def names(folder):
    return [path.name for path in list_checkpoints(folder)]


def evaluated(state, average):
    epoch = len(state.history) + 1
    state.end_epoch({"epoch": epoch, "step": state.step, "dev_f1": {"average": average}})


def saved_run(folder, scores, limit=None):
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
    saved_run(tmp_path, [10.0, 30.0, 20.0, 25.0], limit=1)
    assert names(tmp_path) == ["checkpoint-4-epoch-2", "checkpoint-8-epoch-4"]
    saved_run(tmp_path / "two", [10.0, 30.0], limit=2)
    assert names(tmp_path / "two") == ["checkpoint-3", "checkpoint-4-epoch-2"]
    saved_run(tmp_path / "all", [10.0])
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
    state.step, state.batches, state.sums, state.order = 3, 3, {"loss": torch.tensor(0.1)}, torch.get_rng_state()
    state.history = [{"epoch": 1, "step": 2, "dev_f1": {"average": 1 / 3}}]
    store(tmp_path).load(store(tmp_path).save(state), restored)
    assert 50 < restored.seconds < 100
    assert torch.equal(restored.order, state.order) and torch.equal(restored.sums["loss"], state.sums["loss"])
    for name in ("step", "batches", "history", "epoch_began", "waited"):
        assert getattr(restored, name) == getattr(state, name)


def test_a_checkpoint_of_another_run_is_refused_with_both_values(tmp_path):
    state = TrainingState()
    state.step = state.batches = 1
    path = store(tmp_path).save(state)
    with pytest.raises(ValueError, match="batch_size was 4, is 8"):
        store(tmp_path, batch_size=8).load(path, TrainingState())
    assert json.loads((path / "run.json").read_text()) == {"batch_size": 4}


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("field", ["text", "captions"])
def test_a_corpus_that_changed_under_the_same_users_is_another_runs(split, field):
    rows, before = [user(number) for number in range(3)], corpus_of([user(number) for number in range(3)], split)
    rows[1]["reviews"][0][field] = "other" if field == "text" else ["other", "captions"]
    now, then = (describe_run({}, corpus, toy_processor(), 1) for corpus in (corpus_of(rows, split), before))
    assert [name for name in now if now[name] != then[name]] == [f"{split} split"]


def test_other_tokens_or_settings_of_the_processor_are_another_runs():
    words = WORDS.replace(" a b ", " b a ")
    others = [toy_processor(), toy_processor(max_text_tokens=9), toy_processor(), toy_processor()]
    others[2].tokenizer = toy_tokenizer(words)
    others[3].image_processor = toy_image_processor(image_mean=[0.4, 0.5, 0.5])
    assert len({processor_digest(processor) for processor in [toy_processor(), *others]}) == 4


def corpus_of(rows, split):
    splits = {name: Dataset.from_list([user(9)], features=features()) for name in ("train", "validation", "test")}
    return DatasetDict(splits | {split: Dataset.from_list(rows, features=features())})
