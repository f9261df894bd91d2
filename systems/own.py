"""This package's own model as a system."""

from typing import Any

import torch

from mmprofile import MMProfileForConditionalGeneration
from systems.presets import tiny_config
from systems.system import System


def tiny(processor, fusion: str, vision_feature: str) -> Any:
    config = tiny_config(processor.profile_schema, len(processor.tokenizer))
    config.fusion, config.vision_feature = fusion, vision_feature
    return MMProfileForConditionalGeneration(config)


def pretrained(text_model: str, vision_model: str, fusion: str, vision_feature: str) -> Any:
    return MMProfileForConditionalGeneration.from_text_vision_pretrained(
        text_model, vision_model, dtype=torch.float32, fusion=fusion, vision_feature=vision_feature
    )


MMPROFILE = System(
    name="mmprofile",
    title="mmprofile",
    about="",
    model_class=MMProfileForConditionalGeneration,
    tiny=tiny,
    pretrained=pretrained,
    text_model="google/flan-t5-base",
    vision_model="google/vit-base-patch16-224",
    paradigms=("combined", "multimodal", "unimodal"),
    takes=("fusion", "vision_feature"),
    reads_views=True,
)
