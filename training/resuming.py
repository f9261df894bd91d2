"""Which run a checkpoint is of, what may differ in the one that goes on from it, and what its output folder holds."""

import hashlib
import json
import math
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, suppress
from pathlib import Path

import torch
from datasets import DatasetDict

from cli.logs import told
from files.output_files import UNFINISHED, append_json
from publishing.hub_folder import save_hub_folder
from publishing.run_files import (
    ADAPTER,
    CURVES,
    IDENTITY_FILE,
    LOADED,
    LOG_FOLDER,
    METRICS,
    PROGRESS,
    PROJECT,
    RECIPE,
    RESULTS,
    WEIGHTS,
)
from scoring.reporting import plot_curves
from training.checkpoints import (
    Checkpoints,
    age,
    evaluated_name,
    list_checkpoints,
    remove_checkpoint,
    saved_run,
)
from training.data import split_digest
from training.state import TrainingState

# What makes the order of the users, or the shapes of batches and weights.
FIXED = ("system", "train split", "processor", "weights", "seed", "group_by_length", "streaming", "shuffle_buffer")
EARLY = {LOG_FOLDER, RECIPE}  # what a run writes before its first checkpoint


def describe_run(flags: Mapping, corpus: DatasetDict, processor, model: torch.nn.Module, num_processes: int) -> dict:
    """What tells a run from others: flags, what the corpus' users have, how they become tokens and pixels, which
    weights there are and which of them are trained, number of processes."""
    digests = {f"{name} split": split_digest(split)[:16] for name, split in corpus.items()}
    shapes = [(name, list(weight.shape), weight.requires_grad) for name, weight in model.named_parameters()]
    known = {"processor": processor_digest(processor), "weights": _digest(shapes), "processes": num_processes}
    return dict(flags) | digests | known


def processor_digest(processor) -> str:
    """16 hexadecimal digits: of a processor's settings and of its tokenizer's words and their ids."""
    return _digest([processor.to_dict(), processor.tokenizer.get_vocab()])


def _digest(known) -> str:
    return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()[:16]


def changes_since(checkpoint: Path, run: Mapping) -> list[str]:
    """A phrase for each thing in which a run is not that of a checkpoint, but may go on from it.

    Raises:
        ValueError: if the users would come in another order, or batches or weights would have other shapes.
    """
    saved = saved_run(checkpoint)
    known = [name for name in run if name in saved]  # flags of another version are not all known
    differences = {name: f"{name} was {saved[name]!r}, is {run[name]!r}" for name in known if saved[name] != run[name]}
    if any(name in FIXED for name in differences) or _order_by_batches(saved) != _order_by_batches(run):
        raise ValueError(f"{checkpoint} is of another run: {'; '.join(differences.values())}")
    return list(differences.values())


def _order_by_batches(run: Mapping) -> list:
    """What of its batches the order of a run's users depends on."""
    users_a_step = run["batch_size"] * (run["gradient_accumulation_steps"] or 1) * run["processes"]
    return [run.get("streaming") and run["batch_size"], run.get("group_by_length") and users_a_step]


def resume(
    checkpoint: Path,
    checkpoints: Checkpoints,
    state: TrainingState,
    evaluated_model: Callable[[], AbstractContextManager[torch.nn.Module]],
    processor,
) -> None:
    """Puts a run back to a checkpoint, and its output folder with it: metrics, best weights, curves; newer checkpoints
    go, and the results of a run that had come to its end.

    Args:
        evaluated_model: gives the model to save, as it is now.

    Raises:
        ValueError: as `changes_since`, or the checkpoint is not the newest and the best weights are gone.
    """
    accelerator, folder = checkpoints.accelerator, checkpoints.folder
    changes = changes_since(checkpoint, checkpoints.run)
    checkpoints.load(checkpoint, state)
    best = None if state.best is None else folder / evaluated_name(state.best)
    if best is not None and best.exists():
        checkpoints.load(best, TrainingState())
        with evaluated_model() as whole:
            checkpoints.put_average(best, whole)
            if accelerator.is_main_process:
                save_hub_folder(whole, processor, folder)
        checkpoints.load(checkpoint, state)
    elif best is not None and checkpoint != list_checkpoints(folder)[-1]:
        raise ValueError(f"{checkpoint} needs the best weights of its time, of {best}, which is not there any more")
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        for path in list_checkpoints(folder):
            if age(path) > age(checkpoint):
                remove_checkpoint(path)
        _remove(folder, [*RESULTS, METRICS, CURVES])
        for record in state.history:
            append_json(folder / METRICS, record)
        if state.history:
            plot_curves(state.history, processor.profile_schema, folder / CURVES)
    accelerator.wait_for_everyone()
    told.info(f"going on from {checkpoint}" + (f", but {'; '.join(changes)}" if changes else ""))


def move_to_users(state: TrainingState, checkpoint: Path, run: Mapping, users: int) -> int:
    """Finds the place in the epoch under way, of so many users, with other batches or another number of processes.

    Returns:
        How many users are seen a second time, for the new batches do not end where the old did.
    """
    saved = saved_run(checkpoint)
    then, now = (known["batch_size"] * known["processes"] for known in (saved, run))
    seen = min(state.batches * then, users)  # the last batch may hold fewer
    state.batches = math.ceil(users / now) if seen == users else seen // now
    return max(seen - state.batches * now, 0)


def check_folder(folder: Path, checkpoint: Path | None, asked: str | None, overwrite: bool) -> None:
    """Raises a `ValueError` if the folder holds files, is not gone on with and may not be overwritten. What a run has
    left that was killed before its first checkpoint is in no one's way if `asked` is "auto"."""
    if overwrite and (folder / "train.py").exists():
        raise ValueError(f"{folder} holds train.py itself, and may not be overwritten; choose another output_dir")
    if checkpoint is not None or overwrite:
        return
    held = {path.name for path in folder.iterdir() if not path.name.startswith(UNFINISHED)}
    if held - (EARLY if asked == "auto" else set()):
        raise ValueError(f"{folder} holds files already; choose another output_dir or --overwrite_output_dir true")


def clear_folder(folder: Path) -> None:
    """Takes from the output folder all that earlier runs have written."""
    for path in list_checkpoints(folder):
        remove_checkpoint(path)
    for name in (f"{LOG_FOLDER}/{PROJECT}", ADAPTER):
        shutil.rmtree(folder / name, ignore_errors=True)
    _remove(folder, [f"{LOG_FOLDER}/{IDENTITY_FILE}", *RESULTS, *PROGRESS, *WEIGHTS, *LOADED])
    with suppress(OSError):  # there is none, or it holds what is not of a run
        (folder / LOG_FOLDER).rmdir()


def _remove(folder: Path, patterns: list[str]) -> None:
    for path in _matching(folder, patterns):
        path.unlink()


def _matching(folder: Path, patterns: list[str]) -> Iterator[Path]:
    for pattern in patterns:
        yield from (path for path in folder.glob(pattern) if path.is_file())
