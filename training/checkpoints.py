"""Checkpoints from which a run goes on as if it had never stopped.

A checkpoint is written under a temporary name and renamed when all of it is on the disk, so that there is never half
of one under its own name.
"""

import os
import re
import shutil
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch.distributed.tensor import DTensor

from files.output_files import UNFINISHED, read_json, unfinished_folder, write_json
from publishing.hub_upload import LAST_CHECKPOINT
from training.failures import TrainingFailure
from training.optimization import WeightAverage, averaged_weights
from training.state import TrainingState

PREFIX = "checkpoint-"
NAME = re.compile(rf"{PREFIX}(\d+)(?:-epoch-([\d.]+))?")
AVERAGE_FILE = "average.bin"  # of the weights
RUN_FILE = "run.json"  # of which run it is, and how far that is


class Checkpoints:
    """The checkpoints of one output folder.

    Args:
        accelerator: everything to save is prepared by it.
        folder: the output folder.
        run: what `resuming.describe_run` says of it.
        save_steps: how often one is due; None: never.
        limit: how many are kept; the newest and that of the best evaluation always are. None: all.
        average: of the weights, if the run has one.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        folder: Path,
        run: Mapping,
        save_steps: int | None = None,
        limit: int | None = None,
        average: WeightAverage | None = None,
    ):
        self.accelerator, self.folder, self.run, self.average = accelerator, folder, run, average
        self.save_steps, self.limit = save_steps, limit

    def due(self, step: int) -> bool:
        return self.save_steps is not None and step % self.save_steps == 0

    def save(self, state: TrainingState) -> Path:
        """Writes `checkpoint-<step>`, or `checkpoint-<step>-epoch-<epoch>` once that step is evaluated, all processes
        together, and removes what is over the limit.

        Raises:
            TrainingFailure: if a weight, or what the optimizer keeps of it, is not finite; nothing is written then.
        """
        accelerator = self.accelerator
        self._check_finite(state)
        evaluated = bool(state.history) and state.history[-1]["step"] == state.step
        name = evaluated_name(state.history[-1]) if evaluated else f"{PREFIX}{state.step}"
        target, unfinished = self.folder / name, self.folder / f"{UNFINISHED}-{PREFIX}{state.step}"
        with unfinished_folder(unfinished) if accelerator.is_main_process else nullcontext():
            accelerator.wait_for_everyone()
            accelerator.save_state(str(unfinished), safe_serialization=False)  # keeps tied weights tied
            torch.save(state.state_dict(), unfinished / _state_file(accelerator.process_index))
            accelerator.wait_for_everyone()
            if accelerator.is_main_process:
                if self.average:
                    torch.save(self.average.state_dict(), unfinished / AVERAGE_FILE)
                epoch = state.history[-1]["epoch"] if evaluated else None
                write_json(unfinished / RUN_FILE, {"run": self.run, "step": state.step, "epoch": epoch})
                _sync(unfinished)
                if not target.exists():  # with the same state
                    os.replace(unfinished, target)
                _sync(self.folder, files=False)
        if accelerator.is_main_process:
            self._prune(target, state.best)
        accelerator.wait_for_everyone()
        return target

    def load(self, checkpoint: Path, state: TrainingState) -> None:
        """Puts weights, optimizer, random numbers and `state` back to where they stood.

        Of a checkpoint of another number of processes, random numbers are not those of any process, and the sums of
        losses go to the first.

        Raises:
            ValueError: if it has other weights, or other groups of them.
        """
        accelerator = self.accelerator
        scaler = accelerator.scaler
        if scaler is not None and not (checkpoint / "scaler.pt").exists():  # of a run without mixed precision
            accelerator.scaler = None
        try:
            accelerator.load_state(str(checkpoint))
        except torch.OutOfMemoryError:
            raise
        except (RuntimeError, ValueError) as error:
            raise ValueError(
                f"{checkpoint} is no checkpoint of such weights and such an optimizer: {error}"
            ) from error
        accelerator.scaler = scaler
        if self.average:  # which may be new to the run
            path = checkpoint / AVERAGE_FILE
            found = torch.load(path, map_location="cpu", weights_only=True) if path.exists() else None
            self.average.load_state_dict(found)
        state.load_state_dict(_merged_states(checkpoint, accelerator))
        state.to(accelerator.device)

    def put_average(self, checkpoint: Path, model: torch.nn.Module) -> None:
        """Gives a model the averaged weights of a checkpoint of a run that had such and has them no more: its scores
        are theirs."""
        path = checkpoint / AVERAGE_FILE
        if self.average is None and path.exists():
            found = torch.load(path, map_location="cpu", weights_only=True)
            model.load_state_dict(averaged_weights(found))

    def _check_finite(self, state: TrainingState) -> None:
        accelerator: Any = self.accelerator  # whose lists of what it has prepared have no public names
        tensors = [weight for model in accelerator._models for weight in model.parameters()]
        for optimizer in accelerator._optimizers:
            tensors += [
                value for kept in optimizer.state.values() for value in kept.values() if torch.is_tensor(value)
            ]
        finite = [torch.isfinite(_local(tensor.detach())).all().to(accelerator.device) for tensor in tensors]
        found = sum(((~one).float() for one in finite), torch.zeros((), device=accelerator.device))
        if count := int(accelerator.reduce(found, "sum")):
            raise TrainingFailure(
                f"step {state.step}: of {count} weights the values, or their averages, are not finite"
            )

    def _prune(self, newest: Path, best: Mapping | None) -> None:
        kept = {newest} if best is None else {newest, self.folder / evaluated_name(best)}
        found = list_checkpoints(self.folder)
        over = 0 if self.limit is None else len(found) - self.limit
        for checkpoint in [path for path in found if path not in kept][: max(over, 0)]:
            remove_checkpoint(checkpoint)


def saved_run(checkpoint: Path) -> dict:
    """What `describe_run` said of the run that wrote a checkpoint."""
    return read_json(checkpoint / RUN_FILE).get("run", {})


def list_checkpoints(folder: Path) -> list[Path]:
    """The complete checkpoints of a folder, oldest first; among them that which a Hub repository has."""
    named = [path for path in folder.glob(f"{PREFIX}*") if NAME.fullmatch(path.name)]
    found = [path for path in [folder / LAST_CHECKPOINT, *named] if (path / RUN_FILE).is_file()]
    return sorted(found, key=age)


def find_checkpoint(folder: Path, asked: str | None) -> Path | None:
    """The checkpoint of a folder to go on from: None if none is asked for, or with "auto" if there is none.

    Raises:
        ValueError: if `asked` is neither "auto" nor a complete checkpoint of the folder.
    """
    if asked is None:
        return None
    found = list_checkpoints(folder)
    if asked == "auto":
        return found[-1] if found else None
    matching = [path for path in found if path.resolve() == Path(asked).resolve()]
    if not matching:
        there = [str(path) for path in found]
        raise ValueError(f"--resume_from_checkpoint is 'auto' or one of {there}, got {asked!r}")
    return matching[0]


def evaluated_name(record: Mapping) -> str:
    return f"{PREFIX}{record['step']}-epoch-{record['epoch']}"


def age(checkpoint: Path) -> tuple[int, float]:
    """Step and epoch; the checkpoint before an evaluation is older than that behind it."""
    if named := NAME.fullmatch(checkpoint.name):
        step, epoch = named.groups()
    else:
        found = read_json(checkpoint / RUN_FILE)
        step, epoch = found["step"], found["epoch"]
    return int(step), float(epoch or 0)


def remove_checkpoint(checkpoint: Path) -> None:
    """Takes the name away first: there is never half of it under its name."""
    unfinished = checkpoint.with_name(f"{UNFINISHED}-{PREFIX}removed")
    os.replace(checkpoint, unfinished)
    shutil.rmtree(unfinished)


def _merged_states(checkpoint: Path, accelerator: Accelerator) -> dict:
    """This process' part of the training state, of as many processes as there were."""
    files = sorted(checkpoint.glob(_state_file("*")))
    if len(files) == accelerator.num_processes:
        files = [checkpoint / _state_file(accelerator.process_index)]
    states = [torch.load(file, map_location="cpu", weights_only=True) for file in files]
    merged = states[0]
    for name in ("period", "recent"):
        means = [state[name] for state in states if name in state]
        if len(means) > 1:
            merged[name] = {kind: _summed([one[kind] for one in means]) for kind in ("sums", "counts")}
            if not accelerator.is_main_process:
                merged[name] = {"sums": {}, "counts": {}}
    return merged


def _summed(parts: list[dict]) -> dict:
    names = dict.fromkeys(name for part in parts for name in part)
    return {name: sum(part.get(name, 0.0) for part in parts) for name in names}


def _state_file(process: int | str) -> str:
    return f"training_state_{process}.bin"


def _local(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def _sync(folder: Path, files: bool = True) -> None:
    """Waits until the folder, and its files, are on the disk."""
    for path in [*(path for path in folder.rglob("*") if files), folder]:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
