"""A folder that is ready for the Hub: weights, processor, generation config, code and requirements."""

import os
import shutil
from pathlib import Path

from files.output_files import UNFINISHED, unfinished_folder
from mmprofile import COMPANIONS

ROOT = Path(__file__).parent.parent
# What some of a checkpoint's `COMPANIONS` are called here.
NAMES_HERE = {"requirements.txt": "requirements-inference.txt"}


def save_hub_folder(model, processor, folder: str | os.PathLike) -> None:
    """Saves everything that `AutoModel` and `AutoProcessor` load, with their code, over what the folder holds.

    All is written beside the folder's files first and moved in file by file, the weights last, so that a killed run
    leaves the weights of the last save whole.
    """
    folder = Path(folder)
    with unfinished_folder(folder / UNFINISHED) as unfinished:
        model.save_pretrained(unfinished)
        processor.save_pretrained(unfinished)
        for name in COMPANIONS:
            shutil.copyfile(ROOT / NAMES_HERE.get(name, name), unfinished / name)
        for path in sorted(unfinished.iterdir(), key=lambda path: path.suffix == ".safetensors"):
            os.replace(path, folder / path.name)
