"""Checkpoints from which a run goes on as if it had never stopped.

A checkpoint is written under a temporary name and renamed when all of it is on the disk, so that there is never half
of one under its own name.
"""

import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import nullcontext
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator, skip_first_batches
from datasets import DatasetDict
from torch.utils.data import DataLoader

from files.output_files import UNFINISHED, append_json, read_json, unfinished_folder, write_json
from publishing.hub_folder import save_hub_folder
from scoring.reporting import best_epoch
from training.data import split_digest
from training.whole_model import WholeModel

PREFIX = "checkpoint-"
NAME = re.compile(rf"{PREFIX}(\d+)(?:-epoch-(\d+))?")
RUN_FILE = "run.json"  # what must be the same to go on


class TrainingState:
    """Where a process of a run stands, beside what Accelerate saves: all that `save` of `Checkpoints` writes.

    Args:
        seconds: that the run took before it was resumed.

    Attributes:
        history: one record for each epoch that is trained and evaluated.
        step: optimizer steps so far.
        batches: of the epoch under way, taken by this process.
        sums, counts: of the loss of each token, by objective, and of the tokens.
        epoch_began, waited: seconds of the run at the start of the epoch, and of it those spent waiting for batches.
    """

    def __init__(self, seconds: float = 0.0):
        self.history: list[dict] = []
        self.step = self.batches = 0
        self.sums: dict[str, torch.Tensor | float] = {}
        self.counts: dict[str, torch.Tensor | float] = {}
        self.epoch_began = self.waited = 0.0
        self._started = time.monotonic() - seconds

    @property
    def seconds(self) -> float:
        """That the run took so far, stops left out."""
        return time.monotonic() - self._started

    @property
    def best(self) -> dict | None:
        """The best epoch's record."""
        return self.history[best_epoch(self.history) - 1] if self.history else None

    @property
    def flat_record(self) -> dict[str, float]:
        """The last epoch's record for a tracker, the scores of its attributes by names of their own."""
        record = dict(self.history[-1])
        scores = {f"dev_f1_{key}": score for key, score in record.pop("dev_f1").items()}
        return record | scores

    def begin_epoch(self, names: Iterable[str]) -> None:
        """Sums of 0 under these names, unless the epoch is under way already."""
        if not self.batches:
            self.sums, self.counts = dict.fromkeys(names, 0.0), dict.fromkeys(names, 0.0)
            self.epoch_began, self.waited = self.seconds, 0.0

    def remaining_steps(self, loader: DataLoader, batches_a_step: int) -> Iterator[list[dict]]:
        """The batches of each step that is left of the epoch under way; counts them."""
        batches = iter(skip_first_batches(loader, self.batches) if self.batches else loader)
        while True:
            asked = self.seconds
            step = list(islice(batches, batches_a_step))
            if not step:
                return
            self.batches += len(step)
            self.waited += self.seconds - asked
            yield step

    def add(self, losses: Mapping[str, torch.Tensor], tokens: torch.Tensor) -> None:
        """Counts in a batch's mean losses, of so many tokens."""
        for name, loss in losses.items():
            self.sums[name] += loss.detach() * tokens
            self.counts[name] += tokens

    def mean_losses(self, accelerator: Accelerator) -> dict[str, float]:
        """Of the epoch's tokens, over all processes; not a number for an objective that was never drawn."""

        def total(values: Iterable[torch.Tensor | float]) -> torch.Tensor:
            stacked = torch.stack([torch.as_tensor(value, device=accelerator.device) for value in values])
            reduced: Any = accelerator.reduce(stacked, "sum")
            return reduced

        sums, counts = total(self.sums.values()), total(self.counts.values())
        return dict(zip(self.sums, (sums / counts).tolist(), strict=True))

    def training_record(self, accelerator: Accelerator, learning_rate: float, users: int) -> dict:
        """What is told of an epoch of so many users when its last step is done: losses, learning rate and pace."""
        means, seconds = self.mean_losses(accelerator), self.seconds - self.epoch_began
        return {
            "epoch": len(self.history) + 1,
            "step": self.step,
            "train_loss": means.pop("loss"),
            **{f"train_loss_{name}": value for name, value in means.items()},
            "learning_rate": learning_rate,
            "seconds": seconds,
            "users_per_second": users / seconds,
            "data_wait_share": self.waited / seconds,
        }

    def end_epoch(self, record: dict) -> None:
        """The epoch is trained and evaluated."""
        self.history.append(record)
        self.batches = 0

    def state_dict(self) -> dict:
        fields = {name: value for name, value in vars(self).items() if name != "_started"}
        return fields | {"seconds": self.seconds}

    def load_state_dict(self, state: dict) -> None:
        self._started = time.monotonic() - state.pop("seconds")
        vars(self).update(state)


class Checkpoints:
    """The checkpoints of one output folder.

    Args:
        accelerator: everything to save is prepared by it.
        folder: the output folder.
        run: what must be the same to go on from a checkpoint, see `describe_run`.
        save_steps: how often one is due within an epoch; None: never.
        limit: how many are kept; the newest and that of the best epoch's end always are. None: all.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        folder: Path,
        run: Mapping,
        save_steps: int | None = None,
        limit: int | None = None,
    ):
        self.accelerator, self.folder, self.run = accelerator, folder, run
        self.save_steps, self.limit = save_steps, limit

    def due(self, step: int) -> bool:
        return self.save_steps is not None and step % self.save_steps == 0

    def save(self, state: TrainingState) -> Path:
        """Writes `checkpoint-<step>`, or `checkpoint-<step>-epoch-<epoch>` at an epoch's end, all processes together,
        and removes what is over the limit."""
        accelerator = self.accelerator
        name = f"{PREFIX}{state.step}" if state.batches else _epoch_name(state.history[-1])
        target, unfinished = self.folder / name, self.folder / f"{UNFINISHED}-{PREFIX}{state.step}"
        with unfinished_folder(unfinished) if accelerator.is_main_process else nullcontext():
            accelerator.wait_for_everyone()
            accelerator.save_state(str(unfinished), safe_serialization=False)  # keeps tied weights tied
            torch.save(state.state_dict(), unfinished / _state_file(accelerator.process_index))
            accelerator.wait_for_everyone()
            if accelerator.is_main_process:
                write_json(unfinished / RUN_FILE, self.run)
                _sync(unfinished)
                if not target.exists():  # with the same state
                    os.replace(unfinished, target)
                _sync(self.folder, files=False)
        if accelerator.is_main_process:
            self._prune(target, state.best)
        accelerator.wait_for_everyone()
        return target

    def load(self, checkpoint: Path, state: TrainingState) -> None:
        """Puts everything back to where it stood.

        Raises:
            ValueError: if the checkpoint is of another run than `run` describes.
        """
        saved = read_json(checkpoint / RUN_FILE)
        other = [name for name in {**self.run, **saved} if saved.get(name) != self.run.get(name)]
        if other:
            differences = "; ".join(f"{name} was {saved.get(name)!r}, is {self.run.get(name)!r}" for name in other)
            raise ValueError(f"{checkpoint} is of another run: {differences}")
        self.accelerator.load_state(str(checkpoint))
        file = checkpoint / _state_file(self.accelerator.process_index)
        state.load_state_dict(torch.load(file, map_location="cpu", weights_only=True))
        device = self.accelerator.device
        for values in (state.sums, state.counts):
            values.update({name: torch.as_tensor(value, device=device) for name, value in values.items()})

    def _prune(self, newest: Path, best: dict | None) -> None:
        kept = {newest} if best is None else {newest, self.folder / _epoch_name(best)}
        found = list_checkpoints(self.folder)
        over = 0 if self.limit is None else len(found) - self.limit
        for checkpoint in [path for path in found if path not in kept][: max(over, 0)]:
            _remove(checkpoint)


def resume(checkpoint: Path, checkpoints: Checkpoints, state: TrainingState, model: WholeModel, processor) -> None:
    """Puts a run back to a checkpoint, and its output folder with it: metrics, best weights; newer checkpoints go.

    Raises:
        ValueError: if the checkpoint is of another run, or is not the newest and the best weights are gone.
    """
    accelerator, folder = checkpoints.accelerator, checkpoints.folder
    checkpoints.load(checkpoint, state)
    best = None if state.best is None else folder / _epoch_name(state.best)
    if best is not None and best.exists():
        accelerator.load_state(str(best))
        whole = model.gathered()
        if accelerator.is_main_process:
            save_hub_folder(whole, processor, folder)
        checkpoints.load(checkpoint, state)
    elif best is not None and checkpoint != list_checkpoints(folder)[-1]:
        raise ValueError(f"{checkpoint} needs the best weights of its time, of {best}, which is not there any more")
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        for path in list_checkpoints(folder):
            if _age(path) > _age(checkpoint):
                _remove(path)
        (folder / "metrics.jsonl").unlink(missing_ok=True)
        for record in state.history:
            append_json(folder / "metrics.jsonl", record)
    accelerator.wait_for_everyone()
    accelerator.print(f"going on from {checkpoint}")


def describe_run(flags: Mapping, corpus: DatasetDict, processor, num_processes: int) -> dict:
    """What must be the same to go on from a checkpoint: flags, what the corpus' users have, how they become tokens and
    pixels, number of processes. Weights are the checkpoint's own."""
    digests = {f"{name} split": split_digest(split)[:16] for name, split in corpus.items()}
    return dict(flags) | digests | {"processor": processor_digest(processor), "processes": num_processes}


def processor_digest(processor) -> str:
    """16 hexadecimal digits: of a processor's settings and of its tokenizer's words and their ids."""
    known = [processor.to_dict(), processor.tokenizer.get_vocab()]
    return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()[:16]


def list_checkpoints(folder: Path) -> list[Path]:
    """The complete checkpoints of a folder, oldest first."""
    found = [path for path in folder.glob(f"{PREFIX}*") if NAME.fullmatch(path.name) and (path / RUN_FILE).is_file()]
    return sorted(found, key=_age)


def find_checkpoint(folder: Path, asked: str | None) -> Path | None:
    """The checkpoint of a folder to go on from: None if none is asked for, or with "auto" if there is none.

    Raises:
        ValueError: if `asked` is neither "auto" nor a complete checkpoint of the folder.
    """
    found = list_checkpoints(folder)
    if asked is None:
        return None
    if asked == "auto":
        return found[-1] if found else None
    matching = [path for path in found if path.resolve() == Path(asked).resolve()]
    if not matching:
        there = [str(path) for path in found]
        raise ValueError(f"--resume_from_checkpoint is 'auto' or one of {there}, got {asked!r}")
    return matching[0]


def prepare_folder(folder: Path, asked: str | None, overwrite: bool) -> None:
    """Takes an earlier run's checkpoints and metrics from the output folder unless that is resumed.

    Raises:
        ValueError: if it holds files and may not be overwritten, or lacks the checkpoint asked for.
    """
    if find_checkpoint(folder, asked) is not None:
        return
    if not overwrite and any(not path.name.startswith(UNFINISHED) for path in folder.iterdir()):
        raise ValueError(f"{folder} holds files already; choose another output_dir or --overwrite_output_dir true")
    for path in list_checkpoints(folder):
        _remove(path)
    (folder / "metrics.jsonl").unlink(missing_ok=True)


def _state_file(process: int) -> str:
    return f"training_state_{process}.bin"


def _epoch_name(record: Mapping) -> str:
    return f"{PREFIX}{record['step']}-epoch-{record['epoch']}"


def _age(checkpoint: Path) -> tuple[int, int]:
    """Step and epoch; the checkpoint before an epoch's evaluation is older than that behind it."""
    named = NAME.fullmatch(checkpoint.name)
    assert named is not None  # of `list_checkpoints`, or `find_checkpoint`
    step, epoch = named.groups()
    return int(step), int(epoch or 0)


def _remove(checkpoint: Path) -> None:
    """Takes the name away first: there is never half of it under its name."""
    unfinished = checkpoint.with_name(f"{UNFINISHED}-{PREFIX}removed")
    os.replace(checkpoint, unfinished)
    shutil.rmtree(unfinished)


def _sync(folder: Path, files: bool = True) -> None:
    """Waits until the folder, and its files, are on the disk."""
    for path in [*(path for path in folder.rglob("*") if files), folder]:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
