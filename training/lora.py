"""LoRA: low-rank matrices beside frozen weights of the towers are trained, by `peft`, and what joins them."""

import re
from typing import Any

from torch import nn

from files.public_names import portable_name
from systems.parts import joining_parts
from training.arguments import JointTrainingArguments


def add_lora(model: Any, arguments: JointTrainingArguments) -> None:
    """Freezes all of a model but its fusion, the projection to it, and matrices of rank `lora_rank` that it adds.

    They go beside the linear layers of both towers' attention, or those of `lora_targets`; layers that are left as
    they are, as a frozen vision tower's, get none.

    Raises:
        ValueError: if a target is the name of no linear layer of the towers, or there is none.
    """
    from peft import LoraConfig, inject_adapter_in_model

    linears = _linear_layers(model)
    names = {name.rpartition(".")[2] for name in linears}
    if unknown := sorted(set(arguments.lora_targets) - names):
        raise ValueError(f"lora_targets are linear layers of the towers, of {sorted(names)}, got {unknown}")
    targets = [
        name
        for name, in_attention in linears.items()
        if (name.rpartition(".")[2] in arguments.lora_targets if arguments.lora_targets else in_attention)
    ]
    if not targets:
        raise ValueError(f"{arguments.system} has no linear layer for lora_rank={arguments.lora_rank} that is trained")
    others = {name for name, module in model.named_modules() if isinstance(module, nn.Linear)} - set(targets)
    patterns = dict.fromkeys(_pattern(name, others) for name in targets)
    rank: int = arguments.lora_rank or 0  # where it is None, nobody calls
    alpha: Any = 2 * rank if arguments.lora_alpha is None else arguments.lora_alpha  # peft takes a fraction, too
    config = LoraConfig(r=rank, lora_alpha=alpha, target_modules="|".join(patterns))
    config.base_model_name_or_path = arguments.model and portable_name(arguments.model)  # it is published
    inject_adapter_in_model(config, model)  # not add_adapter: transformers may ask for a peft that is not out yet
    for part in joining_parts(model).values():
        part.requires_grad_(True)


def _pattern(name: str, others: set[str]) -> str:
    """For all layers of a kind, which a configuration shows better than each of their names; for the one alone where
    it fits one of the others too."""
    every = re.sub(r"\\\.\d+(?=\\\.)", r"\\.\\d+", re.escape(name))
    return re.escape(name) if any(re.fullmatch(every, other) for other in others) else every


def _linear_layers(model: Any) -> dict[str, bool]:
    """The towers' linear layers that are trained, by name, and whether an attention has them; its class is called so
    in transformers."""
    whole = {layer for part in joining_parts(model).values() for layer in part.modules()}
    attentions = [name for name, module in model.named_modules() if type(module).__name__.endswith("Attention")]
    return {
        name: any(name.startswith(f"{attention}.") for attention in attentions)
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and module.weight.requires_grad and module not in whole
    }
