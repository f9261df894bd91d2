"""A folder that is ready for the Hub: weights, processor, generation config, code and requirements."""

import copy
import os
import shutil
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import nn

from files.output_files import UNFINISHED, unfinished_folder
from mmprofile import COMPANIONS
from publishing.run_files import ADAPTER
from systems.parts import joining_parts

ROOT = Path(__file__).parent.parent
# What some of a checkpoint's `COMPANIONS` are called here.
NAMES_HERE = {"requirements.txt": "requirements-inference.txt"}


def save_hub_folder(model, processor, folder: str | os.PathLike) -> None:
    """Saves everything that `AutoModel` and `AutoProcessor` load, with their code, over what the folder holds.

    A model with LoRA is saved with what it learned added to its weights, and the adapter beside, as `adapter/`.

    All is written beside the folder's files first and moved in file by file, the weights last, so that a killed run
    leaves the weights of the last save whole.
    """
    folder = Path(folder)
    with unfinished_folder(folder / UNFINISHED) as unfinished:
        if has_lora(model):
            save_adapter(model, unfinished / ADAPTER)
            model = without_lora(model, merge=True)
        model.save_pretrained(unfinished)
        processor.save_pretrained(unfinished)
        for name in getattr(model, "companions", COMPANIONS):
            shutil.copyfile(ROOT / NAMES_HERE.get(name, name), unfinished / name)
        files = [path for path in unfinished.rglob("*") if path.is_file()]
        for path in sorted(files, key=lambda path: path.suffix == ".safetensors"):
            target = folder / path.relative_to(unfinished)
            target.parent.mkdir(exist_ok=True)
            os.replace(path, target)


# ---------------------------------------------------------------------------------------------------------------------
# Models with LoRA


def has_lora(model) -> bool:
    """Whether `inject_adapter_in_model` of peft put any in."""
    return bool(getattr(model, "peft_config", None))


def without_lora(model: Any, merge: bool) -> Any:
    """A copy on the CPU of a model as it was before LoRA, with what was learned added to its weights, or left out."""
    from peft.tuners.lora import LoraLayer

    # A GPU may not hold two.
    on_cpu: Any = {id(buffer): buffer.detach().to("cpu", copy=True) for buffer in model.buffers()}
    on_cpu |= {id(p): nn.Parameter(p.detach().to("cpu", copy=True), p.requires_grad) for p in model.parameters()}
    plain = copy.deepcopy(model, memo=on_cpu)
    for name, layer in [named for named in plain.named_modules() if isinstance(named[1], LoraLayer)]:
        if merge:
            layer.merge()
        above, _, last = name.rpartition(".")
        base: nn.Module = layer.get_base_layer()
        setattr(plain.get_submodule(above), last, base)
    del plain.peft_config
    return plain


def save_adapter(model: Any, folder: Path) -> None:
    """What a model with LoRA learned, and the parts that are trained whole, as `PeftModel.from_pretrained` loads them
    for the model that was trained."""
    from peft import get_peft_model_state_dict

    (config,) = copy.deepcopy(model.peft_config).values()
    learned = get_peft_model_state_dict(model, save_embedding_layers=False)  # "auto" asks where the model came from
    trained = {name: weight.detach() for name, weight in model.named_parameters() if weight.requires_grad}
    whole = {name: weight for name, weight in trained.items() if "lora_" not in name}
    config.modules_to_save = sorted(joining_parts(model))
    config.inference_mode = True
    folder.mkdir()
    config.save_pretrained(folder)
    weights = {f"base_model.model.{name}": weight.contiguous() for name, weight in (learned | whole).items()}
    save_file(weights, folder / "adapter_model.safetensors", metadata={"format": "pt"})
