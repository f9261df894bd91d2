"""Pushes a trained model to the Hugging Face Hub: weights, processor, code, pipeline, handler and card.

    python upload.py outputs/quickstart user/model
    python upload.py outputs/quickstart user/model --private --space user/space

A model of another system than mmprofile is pushed as it is: it has no pipeline and no handler, and a checkout of this
code loads it. With --space it also makes a Space, the web page of `app.py` on a model of mmprofile. Repositories that
are there already get a new commit. The token is that of `hf auth login`, or HF_TOKEN. What is wrong with the folder or
a name is said before anything is sent; a push that fails may be run again.
"""

import argparse
import os
import shlex
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from huggingface_hub import HfApi
from huggingface_hub import utils as hub_utils
from safetensors import SafetensorError, safe_open
from transformers.dynamic_module_utils import get_relative_imports

from cli.progress import log_progress
from files.output_files import read_json
from publishing.hub_answers import check_access, check_name, refusal
from publishing.hub_upload import IGNORED

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
CONFIG, CARD = "config.json", "README.md"
DATA = (CONFIG, "processor_config.json", "tokenizer.json", "tokenizer_config.json", "requirements.txt")
# Of mmprofile's own models, with all that they import from the folder.
CODE = ("modeling_mmprofile.py", "processing_mmprofile.py", "pipeline_mmprofile.py", "handler.py")
# The Space's variables: which model it shows, and that it runs the code there.
MODEL_ID, TRUST = "MODEL_ID", "TRUST_REMOTE_CODE"


def check_folder(folder: str | os.PathLike, for_page: bool = False) -> None:
    """Raises a `ValueError` that says what a folder lacks for the Hub, or to be shown by a web page."""
    folder = Path(folder)
    if not folder.is_dir():
        raise ValueError(f"there is no folder {str(folder)!r}")
    system = _other_system(folder)
    code = [] if system else _code(folder)
    missing = [name for name in (*DATA, *_weights(folder), *code, CARD) if not (folder / name).is_file()]
    if missing:
        raise ValueError(f"{str(folder)!r} is not a trained model's folder, it lacks {', '.join(missing)}")
    if system and for_page:
        raise ValueError(f"--space shows models of mmprofile alone, {str(folder)!r} is of the system {system!r}")
    if not system:
        _check_own_config(folder)
    for name in _weights(folder):
        try:
            safe_open(folder / name, framework="pt")
        except SafetensorError as error:
            raise ValueError(f"{str(folder / name)!r} does not hold weights: {error}") from error


def upload_model(api: HfApi, folder: str | Path, model_id: str, private: bool = False) -> str:
    """Pushes the folder, of which nothing unfinished and no checkpoint to resume from; returns the model's address.

    Raises:
        HfHubHTTPError, OSError and others of huggingface_hub: if the Hub refuses or cannot be reached.
    """
    url = api.create_repo(model_id, private=private or None, exist_ok=True)
    api.upload_folder(
        repo_id=model_id, folder_path=folder, ignore_patterns=IGNORED, commit_message="Upload the model and its code"
    )
    return str(url)


def upload_space(api: HfApi, save_space, space_id: str, model_id: str, private: bool = False) -> str:
    """Pushes the web page on the model; returns its address. `save_space` is that of `app.py`.

    Raises:
        as `upload_model`.
    """
    url = api.create_repo(space_id, repo_type="space", space_sdk="gradio", private=private or None, exist_ok=True)
    # Before the files: these start the page, which needs it.
    api.add_space_variable(space_id, MODEL_ID, model_id, description="The model that the page shows")
    api.add_space_variable(space_id, TRUST, "true", description="The page runs the code in the model's repository")
    with tempfile.TemporaryDirectory() as folder:
        save_space(folder, model_id, space_id)
        api.upload_folder(
            repo_id=space_id, repo_type="space", folder_path=folder, commit_message=f"Upload the page of {model_id}"
        )
    return str(url)


def main(argv: Sequence[str] | None = None) -> None:
    """Checks, pushes and prints where; what fails at the Hub ends the program with a sentence.

    Raises:
        ValueError: before anything is sent, if the folder or a name does not fit, or the Space needs gradio.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", help="the output folder of a training")
    parser.add_argument("model_id", help="user/name of the model on the Hub")
    parser.add_argument("--private", action="store_true", help="if a repository is created, only you can see it")
    parser.add_argument("--space", metavar="SPACE_ID", help="user/name of a Space for the web page")
    words = sys.argv[1:] if argv is None else list(argv)
    options = parser.parse_args(words)
    log_progress()
    check_folder(options.folder, for_page=bool(options.space))
    check_name(options.model_id)
    save_space = None
    if options.space:
        check_name(options.space)
        save_space = _load_save_space()

    api, place, private = HfApi(), options.model_id, options.private or None
    try:
        check_access(api, options.model_id, private=private)
        if save_space:  # before the model is pushed, which may take long
            place = options.space
            check_access(api, options.space, "space", private)
        place = options.model_id
        print(f"Pushed to {upload_model(api, options.folder, options.model_id, options.private)}")
        if save_space:
            place = options.space
            print(f"Pushed to {upload_space(api, save_space, options.space, options.model_id, options.private)}")
            if options.private:
                print("The model is private: the Space needs a secret HF_TOKEN, a token that may read it.")
    # A large file's failure is a RuntimeError, a gateway's page in the place of the Hub's JSON a ValueError.
    except (hub_utils.httpx.HTTPError, OSError, RuntimeError, ValueError) as error:
        again = shlex.join(["python", "upload.py", *words])
        sys.exit(f"Not pushed to {place}: {refusal(error)}\nThen run again:\n\n    {again}")


def _other_system(folder: Path) -> str | None:
    """Which system the model is of, None for mmprofile."""
    if not (folder / CONFIG).is_file():
        return None
    from baselines.table import DEFAULT_SYSTEM, find_system  # they import torch, which --help does without
    from files.checkpoint_code import saved_system

    read_json(folder / CONFIG)  # says what is wrong with it
    system = find_system(saved_system(str(folder), None)).name
    return None if system == DEFAULT_SYSTEM else system


def _check_own_config(folder: Path) -> None:
    config = read_json(folder / CONFIG)
    model_type = config.get("model_type")
    if model_type != "mmprofile":
        raise ValueError(f"{str(folder)!r} must hold a model of type 'mmprofile', it is {model_type!r}")
    if not isinstance(config.get("auto_map"), dict):
        raise ValueError(f"{str(folder / CONFIG)!r} needs an auto_map, which names the model's code")


def _weights(folder: Path) -> list[str]:
    """The files of the weights, several if there is an index."""
    if not (folder / INDEX).is_file():
        return [WEIGHTS]
    files = read_json(folder / INDEX).get("weight_map")
    if not isinstance(files, dict) or not files or not all(map(_is_name, files.values())):
        raise ValueError(f"the weight_map of {folder / INDEX} must name a file of it for each weight, got {files!r}")
    return sorted(set(files.values()))


def _is_name(name) -> bool:
    return isinstance(name, str) and name == Path(name).name


def _code(folder: Path) -> list[str]:
    found, left = [], list(CODE)
    while left:
        name = left.pop(0)
        if name not in found:
            found.append(name)
            if (folder / name).is_file():
                left += [f"{module}.py" for module in get_relative_imports(folder / name)]
    return found


def _load_save_space():
    try:
        from app import save_space  # gradio is needed for nothing else here
    except ModuleNotFoundError as error:
        raise ValueError(f"--space needs `pip install -r requirements-app.txt`: {error}") from error
    return save_space


if __name__ == "__main__":
    try:
        main()
    except ValueError as error:
        sys.exit(f"upload.py: {error}")
