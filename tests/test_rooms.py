"""Who imports whom: arrows between rooms run one way, and no two files need each other."""

import ast
import re
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from tests import ROOT

# Room -> the rooms that it imports, each of which stands above it. A program is a room of its own. The Hub's files at
# the root are the library, which imports itself alone and is imported through `mmprofile` alone.
ARROWS = {
    "library": [],
    "handler": [],
    "mmprofile": ["library"],
    "systems": ["mmprofile"],
    "baselines": ["mmprofile", "systems"],
    "cli": [],
    "files": ["baselines", "mmprofile"],
    "corpora": ["files", "mmprofile"],
    "publishing": ["files", "mmprofile", "systems"],
    "prediction": ["cli", "corpora", "files", "mmprofile"],
    "scoring": ["cli", "files", "mmprofile", "prediction"],
    "training": ["baselines", "cli", "corpora", "files", "mmprofile", "publishing", "scoring", "systems"],
    "web": [],
    "dataset_script/synthetic": [],
    "dataset_script/captions": ["cli", "mmprofile"],
    "dataset_script": ["cli", "dataset_script/captions", "dataset_script/synthetic", "publishing"],
    "metrics/profile_f1": [],
    "train": ["cli", "files", "scoring", "training"],
    "predict": ["cli", "files", "mmprofile", "prediction", "scoring"],
    "score": ["cli", "files", "mmprofile", "prediction", "scoring"],
    "app": ["cli", "files", "handler", "prediction", "web"],
    "upload": ["app", "baselines", "cli", "files", "publishing"],
    "experiments": [
        *("cli", "corpora", "files", "mmprofile", "predict", "prediction", "publishing", "scoring", "train")
    ],
    "benchmarks": [
        *("baselines", "dataset_script", "files", "mmprofile", "predict", "prediction", "publishing", "scoring"),
        *("systems", "train", "training"),
    ],
}


def files() -> set[str]:
    """Every Python file but the tests', without `.py`."""
    paths = (path.relative_to(ROOT) for path in ROOT.rglob("*.py"))
    skipped = {"outputs", "tests"}
    return {p.with_suffix("").as_posix() for p in paths if not (p.parts[0] in skipped or p.parts[0].startswith("."))}


def room(file: str) -> str:
    folder, _, name = file.rpartition("/")
    return folder or ("library" if name.endswith("_mmprofile") else name)


def imported(file: str, code: str, known: set[str]) -> Iterator[str]:
    """The known files that a file imports, wherever it does: in functions and for types alone too."""
    for node in ast.walk(ast.parse(code)):
        match node:
            case ast.Import(names=names):
                modules = [(alias.name, None) for alias in names]
            case ast.ImportFrom(module=module, names=names, level=level):
                around = file.split("/")[:-level] if level else []
                modules = [(".".join([*around, *filter(None, [module])]), alias.name) for alias in names]
            case _:
                continue
        for module, name in modules:
            path = module.replace(".", "/")
            guesses = (f"{path}/{name}", path, f"{path}/__init__")
            if path.endswith("_mmprofile") or (name or "").endswith("_mmprofile"):  # these stand at the root
                guesses = [guess.removeprefix("mmprofile/") for guess in guesses]
            yield from [guess for guess in guesses if guess in known][:1]


FILES = files()
IMPORTS = {file: set(imported(file, (ROOT / f"{file}.py").read_text(encoding="utf-8"), FILES)) for file in FILES}


def test_rooms_import_the_rooms_that_are_written_here():
    found = {room(file): set() for file in FILES}
    for file, others in IMPORTS.items():
        found[room(file)] |= {room(other) for other in others} - {room(file)}
    assert {name: sorted(others) for name, others in found.items()} == ARROWS


def test_arrows_run_one_way():
    names = list(ARROWS)
    upward = [(name, other) for name in names for other in ARROWS[name] if names.index(other) >= names.index(name)]
    assert upward == []


def test_no_two_files_need_each_other():
    order = list(TopologicalSorter(IMPORTS).static_order())
    assert sorted(order) == sorted(FILES)


def test_mmprofile_has_the_librarys_files_and_no_room():
    """`mmprofile.training.data` would be there, a second `training.data` with classes of its own."""
    tests = [path.relative_to(ROOT).with_suffix("").as_posix() for path in (ROOT / "tests").rglob("*.py")]
    others = re.compile(r"\b(?:from|import) mmprofile\.(?!\w+_mmprofile\b)")
    assert tests
    assert [
        file for file in [*FILES, *tests] if others.search((ROOT / f"{file}.py").read_text(encoding="utf-8"))
    ] == []


def test_the_root_holds_the_library_and_the_programs_alone():
    flat = sorted(file for file in FILES if "/" not in file and not file.endswith("_mmprofile"))
    assert flat == ["app", "handler", "mmprofile", "predict", "score", "train", "upload"]


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("import train", ["train"]),
        ("from training.data import open_splits", ["training/data"]),
        ("from training import data, model", ["training/data", "training/model"]),
        ("import training.data as data", ["training/data"]),
        ("def f():\n    from scoring.plots import plot", ["scoring/plots"]),
        ("if TYPE_CHECKING:\n    from scoring.plots import plot", ["scoring/plots"]),
        ("from mmprofile import ProfileSchema", ["mmprofile"]),
        ("from mmprofile.texts_mmprofile import shown", ["texts_mmprofile"]),
        ("from mmprofile import texts_mmprofile", ["texts_mmprofile"]),
        ("from .photos import Album", ["dataset_script/photos"]),
        ("from .captions.store import CARD", ["dataset_script/captions/store"]),
        ("from . import derivation", ["dataset_script/derivation"]),
        ("import training", ["training/__init__"]),
        ("import json\nfrom torch import nn", []),
    ],
)
def test_an_import_is_seen_in_each_form(code, found):
    assert list(imported("dataset_script/corpus", code, FILES)) == found


def test_a_circle_is_told():
    with pytest.raises(CycleError, match="caption.*captioner"):
        list(TopologicalSorter({"caption": {"captioner"}, "captioner": {"caption"}}).static_order())


def test_each_room_says_in_a_line_what_it_is():
    folders = {Path(file).parent for file in FILES if "/" in file and not file.startswith("metrics")}
    assert folders
    for folder in folders:
        assert ast.get_docstring(ast.parse((ROOT / folder / "__init__.py").read_text(encoding="utf-8")))
