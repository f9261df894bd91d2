"""Programs whose flags are the fields of a dataclass: its command line, recipes in YAML, checks of its values.

Imports neither torch nor datasets, so that --help is there at once.
"""

import re
import sys
from argparse import RawDescriptionHelpFormatter
from collections.abc import Collection, Iterable, Sequence
from copy import copy
from dataclasses import MISSING, field, fields
from difflib import get_close_matches
from math import inf
from pathlib import Path
from types import NoneType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

import yaml
from jsonargparse import ArgumentError, ArgumentParser, DefaultHelpFormatter, get_loader, set_loader

T = TypeVar("T")

KINDS = {bool: "true or false", int: "an integer", float: "a number", str: "text"}
# What jsonargparse says of a value of the wrong type.
WRONG = re.compile(r'Parser key "(\w+)".*(?:Got|Given) value: (.*)', re.DOTALL)


def flag(default: T, help: str) -> T:
    """A field of a dataclass of flags."""
    metadata = {"help": help}
    if isinstance(default, list):
        return field(default_factory=lambda: copy(default), metadata=metadata)
    return field(default=default, metadata=metadata)


# ---------------------------------------------------------------------------------------------------------------------
# The command line


class HelpFormatter(DefaultHelpFormatter, RawDescriptionHelpFormatter):
    """A docstring keeps its lines, a flag shows its type and its default."""


# YAML's values, and None as Python writes it.
set_loader("flags", lambda word: None if word == "None" else get_loader("yaml")(word), (yaml.YAMLError,))


def flags_parser(flags: type, description: str | None) -> ArgumentParser:
    """Of a recipe and a dataclass' flags; `description` is the program's docstring."""
    parser = ArgumentParser(
        description=description,
        formatter_class=HelpFormatter,
        parser_mode="flags",
        exit_on_error=False,
    )
    parser.add_argument("recipe", nargs="?", help="YAML file of flags")
    kinds = get_type_hints(flags)
    for each in fields(flags):
        kind, made = kinds[each.name], each.default_factory
        default = each.default if made is MISSING else made()
        taken: dict[str, Any] = {"type": kind}
        if get_origin(kind) is list:
            taken = {"type": get_args(kind)[0], "nargs": "*"}
        elif bool in (kind, *get_args(kind)):  # --evaluate alone says true
            taken |= {"nargs": "?", "const": True}
        parser.add_argument(f"--{each.name}", default=default, help=each.metadata["help"], **taken)
    return parser


def answer_help(flags: type, description: str | None) -> None:
    """Ends a program that is asked for --help; called before what takes seconds to import."""
    if {"-h", "--help"} & set(sys.argv):
        flags_parser(flags, description).parse_args(["--help"])


def parse_flags(flags: type[T], argv: Sequence[str] | None, description: str | None = None) -> T:
    """`[recipe.yaml] [--flag value ...]` as the dataclass; a flag on the command line wins over the recipe.

    Args:
        flags: a dataclass of `flag`s, each a bool, int, float or text, one of these or None, or a list of one.
        argv: default: the command line.
        description: for --help.

    Raises:
        ValueError: if a recipe is no file of known flags, a flag is not known, or a value does not fit.
    """
    words = sys.argv[1:] if argv is None else list(argv)
    parser = flags_parser(flags, description)
    check_known((word[2:].split("=")[0] for word in words if word.startswith("--")), [*get_type_hints(flags), "help"])
    given = _typed(flags, parser.parse_args, words)
    if path := given.recipe:
        try:
            of_recipe = _typed(flags, parser.parse_object, read_recipe(path, flags))
        except ValueError as error:
            raise ValueError(f"recipe {path!r}: {error}") from None
        given = _typed(flags, parser.parse_args, words, of_recipe)
    return flags(**{name: value for name, value in given.as_dict().items() if name != "recipe"})


def check_known(names: Iterable[str], known: Collection[str]) -> None:
    """Raises a `ValueError` that names a flag which there is not, and those most like it."""
    for name in names:
        if name not in known:
            near = " or ".join(each for each in get_close_matches(name, known))
            raise ValueError(f"there is no flag {name}" + (f", did you mean {near}?" if near else ", see --help"))


def _typed(flags: type, parse: Any, *given: Any) -> Any:
    """What a method of the parser reads; what is wrong with a value in a sentence."""
    try:
        return parse(*given)
    except ArgumentError as error:
        if found := WRONG.search(str(error)):
            kind = get_type_hints(flags)[found[1]]
            taken = KINDS[(get_args(kind) or [kind])[0]] + " or null" * (NoneType in get_args(kind))
            raise ValueError(f"{found[1]} is {taken}, got {found[2]!r}") from None
        raise ValueError(str(error)) from None


# ---------------------------------------------------------------------------------------------------------------------
# Recipes


class RecipeLoader(yaml.BaseLoader):
    """Values as they are written, so that the command line's types are theirs; null and nothing are None."""

    def construct_mapping(self, node, deep=False):
        names = [str(key.value) for key, _ in node.value]
        if twice := {name for name in names if names.count(name) > 1}:
            raise ValueError(f"{', '.join(sorted(twice))} stands there twice")
        return super().construct_mapping(node, deep)


RecipeLoader.add_implicit_resolver(
    "tag:yaml.org,2002:null", re.compile("(~|null|Null|NULL|None|)$"), ["~", "n", "N", ""]
)
RecipeLoader.add_constructor("tag:yaml.org,2002:null", lambda *_: None)


def read_recipe(path: str, flags: type) -> dict[str, Any]:
    """The flags that a YAML file holds, each as text, a list of texts, or None.

    Raises:
        ValueError: if it is no file of known flags.
    """
    if not Path(path).is_file():
        raise ValueError("there is no such file")
    try:
        given = yaml.load(Path(path).read_text(encoding="utf-8"), RecipeLoader)
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(f"it is not YAML: {error}") from error
    if not isinstance(given, dict):
        raise ValueError(f"it holds flags and their values, not {given!r}")
    kinds = get_type_hints(flags)
    check_known(map(str, given), kinds)
    for name, value in given.items():  # of which jsonargparse says nothing
        if get_origin(kinds[name]) is list and not isinstance(value, list):
            raise ValueError(f"{name} is a list, got {value!r}")
        if value is None and NoneType not in get_args(kinds[name]):
            raise ValueError(f"{name} is {KINDS[kinds[name]]}, got null")
    return given


# ---------------------------------------------------------------------------------------------------------------------
# Checks of a dataclass' values, for its `__post_init__`


def check_given(flags: object, *names: str) -> None:
    """Raises a `ValueError` where one of these texts is empty."""
    for name in names:
        if not getattr(flags, name):
            raise ValueError(f"--{name} is needed")


def check_least(flags: object, least: int, *names: str) -> None:
    """Raises a `ValueError` where one of these numbers is below `least`, or is infinite or none; None passes."""
    for name in names:
        value = getattr(flags, name)
        if value is not None and not least <= value < inf:
            raise ValueError(f"{name} is at least {least}, got {value}")


def check_choice(flags: object, name: str, choices: Collection[str | None]) -> None:
    """Raises a `ValueError` where the flag has none of these values."""
    if getattr(flags, name) not in choices:
        raise ValueError(f"{name} must be one of {list(choices)}, got {getattr(flags, name)!r}")
