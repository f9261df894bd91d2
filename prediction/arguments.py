"""The arguments of predict.py: one flat dataclass, filled from the command line."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import inf

from transformers import HfArgumentParser

from cli.flags import dataclass_parser

DTYPES = ("float32", "bfloat16", "float16")


def _flag(default, help: str):
    return field(default=default, metadata={"help": help})


@dataclass
class PredictionArguments:
    """Every flag of predict.py.

    Raises:
        ValueError: at construction, if a value does not fit.
    """

    model: str = _flag("", "an mmprofile checkpoint, by folder or Hub name; its code is run")
    revision: str | None = _flag(None, "branch, tag or commit of a Hub model and its code; default: main")
    dataset: str = _flag(
        "", "corpus: a folder or Hub name that load_dataset takes, or a JSONL or Parquet file of users"
    )
    dataset_config: str | None = _flag(None, "configuration of the corpus: default, full, ...")
    split: str = _flag("test", "of the corpus")
    output: str | None = _flag(None, "folder for the predictions; one that holds a part of them is completed")
    overwrite_output: bool = _flag(False, "forget the predictions that the output folder holds")
    show: int = _flag(0, "print so many users, the first, with their profiles")
    evaluate: bool = _flag(False, "score the predictions against the true profiles")

    num_reviews: int | None = _flag(None, "reviews of a corpus' user, the newest; default: 3. Of a JSONL file all")
    num_images: int | None = _flag(None, "photos of each such review, the first; default: 1. Of a JSONL file all")
    num_return_profiles: int = _flag(5, "profiles to explore at least, where the bounds allow it")
    min_coverage: float = _flag(0.0, "explore profiles of this share of the probability mass, 0 to 1, at least")
    max_calls: int | None = _flag(None, "decoder calls a user at most; without the proof, exact is false")
    max_decoder_tokens: int | None = _flag(
        None,
        "decoder tokens a user at most; 0: no bound; default: those of 64 profiles; a trained model needs fewer",
    )
    expand_per_call: int | None = _flag(None, "prefixes a decoder call expands; default: by the device")

    batch_size: int = _flag(32, "users a batch and process")
    # Beside one's search in Python a GPU works for another; a CPU has nothing left to give.
    batches_at_once: int | None = _flag(None, "batches a process computes side by side; default: 2 on a GPU, else 1")
    shard_users: int = _flag(512, "users a file of the output; what a kill loses at most of each process' work")
    num_workers: int | None = _flag(None, "processes that read photos, for each process; default: cores but one")
    dtype: str = _flag("float32", "of the weights: float32, bfloat16 or float16")

    def __post_init__(self):
        for name in ("model", "dataset"):
            if not getattr(self, name):
                raise ValueError(f"--{name} is needed")
        if self.output is None and (self.evaluate or self.show == 0):
            raise ValueError("--output is needed, or --show N alone")
        least = {"show": 0, "num_reviews": 1, "num_images": 0, "num_return_profiles": 1, "max_calls": 1}
        least |= {"max_decoder_tokens": 0, "expand_per_call": 1, "batch_size": 1, "batches_at_once": 1}
        least |= {"shard_users": 1, "num_workers": 0}
        for name, number in least.items():
            value = getattr(self, name)
            if value is not None and value < number:
                raise ValueError(f"{name} is at least {number}, got {value}")
        if not 0 <= self.min_coverage <= 1:
            raise ValueError(f"min_coverage is from 0 to 1, got {self.min_coverage}")
        if self.dtype not in DTYPES:
            raise ValueError(f"dtype must be one of {list(DTYPES)}, got {self.dtype!r}")

    @property
    def search(self) -> dict:
        """Arguments of `generate_profiles`."""
        names = ("num_return_profiles", "min_coverage", "max_calls", "max_decoder_tokens", "expand_per_call")
        chosen = {name: getattr(self, name) for name in names}
        return chosen | ({"max_decoder_tokens": inf} if self.max_decoder_tokens == 0 else {})


def argument_parser(description: str | None) -> HfArgumentParser:
    """Of the flags; `description` is for --help."""
    return dataclass_parser(PredictionArguments, description)


def parse_arguments(argv: Sequence[str] | None, description: str | None = None) -> PredictionArguments:
    """The command line's flags, or those of `argv`; `description` is for --help.

    Raises:
        ValueError: if a value does not fit.
    """
    return argument_parser(description).parse_args_into_dataclasses(argv, look_for_args_file=False)[0]
