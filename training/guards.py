"""What stops a run with a useful word: losses that are no numbers, and memory that does not suffice."""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import send_to_device
from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size
from datasets import Dataset

from corpora.shards import UnreadableRow
from files.output_files import WriteFailure
from training.arguments import JointTrainingArguments
from training.batching import review_lengths
from training.checkpoints import list_checkpoints
from training.data import training_loader
from training.objectives import JointTrainingModel
from training.photo_check import UnreadablePhoto


class TrainingFailure(Exception):
    """A run that cannot go on, and what may help."""


class LossWatch:
    """Finds the first loss that is NaN or infinite, asking the device for many steps at once."""

    def __init__(self):
        self._noted: list[tuple[int, list[str], torch.Tensor]] = []

    def __len__(self) -> int:
        """How many were noted since the last check."""
        return len(self._noted)

    def note(self, step: int, values: Mapping[str, torch.Tensor]) -> None:
        """Remembers a step's values by name, without waiting for them."""
        stacked = torch.stack([value.detach().float() for value in values.values()])
        self._noted.append((step, list(values), stacked))

    def check(self) -> dict[str, float]:
        """The last value by each name, if all that were noted since the last check are finite.

        Raises:
            TrainingFailure: names the step and the value, if not.
        """
        latest: dict[str, float] = {}
        for step, names, stacked in self._noted:
            noted = dict(zip(names, stacked.tolist(), strict=True))
            latest |= noted
            # The objectives come before the mean that they spoil.
            if wrong := [(name, value) for name, value in noted.items() if not math.isfinite(value)]:
                self._noted.clear()
                raise TrainingFailure(f"step {step}: {wrong[0][0]} is {wrong[0][1]}")
        self._noted.clear()
        return latest


@contextmanager
def explained_failures(arguments: JointTrainingArguments, output: Path) -> Iterator[None]:
    """Gives a failure in its block, as `TrainingFailure`, the words that help: the last good checkpoint, the flags
    that save memory, what the disk lacks."""
    try:
        yield
    except TrainingFailure as failure:
        raise TrainingFailure(
            f"{failure}; {_last_checkpoint(output)}. What may help: a --learning_rate below"
            f" {arguments.learning_rate:g}, a --max_grad_norm below {arguments.max_grad_norm:g}, a --mixed_precision"
            f" other than {arguments.mixed_precision}"
        ) from None
    except (UnreadablePhoto, UnreadableRow) as failure:  # of a loader's worker it has the whole traceback in its words
        words = str(failure).rpartition(f"{type(failure).__name__}: ")[2].strip()
        raise TrainingFailure(f"{words}; {_last_checkpoint(output)}") from None
    except WriteFailure as failure:
        raise TrainingFailure(f"{failure}; {_last_checkpoint(output)}") from failure
    except RuntimeError as error:
        if not should_reduce_batch_size(error):
            raise
        raise TrainingFailure(memory_advice(error, arguments)) from error


def _last_checkpoint(output: Path) -> str:
    found = list_checkpoints(output)
    return f"the last good checkpoint is {found[-1]}" if found else "there is no checkpoint (--save_steps)"


def memory_advice(error: RuntimeError, arguments: JointTrainingArguments) -> str:
    """The flags that help, with what they are."""
    advice = [] if arguments.auto_batch_size else ["--auto_batch_size true"]
    advice += [] if arguments.gradient_checkpointing else ["--gradient_checkpointing true"]
    advice += [] if arguments.mixed_precision != "no" else ["--mixed_precision bf16"]
    advice += [] if arguments.freeze_vision else ["--freeze_vision true"]
    smaller = ("batch_size", "max_text_tokens", "num_reviews", "num_images", "eval_batch_size")
    advice += [f"a --{name} below {getattr(arguments, name)}" for name in smaller]
    return (
        f"out of memory ({str(error).splitlines()[0]}). What helps: {'; '.join(advice)}. With a smaller batch, more"
        f" --gradient_accumulation_steps than {arguments.gradient_accumulation_steps} keep the users a step"
    )


def fit_batch_size(
    joint: JointTrainingModel, processor, split: Dataset, arguments: JointTrainingArguments, accelerator: Accelerator
) -> None:
    """Halves `batch_size` of the arguments, and doubles `gradient_accumulation_steps`, until the largest batch fits.

    Tried on the users with the longest reviews, with room for what the optimizer will hold.

    Args:
        joint: prepared by the accelerator; its weights and the random numbers stay as they are.
    """
    sizes = [sum(lengths) for lengths in review_lengths(split)]
    longest = sorted(range(len(split)), key=lambda row: -sizes[row])

    def attempt(batch_size: int) -> None:
        trained = [parameter for parameter in joint.parameters() if parameter.requires_grad]
        room = [torch.empty_like(parameter) for parameter in trained for _ in ("mean", "variance")]
        loader = training_loader(split.select(longest[:batch_size]), processor, arguments)
        users: Any = loader.dataset  # whose length its class does not promise
        examples = [users[row] for row in range(len(users))]
        for drawn_by in _draws(arguments):
            loader.collate_fn.drawn_by = drawn_by
            batch = loader.collate_fn(examples)
            with accelerator.no_sync(joint):
                accelerator.backward(joint(send_to_device(batch, accelerator.device)).loss)
        del room

    devices = [accelerator.device] if accelerator.device.type == "cuda" else []
    with explained_failures(arguments, Path(arguments.output_dir)), torch.random.fork_rng(devices):
        fitting = largest_that_fits(arguments.batch_size, attempt, accelerator)
    joint.zero_grad()
    if fitting < arguments.batch_size:
        arguments.gradient_accumulation_steps *= arguments.batch_size // fitting
        arguments.batch_size = fitting
        accelerator.print(
            f"out of memory, going on with --batch_size {fitting}"
            f" --gradient_accumulation_steps {arguments.gradient_accumulation_steps}"
        )


def _draws(arguments: JointTrainingArguments) -> list[dict[str, float] | None]:
    """`JointCollator.drawn_by` for each kind of batch that training may see."""
    if arguments.objective_schedule == "all":
        return [None]
    return [{name: float(name == drawn) for name in arguments.views} for drawn in arguments.views]


def largest_that_fits(batch_size: int, attempt: Callable[[int], None], accelerator: Accelerator) -> int:
    """The batch size, divided by its smallest divisor (a power of two: halved) until `attempt` has enough memory.

    Args:
        batch_size: to begin with.
        attempt: does with a batch size what training will do; all processes try the same.
        accelerator: a batch size has to fit in every process.

    Raises:
        RuntimeError: of `attempt`, if not even one user fits, or it is of another kind.
    """
    while True:
        failed = False
        try:
            attempt(batch_size)
        except RuntimeError as error:  # let go of at the end of the clause, since its frames hold what is to be freed
            if not should_reduce_batch_size(error) or batch_size == 1:
                raise
            failed = True
        clear_device_cache(garbage_collection=True)
        if not accelerator.reduce(torch.tensor(float(failed), device=accelerator.device), "sum"):
            return batch_size
        batch_size //= next(divisor for divisor in range(2, batch_size + 1) if batch_size % divisor == 0)
