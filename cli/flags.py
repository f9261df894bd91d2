"""Programs whose flags are the fields of a dataclass: its command line, recipes in YAML, checks of its values.

Imports neither torch nor datasets, so that --help is there at once.
"""

from argparse import ArgumentDefaultsHelpFormatter, RawDescriptionHelpFormatter
from collections.abc import Collection, Sequence
from copy import copy
from dataclasses import field
from math import inf
from pathlib import Path
from types import NoneType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

import yaml
from transformers import HfArgumentParser

T = TypeVar("T")

WORDS = {bool: "true or false", int: "an integer", float: "a number", str: "text", list: "a list"}


def flag(default: T, help: str) -> T:
    """A field of a dataclass of flags."""
    metadata = {"help": help}
    if isinstance(default, list):
        return field(default_factory=lambda: copy(default), metadata=metadata)
    return field(default=default, metadata=metadata)


# ---------------------------------------------------------------------------------------------------------------------
# The command line


class HelpFormatter(ArgumentDefaultsHelpFormatter, RawDescriptionHelpFormatter):
    """A docstring keeps its lines, a flag shows its default."""


def flags_parser(flags: type, description: str | None) -> HfArgumentParser:
    """Of a recipe and a dataclass' flags; `description` is the program's docstring."""
    dataclass: Any = flags  # transformers' name for such a class is of no use to a type checker
    parser = HfArgumentParser(dataclass, description=description, formatter_class=HelpFormatter)
    parser.add_argument("recipe", nargs="?", help="YAML file of flags")
    return parser


def answer_help(flags: type, description: str | None) -> None:
    """Ends a program that is asked for --help; called before what takes seconds to import."""
    flags_parser(flags, description).parse_known_args()


def parse_flags(flags: type[T], argv: Sequence[str] | None, description: str | None = None) -> T:
    """`[recipe.yaml] [--flag value ...]` as the dataclass; a flag on the command line wins over the recipe.

    Args:
        flags: a dataclass of `flag`s.
        argv: default: the command line.
        description: for --help.

    Raises:
        ValueError: if a recipe is no file of known flags, or a value does not fit.
    """
    parser = flags_parser(flags, description)
    recipe = parser.parse_known_args(argv)[0].recipe
    if recipe is not None:
        parser.set_defaults(**read_recipe(recipe, flags))
    parsed: Any = parser.parse_args_into_dataclasses(argv, look_for_args_file=False)
    return parsed[0]


# ---------------------------------------------------------------------------------------------------------------------
# Recipes


def read_recipe(path: str, flags: type) -> dict[str, Any]:
    """The flags that a YAML file holds, each of its flag's type.

    Raises:
        ValueError: if it is no file of known flags, or a value is of another type.
    """
    if not Path(path).is_file():
        raise ValueError(f"no recipe {path!r}")
    try:
        given = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(f"recipe {path!r} is not YAML: {error}") from error
    kinds = get_type_hints(flags)
    if not isinstance(given, dict) or not set(given) <= set(kinds):
        unknown = sorted(map(str, set(given) - set(kinds))) if isinstance(given, dict) else given
        raise ValueError(f"recipe {path!r} holds flags and their values, not {unknown}")
    try:
        return {name: _typed(name, value, kinds[name]) for name, value in given.items()}
    except ValueError as error:
        raise ValueError(f"recipe {path!r}: {error}") from None


def _typed(name: str, value: Any, kind: Any) -> Any:
    """A recipe's value as its flag has it; YAML reads 5e-5 as text."""
    if NoneType in get_args(kind):
        return None if value is None else _typed(name, value, get_args(kind)[0])
    if get_origin(kind) is list and isinstance(value, list):
        return [_typed(name, item, get_args(kind)[0]) for item in value]
    if isinstance(value, bool) == (kind is bool):
        try:
            if isinstance(value, kind) or kind in (int, float) and kind(value) == float(value):
                return kind(value)
        except (OverflowError, TypeError, ValueError):
            pass
    raise ValueError(f"{name} is {WORDS[get_origin(kind) or kind]}, got {value!r}")


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
