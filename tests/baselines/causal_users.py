"""Tiny causal systems with random weights, and users for them."""

from collections.abc import Mapping

import torch

from baselines.table import SYSTEMS
from systems.presets import tiny_processor
from tests.tiny_folder import SCHEMA, TEXTS

PROCESSOR = tiny_processor(TEXTS, SCHEMA, vocab_size=500, max_text_tokens=64)
REVIEWS = [["loud music"], ["the pizza was great", "never again"], ["kind staff , cold soup , the pizza was great"]]
PROFILES = [
    {"mood": "Calm", "favorite_food": ["Pizza", "Soup"]},
    {"mood": "Shy", "favorite_food": ["Soup", "Cake"]},
    {"mood": "Loud", "favorite_food": ["Pizza", "Cake"]},
]


def causal_model(name: str, seed: int = 0):
    """In evaluation mode."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return described(SYSTEMS[name].tiny(PROCESSOR), name).eval()


def described(model, name: str):
    """With what train.py writes into a configuration."""
    model.config.system, model.config.profile_schema = name, SCHEMA.to_list()
    return model


def users(name: str) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Three users, with no photo, one and three where the system sees any: inputs and targets."""
    inputs = PROCESSOR.pad_text([PROCESSOR.encode_text(reviews) for reviews in REVIEWS])
    if "multimodal" in SYSTEMS[name].paradigms:
        mask = torch.tensor([[False, False, False], [True, False, False], [True, True, True]])
        pixels = torch.randn(3, 3, 3, 64, 64, generator=torch.Generator().manual_seed(1))
        inputs |= {"pixel_values": pixels * mask[..., None, None, None], "image_mask": mask}
    return inputs, {"labels": PROCESSOR.encode_targets(PROFILES)}


def alone(tensors: Mapping[str, torch.Tensor], number: int) -> dict[str, torch.Tensor]:
    """One user without padding."""
    one = {name: tensor[number : number + 1] for name, tensor in tensors.items()}
    if "labels" in one:
        return {"labels": one["labels"][one["labels"] >= 0][None]}
    length = int(one["attention_mask"].sum())
    shorter = {name: one[name][:, :length] for name in ("input_ids", "attention_mask")}
    if "image_mask" in one and one["image_mask"].any():
        there = one["image_mask"][0]
        shorter |= {"pixel_values": one["pixel_values"][:, there], "image_mask": one["image_mask"][:, there]}
    return shorter


def padded(inputs: Mapping[str, torch.Tensor], tokens: int = 7, images: int = 2) -> dict[str, torch.Tensor]:
    """With more padding behind texts and photos."""
    more = dict(inputs)
    for name in ("input_ids", "attention_mask"):
        more[name] = torch.nn.functional.pad(inputs[name], (0, tokens))
    if "image_mask" in inputs:
        more["image_mask"] = torch.nn.functional.pad(inputs["image_mask"], (0, images))
        more["pixel_values"] = torch.nn.functional.pad(inputs["pixel_values"], (0, 0) * 3 + (0, images))
    return more
