"""The command line of a program whose flags are a dataclass' fields, with the program's docstring in its --help.

Imports neither torch nor datasets, so that --help is there at once.
"""

from argparse import ArgumentDefaultsHelpFormatter, RawDescriptionHelpFormatter

from transformers import HfArgumentParser


class HelpFormatter(ArgumentDefaultsHelpFormatter, RawDescriptionHelpFormatter):
    """A docstring keeps its lines, a flag shows its default."""


def dataclass_parser(flags: type, description: str | None) -> HfArgumentParser:
    """A parser of the flags; `description` is the program's docstring."""
    return HfArgumentParser(flags, description=description, formatter_class=HelpFormatter)
