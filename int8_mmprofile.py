"""Linear layers of 8 bits for inference: a quarter of the memory, and on CPUs with VNNI or AMX about three times as
fast as 32 bits.

Weights have a scale for each output, inputs one for each token, found as they come (dynamic quantization): where one
token has large values, as behind T5's feed-forward layers, others lose nothing. PyTorch multiplies the integers, on
a CPU by oneDNN.
"""

import threading
import weakref
from collections.abc import Callable, Collection
from functools import cache

import torch
from torch import nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.activations import NewGELUActivation
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

LARGEST = 127  # of 8 bits with a sign; -128 is not used
ZERO = 128  # of inputs, whose integers have no sign: CPUs multiply such with those that have one
INT8_INSTRUCTIONS = ("avx512_vnni", "amx_int8")
ATTENTION = "sdpa_bfloat16"  # PyTorch's attention in 16 bits, whatever is around it
ROWS = 256  # at once: what stands between the steps stays in the processor's cache


class Int8Linear(nn.Module):
    """`nn.Linear` without training, its weights rounded to 8 bits.

    Args:
        in_features, out_features, bias: as of `nn.Linear`.

    Attributes:
        weight: (out_features, in_features), int8; (0, in_features) while they are `packed`.
        packed: the weights as oneDNN multiplies them fastest, once the layer was called where it does; saved and moved
            are `integers`.
        scale: (out_features,), what a step of each output's weights is worth.
        bias: (out_features,) or None.
    """

    weight: nn.Parameter
    scale: torch.Tensor
    bias: torch.Tensor | None

    def __init__(self, in_features: int, out_features: int, bias: bool = True):
        super().__init__()
        self.in_features, self.out_features = in_features, out_features
        self.weight = _parameter(torch.zeros(out_features, in_features, dtype=torch.int8))
        self.packed: torch.Tensor | None = None
        self.register_buffer("scale", torch.ones(out_features))
        self.register_buffer("bias", torch.zeros(out_features) if bias else None)

    @classmethod
    @torch.no_grad()
    def of(cls, linear: nn.Linear) -> "Int8Linear":
        """A layer's weights; the largest one of each output is the largest integer."""
        with torch.device("meta"):
            made = cls(linear.in_features, linear.out_features, linear.bias is not None)
        weight = linear.weight.detach().float()
        step = _steps(weight)
        made.weight = _parameter((weight / step).round_().to(torch.int8))
        made.scale = step[:, 0]
        made.bias = None if linear.bias is None else linear.bias.detach().float()
        return made

    def integers(self) -> torch.Tensor:
        """(out_features, in_features), int8, packed or not."""
        with _packing:
            return self.weight.detach() if self.packed is None else self.packed.to_dense().t().contiguous()

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """(..., in_features) -> (..., out_features), of the states' type."""
        if torch.compiler.is_exporting() or not states.is_cpu:
            return self._dequantized(states)
        integers, steps = _shared.quantized(states)
        result = self._product(integers).mul_(steps)
        if self.bias is not None:
            result.add_(self.bias)
        return result.view(*states.shape[:-1], self.out_features).to(states.dtype)

    def _product(self, integers: torch.Tensor) -> torch.Tensor:
        """Of inputs (rows, in_features), `ZERO` for 0, with the weights; (rows, out_features)."""
        if not _packs():
            product = torch.ops.aten._int_mm(integers.bitwise_xor(ZERO).view(torch.int8), self.weight.t())
            return torch.mul(product, self.scale)
        if self.packed is None:
            self._pack()
        zeros = torch.zeros(self.out_features, dtype=torch.int64)
        return torch.ops.onednn.qlinear_pointwise(
            *(integers, 1.0, ZERO, self.packed, self.scale, zeros, None),
            *(1.0, 0, torch.float32, "none", [], ""),
        )

    def _pack(self) -> None:
        with _packing:
            if self.packed is None:
                self.packed = torch.ops.onednn.qlinear_prepack(self.weight.detach(), None)
                self.weight = _parameter(self.weight.new_empty(0, self.in_features))

    def _unpack(self) -> None:
        if self.packed is not None:
            self.weight, self.packed = _parameter(self.integers()), None

    def _apply(self, fn, recurse: bool = True):
        self._unpack()
        return super()._apply(fn, recurse)

    def _save_to_state_dict(self, destination, prefix, keep_vars):
        super()._save_to_state_dict(destination, prefix, keep_vars)
        destination[f"{prefix}weight"] = self.integers()

    def _load_from_state_dict(self, *arguments):
        self._unpack()
        super()._load_from_state_dict(*arguments)

    def __getstate__(self) -> dict:
        """Copied and pickled are the integers."""
        self._unpack()
        return self.__dict__

    def _dequantized(self, states: torch.Tensor) -> torch.Tensor:
        weight = (self.integers().to(self.scale.dtype) * self.scale[:, None]).to(states.dtype)
        return nn.functional.linear(states, weight, None if self.bias is None else self.bias.to(states.dtype))

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"


def _parameter(integers: torch.Tensor) -> nn.Parameter:
    return nn.Parameter(integers, requires_grad=False)  # transformers asks for a head's parameter


@cache
def _packs() -> bool:
    """Whether oneDNN has a product of packed weights for this CPU; without VNNI or AMX it may round it off."""
    has = _capabilities()
    known = torch.backends.mkldnn.is_available() and hasattr(torch.ops.onednn, "qlinear_pointwise")
    return known and any(has.get(one) for one in INT8_INSTRUCTIONS)


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
_packing = threading.Lock()


def _quantized(rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Each row's largest value is the largest integer above `ZERO`, or below; (rows, width) uint8, and (rows, 1), what
    a step is worth."""
    integers, steps = torch.empty_like(rows, dtype=torch.uint8), rows.new_empty(len(rows), 1)
    for some, into, step in zip(rows.split(ROWS), integers.split(ROWS), steps.split(ROWS), strict=True):
        step.copy_(_steps(some))
        into.copy_((some * step.reciprocal()).add_(ZERO + 0.5))  # what is behind the point is cut off
    return integers, steps


def _steps(rows: torch.Tensor) -> torch.Tensor:
    largest = torch.maximum(rows.amax(dim=1, keepdim=True), -rows.amin(dim=1, keepdim=True))
    return largest.clamp_(min=torch.finfo(torch.float32).tiny * LARGEST).div_(LARGEST)


def quantize_linears(model: nn.Module, kept: Collection[str] = ()) -> list[str]:
    """Puts an `Int8Linear` in the place of each linear layer, but of those named and those, as T5's head may be, that
    have an embedding's weights; returns the names of these. And PyTorch's GELU in the place of the one by tanh, from
    which it differs by 0.0005 at most: it takes a quarter of the time, a tenth of the encoder's in 8 bits."""
    modules = dict(model.named_modules())
    embeddings = {id(module.weight) for module in modules.values() if isinstance(module, nn.Embedding)}
    left = []
    for name, module in modules.items():
        parent, _, own = name.rpartition(".")
        if isinstance(module, NewGELUActivation):
            setattr(modules[parent], own, nn.GELU())
        elif type(module) is nn.Linear:
            if name in kept or id(module.weight) in embeddings:
                left.append(name)
            else:
                setattr(modules[parent], own, Int8Linear.of(module))
    return left


def attention_beside_int8() -> str:
    """The attention that suits linear layers of 8 bits: with AMX in 16 bits it takes less than half of the time, and
    would else take most of an encoder's."""
    return ATTENTION if _capabilities().get("amx_bf16") else "sdpa"


def _attention(module, query, key, value, attention_mask, *arguments, position_bias=None, **options):
    """As transformers' own."""
    states = query.bfloat16(), key.bfloat16(), value.bfloat16()
    bias = None if position_bias is None else position_bias.bfloat16()
    if attention_mask is not None and attention_mask.dtype != torch.bool:
        attention_mask = attention_mask.bfloat16()
    attend: Callable = sdpa_attention_forward
    found, _ = attend(module, *states, attention_mask, *arguments, position_bias=bias, **options)
    return found.to(query.dtype), None


AttentionInterface.register(ATTENTION, _attention)
AttentionMaskInterface.register(ATTENTION, sdpa_mask)


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
    has = _capabilities()
    for weights, needed in (("int8", INT8_INSTRUCTIONS), ("bfloat16", ("avx512_bf16", "amx_bf16"))):
        if any(has.get(one) for one in needed):
            return weights
    return "float32"


def _capabilities() -> dict[str, bool]:
    return getattr(torch.cpu, "get_capabilities", dict)()  # not before torch 2.13
