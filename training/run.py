"""A run: its parts, and where it stands."""

import logging
import math
import statistics
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType, release_memory
from datasets import DatasetDict
from torch.utils.data import DataLoader

from baselines.table import find_system
from cli.logs import told
from mmprofile import MMProfileProcessor, ProfileSchema
from publishing.hub_upload import HubUploader
from training.agreement import Agreement
from training.arguments import JointTrainingArguments
from training.checkpoints import Checkpoints
from training.data import history_views
from training.meter import Meter, TimeLeft
from training.optimization import WeightAverage
from training.photo_cache import PhotoCache
from training.results import BY_HISTORY, tested_conditions
from training.state import TrainingState
from training.whole_model import WholeModel


@dataclass
class Run:
    """What a process needs to train, to evaluate and to report; `set_up` makes one.

    Attributes:
        model: the bare model of a system, of which `joint`, prepared, computes the losses.
        uploader: in the main process, if the run pushes.
        checkpoint: that the run goes on from.
    """

    arguments: JointTrainingArguments
    accelerator: Accelerator
    corpus: DatasetDict
    model: Any
    processor: MMProfileProcessor
    photo_cache: PhotoCache | None
    joint: torch.nn.Module
    whole_model: WholeModel
    average: WeightAverage | None
    optimizer: torch.optim.Optimizer
    train_loader: DataLoader
    dev_loader: DataLoader
    state: TrainingState
    checkpoints: Checkpoints
    agreement: Agreement
    meter: Meter
    uploader: HubUploader | None
    checkpoint: Path | None
    scheduler: Any = None  # of the optimizer, over `steps`
    time_left: TimeLeft = field(default_factory=TimeLeft)
    bar: Any = None  # of the epoch under way

    @property
    def output(self) -> Path:
        return Path(self.arguments.output_dir)

    @property
    def schema(self) -> ProfileSchema:
        return self.processor.profile_schema

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps."""
        return math.ceil(len(self.train_loader) / self.arguments.batches_a_step)

    @property
    def steps(self) -> int:
        """Optimizer steps of the whole run: those done and those left, since a run that goes on with other batches has
        done others."""
        state = self.state
        of_epoch = math.ceil((len(self.train_loader) - state.batches) / self.arguments.batches_a_step)
        left = of_epoch + (self.arguments.num_epochs - state.epoch) * self.steps_per_epoch
        return self.arguments.max_steps or state.step + max(left, 0)

    @property
    def ends_epoch(self) -> bool:
        """Whether all batches of the epoch under way are trained on."""
        return self.state.batches >= len(self.train_loader)

    @property
    def evaluation_due(self) -> bool:
        """Whether the step just done is to be evaluated, and is not yet."""
        state, every = self.state, self.arguments.eval_steps
        last = state.history[-1]["step"] if state.history else 0
        most = self.arguments.max_steps
        within = bool(every and state.step % every == 0 or most and state.step >= most)
        asked = self.ends_epoch or within
        return asked and state.step > last

    @property
    def finished(self) -> bool:
        """Whether all is trained and evaluated."""
        state, patience = self.state, self.arguments.early_stopping_patience
        if self.evaluation_due:
            return False
        most = self.arguments.max_steps
        done = state.step >= most if most else state.epoch > self.arguments.num_epochs
        return done or bool(patience and state.evaluations_since_best >= patience)

    def leave_device(self) -> None:
        """Takes the trained model and what updates it off the device, on which another one is to be evaluated."""
        self.optimizer.zero_grad()
        self.optimizer.state.clear()
        if self.accelerator.distributed_type != DistributedType.FSDP:  # its shards stay where they are
            self.joint.to("cpu")
            if self.average is not None:
                self.average.gathered().to("cpu")
        release_memory()

    @property
    def learning_rates(self) -> dict[str, float]:
        """That of the text tower, and of each part of the model where they differ."""
        rates = {group["part"]: group["lr"] for group in self.optimizer.param_groups}
        of_parts = {f"learning_rate_{part}": rate for part, rate in rates.items()}
        first = self.optimizer.param_groups[0]["lr"]
        return {"learning_rate": first} | (of_parts if len(set(rates.values())) > 1 else {})

    @property
    def epoch_done(self) -> float:
        """Passes over the training split so far, a whole number at an epoch's end."""
        state = self.state
        share = 1.0 if self.ends_epoch else state.batches / len(self.train_loader)
        passes = round(state.epoch - 1 + share, 4)
        return int(passes) if self.ends_epoch else passes

    def evaluations_of(self, steps: int) -> int:
        """On the development split, in the run's first so many steps."""
        whole, every = self.steps_per_epoch, self.arguments.eval_steps
        within = 0 if every is None else steps // every - steps // math.lcm(every, whole)
        return steps // whole + within

    @property
    def evaluations(self) -> int:
        """On the development split, in the whole run."""
        whole, every = self.steps_per_epoch, self.arguments.eval_steps
        ends_within = self.steps % whole and (every is None or self.steps % every)
        return self.evaluations_of(self.steps) + bool(ends_within)

    @cached_property
    def tests(self) -> float:
        """How many evaluations of the development split those at the end take the time of: of the test split itself,
        one a condition, and the probabilities; by whole histories one a view, and of the development split too."""
        share = len(self.corpus["test"]) / len(self.corpus["validation"])
        asked = tested_conditions(self.arguments)
        conditions, by_history = len(asked), len(set(BY_HISTORY) & set(asked))
        if not find_system(self.arguments.system).reads_views:
            return (conditions + 2) * share
        views = statistics.mean(self._views_of(name) for name in ("test", "validation"))
        return (by_history + 1) * share * views + (conditions - by_history + 1) * share + views

    def _views_of(self, split: str) -> float:
        """How many views of a user are read, on average."""
        return statistics.mean(history_views(self.corpus[split], self.arguments))

    @property
    def evaluations_left(self) -> float:
        """Of the development split, and of the test split under each of its conditions."""
        return self.evaluations - self.evaluations_of(self.state.step) + self.tests

    @property
    def shows_bar(self) -> bool:
        """Whether there is a terminal to draw in; elsewhere there are lines."""
        return self.accelerator.is_main_process and sys.stderr.isatty() and told.isEnabledFor(logging.INFO)

    def save(self) -> Path:
        """Writes a checkpoint of where the run stands; all processes together."""
        return self.checkpoints.save(self.state)

    @contextmanager
    def evaluated_model(self) -> Iterator[torch.nn.Module]:
        """The bare model whose scores count and that is saved."""
        if self.average:
            yield self.average.gathered()
            return
        with self.whole_model.gathered() as whole:
            yield whole


def log_values(run: Run, values: dict[str, float]) -> None:
    """Hands a step's values to the trackers, and keeps them for a run that goes on from here."""
    run.state.logged = {"step": run.state.step, "values": values}
    run.accelerator.log({f"train/{name}": value for name, value in values.items()}, step=run.state.step)
