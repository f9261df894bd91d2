"""What `accelerate launch` and its configuration ask for, and what of it a run can do."""

import os
from collections.abc import Mapping

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from accelerate.utils import DataLoaderConfiguration, GradientAccumulationPlugin

# What can spread a run over processes: Accelerate's distributed types.
SUPPORTED = {
    "NO": "one process",
    "MULTI_GPU": "several by DDP, on GPUs or on a CPU",
    "MULTI_CPU": "several by DDP, on GPUs or on a CPU",
    "FSDP": "FSDP with fsdp_version: 2",
}
# Environment variable that the launcher sets to true -> what it asks for.
UNSUPPORTED = {
    "ACCELERATE_USE_DEEPSPEED": "DeepSpeed",
    "ACCELERATE_USE_MEGATRON_LM": "Megatron-LM",
    "ACCELERATE_USE_PARALLELISM_CONFIG": "a parallelism_config",
    "ACCELERATE_USE_SAGEMAKER": "SageMaker's own distribution",
}
# Flag -> environment variable, and what holds where neither says anything.
LAUNCHED = {
    "mixed_precision": ("ACCELERATE_MIXED_PRECISION", "no"),
    "gradient_accumulation_steps": ("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", 1),
    "compile": ("ACCELERATE_DYNAMO_BACKEND", False),
}


def launched(flag: str, environment: Mapping[str, str] = os.environ):
    """What the launcher says of one of the flags of `LAUNCHED`.

    Raises:
        ValueError: if that is nothing that the flag can be.
    """
    name, default = LAUNCHED[flag]
    asked = environment.get(name, "").lower()
    if not asked:
        return default
    if flag == "compile":
        if asked not in ("no", "inductor"):
            raise ValueError(f"layers are compiled by the backend inductor, the launcher asks for {name}={asked}")
        return asked == "inductor"
    try:
        return type(default)(asked)
    except ValueError:
        raise ValueError(f"{flag} is a whole number, the launcher asks for {name}={asked}") from None


def check_launcher(environment: Mapping[str, str] = os.environ) -> None:
    """Raises a `ValueError` if the launcher asks for what no run can do."""
    there = ", ".join(dict.fromkeys(SUPPORTED.values()))

    def asks(name: str) -> bool:
        return environment.get(name, "false").lower() in ("true", "1", "yes")

    wanted = [words for name, words in UNSUPPORTED.items() if asks(name)]
    if asks("ACCELERATE_USE_FSDP") and environment.get("FSDP_VERSION", "1") != "2":
        wanted.append(f"FSDP with fsdp_version: {environment.get('FSDP_VERSION', '1')}")
    if wanted:
        raise ValueError(f"train.py runs on {there}; the accelerate configuration asks for {' and '.join(wanted)}")


def make_accelerator(arguments) -> Accelerator:
    """Accelerate as train.py's flags have it.

    Raises:
        ValueError: as `check_launcher`, or its distributed type is another than those of `SUPPORTED`.
    """
    check_launcher()
    # A batch without photos leaves the vision tower out of the graph.
    unused = DistributedDataParallelKwargs(find_unused_parameters=True)
    accelerator = Accelerator(
        cpu=not torch.accelerator.is_available(),  # or several processes would not find each other (accelerate 1.15)
        mixed_precision=arguments.mixed_precision,
        # Said, for where they are not the environment decides: the loss would be divided a second time.
        gradient_accumulation_plugin=GradientAccumulationPlugin(num_steps=1),
        dynamo_backend="no",
        dataloader_config=DataLoaderConfiguration(non_blocking=True),
        kwargs_handlers=[unused],
    )
    if (kind := accelerator.distributed_type.value) not in SUPPORTED:
        there = ", ".join(dict.fromkeys(SUPPORTED.values()))
        raise ValueError(f"train.py runs on {there}; here the distributed type is {kind}")
    return accelerator
