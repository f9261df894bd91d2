"""The whole of a model whose weights FSDP spreads over the processes, to evaluate and to save it."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from accelerate import Accelerator
from torch.distributed.tensor import DTensor


class WholeModel:
    """A model with all its weights in each process: itself, or under FSDP a copy whose weights are there only while it
    is in use.

    Args:
        model: not prepared yet.
        accelerator: prepares it, or a module around it.
    """

    def __init__(self, model: torch.nn.Module, accelerator: Accelerator):
        self._model, self._device = model, accelerator.device
        self._whole = _without_weights(model).to(accelerator.device) if accelerator.is_fsdp2 else model

    @contextmanager
    def gathered(self) -> Iterator[torch.nn.Module]:
        """The model as it is now; all processes ask together."""
        if self._whole is self._model:
            yield self._model
            return
        held = dict(self._whole.named_parameters())
        for name, parameter in self._model.named_parameters():
            held[name].data = whole_tensor(parameter.detach()).to(self._device)
        try:
            yield self._whole
        finally:
            for parameter in held.values():
                parameter.data = parameter.new_empty(0)


def _without_weights(model: torch.nn.Module) -> torch.nn.Module:
    """A copy whose parameters hold nothing yet, those that are tied tied still."""
    empty = {id(p): torch.nn.Parameter(p.new_empty(0), p.requires_grad) for p in model.parameters()}
    return copy.deepcopy(model, memo=empty)


def whole_tensor(tensor: torch.Tensor) -> torch.Tensor:
    """A tensor gathered from all processes, if it is spread over them."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
