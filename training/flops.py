"""How much of a device's arithmetic a training step uses: model FLOPs utilisation (MFU)."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from mmprofile import MMProfileForConditionalGeneration

# Dense 16-bit products with 32-bit sums, in FLOP/s, as the makers state them; a part of the device's name -> peak. The
# first that fits counts.
PEAKS = {
    "H200": 989e12,
    "H100 NVL": 835e12,
    "H100 PCIe": 756e12,
    "H100": 989e12,
    "H20": 148e12,
    "B200": 2250e12,
    "A100": 312e12,
    "A10G": 70e12,
    "A10": 125e12,
    "L40S": 362e12,
    "L4": 121e12,
    "T4": 65e12,
    "V100": 125e12,
}


def peak_flops(device: torch.device, mixed_precision: str) -> float | None:
    """FLOP/s of a device at most, where it is known: of GPUs with 16-bit products."""
    if device.type != "cuda" or mixed_precision not in ("bf16", "fp16"):
        return None
    name = torch.cuda.get_device_name(device)
    return next((peak for part, peak in PEAKS.items() if part in name), None)


class StepTokens:
    """Counts the tokens of a training step, of a model of whose arithmetic nothing is known.

    Args:
        views: objective -> what it shows, of `objectives.select_views`.
    """

    def __init__(self, views: Mapping[str, Any]):
        self._views = views

    def of(self, batches: Sequence[Mapping]) -> tuple[torch.Tensor, torch.Tensor]:
        """0 FLOPs, and the tokens of all views' texts and targets; as of `StepFlops`."""
        device = batches[0]["labels"].device
        tokens = torch.zeros((), device=device)
        for batch in batches:
            names = batch.get("objectives") or list(self._views)
            tokens += (batch["labels"] >= 0).sum() * len(names)
            for name in names:
                tokens += batch["texts"][self._views[name].text]["attention_mask"].sum()
        return torch.zeros((), dtype=torch.float64, device=device), tokens


def step_flops(model, views: Mapping[str, Any]) -> "StepFlops | StepTokens":
    """What counts a training step's arithmetic, of a model with the parts that it knows, or else its tokens."""
    counted = isinstance(model, MMProfileForConditionalGeneration)
    return StepFlops(model, views) if counted else StepTokens(views)


class StepFlops:
    """Counts the products of a training step, a weight and token: 2 forwards, 2 for the gradient of what a layer is
    given, and 2 for that of its weights if they are trained; a vision tower of which nothing is trained has the first
    alone. Attention scores are left out.

    Padding, and what gradient checkpointing computes again, do not count.

    Args:
        model: `MMProfileForConditionalGeneration`.
        views: objective -> what it shows, of `objectives.select_views`.
    """

    def __init__(self, model, views: Mapping[str, Any]):
        text = model.text_model
        self._views = views
        self._encoder, self._decoder = _products(text.encoder), _products(text.decoder)
        self._cross = sum(_products(layer.layer[1]) for layer in text.decoder.block)
        self._head = 6 * model.get_output_embeddings().weight.numel()
        self._fusion = _products(model.fusion)
        seen = any(p.requires_grad for p in model.vision_model.parameters())
        self._vision = _products(model.vision_model) if seen else 2 * _weights(model.vision_model)
        config = model.config.vision_config
        sides = zip(_sides(config.image_size), _sides(config.patch_size), strict=True)
        self._patches = math.prod(size // patch for size, patch in sides)

    def of(self, batches: Sequence[Mapping]) -> tuple[torch.Tensor, torch.Tensor]:
        """FLOPs of a process' batches, as `JointCollator` makes them, and their tokens: of all texts, encoded once,
        and of all targets. Both stay on the batches' device."""
        device = batches[0]["labels"].device
        flops, tokens = torch.zeros((), dtype=torch.float64, device=device), torch.zeros((), device=device)
        for batch in batches:
            lengths = {name: text["attention_mask"].sum() for name, text in batch["texts"].items()}
            names = batch.get("objectives") or list(self._views)
            targets = (batch["labels"] >= 0).sum() * len(names)
            read = torch.stack([lengths[self._views[name].text] for name in names]).sum()  # a text once a view
            encoded = torch.stack(list(lengths.values())).sum()
            tokens += encoded + targets
            # Keys and values of cross-attention are of the text's tokens, queries and outputs of the target's.
            flops += self._encoder * encoded + (self._fusion + self._cross / 2) * read
            flops += (self._decoder - self._cross / 2 + self._head) * targets
            if "image_mask" in batch:
                sets = {self._views[name].photos for name in names} - {None}
                seen = sets - ({"photos"} if "vision_states" in batch else set())
                photos = batch["image_mask"].sum() * len(seen)
                flops += self._vision * self._patches * photos
        return flops, tokens


def _linears(module: torch.nn.Module) -> list[torch.nn.Linear]:
    return [layer for layer in module.modules() if isinstance(layer, torch.nn.Linear)]


def _weights(module: torch.nn.Module) -> int:
    """Of its matrices, embeddings left out."""
    return sum(layer.weight.numel() for layer in _linears(module))


def _products(module: torch.nn.Module) -> int:
    """Of its matrices and one token, forwards and backwards."""
    return sum((6 if layer.weight.requires_grad else 4) * layer.weight.numel() for layer in _linears(module))


def _sides(size: Any) -> tuple[int, int]:
    """Height and width."""
    return (size, size) if isinstance(size, int) else tuple(size)
