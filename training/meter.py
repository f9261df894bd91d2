"""What is told of a run while it trains: losses, learning rate, gradient norm, pace and the time that is left."""

import math
import time
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

import torch
from accelerate import Accelerator

from training.flops import StepFlops, StepTokens
from training.state import TrainingState

SECONDS = 10.0  # from one log to the next, unless steps are asked for


class Meter:
    """Gathers what the steps since the last log came to, over all processes, and says when the next is due.

    Args:
        accelerator: of the run.
        state: `recent` has the losses, so that they survive a stop.
        names: of the objectives.
        flops: of a batch, where they are known.
        log_steps: a log after so many steps. None: after about 10 seconds, by the pace of the steps before.
        peak: FLOP/s of the device, if known.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        state: TrainingState,
        names: Sequence[str],
        flops: StepFlops | StepTokens,
        log_steps: int | None,
        peak: float | None,
    ):
        self._accelerator, self._state, self._names, self._flops = accelerator, state, list(names), flops
        self._log_steps, self._peak = log_steps, peak
        self._next = 1
        self._norm: Any = None
        self._began = time.monotonic()
        self._clear()

    def _clear(self) -> None:
        self._work: Any = None  # FLOPs, tokens and users of this process
        self._steps, self._idle = 0, 0.0
        self._began = time.monotonic()

    def begin(self) -> None:
        """The first step begins now."""
        self._clear()

    @property
    def due(self) -> bool:
        """Whether the step just done is one to log; the same in all processes."""
        return self._state.step % self._log_steps == 0 if self._log_steps else self._steps >= self._next

    def add(self, batches: Sequence[Mapping], norm: torch.Tensor) -> None:
        """Counts in a step of this process, and keeps its gradient's norm before clipping."""
        flops, tokens = self._flops.of(batches)
        users = torch.full_like(flops, sum(len(batch["labels"]) for batch in batches))
        work = torch.stack([flops, tokens.double(), users])
        self._work = work if self._work is None else self._work + work
        self._norm = norm
        self._steps += 1

    def pause(self, seconds: float) -> None:
        """So many of the seconds since the last log went by without steps: an evaluation, a checkpoint."""
        self._idle += seconds

    def read(self, learning_rates: Mapping[str, float]) -> dict[str, float]:
        """What is logged, and then counted anew; all processes ask together.

        Returns:
            `loss`, the mean over the target tokens, `loss_<objective>` of each that was drawn, what was given,
            `grad_norm` of the last step, `users_per_second` and `tokens_per_second` of all processes together, `mfu`
            from 0 to 1 where the devices' peak and the model's arithmetic are known, and `skipped_steps` so far.
        """
        seconds = max(time.monotonic() - self._began - self._idle, 1e-9)
        reduced: Any = self._accelerator.reduce(self._work.float(), "sum")
        flops, tokens, users = reduced.tolist()
        losses = self._state.recent.read(["loss", *self._names], self._accelerator)
        self._state.recent.clear()
        pace: Any = self._accelerator.reduce(torch.tensor([seconds / self._steps], device=self._accelerator.device))
        values = {
            "loss": losses.pop("loss"),
            **{f"loss_{name}": loss for name, loss in losses.items() if not math.isnan(loss)},
            **learning_rates,
            "grad_norm": float(self._norm),
            "users_per_second": users / seconds,
            "tokens_per_second": tokens / seconds,
            "skipped_steps": self._state.skipped,
        }
        if self._peak and flops:
            values["mfu"] = flops / seconds / (self._peak * self._accelerator.num_processes)
        # Each process has a clock of its own: their sum decides in all.
        self._next = max(1, round(SECONDS * self._accelerator.num_processes / pace.item()))
        self._clear()
        return values


class TimeLeft:
    """How long a run will still take, by what its steps and its evaluations took since it began or was resumed; that
    they wait for batches and checkpoints counts."""

    def __init__(self):
        self._seconds = {"step": 0.0, "evaluation": 0.0}
        self._counts = {"step": 0, "evaluation": 0}
        self._last = time.monotonic()

    def begin(self) -> None:
        """The first step begins now."""
        self._last = time.monotonic()

    def done(self, kind: str) -> None:
        """A "step" or an "evaluation" is done, and the next one begins."""
        now = time.monotonic()
        self._seconds[kind] += now - self._last
        self._counts[kind] += 1
        self._last = now

    def seconds(self, steps: int, evaluations: float) -> float:
        """That so many steps and evaluations will take; what has not been done yet counts for nothing."""
        left = {"step": steps, "evaluation": evaluations}
        return sum(left[kind] * self._seconds[kind] / max(self._counts[kind], 1) for kind in left)


def log_line(values: Mapping[str, float], where: str, left: float) -> str:
    """A line for a log: how far the run is, what `read` returned, and how many seconds it will still take."""
    objectives = ", ".join(f"{name[5:]} {value:.3f}" for name, value in values.items() if name.startswith("loss_"))
    parts = [
        f"{where}: loss {values['loss']:.3f} ({objectives})",
        f"learning rate {values['learning_rate']:.2e}",
        f"gradient norm {values['grad_norm']:.2f}",
        f"{values['users_per_second']:.1f} users/s",
        f"{values['tokens_per_second']:,.0f} tokens/s",
    ]
    if "mfu" in values:
        parts.append(f"MFU {values['mfu']:.0%}")
    if values["skipped_steps"]:
        parts.append(f"{values['skipped_steps']:.0f} steps skipped")
    return ", ".join([*parts, f"{timedelta(seconds=round(left))} left"])
