"""The files that a checkpoint is loaded from, and digests that tell them from others."""

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path

from transformers.dynamic_module_utils import get_relative_import_files
from transformers.utils.hub import cached_file

from files.output_files import read_json, write_json

# Of configuration, processor, tokenizer and weights; code is what these name.
LOADED = (
    *("*config.json", "chat_template*", "tokenizer*", "*token*.json", "vocab*", "merges.txt", "*.model"),
    *("*.safetensors", "*.safetensors.index.json", "pytorch_model*"),
)


def exact_revision(name: str, revision: str | None) -> str | None:
    """The commit that a revision of a Hub model is now, so that all of it is loaded from one; None for a folder.

    Args:
        revision: a branch, tag or commit; default: main.

    Raises:
        ValueError: if there is no such model or revision, or a folder is to have one.
    """
    if Path(name).is_dir():
        if revision is not None:
            raise ValueError(f"a revision, {revision}, is for a model of the Hub, {name!r} is a folder")
        return None
    try:
        return checkpoint_folder(name, revision).name
    except OSError as error:
        raise ValueError(f"there is no model {name!r}{f' at {revision!r}' * bool(revision)}: {error}") from error


def checkpoint_folder(name: str, revision: str | None) -> Path:
    """The folder of that name, or that of the cache where a Hub model's files of a revision are."""
    if Path(name).is_dir():
        return Path(name)
    path = cached_file(name, "config.json", revision=revision)
    assert path is not None  # it raises where there is no such file
    return Path(path).parent


def set_config_fields(folder: Path, fields: Mapping) -> None:
    """Gives fields of a saved checkpoint's config.json other values; it is replaced in one move, weights stay.

    Raises:
        ValueError: if the folder has no config.json, or it holds no object.
        WriteFailure: if it cannot be written.
    """
    path = folder / "config.json"
    if not path.is_file():
        raise ValueError(f"{folder} has no config.json: it is no checkpoint's folder")
    write_json(path, dict(sorted({**read_json(path), **fields}.items())))


def file_digests(folder: Path, code: bool = True) -> dict[str, str]:
    """Of each file that is loaded, 16 hexadecimal digits of its SHA-256; what else the folder holds does not count.

    Args:
        code: whether the folder's code is run.
    """
    found = {path for pattern in LOADED for path in folder.glob(pattern) if path.is_file()}
    found |= set(_code(folder)) if code else set()
    digests = {}
    for path in sorted(found):
        with open(path, "rb") as file:
            digests[path.name] = hashlib.file_digest(file, "sha256").hexdigest()[:16]
    return digests


def _code(folder: Path) -> Iterator[Path]:
    """The modules that an `auto_map` names, with all that they import from the folder."""
    for settings in folder.glob("*config.json"):
        auto_map = read_json(settings).get("auto_map") or {}
        for names in auto_map.values():
            for name in names if isinstance(names, list) else [names]:
                module = folder / f"{str(name).split('--')[-1].split('.')[0]}.py"
                if module.is_file():
                    yield module
                    yield from map(Path, get_relative_import_files(module))
