"""What keeps a run from ruin, and what it says when it cannot go on."""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from accelerate.utils.memory import should_reduce_batch_size

from cli.logs import told
from files.output_files import WriteFailure
from files.unreadable_photos import Unreadable
from mmprofile import seen_by
from training.arguments import JointTrainingArguments
from training.checkpoints import list_checkpoints
from training.failures import OtherProcessFailed, TrainingFailure


def check_step(
    step: int, norm: torch.Tensor, losses: Mapping[str, torch.Tensor], in_a_row: int, most: int, scaled: bool
) -> bool:
    """Whether a step may be taken: one whose gradient is not finite would ruin every weight.

    Args:
        step: its number.
        norm: of the gradient; the same in all processes.
        losses: of the step's last batch in this process, by name; they may say where it comes from.
        in_a_row: steps just before that were skipped.
        most: so many skipped in a row are too many.
        scaled: whether the loss is scaled for 16-bit numbers, and skipped steps are how the scale is found.

    Raises:
        TrainingFailure: if this is the `most`-th skipped step in a row.
    """
    if math.isfinite(norm.item()):
        return True
    values = {name: loss.item() for name, loss in losses.items()} | {"gradient norm": norm.item()}
    # The objectives come before the mean that they spoil.
    name, value = next((name, value) for name, value in values.items() if not math.isfinite(value))
    if in_a_row + 1 >= most:
        raise TrainingFailure(f"step {step}: {name} is {value}; so many steps in a row had to be skipped: {most}")
    if not scaled:
        told.warning(f"step {step} is skipped: {name} is {value}")
    return False


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
    except Unreadable as failure:
        raise TrainingFailure(f"{failure}; {_last_checkpoint(output)}") from None
    except OtherProcessFailed:
        raise SystemExit(1) from None
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
    trains_vision = seen_by(arguments).images and not arguments.freeze_vision
    advice += ["--freeze_vision true"] if trains_vision and arguments.vision_learning_rate is None else []
    smaller = ("batch_size", "max_text_tokens", "num_reviews", "num_images", "eval_batch_size")
    advice += [f"a --{name} below {getattr(arguments, name)}" for name in smaller if getattr(arguments, name) > 1]
    return (
        f"out of memory ({str(error).splitlines()[0]}). What helps: {'; '.join(advice)}. With a smaller batch, more"
        f" --gradient_accumulation_steps than {arguments.gradient_accumulation_steps} keep the users a step"
    )
