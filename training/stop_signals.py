"""A run that is asked to stop, by SIGTERM or SIGINT, leaves a checkpoint first."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from accelerate import Accelerator

from training.checkpoints import Checkpoints, TrainingState

AGREE_STEPS = 10  # processes ask each other only so often whether one of them is to stop


class TrainingStopped(Exception):
    """A signal asked for the end of the run."""


class StopSignals:
    """Notes SIGTERM and SIGINT while it is open; `check` answers them. A second one ends the process at once."""

    def __init__(self, accelerator: Accelerator):
        self.accelerator = accelerator
        self._noted = 0
        self._handlers: dict = {}

    def __enter__(self) -> "StopSignals":
        self._handlers = {number: signal.signal(number, self._note) for number in (signal.SIGTERM, signal.SIGINT)}
        return self

    def __exit__(self, *error) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame) -> None:
        self._noted = number
        self.__exit__()

    def check(self, count: int) -> None:
        """Raises `TrainingStopped` in all processes if one got a signal; `count` is the same in all of them."""
        if self.accelerator.num_processes > 1:
            if count % AGREE_STEPS:
                return
            noted = torch.tensor([self._noted], device=self.accelerator.device)
            self._noted = int(self.accelerator.gather(noted).max())
        if self._noted:
            raise TrainingStopped(signal.Signals(self._noted).name)


@contextmanager
def saved_when_stopped(checkpoints: Checkpoints, state: TrainingState) -> Iterator[StopSignals]:
    """A run in whose block a signal leads to a checkpoint and then to the end of the program, with status 1."""
    with StopSignals(checkpoints.accelerator) as stop:
        try:
            yield stop
        except TrainingStopped as error:
            path = checkpoints.save(state)
            raise SystemExit(f"train.py: stopped by {error}; go on with --resume_from_checkpoint {path}") from None
