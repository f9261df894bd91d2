"""What a run will take, found by a few of its steps, of which nothing is kept."""

import math
import resource
import statistics
import time
from datetime import timedelta
from itertools import islice
from typing import Any

import torch
from accelerate.utils import send_to_device

from cli.logs import told
from scoring.evaluation import evaluate_model
from training.batching import longest_users
from training.data import evaluation_loader, photos_are_seen, shortened_texts, training_loader
from training.run import Run
from training.set_up import begin_schedule
from training.steps import steps_of_epoch, train_step

STEPS = 3  # that are timed, after one that is not
GIB = 1 << 30


def estimate(run: Run) -> dict[str, float]:
    """Takes the step with the longest texts, then some of the first epoch's, and generates for one batch; tells what
    the whole run comes to.

    Returns:
        `steps` and `evaluations` of the run, `longest_step_seconds` (not a number of a streamed split), `step_seconds`
        (median) and `evaluation_batch_seconds`, `train_seconds` and `seconds` of the whole run, its evaluations
        included, and `memory_bytes` at most of this process: the device's, on a CPU all of it.
    """
    arguments, accelerator = run.arguments, run.accelerator
    begin_schedule(run)
    total, evaluations = run.steps, run.evaluations
    longest = math.nan if arguments.streaming else seconds_of(run, longest_batches(run))  # a stream is not sorted
    run.state.batches = 0
    with run.agreement:
        times = seconds_of_steps(run)
        # What was done first had to warm up; a corpus of one step has no other.
        step = statistics.median(times[1:] or times)
        batch = seconds_of_evaluation(run)
    batches = len(run.dev_loader)
    found = {
        "steps": total,
        "evaluations": evaluations,
        "longest_step_seconds": longest,
        "step_seconds": step,
        "evaluation_batch_seconds": batch,
        "train_seconds": total * step,
        "seconds": total * step + batch * batches * (evaluations + run.tests),
        "memory_bytes": peak_memory(accelerator.device),
    }
    tell(run, found)
    return found


def tell(run: Run, found: dict[str, float]) -> None:
    """Says in lines what `estimate` found, and what of the texts is read."""
    arguments, users = run.arguments, run.arguments.batch_size * run.arguments.batches_a_step
    split = "validation" if arguments.streaming else "train"
    shortened = shortened_texts(evaluation_loader(run.corpus[split], run.processor, arguments))
    checked = photos_are_seen(arguments) and arguments.check_photos and arguments.on_bad_photo == "stop"
    sizes = ", ".join(f"{len(split)} {name}" for name, split in run.corpus.items())
    told.info(f"users: {sizes}; every row can be read" + ", every photo too" * checked)
    told.info(f"{shortened['users']} {split} users have texts longer than max_text_tokens={arguments.max_text_tokens}")
    longest = found["longest_step_seconds"]
    at_most = "" if math.isnan(longest) else f", with the longest texts {longest:.2f} s"
    told.info(
        f"a step of {users} users a process takes {found['step_seconds']:.2f} s{at_most}, and at most"
        f" {found['memory_bytes'] / GIB:.1f} GiB"
    )
    told.info(
        f"the run is {found['steps']} steps and {found['evaluations']} evaluations:"
        f" about {timedelta(seconds=round(found['seconds']))}, of it"
        f" {timedelta(seconds=round(found['train_seconds']))} training. Nothing was written"
        + ", but the photo cache"
        * bool(arguments.photo_cache)
    )


def longest_batches(run: Run) -> list[dict]:
    """The batches of a step of the users with the longest reviews, on the device."""
    arguments = run.arguments
    chosen = longest_users(run.corpus["train"], arguments.batch_size * arguments.batches_a_step)
    batches: Any = [
        send_to_device(batch, run.accelerator.device) for batch in training_loader(chosen, run.processor, arguments)
    ]
    return batches


def seconds_of_steps(run: Run) -> list[float]:
    """Of the first steps of an epoch, each with the wait for its batches."""
    times, last = [], time.monotonic()
    for batches in islice(steps_of_epoch(run), STEPS + 1):
        seconds_of(run, batches)
        now = time.monotonic()
        times.append(now - last)
        last = now
    return times


def seconds_of(run: Run, batches: list[dict]) -> float:
    began = time.monotonic()
    train_step(run, batches)
    if run.accelerator.device.type == "cuda":
        torch.cuda.synchronize()
    return time.monotonic() - began


def seconds_of_evaluation(run: Run) -> float:
    """Of one batch of the development split."""
    first = list(islice(run.dev_loader, 1))
    began = time.monotonic()
    with run.evaluated_model() as whole:
        flags = run.arguments
        how = flags.num_beams, "one batch", flags.constrained_beams
        evaluate_model(whole, first, run.processor, run.accelerator, *how)
    return time.monotonic() - began


def peak_memory(device: torch.device) -> int:
    """Bytes that this process has held at once: on a CUDA device, else in all."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
