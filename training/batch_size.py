"""The largest batch that fits in memory, found before the first step."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import send_to_device
from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size
from datasets import Dataset

from cli.logs import told
from training.arguments import JointTrainingArguments
from training.batching import longest_users
from training.data import training_loader
from training.guards import explained_failures
from training.joint_step import JointStep


def fit_batch_size(
    joint: JointStep, processor, split: Dataset, arguments: JointTrainingArguments, accelerator: Accelerator
) -> None:
    """Halves `batch_size` of the arguments, and doubles `gradient_accumulation_steps`, until the largest batch fits.

    Tried on the users with the longest reviews, with room for what the optimizer will hold.

    Args:
        joint: prepared by the accelerator; its weights and the random numbers stay as they are.
    """
    longest = longest_users(split, arguments.batch_size)

    def attempt(batch_size: int) -> None:
        trained = [parameter for parameter in joint.parameters() if parameter.requires_grad]
        room = [torch.empty_like(parameter) for parameter in trained for _ in ("mean", "variance")]
        loader = training_loader(longest.select(range(min(batch_size, len(longest)))), processor, arguments)
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
        arguments.gradient_accumulation_steps = arguments.batches_a_step * (arguments.batch_size // fitting)
        arguments.batch_size = fitting
        told.info(
            f"out of memory, going on with --batch_size {fitting}"
            f" --gradient_accumulation_steps {arguments.gradient_accumulation_steps}"
        )


def _draws(arguments: JointTrainingArguments) -> list[list[dict[str, float]] | None]:
    """`JointCollator.drawn_by` for each kind of batch that training may see."""
    if arguments.objective_schedule == "all":
        return [None]
    return [[{name: float(name == drawn) for name in arguments.views}] for drawn in arguments.views]


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
