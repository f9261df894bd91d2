"""How weights are updated: AdamW in groups of parameters, learning rates by step, and the weights' average."""

import re
from collections.abc import Callable, Mapping

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType
from torch.optim.lr_scheduler import LambdaLR
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from transformers import get_scheduler

from systems.parts import joining_parts, vision_parameters
from training.arguments import JointTrainingArguments

# Parameters of two dimensions or more that, as all others of one (norms and biases), are not decayed: T5's relative
# positions (transformers' Trainer leaves them out), learned positions, [CLS] and registers (timm does).
UNDECAYED = re.compile(r"relative_attention_bias|position_embedding|_tokens?$")


def make_optimizer(joint: torch.nn.Module, arguments: JointTrainingArguments) -> torch.optim.Optimizer:
    """AdamW over what is trained, in groups whose `part` is "text", "vision" or "fusion" and which are decayed or not.

    The groups are the same for all values of the flags, and weights are updated one by one: an optimizer's state goes
    with other values too, and equal values make what one group makes, bit for bit.

    Args:
        joint: holds the model as `model`; not prepared yet.

    Raises:
        ValueError: if a learning rate is for a part that the model has not.
    """
    joins, vision = tuple(f"model.{part}." for part in joining_parts(joint.model)), vision_parameters(joint.model)
    groups: dict[tuple[str, bool], list[torch.nn.Parameter]] = {}
    for name, parameter in joint.named_parameters():
        if parameter.requires_grad:
            part = "vision" if parameter in vision else "fusion" if name.startswith(joins) else "text"
            decayed = parameter.dim() > 1 and not UNDECAYED.search(name)
            groups.setdefault((part, decayed), []).append(parameter)
    rates = _rates(arguments)
    if unused := [part for part, rate in rates.items() if rate is not None and part not in {p for p, _ in groups}]:
        raise ValueError(f"{arguments.system} has no part for {unused[0]}_learning_rate={rates[unused[0]]}")
    return torch.optim.AdamW(
        [
            {"params": parameters, "part": part, "decayed": decayed} | _settings(part, decayed, arguments)
            for (part, decayed), parameters in groups.items()
        ],
        fused=arguments.fused_adamw or None,  # False would rule out the loop over many at once
    )


def make_scheduler(
    optimizer: torch.optim.Optimizer, steps: int, arguments: JointTrainingArguments, step: int = 0
) -> LambdaLR:
    """The learning rates of a run as they stand after `step` optimizer steps.

    A function of the step, the same for any number of processes: not to be prepared by Accelerate, nor saved, and to
    step once with each optimizer step. When an optimizer's state was loaded, make it anew: the groups get the flags'
    values, whatever the state had.

    Args:
        optimizer: of `make_optimizer`, prepared or not.
        steps: optimizer steps of the whole run, over which the rates fall.
    """
    schedules = []
    for group in optimizer.param_groups:
        settings = _settings(group["part"], group["decayed"], arguments)
        group.update(settings, initial_lr=settings["lr"])
        schedules.append(_schedule(steps, settings["lr"], arguments))
    return LambdaLR(optimizer, schedules, last_epoch=step - 1)


def _schedule(steps: int, peak: float, arguments: JointTrainingArguments) -> Callable[[int], float]:
    """Step -> share of the peak; one of transformers' schedules falls to a rate, and has to know the peak."""
    made = get_scheduler(
        arguments.lr_scheduler,
        torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=peak),
        num_warmup_steps=round(steps * arguments.warmup_ratio),
        num_training_steps=steps,
    )
    assert isinstance(made, LambdaLR)  # as all of `LR_SCHEDULERS` are
    return made.lr_lambdas[0]


def _settings(part: str, decayed: bool, arguments: JointTrainingArguments) -> dict:
    rate = _rates(arguments)[part]
    return {
        "lr": arguments.learning_rate if rate is None else rate,
        "betas": (0.9, arguments.adam_beta2),
        "weight_decay": arguments.weight_decay if decayed else 0.0,
    }


def _rates(arguments: JointTrainingArguments) -> dict[str, float | None]:
    """Of each part, None where it has that of all."""
    return {
        "text": arguments.text_learning_rate,
        "vision": arguments.vision_learning_rate,
        "fusion": arguments.fusion_learning_rate,
    }


class WeightAverage:
    """The exponential moving average of a model's weights, evaluated and saved in the place of the trained ones.

    After the first step it is the weights; after each further one decay x average + (1 - decay) x weights.

    Args:
        model: on its device already.
        decay: from 0 to below 1.
    """

    def __init__(self, model: torch.nn.Module, decay: float):
        self._model = model
        self._average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay))

    def update(self) -> None:
        """Takes in the weights after an optimizer step."""
        self._average.update_parameters(self._model)

    def state_dict(self) -> dict:
        return self._average.state_dict()

    def load_state_dict(self, state: dict | None) -> None:
        """Takes over what `state_dict` gave; None: begins anew with the weights as they are."""
        if state is None:
            self._average.module.load_state_dict(self._model.state_dict())
            self._average.n_averaged.zero_()
        else:
            self._average.load_state_dict(state)

    def gathered(self) -> torch.nn.Module:
        """The model with the average as its weights, as `WholeModel` gives that with the trained ones."""
        return self._average.module


def averaged_weights(state: Mapping) -> dict[str, torch.Tensor]:
    """The weights in what `WeightAverage.state_dict` gave, by their names in the model."""
    own = "module."
    return {name.removeprefix(own): weight for name, weight in state.items() if name.startswith(own)}


def check_spreading(arguments: JointTrainingArguments, accelerator: Accelerator) -> None:
    """Raises a `ValueError` for flags that need the weights whole where FSDP spreads them."""
    flags = {"ema_decay": arguments.ema_decay, "lora_rank": arguments.lora_rank}
    given = [f"{name}={value}" for name, value in flags.items() if value is not None]
    if given and accelerator.distributed_type == DistributedType.FSDP:
        raise ValueError(f"{' and '.join(given)} needs the weights whole in each process, FSDP spreads them")
