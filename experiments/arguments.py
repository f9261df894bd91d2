"""The flags of the experiments' commands. Imports neither torch nor datasets, so that --help is there at once."""

from dataclasses import dataclass

from cli.flags import check_choice, check_given, check_least, flag

SCALES = ("smoke", "tiny", "paper")


@dataclass
class RunArguments:
    """Every flag of experiments/run.py.

    Raises:
        ValueError: at construction, if a value does not fit.
    """

    tables: list[str] = flag([], "table_2, figure_5, ...: those of experiments/tables; or all")
    scale: str = flag("tiny", "smoke, tiny or paper: a file of experiments/scales, which says of what size runs are")
    seeds: int | None = flag(None, "runs of each row; default: the scale's")
    dataset: str | None = flag(
        None, "corpus: a folder or Hub name that load_dataset takes; default: the scale's, synthesized"
    )
    output: str = flag("outputs/experiments", "folder for corpora, models and logs")
    results: str = flag("experiments/results", "folder for what is kept of each run: scores and predictions")
    jobs: int = flag(1, "runs side by side, each with its share of the cores")
    list: bool = flag(False, "name rows, runs and the time they take, and run nothing")

    def __post_init__(self):
        check_given(self, "tables")
        check_choice(self, "scale", SCALES)
        check_least(self, 1, "seeds", "jobs")


@dataclass
class RenderArguments:
    """Every flag of experiments/render.py.

    Raises:
        ValueError: at construction, if a value does not fit.
    """

    results: str = flag("experiments/results", "folder of what was kept of each run")
    output: str = flag("experiments", "folder for RESULTS.md and the figures")
    scale: str = flag("tiny", "smoke, tiny or paper: whose runs are shown")

    def __post_init__(self):
        check_choice(self, "scale", SCALES)
