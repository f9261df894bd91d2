"""Which parts a model has: its towers, and what joins them."""

from typing import Any

from torch import nn

TOWERS = ("text_model", "vision_model")  # of a model composed of them


def vision_parameters(model: Any) -> set[nn.Parameter]:
    """Those of the vision tower, if there is one."""
    return set(model.vision_model.parameters()) if hasattr(model, "vision_model") else set()


def joining_parts(model: Any) -> dict[str, nn.Module]:
    """What LoRA leaves whole, and has a learning rate of its own.

    Modules with weights, by name: all but the towers of a model composed of them, else what it names itself in
    `SystemModel.trained_whole`; nothing of a model that is one tower.
    """
    if hasattr(model, "text_model"):
        parts = {name: part for name, part in model.named_children() if name not in TOWERS}
    else:
        parts = {name: model.get_submodule(name) for name in getattr(model, "trained_whole", ())}
    return {name: part for name, part in parts.items() if next(part.parameters(), None) is not None}
