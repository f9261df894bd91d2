"""Linear layers by oneDNN, for programs that predict on a CPU with AVX-512 that is not Intel's.

PyTorch multiplies matrices of 32-bit numbers by MKL, which on other makers' CPUs reaches less than half of what they
can, and less for the few rows of a decoder call. oneDNN, which is in PyTorch too, multiplies 32-bit numbers faster
there; on Intel's own it is the slower of the two. A model of the Hub does not choose by the CPU that it runs on: who
calls it does.
"""

import platform
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import cache, wraps
from pathlib import Path

import torch
from torch.nn.functional import linear, pad
from torch.overrides import TorchFunctionMode

# Where a product has fewer multiplications, what oneDNN does for each new shape costs more than it gains.
MIN_PRODUCTS = 2**23
PLAIN = (torch.Tensor, torch.nn.Parameter)  # and no quantised, sharded or fake one


class OneDNNLinears(TorchFunctionMode):
    """While it is open, this thread computes large `linear`s of 32 bits by oneDNN, where no gradient is asked for."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func is linear and not kwargs and _fits(*args):
            return onednn_linear(*args)
        return func(*args, **(kwargs or {}))


def onednn_linear(states: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """`linear` without gradients, of 32-bit numbers on a CPU.

    For each number of rows oneDNN makes and keeps what takes a megabyte: zeros behind the rows make the numbers few.
    """
    rows = states.numel() // states.shape[-1]
    step = max(4, 2 ** (rows.bit_length() - (5 if rows < 1024 else 4)))  # 1/16, 1/8 of the rows, or 4
    flat = states.reshape(rows, -1)
    if rows % step:
        flat = pad(flat, (0, 0, 0, -rows % step))
    result = torch.ops.mkldnn._linear_pointwise(flat, weight, bias, "none", [], "")
    return result[:rows].view(*states.shape[:-1], -1)


def fast_linears(device: torch.device) -> AbstractContextManager:
    """A context in which large linear layers of 32 bits on a CPU are oneDNN's, where PyTorch has it and it is faster.

    In a process that goes on, texts and batches of many lengths add up to some hundred megabytes.
    """
    has_onednn = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    has_avx512 = torch.backends.cpu.get_cpu_capability() == "AVX512"
    wanted = device.type == "cpu" and has_onednn and has_avx512 and not is_intel()
    return OneDNNLinears() if wanted else nullcontext()


def by_fast_linears(call: Callable, device: torch.device) -> Callable:
    """The call within `fast_linears`, in whichever thread it is made."""

    @wraps(call)
    def fast(*args, **kwargs):
        with fast_linears(device):
            return call(*args, **kwargs)

    return fast


@cache
def is_intel() -> bool:
    """Whether the CPU is Intel's, as MKL is."""
    info = Path("/proc/cpuinfo")
    return "GenuineIntel" in (info.read_text() if info.exists() else platform.processor())


def _fits(states, weight, bias=None) -> bool:
    return (
        not torch.compiler.is_compiling()
        and _is_plain(states)
        and _is_plain(weight)
        and weight.dim() == 2
        and states.dim() > 0
        and states.shape[-1] == weight.shape[1]
        and states.numel() * len(weight) >= MIN_PRODUCTS
        # oneDNN reads a bias' memory as it lies there.
        and (bias is None or (_is_plain(bias) and bias.shape == weight.shape[:1] and bias.is_contiguous()))
        and not torch.is_grad_enabled()
        and not torch.is_autocast_enabled("cpu")
        and bool(torch.backends.mkldnn.enabled)
    )


def _is_plain(tensor) -> bool:
    return (
        type(tensor) in PLAIN
        and tensor.dtype == torch.float32
        and tensor.device.type == "cpu"
        and tensor.layout is torch.strided
    )
