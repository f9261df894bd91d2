"""The flags of the experiments' commands. Imports neither torch nor datasets, so that --help is there at once."""

from argparse import ArgumentParser, RawDescriptionHelpFormatter
from dataclasses import dataclass
from pathlib import Path

from cli.flags import check_choice, check_given, check_least, flag

SCALES = ("smoke", "tiny", "paper")
RESULTS = Path("experiments/results")
CLASSIFIERS = ("bert", "t5", "bart", "llama", "chatglm")
SHOWN = ("none", "generated", "shuffled", "true")  # profiles: the user's own, another's, and what is true of the user
PRECISIONS = ("no", "bf16")


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


@dataclass
class HeldOutArguments:
    """Every flag of held_out.py.

    Raises:
        ValueError: at construction, if a value does not fit.
    """

    model: str = flag("", "an mmprofile checkpoint, by folder or Hub name")
    dataset: str = flag("", "corpus that load_dataset takes; its validation and test users are profiled")
    output: str = flag("", "folder, which is not there yet")
    held_out: int = flag(4, "reviews of a user that no profile is made of, half of them at most")
    held_out_seed: int = flag(0, "of their drawing")
    num_reviews: int = flag(3, "reviews that a profile is made of, the newest of the others")
    num_images: int = flag(1, "photos of each")
    batch_size: int = flag(32, "users at once")
    num_workers: int = flag(0, "processes that read photos")

    def __post_init__(self):
        check_given(self, "model", "dataset", "output")
        check_least(self, 1, "held_out", "num_reviews", "batch_size")
        check_least(self, 0, "num_images", "num_workers")


@dataclass
class SentimentArguments:
    """Every flag of sentiment.py.

    Raises:
        ValueError: at construction, if a value does not fit.
    """

    profiles: str = flag("", "output folder of held_out.py")
    output: str = flag("", "folder, which is not there yet")
    classifier: str = flag("bert", f"what reads the text: {', '.join(CLASSIFIERS)}")
    profile: str = flag("none", f"whose profile stands before a review: {', '.join(SHOWN)}")
    model: str = flag(
        "tiny", "checkpoint, by folder or Hub name; tiny: random weights, the profiling model's tokenizer"
    )
    folds: int = flag(2, "parts of the test users, each predicted by a model trained on all the others")
    max_tokens: int = flag(160, "of a review, whose end is cut; its profile stands beside them")
    batch_size: int = flag(16, "reviews a step")
    eval_batch_size: int = flag(64, "reviews at once in testing")
    learning_rate: float = flag(5e-5, "at its highest")
    num_epochs: float = flag(3.0, "of training")
    warmup_ratio: float = flag(0.05, "share of the steps in which the learning rate rises")
    lora_rank: int | None = flag(None, "train matrices of this rank beside the weights; default: train the weights")
    gradient_checkpointing: bool = flag(False, "compute activations twice, to save memory")
    mixed_precision: str = flag("no", f"of training: {', '.join(PRECISIONS)}")
    seed: int = flag(0, "of new weights and the order of reviews")

    def __post_init__(self):
        check_given(self, "profiles", "output", "model")
        check_choice(self, "classifier", CLASSIFIERS)
        check_choice(self, "profile", SHOWN)
        check_choice(self, "mixed_precision", PRECISIONS)
        check_least(self, 2, "folds")
        check_least(self, 1, "max_tokens", "batch_size", "eval_batch_size", "lora_rank")
        if self.num_epochs <= 0 or self.learning_rate <= 0:
            raise ValueError(
                f"num_epochs and learning_rate are above 0, got {self.num_epochs} and {self.learning_rate}"
            )
