"""A training step, and the steps of an epoch."""

import warnings
from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import torch
from accelerate import skip_first_batches
from tqdm.auto import tqdm

from cli.logs import told
from training.data import tokens_of_step
from training.guards import check_step
from training.meter import log_line
from training.model import to_training
from training.run import Run, log_values
from training.whole_model import whole_tensor


def steps_of_epoch(run: Run) -> Iterator[list[dict]]:
    """The batches of each step that is left of the epoch under way; a bar in a terminal shows the users."""
    state, arguments = run.state, run.arguments
    loader: Any = run.train_loader  # as Accelerate prepared it
    loader.set_epoch(state.epoch)
    batches_a_step = arguments.batches_a_step
    left = skip_first_batches(run.train_loader, state.batches) if state.batches else run.train_loader
    users_a_step = arguments.batch_size * batches_a_step * run.accelerator.num_processes
    with tqdm(
        state.timed_steps(run.agreement.batches(left), batches_a_step),
        desc=f"epoch {state.epoch}/{arguments.num_epochs}",
        total=run.steps_per_epoch,
        initial=state.batches // batches_a_step,
        unit=" users",
        unit_scale=users_a_step,
        disable=not run.shows_bar,
    ) as bar:
        run.bar = bar
        yield from bar


def train_step(run: Run, batches: list[dict]) -> None:
    """One optimizer step; it changes nothing, and is counted as skipped, if its gradient is not finite.

    Raises:
        TrainingFailure: if too many in a row were skipped.
    """
    arguments, state = run.arguments, run.state
    optimizer: Any = run.optimizer  # as Accelerate prepared it
    to_training(run.joint, run.model, arguments)
    losses = accumulate_gradients(run, batches)
    clipped: Any = run.accelerator.clip_grad_norm_(run.joint.parameters(), arguments.max_grad_norm)
    norm, scaled = whole_tensor(clipped), run.accelerator.scaler is not None
    last, most = losses[-1][0], arguments.max_skipped_steps
    taken = check_step(state.step + 1, norm, last, state.skipped_in_a_row, most, scaled)
    state.rates = run.learning_rates
    if taken or scaled:  # the scaler skips the step by itself, and finds another scale
        optimizer.step()
        taken = not optimizer.step_was_skipped
    optimizer.zero_grad()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that no step was taken yet, where the first is skipped
        run.scheduler.step()
    if taken:
        if run.average:
            run.average.update()
        for of_batch, tokens in losses:
            state.period.add(of_batch, tokens)
            state.recent.add(of_batch, tokens)
    users = sum(len(batch["labels"]) for batch in batches) * run.accelerator.num_processes
    state.end_step(len(batches), users, skipped=not taken)
    run.meter.add(batches, norm)
    run.time_left.done("step")


def accumulate_gradients(run: Run, batches: list[dict]) -> list[tuple[dict[str, torch.Tensor], torch.Tensor]]:
    """Gradients of a step's loss, the mean over all its target tokens in all processes.

    Returns:
        Of each batch the mean losses, of the objectives first and then of all, and its target tokens.
    """
    accelerator, found = run.accelerator, []
    tokens, all_tokens = tokens_of_step(batches, accelerator)
    for batch, count in zip(batches, tokens, strict=True):
        with nullcontext() if batch is batches[-1] else accelerator.no_sync(run.joint):
            result = run.joint(batch)
            # Each token of the step counts the same; the gradients of the processes are averaged.
            accelerator.backward(result.loss * count * accelerator.num_processes / all_tokens)
        found.append(({**result.losses, "loss": result.loss}, count))
    return found


def log_if_due(run: Run) -> None:
    """Tells of the steps since the last time; all processes together."""
    if not run.meter.due:
        return
    state, arguments = run.state, run.arguments
    values = run.meter.read(state.rates)
    log_values(run, values)
    where = f"step {state.step}/{run.steps}, epoch {state.epoch}/{arguments.num_epochs}"
    line = log_line(values, where, run.time_left.seconds(run.steps - state.step, run.evaluations_left))
    if run.shows_bar:
        run.bar.set_postfix_str(line.partition(": ")[2])
    elif run.accelerator.is_main_process:
        told.info(line)
