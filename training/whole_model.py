"""The whole of a model whose weights FSDP spreads over the processes, to evaluate and to save it."""

import copy

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType
from torch.distributed.tensor import DTensor


class WholeModel:
    """A model with all its weights in each process: itself, or under FSDP a copy that is filled when it is asked for.

    Args:
        model: not prepared yet.
        accelerator: prepares it, or a module around it.

    Raises:
        ValueError: if the accelerator shards by FSDP's first version, which leaves no weight its shape.
    """

    def __init__(self, model: torch.nn.Module, accelerator: Accelerator):
        if accelerator.distributed_type == DistributedType.FSDP and not accelerator.is_fsdp2:
            raise ValueError("train.py works with fsdp_version: 2, the accelerate configuration has 1")
        self._model = model
        self._whole = copy.deepcopy(model).to(accelerator.device) if accelerator.is_fsdp2 else model

    def gathered(self) -> torch.nn.Module:
        """The model as it is now; all processes ask together."""
        if self._whole is not self._model:
            targets = dict(self._whole.named_parameters())
            with torch.no_grad():
                for name, parameter in self._model.named_parameters():
                    targets[name].copy_(whole_tensor(parameter))
        return self._whole


def whole_tensor(tensor: torch.Tensor) -> torch.Tensor:
    """A tensor gathered from all processes, if it is spread over them."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
