"""Where a run stands, beside what Accelerate saves."""

import time
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

import torch
from accelerate import Accelerator

from scoring.reporting import best_record


class LossMeans:
    """Mean losses of target tokens, by name, over the steps counted in and over all processes.

    Attributes:
        sums, counts: name -> of the losses of this process' tokens, and of the tokens.
    """

    def __init__(self):
        self.sums: dict[str, torch.Tensor | float] = {}
        self.counts: dict[str, torch.Tensor | float] = {}

    def add(self, losses: Mapping[str, torch.Tensor], tokens: torch.Tensor) -> None:
        """Counts in a batch's mean losses, of so many tokens."""
        for name, loss in losses.items():
            self.sums[name] = self.sums.get(name, 0.0) + loss.detach() * tokens
            self.counts[name] = self.counts.get(name, 0.0) + tokens

    def read(self, names: Iterable[str], accelerator: Accelerator) -> dict[str, float]:
        """The means by these names, not a number for what no process has counted; all processes ask together."""
        names = list(names)
        values = [[found.get(name, 0.0) for name in names] for found in (self.sums, self.counts)]
        stacked = torch.stack([torch.as_tensor(v, device=accelerator.device).float() for row in values for v in row])
        reduced: Any = accelerator.reduce(stacked, "sum")
        sums, counts = reduced.view(2, -1)
        return dict(zip(names, (sums / counts).tolist(), strict=True))

    def clear(self) -> None:
        self.sums, self.counts = {}, {}

    def to(self, device: torch.device) -> None:
        for values in (self.sums, self.counts):
            values.update({name: torch.as_tensor(value, device=device) for name, value in values.items()})


class TrainingState:
    """Where a process of a run stands: all that `save` of `Checkpoints` writes.

    Args:
        seconds: that the run took before it was resumed.

    Attributes:
        history: one record for each evaluation on the development split, at the end of an epoch or within.
        step: optimizer steps so far, skipped ones too.
        skipped, skipped_in_a_row: steps that changed nothing, since their gradient was not finite.
        epoch: under way, from 1.
        batches: of the epoch under way, taken by this process.
        period, recent: mean losses since the last evaluation, and since the last log.
        period_began, cpu_period_began, waited: `seconds` and `cpu_seconds` of the run at the last evaluation, and the
            seconds since then spent waiting for batches.
        users: of all processes, since the last evaluation.
        logged: the `step` of the last log, and its `values`.
        rates: the learning rates of the last step, by name.
    """

    def __init__(self, seconds: float = 0.0):
        self.history: list[dict] = []
        self.step = self.batches = self.skipped = self.skipped_in_a_row = self.users = 0
        self.epoch = 1
        self.logged: dict = {}
        self.rates: dict[str, float] = {}
        self.period, self.recent = LossMeans(), LossMeans()
        self.period_began = self.cpu_period_began = self.waited = 0.0
        self._started, self._cpu_started = time.monotonic() - seconds, time.process_time()

    @property
    def seconds(self) -> float:
        """That the run took so far, stops left out."""
        return time.monotonic() - self._started

    @property
    def cpu_seconds(self) -> float:
        """Of processor time that this process's threads took so far: what else runs on the machine moves it little."""
        return time.process_time() - self._cpu_started

    @property
    def best(self) -> Mapping | None:
        """The best evaluation's record."""
        return best_record(self.history) if self.history else None

    @property
    def evaluations_since_best(self) -> int:
        best = self.best
        return 0 if best is None else sum(record["step"] > best["step"] for record in self.history)

    @property
    def flat_record(self) -> dict[str, float]:
        """The last evaluation's record for a tracker, the scores of its attributes by names of their own."""
        record = dict(self.history[-1])
        scores = {f"dev_f1_{key}": score for key, score in record.pop("dev_f1").items()}
        return record | scores

    def timed_steps(self, batches: Iterable[dict], batches_a_step: int) -> Iterator[list[dict]]:
        """The batches of each step; counts the seconds spent waiting for them."""
        iterator = iter(batches)
        while True:
            asked = self.seconds
            step = list(islice(iterator, batches_a_step))
            if not step:
                return
            self.waited += self.seconds - asked
            yield step

    def end_step(self, batches: int, users: int, skipped: bool) -> None:
        """A step of so many batches of this process, and users of all of them, is done."""
        self.step += 1
        self.batches += batches
        self.users += users
        self.skipped += skipped
        self.skipped_in_a_row = self.skipped_in_a_row + 1 if skipped else 0

    def training_record(self, accelerator: Accelerator, names: Iterable[str], epoch) -> dict:
        """What is told of the steps since the last evaluation: losses by these names, learning rates and pace.

        Args:
            epoch: passes over the training split so far, a whole number at an epoch's end.
        """
        means, seconds = self.period.read(["loss", *names], accelerator), self.seconds - self.period_began
        return {
            "epoch": epoch,
            "step": self.step,
            "train_loss": means.pop("loss"),
            **{f"train_loss_{name}": value for name, value in means.items()},
            **self.rates,
            "seconds": seconds,
            "cpu_seconds": self.cpu_seconds - self.cpu_period_began,
            "users_per_second": self.users / seconds,
            "data_wait_share": self.waited / seconds,
            "skipped_steps": self.skipped,
        }

    def end_period(self, record: dict, ends_epoch: bool) -> None:
        """The steps since the last evaluation are evaluated."""
        self.history.append(record)
        self.period.clear()
        self.users, self.waited = 0, 0.0
        self.period_began, self.cpu_period_began = self.seconds, self.cpu_seconds
        if ends_epoch:
            self.epoch, self.batches = self.epoch + 1, 0

    def state_dict(self) -> dict:
        fields = {name: value for name, value in vars(self).items() if not name.startswith("_")}
        clocks = {"seconds": self.seconds, "cpu_seconds": self.cpu_seconds}
        return fields | clocks | {"period": vars(self.period), "recent": vars(self.recent)}

    def load_state_dict(self, state: dict) -> None:
        """Takes over what `state_dict` gave."""
        self._started = time.monotonic() - state.pop("seconds")
        self._cpu_started = time.process_time() - state.pop("cpu_seconds", 0.0)  # older checkpoints have none
        for name in ("period", "recent"):
            vars(getattr(self, name)).update(state.pop(name))
        vars(self).update(state)

    def to(self, device: torch.device) -> None:
        """Losses on that device."""
        self.period.to(device)
        self.recent.to(device)
