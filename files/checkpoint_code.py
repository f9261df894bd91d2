"""Checkpoints by this package's classes, of any system; by code that came with them only where that is asked for."""

import filecmp
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForSeq2SeqLM, AutoProcessor, PreTrainedConfig

from baselines.table import DEFAULT_SYSTEM, find_system
from files.checkpoint_files import checkpoint_folder
from mmprofile import MMProfileConfig, MMProfileProcessor, quantize_model

ROOT = Path(__file__).parent.parent
TYPE = MMProfileConfig.model_type
FLAG = "--trust_remote_code true"


def foreign_code(name: str, revision: str | None) -> list[str]:
    """The files of code that came with a checkpoint and are not this package's, byte for byte. None of them is run."""
    if not Path(name).is_dir():
        snapshot_download(name, revision=revision, allow_patterns="*.py")  # to be compared
    files = sorted(checkpoint_folder(name, revision).glob("*.py"))
    ours = {path.name: path for path in ROOT.glob("*.py")}
    return [f.name for f in files if f.name not in ours or not filecmp.cmp(f, ours[f.name], shallow=False)]


def load_processor(name: str, revision: str | None, trusted: bool = False):
    """The processor and the configuration of a checkpoint.

    Args:
        revision: the commit of a Hub model, see `exact_revision`.
        trusted: run the code that came with it.

    Raises:
        ValueError: if there is none of this package's, or it needs code of its own and is not trusted.
    """
    try:
        trusted = trusted and saved_system(name, revision) == DEFAULT_SYSTEM  # others have no code of their own
        return _trusted_processor(name, revision) if trusted else _own_processor(name, revision)
    except OSError as error:
        raise ValueError(f"there is no model {name!r}: {error}") from error


def load_model(name: str, revision: str | None, trusted: bool = False, dtype: torch.dtype | str = torch.float32):
    """The model of a checkpoint, as of `load_processor`.

    Args:
        dtype: of the weights; "auto": as they were saved; "int8": 8 bits of the linear layers', and 32 of the others;
            "fastest": of int8, bfloat16 and float32 what this CPU computes fastest with.

    Raises:
        ValueError: if its weights or its code are not there or not whole, or not those of this package's model.
    """
    if dtype in ("int8", "fastest"):
        return _quantized(load_model(name, revision, trusted), str(dtype))
    try:
        system = find_system(saved_system(name, revision))
        if trusted and system.name == DEFAULT_SYSTEM:
            return AutoModelForSeq2SeqLM.from_pretrained(name, revision=revision, trust_remote_code=True, dtype=dtype)
        with _by_own_classes(name, revision):
            own: Any = system.model_class  # with loading info it returns two things
            model, found = own.from_pretrained(
                name, revision=revision or "main", trust_remote_code=False, dtype=dtype, output_loading_info=True
            )
            if other := sorted(found["missing_keys"]) + sorted(found["unexpected_keys"]):
                raise ValueError(f"it has other weights than the model, e.g. of {other[0]!r}")
        return model
    except (OSError, SafetensorError) as error:
        raise ValueError(f"the model {name!r} cannot be loaded: {error}") from error


def _quantized(model, weights: str):
    if getattr(model.config, "linear_weights", "float") == "float":
        model.quantize(weights) if hasattr(model, "quantize") else quantize_model(model, weights)
    return model


def saved_system(name: str, revision: str | None) -> str:
    """Which system a checkpoint is of, as it says itself.

    Raises:
        OSError: if there is no checkpoint.
    """
    return _saved_config(name, revision).get("system", DEFAULT_SYSTEM)


def _saved_config(name: str, revision: str | None) -> dict[str, Any]:
    return PreTrainedConfig.get_config_dict(name, revision=revision or "main")[0]


def system_of(config: Any) -> str:
    """Likewise of a configuration that was loaded."""
    return getattr(config, "system", DEFAULT_SYSTEM)


def _trusted_processor(name: str, revision: str | None):
    config = AutoConfig.from_pretrained(name, revision=revision, trust_remote_code=True)
    if config.model_type != TYPE and not getattr(config, "auto_map", None):
        raise ValueError(f"{name!r} must be a checkpoint of type {TYPE!r}, it is {config.model_type!r}")
    processor = AutoProcessor.from_pretrained(name, revision=revision, trust_remote_code=True)
    if not hasattr(processor, "encode_user"):  # its code is older than this program; its settings are enough
        processor = MMProfileProcessor.from_pretrained(name, revision=revision or "main")
    return processor, config


def _own_processor(name: str, revision: str | None):
    at = revision or "main"
    with _by_own_classes(name, revision):
        saved = _saved_config(name, revision)
        system, kind = find_system(saved.get("system", DEFAULT_SYSTEM)), saved.get("model_type")
        if kind != TYPE and system.name == DEFAULT_SYSTEM:
            raise ValueError(f"it must be a checkpoint of type {TYPE!r}, it is {kind!r} and names no other system")
        config = system.model_class.config_class.from_pretrained(name, revision=at)
        processor = MMProfileProcessor.from_pretrained(name, revision=at, trust_remote_code=False, config=config)
    if (foreign := foreign_code(name, revision)) and os.environ.get("RANK", "0") == "0":
        print(f"{name}: {', '.join(foreign)} came with it and is not run, see --trust_remote_code", file=sys.stderr)
    return processor, config


@contextmanager
def _by_own_classes(name: str, revision: str | None) -> Iterator[None]:
    """Around the loading by this package's classes: where that fails and there is other code, its flag is named."""
    try:
        yield
    except (AttributeError, LookupError, RuntimeError, StrictDataclassError, TypeError, ValueError) as error:
        hint = ""
        if foreign := foreign_code(name, revision):
            hint = f". {', '.join(foreign)} came with it: {FLAG} runs that code, once you have read it"
        raise ValueError(f"the model {name!r} cannot be loaded: {error}{hint}") from error
