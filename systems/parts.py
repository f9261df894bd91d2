"""Which of a model's modules join its towers: LoRA leaves them whole, and they have a learning rate of theirs."""

from typing import Any

from torch import nn

TOWERS = ("text_model", "vision_model")  # of a model composed of them


def joining_parts(model: Any) -> dict[str, nn.Module]:
    """Modules with weights, by name: all but the towers of a model composed of them, else what it names itself in
    `SystemModel.trained_whole`; nothing of a model that is one tower."""
    if hasattr(model, "text_model"):
        parts = {name: part for name, part in model.named_children() if name not in TOWERS}
    else:
        parts = {name: model.get_submodule(name) for name in getattr(model, "trained_whole", ())}
    return {name: part for name, part in parts.items() if next(part.parameters(), None) is not None}
