"""Linear layers by oneDNN, for programs that predict on a CPU with AVX-512 where it is the faster one.

PyTorch multiplies matrices of 32-bit numbers by MKL, which on some makers' CPUs reaches less than half of what they
can, and less for the few rows of a decoder call. oneDNN, which is in PyTorch too, multiplies 32-bit numbers faster
there; on others it is the slower of the two: both are tried, once a process. A model of the Hub does not choose by the
CPU that it runs on: who calls it does.
"""

import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import wraps

import torch
from torch.nn.functional import linear, pad
from torch.overrides import TorchFunctionMode

# Where a product has fewer multiplications, what oneDNN does for each new shape costs more than it gains.
MIN_PRODUCTS = 2**23
# What is tried, by turns: rows, inputs and outputs; how often; and how many times as fast oneDNN is to be at least.
TRIED, TRIALS, LEAST_GAIN = (256, 768, 768), 12, 1.2
PLAIN = (torch.Tensor, torch.nn.Parameter)  # and no quantised, sharded or fake one


class OneDNNLinears(TorchFunctionMode):
    """While it is open, this thread computes large `linear`s of 32 bits by oneDNN, where no gradient is asked for."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func is linear and not kwargs and _fits(*args) and onednn_gains():
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
    wanted = device.type == "cpu" and has_onednn and has_avx512
    return OneDNNLinears() if wanted else nullcontext()


def by_fast_linears(call: Callable, device: torch.device) -> Callable:
    """The call within `fast_linears`, in whichever thread it is made."""

    @wraps(call)
    def fast(*args, **kwargs):
        with fast_linears(device):
            return call(*args, **kwargs)

    return fast


class _Gain:
    """Found by the first who asks, for all threads."""

    def __init__(self):
        self.lock, self.found = threading.Lock(), None

    def __call__(self) -> bool:
        with self.lock:
            if self.found is None:
                self.found = measured_gain() >= LEAST_GAIN
        return self.found


onednn_gains = _Gain()


@torch.no_grad()
def measured_gain() -> float:
    """How many times as fast as PyTorch's own layer oneDNN's is here: some hundredths of a second, by turns."""
    rows, inputs, outputs = TRIED
    states, weight = torch.rand(rows, inputs), torch.rand(outputs, inputs)
    seconds: dict[Callable, list[float]] = {linear: [], onednn_linear: []}
    for trial in range(TRIALS + 1):
        for call, times in seconds.items():
            began = time.perf_counter()
            call(states, weight)
            if trial:  # the first makes what the others use
                times.append(time.perf_counter() - began)
    return min(seconds[linear]) / min(seconds[onednn_linear])  # what else is at work only adds


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
