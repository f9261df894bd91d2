"""Linear layers of 8 bits for inference: a quarter of the memory, and on CPUs with VNNI or AMX about three times as
fast as 32 bits.

Weights have a scale for each output, inputs one for each token, found as they come (dynamic quantization): where one
token has large values, as behind T5's feed-forward layers, others lose nothing. PyTorch multiplies the integers, on
a CPU by oneDNN.
"""

import threading
import weakref
from collections.abc import Callable, Collection

import torch
from torch import nn
from transformers.activations import NewGELUActivation

LARGEST = 127  # of 8 bits with a sign; -128 is not used
ROWS = 256  # at once: what stands between the steps stays in the processor's cache


class Int8Linear(nn.Module):
    """`nn.Linear` without training, its weights rounded to 8 bits.

    Args:
        in_features, out_features, bias: as of `nn.Linear`.

    Attributes:
        weight: (out_features, in_features), int8.
        scale: (out_features,), what a step of each output's weights is worth.
        bias: (out_features,) or None.
    """

    weight: nn.Parameter
    scale: torch.Tensor
    bias: torch.Tensor | None

    def __init__(self, in_features: int, out_features: int, bias: bool = True):
        super().__init__()
        self.in_features, self.out_features = in_features, out_features
        integers = torch.zeros(out_features, in_features, dtype=torch.int8)
        self.weight = nn.Parameter(integers, requires_grad=False)  # transformers asks for a head's parameter
        self.register_buffer("scale", torch.ones(out_features))
        self.register_buffer("bias", torch.zeros(out_features) if bias else None)

    @classmethod
    @torch.no_grad()
    def of(cls, linear: nn.Linear) -> "Int8Linear":
        """A layer's weights; the largest one of each output is the largest integer."""
        with torch.device("meta"):
            made = cls(linear.in_features, linear.out_features, linear.bias is not None)
        weight = linear.weight.detach().float()
        integers, step = _quantized(weight)
        made.weight = nn.Parameter(integers, requires_grad=False)
        made.scale = step[:, 0]
        made.bias = None if linear.bias is None else linear.bias.detach().float()
        return made

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """(..., in_features) -> (..., out_features), of the states' type."""
        if torch.compiler.is_exporting() or not states.is_cpu:
            return self._dequantized(states)
        integers, steps = _shared.quantized(states)
        result = torch.empty(len(integers), self.out_features)
        weight = self.weight.t()
        parts = zip(integers.split(ROWS), steps.split(ROWS), result.split(ROWS), strict=True)
        for rows, step, outputs in parts:
            torch.mul(torch.ops.aten._int_mm(rows, weight), step, out=outputs).mul_(self.scale)
            if self.bias is not None:
                outputs.add_(self.bias)
        return result.view(*states.shape[:-1], self.out_features).to(states.dtype)

    def _dequantized(self, states: torch.Tensor) -> torch.Tensor:
        weight = (self.weight.to(self.scale.dtype) * self.scale[:, None]).to(states.dtype)
        return nn.functional.linear(states, weight, None if self.bias is None else self.bias.to(states.dtype))

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"


class _LastInput(threading.local):
    """The last input of this thread as integers: queries, keys and values are of the same, as are both layers of a
    gated feed-forward layer."""

    def __init__(self):
        self.states: Callable | None = None  # a weak reference
        self.version, self.found = 0, (torch.empty(0), torch.empty(0))

    def quantized(self, states: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Integers (rows, in_features), and what a step of each row is worth, (rows, 1)."""
        if states.is_inference():  # such a one does not count its changes
            return _quantized(states.reshape(-1, states.shape[-1]).float())
        if self.states is None or self.states() is not states or self.version != states._version:
            self.found = _quantized(states.reshape(-1, states.shape[-1]).float())
            self.states, self.version = weakref.ref(states), states._version
        return self.found


_shared = _LastInput()


def _quantized(rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Each row's largest value is the largest integer; (rows, width) int8, and (rows, 1), what a step is worth."""
    integers, steps = torch.empty_like(rows, dtype=torch.int8), rows.new_empty(len(rows), 1)
    for some, into, step in zip(rows.split(ROWS), integers.split(ROWS), steps.split(ROWS), strict=True):
        torch.amax(some.abs(), dim=1, keepdim=True, out=step)
        step.clamp_(min=torch.finfo(torch.float32).tiny).div_(LARGEST)
        into.copy_((some / step).round_())
    return integers, steps


def quantize_linears(model: nn.Module, kept: Collection[str] = ()) -> list[str]:
    """Puts an `Int8Linear` in the place of each linear layer, but of those named and those, as T5's head may be, that
    have an embedding's weights; returns the names of these. And PyTorch's GELU, of one step, in the place of
    transformers' of eight, which is the same function."""
    modules = dict(model.named_modules())
    embeddings = {id(module.weight) for module in modules.values() if isinstance(module, nn.Embedding)}
    left = []
    for name, module in modules.items():
        parent, _, own = name.rpartition(".")
        if isinstance(module, NewGELUActivation):
            setattr(modules[parent], own, nn.GELU(approximate="tanh"))
        elif type(module) is nn.Linear:
            if name in kept or id(module.weight) in embeddings:
                left.append(name)
            else:
                setattr(modules[parent], own, Int8Linear.of(module))
    return left


def quantize_model(model: nn.Module, weights: str) -> list[str] | None:
    """Any model of transformers for inference on a CPU.

    Args:
        weights: "int8", "bfloat16", or "fastest", what of these, or of 32 bits, `fastest_weights` tells.

    Returns:
        With 8 bits what `quantize_linears` returns, else None.
    """
    chosen = fastest_weights() if weights == "fastest" else weights
    if chosen == "int8":
        return quantize_linears(model.float())
    if chosen == "bfloat16":
        model.bfloat16()
    return None


def fastest_weights() -> str:
    """What this CPU computes fastest with: "int8" with AVX-512's VNNI, or AMX for it; else "bfloat16" with AVX-512 or
    AMX for that; else, as on others than x86, "float32"."""
    has = getattr(torch.cpu, "get_capabilities", dict)()  # not before torch 2.13
    for weights, needed in (("int8", ("avx512_vnni", "amx_int8")), ("bfloat16", ("avx512_bf16", "amx_bf16"))):
        if any(has.get(one) for one in needed):
            return weights
    return "float32"
