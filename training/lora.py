"""LoRA: low-rank matrices beside frozen weights of the towers are trained, by `peft`, and what joins them."""

import re
from typing import Any

from torch import nn

from systems.parts import joining_parts
from training.arguments import JointTrainingArguments
from training.public_names import portable_name


def add_lora(model: Any, arguments: JointTrainingArguments) -> None:
    """Freezes all of a model but its fusion, the projection to it, and matrices of rank `lora_rank` that it adds.

    They go beside the linear layers of both towers' attention, or those of `lora_targets`; a vision tower that is left
    as it is gets none.

    Raises:
        ValueError: if a target is the name of no linear layer of the towers.
    """
    from peft import LoraConfig, inject_adapter_in_model

    linears = _linear_layers(model, arguments.freeze_vision)
    names = {name.rpartition(".")[2] for name in linears}
    if unknown := sorted(set(arguments.lora_targets) - names):
        raise ValueError(f"lora_targets are linear layers of the towers, of {sorted(names)}, got {unknown}")
    targets = [
        name
        for name, in_attention in linears.items()
        if (name.rpartition(".")[2] in arguments.lora_targets if arguments.lora_targets else in_attention)
    ]
    # As one pattern for all layers of a kind, which a configuration shows better than each of their names.
    patterns = dict.fromkeys(re.sub(r"\\\.\d+(?=\\\.)", r"\\.\\d+", re.escape(name)) for name in targets)
    rank: int = arguments.lora_rank or 0  # where it is None, nobody calls
    alpha: Any = 2 * rank if arguments.lora_alpha is None else arguments.lora_alpha  # peft takes a fraction, too
    config = LoraConfig(r=rank, lora_alpha=alpha, target_modules="|".join(patterns))
    config.base_model_name_or_path = arguments.model and portable_name(arguments.model)  # it is published
    inject_adapter_in_model(config, model)  # not add_adapter: transformers may ask for a peft that is not out yet
    for part in joining_parts(model).values():
        part.requires_grad_(True)


def _linear_layers(model: Any, vision_is_frozen: bool) -> dict[str, bool]:
    """The towers' linear layers by name, and whether an attention has them; its class is called so in transformers."""
    whole = {layer for part in joining_parts(model).values() for layer in part.modules()}
    frozen = set(model.vision_model.modules()) if vision_is_frozen else set()
    attentions = [name for name, module in model.named_modules() if type(module).__name__.endswith("Attention")]
    return {
        name: any(name.startswith(f"{attention}.") for attention in attentions)
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and module not in whole | frozen
    }
