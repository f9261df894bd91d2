"""side_by_side: batches in their order, several computed at a time, never more, and no error lost."""

import threading
import time

import pytest
import torch

from prediction.side_by_side import side_by_side

CPU = torch.device("cpu")


@pytest.mark.parametrize("at_once", [1, 2, 3, 9])
def test_results_come_in_the_order_of_the_batches(at_once):
    def compute(batch: int) -> int:
        time.sleep(0.02 if batch % 3 == 0 else 0.0)  # later ones are ready before
        return batch**2

    assert list(side_by_side(compute, range(7), CPU, at_once)) == [(n, n**2) for n in range(7)]
    assert list(side_by_side(compute, [], CPU, at_once)) == []


def test_as_many_as_asked_for_are_computed_together():
    together = threading.Barrier(3, timeout=20)
    assert [batch for batch, _ in side_by_side(lambda batch: together.wait(), range(6), CPU, 3)] == list(range(6))


@pytest.mark.parametrize("at_once", [1, 2])
def test_no_more_batches_are_taken_than_are_computed(at_once):
    taken = []

    def batches():
        for batch in range(6):
            taken.append(batch)
            yield batch

    counts = [(batch, len(taken)) for batch, _ in side_by_side(lambda batch: batch, batches(), CPU, at_once)]
    assert [batch for batch, _ in counts] == list(range(6))
    assert all(number <= batch + at_once for batch, number in counts)


def test_one_at_a_time_stays_in_the_callers_thread():
    found = list(side_by_side(lambda batch: threading.current_thread(), range(3), CPU, 1))
    assert {thread for _, thread in found} == {threading.current_thread()}


@pytest.mark.parametrize("at_once", [1, 2])
def test_an_error_comes_through_after_the_results_before_it(at_once):
    def compute(batch: int) -> int:
        if batch == 2:
            raise ValueError("batch 2 is bad")
        return batch

    found, threads = [], set(threading.enumerate())
    with pytest.raises(ValueError, match="batch 2 is bad"):
        for batch, _ in side_by_side(compute, range(9), CPU, at_once):
            found.append(batch)
    assert found == [0, 1] and set(threading.enumerate()) <= threads
