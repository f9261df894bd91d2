"""The flags of the experiments' commands. Imports neither torch nor datasets, so that --help is there at once."""

from argparse import ArgumentParser, RawDescriptionHelpFormatter
from pathlib import Path

SCALES = ("smoke", "tiny", "paper")
RESULTS = Path("experiments/results")


def _parser(description: str | None) -> ArgumentParser:
    parser = ArgumentParser(description=description, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("--scale", choices=SCALES, default="tiny", help="of what size runs are: experiments/scales")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of what is kept of each run")
    return parser


def run_parser(description: str | None) -> ArgumentParser:
    """Of run.py."""
    parser = _parser(description)
    parser.add_argument("tables", nargs="+", help="table_2, figure_5, ...: those of experiments/tables; or all")
    parser.add_argument("--seeds", type=_positive, help="runs of each row; default: the scale's")
    parser.add_argument("--dataset", help="corpus that load_dataset takes; default: the scale's, synthesized")
    parser.add_argument(
        "--output", type=Path, default=Path("outputs/experiments"), help="folder for corpora, models and logs"
    )
    parser.add_argument("--jobs", type=_positive, default=1, help="runs side by side, with a share of the cores each")
    parser.add_argument("--list", action="store_true", help="name rows, runs and the time they take, and run nothing")
    return parser


def render_parser(description: str | None) -> ArgumentParser:
    """Of render.py."""
    parser = _parser(description)
    parser.add_argument("--output", type=Path, default=Path("experiments"), help="folder of RESULTS.md and figures")
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError
    return number
