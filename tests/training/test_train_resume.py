"""Runs that are stopped and resumed give what runs give that are left alone."""

import json
import os
import shutil
import signal
import traceback

import pytest
from accelerate.state import AcceleratorState, GradientState

from tests.files.test_checkpoint_files import swap_two_words
from tests.training.test_train import run, same, weights
from training import checkpoints
from training.agreement import Agreement
from training.arguments import CONDITIONS

TIMES = ("seconds", "cpu_seconds", "users_per_second", "data_wait_share")
FLAGS = {"num_epochs": 2, "batch_size": 2, "gradient_accumulation_steps": 2, "num_workers": 1}


def untimed(history):
    return [{name: value for name, value in record.items() if name not in TIMES} for record in history]


def stopped_run(corpus, output, at, monkeypatch, number=signal.SIGTERM, **flags):
    """A run that gets a signal before it looks for one the `at`-th time: within an epoch or an evaluation."""
    check, calls = Agreement.check, []

    def signalled(self, failure=None):
        calls.append(failure)
        if len(calls) == at:
            os.kill(os.getpid(), number)
        check(self, failure)

    with monkeypatch.context() as patched:
        patched.setattr(Agreement, "check", signalled)
        with pytest.raises(SystemExit) as stopped:
            run(corpus, output, **flags)
    # Loaders that the garbage collector finds wait five seconds for each worker, whose queue it closed before.
    for error in (stopped.value, stopped.value.__context__):
        traceback.clear_frames(error.__traceback__)
    GradientState._reset_state()
    AcceleratorState._reset_state()
    return stopped.value.code


@pytest.fixture(scope="module")
def alone(corpus, whole_run, tmp_path_factory):
    output = tmp_path_factory.mktemp("alone") / "model"
    with whole_run():
        results, history = run(corpus, output, test_conditions=[*CONDITIONS], **FLAGS)
    return output, results, history


@pytest.mark.slow
def test_a_run_that_is_stopped_again_and_again_is_the_run_left_alone(corpus, alone, whole_run, tmp_path, monkeypatch):
    output = tmp_path / "model"
    flags = FLAGS | {"resume_from_checkpoint": "auto", "test_conditions": [*CONDITIONS]}
    # In epoch 1, its evaluation, epoch 2, its evaluation, the test's evaluation.
    for number, at in enumerate((3, 3, 5, 3, 3)):
        with whole_run():
            signals = signal.SIGTERM, signal.SIGINT
            message = stopped_run(corpus, output, at, monkeypatch, signals[number % 2], **flags)
        newest = checkpoints.list_checkpoints(output)[-1]
        assert f"go on with --resume_from_checkpoint {newest}" in message
    assert [path.name for path in checkpoints.list_checkpoints(output)] == [
        "checkpoint-1",
        "checkpoint-2",
        "checkpoint-2-epoch-1",
        "checkpoint-3",
        "checkpoint-4",
        "checkpoint-4-epoch-2",
    ]
    with whole_run():
        results, history = run(corpus, output, **flags)
    assert same(weights(output), weights(alone[0]))
    assert untimed(history) == untimed(alone[2])
    assert results | {"train_seconds": 0} == alone[1] | {"train_seconds": 0}


def test_save_steps_and_the_limit_say_which_checkpoints_there_are(corpus, tmp_path):
    run(corpus, tmp_path / "model", save_steps=1, checkpoints_total_limit=1, num_epochs=2)
    last = json.loads((tmp_path / "model" / "metrics.jsonl").read_text().splitlines()[-1])
    kept = [path.name for path in checkpoints.list_checkpoints(tmp_path / "model")]
    assert "checkpoint-4-epoch-2" in kept and len(kept) <= 2 and last["step"] == 4


@pytest.mark.slow
def test_an_older_checkpoint_brings_back_the_folder_of_its_time(corpus, alone, tmp_path):
    output = tmp_path / "model"
    run(corpus, output, save_steps=1, **FLAGS)
    before = [path.name for path in checkpoints.list_checkpoints(output)]
    assert before == ["checkpoint-1", "checkpoint-2-epoch-1", "checkpoint-3", "checkpoint-4-epoch-2"]
    with pytest.raises(ValueError, match="seed was 0, is 1"):
        run(corpus, output, resume_from_checkpoint="auto", seed=1, **FLAGS)
    results, history = run(corpus, output, resume_from_checkpoint=output / "checkpoint-3", **FLAGS)
    assert same(weights(output), weights(alone[0])) and untimed(history) == untimed(alone[2])
    assert [path.name for path in checkpoints.list_checkpoints(output)] == before


def test_another_tokenizer_in_the_folder_that_it_began_from_is_another_run(corpus, base, tmp_path):
    start, flags = tmp_path / "start", {"batch_size": 2, "save_steps": 1, "resume_from_checkpoint": "auto"}
    shutil.copytree(base[0], start)
    run(corpus, tmp_path / "model", model=start, **flags)
    swap_two_words(start)
    with pytest.raises(ValueError, match="is of another run: processor was '[0-9a-f]{16}', is '[0-9a-f]{16}'$"):
        run(corpus, tmp_path / "model", model=start, **flags)


def test_a_folder_without_checkpoint_is_begun_anew_only_if_it_may_be(corpus, tmp_path):
    (tmp_path / "model" / ".unfinished-checkpoint-3").mkdir(parents=True)
    run(corpus, tmp_path / "model", resume_from_checkpoint="auto")
    for path in checkpoints.list_checkpoints(tmp_path / "model"):
        (path / "run.json").unlink()
    with pytest.raises(ValueError, match="holds files already"):
        run(corpus, tmp_path / "model", resume_from_checkpoint="auto")
    with pytest.raises(ValueError, match="got 'elsewhere'"):
        run(corpus, tmp_path / "model", resume_from_checkpoint="elsewhere", overwrite_output_dir=True)
