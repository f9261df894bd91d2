"""Batches computed side by side, so that a GPU need not wait for what Python does with one of them."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

Batch = TypeVar("Batch")
Result = TypeVar("Result")


def side_by_side(
    compute: Callable[[Batch], Result], batches: Iterable[Batch], device: torch.device, at_once: int
) -> Iterator[tuple[Batch, Result]]:
    """Each batch with what `compute` returns for it, in the order of the batches.

    Args:
        compute: safe to be called by several threads, where `at_once` is more than 1.
        device: on a GPU each thread has a stream of its own.
        at_once: so many batches are taken and computed at a time, each in a thread; 1 goes without threads.
    """
    if at_once == 1:
        yield from ((batch, compute(batch)) for batch in batches)
        return
    running = deque()
    with ThreadPoolExecutor(at_once, initializer=_use_own_stream, initargs=(device,)) as pool:
        for batch in batches:
            running.append((batch, pool.submit(compute, batch)))
            if len(running) == at_once:
                batch, future = running.popleft()
                yield batch, future.result()
        for batch, future in running:
            yield batch, future.result()


def _use_own_stream(device: torch.device) -> None:
    """For this thread; the stream begins behind what the device was given before, the model's weights among it."""
    if device.type == "cuda":
        torch.cuda.set_device(device)
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.default_stream())
        torch.cuda.set_stream(stream)
