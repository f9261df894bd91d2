"""What ends a run in one process ends it in all."""

import multiprocessing
import os
import signal
from concurrent.futures import ProcessPoolExecutor
from types import SimpleNamespace

import pytest
import torch
from accelerate import Accelerator

from corpora.shards import UnreadableRow
from files.unreadable_photos import UnreadablePhoto
from training.agreement import Agreement, CheckedLoader, on_main, saved_when_stopped
from training.failures import OtherProcessFailed, TrainingStopped


@pytest.fixture
def agreement():
    return Agreement(Accelerator(cpu=True))


def saving(saved):
    def save():
        saved.append("checkpoint-7")
        return saved[-1]

    return save


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_answered_at_the_next_batch_by_a_checkpoint_and_the_way_to_go_on(agreement, number):
    saved, seen = [], []
    name = signal.Signals(number).name
    with pytest.raises(SystemExit) as ended, saved_when_stopped(agreement, saving(saved)):
        for batch in CheckedLoader([{"n": 0}, {"n": 1}, {"n": 2}], agreement):
            seen.append(batch["n"])
            if batch["n"] == 1:
                os.kill(os.getpid(), number)
    assert seen == [0, 1] and saved == ["checkpoint-7"]
    assert ended.value.code == f"train.py: stopped by {name}; go on with --resume_from_checkpoint checkpoint-7"


def test_handlers_are_those_of_before_afterwards_and_after_a_signal(agreement):
    before = signal.getsignal(signal.SIGTERM)
    with agreement:
        assert signal.getsignal(signal.SIGTERM) != before
        os.kill(os.getpid(), signal.SIGTERM)
        assert signal.getsignal(signal.SIGTERM) == before
        with pytest.raises(TrainingStopped):
            agreement.check()
    assert signal.getsignal(signal.SIGTERM) == before


def test_what_the_main_process_finds_or_refuses_holds_here(agreement):
    state = Accelerator(cpu=True)
    assert on_main(state, lambda: {"found": 1}) == {"found": 1}
    with pytest.raises(ValueError, match="of no use"):
        on_main(state, lambda: failing_at_once(ValueError("of no use")))


def failing_at_once(error):
    raise error


def failing(error, batches=1):
    yield from [{"n": 0}] * batches
    raise error


def test_a_photo_that_cannot_be_read_is_raised_after_a_checkpoint(agreement):
    saved = []
    with pytest.raises(UnreadablePhoto, match="user 7"), saved_when_stopped(agreement, saving(saved)):
        list(agreement.batches(failing(UnreadablePhoto("user 7"))))
    assert saved == ["checkpoint-7"]


def test_another_failure_is_raised_as_it_is_and_saves_nothing(agreement):
    saved = []
    with pytest.raises(RuntimeError, match="shapes"), saved_when_stopped(agreement, saving(saved)):
        list(agreement.batches(failing(RuntimeError("shapes"))))
    assert saved == []


def test_what_fails_in_another_process_ends_this_one(agreement, monkeypatch):
    monkeypatch.setattr(agreement, "largest", lambda failed, noted: [1, 0])
    saved = []
    with pytest.raises(OtherProcessFailed), saved_when_stopped(agreement, saving(saved)):
        list(agreement.batches([{"n": 0}]))
    assert saved == ["checkpoint-7"]
    with pytest.raises(UnreadablePhoto):
        list(agreement.batches(failing(UnreadablePhoto("user 7"), batches=0)))


def ends_as(process, what, path):
    """How a process' walk over three batches ends, and before which: the second process meets `what` at its third."""
    torch.distributed.init_process_group("gloo", init_method=f"file://{path}", rank=process, world_size=2)
    agreement, seen = Agreement(SimpleNamespace(num_processes=2)), []
    own = what if process else None
    try:
        with agreement:
            for _ in agreement.batches(failing(own, 2) if isinstance(own, Exception) else [{}] * 3):
                seen.append(1)
                if own == "signal" and len(seen) == 2:
                    os.kill(os.getpid(), signal.SIGTERM)
    except Exception as error:
        return len(seen), type(error).__name__, str(error)
    finally:
        torch.distributed.destroy_process_group()  # the other one would wait
    return len(seen), None, ""


@pytest.mark.parametrize(
    ("what", "ends"),
    [
        (UnreadablePhoto("user 7"), ["OtherProcessFailed", "UnreadablePhoto"]),
        (UnreadableRow("user 7"), ["OtherProcessFailed", "UnreadableRow"]),
        ("signal", ["TrainingStopped", "TrainingStopped"]),
        (None, [None, None]),
    ],
)
def test_two_processes_end_at_the_same_batch(what, ends, tmp_path):
    context = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(2, mp_context=context) as pool:
        both = [pool.submit(ends_as, process, what, tmp_path / "store") for process in (0, 1)]
        try:
            found = [one.result(timeout=60) for one in both]
        finally:
            for child in multiprocessing.active_children():  # one may wait for the other
                child.kill()
    assert [kind for _, kind, _ in found] == ends
    assert [seen for seen, *_ in found] == ([2, 2] if what else [3, 3])
    assert what != "signal" or found[0][2] == "SIGTERM"


def test_a_signal_in_another_process_stops_this_one(agreement, monkeypatch):
    monkeypatch.setattr(agreement, "largest", lambda failed, noted: [0, signal.SIGTERM])
    with pytest.raises(TrainingStopped, match="SIGTERM"):
        list(agreement.batches([{"n": 0}]))
