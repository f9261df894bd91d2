"""The flags that made a model, kept beside it as a recipe of train.py."""

import dataclasses
from pathlib import Path
from typing import Any

import yaml
from accelerate import PartialState

from files.output_files import replacing
from files.public_names import portable_name
from publishing.run_files import RECIPE
from training.arguments import OF_SYSTEM, OF_VIEWS, SHAPES, JointTrainingArguments

HEAD = """\
# The flags of train.py that made this model, in {processes}; ./NAME was a folder. To train it again:
#
#   accelerate launch train.py recipe.yaml --dataset CORPUS --output_dir FOLDER
"""
# Names of models and corpora, which may be folders of this machine.
NAMES = ("dataset", "model", "text_model", "vision_model")
# What says how a model is evaluated, whatever it was trained with.
OF_EVALUATION = (
    *("dataset_config", "num_reviews", "num_images", "mixed_precision", "matmul_precision"),
    *("eval_batch_size", "eval_views", "num_beams", "constrained_beams", "max_eval_users", "max_test_users"),
    *("photos_from", "photo_share", "test_conditions"),
)


def run_recipe(arguments: JointTrainingArguments) -> dict[str, Any]:
    """The flags that say what is computed, and of which corpus and language; no folder of this machine is named."""
    flags = {"dataset": arguments.dataset, "language": arguments.language, **arguments.run_flags}
    for name in NAMES:
        if flags[name] not in (None, "tiny"):
            flags[name] = portable_name(flags[name])
    return flags


def save_recipe(arguments: JointTrainingArguments, folder: Path) -> None:
    """Writes `recipe.yaml` to a run's folder, which `train.py` takes."""
    number = PartialState().num_processes
    head = HEAD.format(processes="one process" if number == 1 else f"{number} processes")
    with replacing(folder / RECIPE) as temporary:
        recipe = yaml.safe_dump(run_recipe(arguments), sort_keys=False, allow_unicode=True)
        temporary.write_text(f"{head}\n{recipe}", encoding="utf-8")


def read_saved_recipe(folder: Path) -> dict[str, Any] | None:
    """What `save_recipe` wrote there, without flags that train.py has no more; None where nothing is.

    Raises:
        ValueError: if it is no file of flags.
    """
    path = folder / RECIPE
    if not path.is_file():
        return None
    try:
        saved = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(f"{path} is not YAML: {error}") from error
    if not isinstance(saved, dict):
        raise ValueError(f"{path} must hold flags and their values, got {saved!r}")
    known = {field.name for field in dataclasses.fields(JointTrainingArguments)}
    return {name: value for name, value in saved.items() if name in known}


def as_trained(arguments: JointTrainingArguments, saved: dict[str, Any]) -> JointTrainingArguments:
    """A run's flags where an evaluation does not decide them: `OF_EVALUATION`, and where things are, are as given.

    Raises:
        ValueError: if a saved value does not fit.
    """
    told = {name: value for name, value in saved.items() if name in (*arguments.run_flags, "language")}
    told = {name: value for name, value in told.items() if name not in OF_EVALUATION}
    return of_system(arguments, **{"system": arguments.system} | told)


def of_system(arguments: JointTrainingArguments, system: str, **others: Any) -> JointTrainingArguments:
    """The flags with others, of a model of this system: where it is another than theirs, what they say of a new model
    is as that has it, unless `others` say it.

    Raises:
        ValueError: if a value does not fit.
    """
    own = {}
    if system != arguments.system:
        own = dict.fromkeys((*OF_SYSTEM, *OF_VIEWS)) | {name: getattr(JointTrainingArguments, name) for name in SHAPES}
    return dataclasses.replace(arguments, system=system, **own | others)
