"""Linear layers by oneDNN, for inference on a CPU.

PyTorch multiplies matrices of 32-bit numbers by MKL, which on some CPUs reaches less than half of what they can, and
less for the few rows of a decoder call. oneDNN, which is in PyTorch too, multiplies with the same precision.
"""

import platform
from contextlib import AbstractContextManager, nullcontext

import torch
from torch.nn.functional import linear, pad
from torch.overrides import TorchFunctionMode

# Where a product has fewer multiplications, what oneDNN does for each new shape costs more than it gains.
MIN_PRODUCTS = 2**23
PLAIN = (torch.Tensor, torch.nn.Parameter)  # and no quantised, sharded or fake one


class OneDNNLinears(TorchFunctionMode):
    """While it is open, this thread computes `linear` by oneDNN, where nothing asks for gradients or other types."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func is linear and not kwargs and _fits(*args):
            return onednn_linear(*args)
        return func(*args, **(kwargs or {}))


def onednn_linear(states: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """`linear` without gradients, of 32-bit numbers on a CPU.

    oneDNN makes and keeps code for each number of rows, half a megabyte: zeros behind the rows make the numbers few.
    """
    rows = states.numel() // states.shape[-1]
    step = max(4, 2 ** (rows.bit_length() - 5))  # at most 1/16 of the rows
    flat = pad(states.reshape(rows, -1), (0, 0, 0, -rows % step))
    result = torch.ops.mkldnn._linear_pointwise(flat, weight, bias, "none", [], "")
    return result[:rows].view(*states.shape[:-1], -1)


def fast_linears(device: torch.device) -> AbstractContextManager:
    """A context in which linear layers of 32-bit numbers on a CPU are computed by oneDNN, if PyTorch has it."""
    is_x86 = device.type == "cpu" and platform.machine().lower() in ("x86_64", "amd64")
    has_onednn = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    return OneDNNLinears() if is_x86 and has_onednn else nullcontext()


def _fits(states, weight, bias=None) -> bool:
    return (
        type(states) in PLAIN
        and type(weight) in PLAIN
        and states.dtype == weight.dtype == torch.float32
        and states.device.type == weight.device.type == "cpu"
        and states.numel() * len(weight) >= MIN_PRODUCTS
        and not torch.is_grad_enabled()
        and not torch.is_autocast_enabled("cpu")
    )
