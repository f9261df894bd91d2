"""Pre-trained checkpoints that systems start from."""

from typing import Any

import torch
from transformers import AutoConfig, PreTrainedConfig


def checkpoint_config(name: str, model_type: str) -> PreTrainedConfig:
    """A checkpoint's configuration.

    Raises:
        ValueError: if it is of another type.
    """
    config = AutoConfig.from_pretrained(name)
    if config.model_type != model_type:
        raise ValueError(f"{str(name)!r} must be of the type {model_type!r}, it is {config.model_type!r}")
    return config


def load_checkpoint(model_class: Any, name: str, **options) -> Any:
    """A model of the class, in float32.

    Args:
        options: of its constructor.

    Raises:
        ValueError: if the checkpoint is of another type or lacks weights.
    """
    checkpoint_config(name, model_class.config_class.model_type)
    model, loaded = model_class.from_pretrained(name, dtype=torch.float32, output_loading_info=True, **options)
    if missing := sorted(loaded["missing_keys"]):
        kind = model_class.__name__
        raise ValueError(f"{str(name)!r} lacks {len(missing)} weights of {kind}, e.g. {missing[0]!r}")
    return model
