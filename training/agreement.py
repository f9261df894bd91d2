"""What one process finds holds in all; what ends a run in one ends it in all: signals, and what cannot be read."""

import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from accelerate import Accelerator, PartialState
from accelerate.utils import broadcast_object_list

from files.unreadable_photos import Unreadable
from training.failures import OtherProcessFailed, TrainingStopped


class StoppedRun(SystemExit):
    """Of a run that a signal ended behind a checkpoint: the program ends, with status 1 and these words.

    Attributes:
        signal: its name.
        checkpoint: the path.
    """

    def __init__(self, signal: str, checkpoint: object):
        super().__init__(f"train.py: stopped by {signal}; go on with --resume_from_checkpoint {checkpoint}")
        self.signal, self.checkpoint = signal, checkpoint


def on_main(state: PartialState | Accelerator, work: Callable[[], Any]) -> Any:
    """What the main process finds, for all of them; or the `ValueError` that it meets, raised in each."""
    found: list[Any] = [None, None]
    if state.is_main_process:
        try:
            found[0] = work()
        except ValueError as error:
            found[1] = error
    broadcast_object_list(found)
    if found[1] is not None:
        raise found[1]
    return found[0]


class Agreement:
    """Notes SIGTERM and SIGINT while it is open; `check` answers them, and what else ends the run, in all processes at
    once. A second signal ends the process at once.

    The processes ask each other over the CPU, so that none waits for its device.
    """

    def __init__(self, accelerator: Accelerator):
        several = accelerator.num_processes > 1
        self._group = torch.distributed.new_group(backend="gloo") if several else None
        self._noted = 0
        self._handlers: dict = {}

    def __enter__(self) -> "Agreement":
        self._handlers = {number: signal.signal(number, self._note) for number in (signal.SIGTERM, signal.SIGINT)}
        return self

    def __exit__(self, *error) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame) -> None:
        self._noted = number
        self.__exit__()

    def largest(self, *values: int) -> list[int]:
        """The largest of each value over the processes, which ask together."""
        if self._group is None:
            return list(values)
        gathered = torch.tensor(values)
        torch.distributed.all_reduce(gathered, torch.distributed.ReduceOp.MAX, group=self._group)
        return gathered.tolist()

    def check(self, failure: Exception | None = None) -> None:
        """Raises what ends the run; all processes ask together.

        Args:
            failure: of this process.

        Raises:
            Unreadable: or what else failed here.
            OtherProcessFailed: if something failed in another process.
            TrainingStopped: if one of the processes got a signal.
        """
        failed, self._noted = self.largest(failure is not None, self._noted)
        if failure is not None:
            raise failure
        if failed:
            raise OtherProcessFailed
        if self._noted:
            raise TrainingStopped(signal.Signals(self._noted).name)

    def batches(self, loader: Iterable[dict]) -> Iterator[dict]:
        """The batches of a loader, of which each process has as many: each is checked before it is handed on.

        Raises:
            as `check`, for a photo or a row that cannot be read too.
        """
        batches = iter(loader)
        while True:
            batch, failure = None, None
            try:
                batch = next(batches, None)
            except Unreadable as error:
                failure = error
            self.check(failure)
            if batch is None:
                return
            yield batch


class CheckedLoader:
    """A prepared loader whose batches are those of `Agreement.batches`."""

    def __init__(self, loader, agreement: Agreement):
        self.loader, self._agreement = loader, agreement

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[dict]:
        return self._agreement.batches(self.loader)


@contextmanager
def saved_when_stopped(agreement: Agreement, save: Callable[[], object]) -> Iterator[None]:
    """A run in whose block a signal, or what cannot be read of the corpus, leads to a checkpoint first; a signal then
    to a `StoppedRun`.

    Args:
        save: writes a checkpoint and returns its path; all processes together.
    """
    with agreement:
        try:
            yield
        except (Unreadable, OtherProcessFailed):
            save()
            raise
        except TrainingStopped as error:
            raise StoppedRun(str(error), save()) from None
