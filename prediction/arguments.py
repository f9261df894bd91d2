"""The arguments of predict.py: one flat dataclass, filled from a YAML recipe and the command line."""

from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Literal

from cli.flags import check_choice, check_given, check_least, flag
from files.unreadable_photos import ON_BAD_PHOTO

DECISIONS = ("joint", "marginal", "weighted")  # as of `mmprofile.DECISIONS`, which takes seconds to import
COMBINATIONS = ("product", "mixture", "states")  # as of `mmprofile.COMBINATIONS`
GONE = ("keep", "remove")
FLOATS = ("float32", "bfloat16", "float16")
DTYPES = (*FLOATS, "int8", "fastest")
# What a run with a model does, and --forget does not.
WORK = ("overwrite_output", "update", "keep_encodings", "show", "evaluate", "flat", "vectors", "calibrate")


@dataclass
class PredictionArguments:
    """Every flag of predict.py.

    Raises:
        ValueError: at construction, if a value does not fit.
    """

    model: str = flag("", "an mmprofile checkpoint, by folder or Hub name")
    model_revision: str | None = flag(None, "branch, tag or commit of a Hub model and its code; default: main")
    trust_remote_code: bool = flag(False, "run the code that came with the model, instead of this checkout's")
    dataset: str = flag(
        "", "corpus: a folder or Hub name that load_dataset takes, or a JSONL or Parquet file of users"
    )
    dataset_config: str | None = flag(None, "configuration of the corpus: default, full, ...")
    dataset_revision: str | None = flag(None, "branch, tag or commit of a corpus of the Hub; default: main")
    split: str = flag("test", "of the corpus")
    output: str | None = flag(None, "folder for the predictions; one that holds a part of them is completed")
    overwrite_output: bool = flag(False, "forget the predictions that the output folder holds")
    update: bool = flag(False, "bring the predictions that the output folder holds up to date with the input")
    keep_encodings: bool = flag(
        False,
        "keep what the encoders made of each view in the output folder: a new review costs its own view and the draws,"
        " where the input has whole histories and photos are their reviews'",
    )
    gone: str = flag(
        "keep", "with --update, users that are no longer in the input: keep their row, with a mark, or remove it"
    )
    forget: list[str] = flag([], "ids of users to remove from the output folder, for good; needs no model and input")
    show: int = flag(0, "print so many users, the first, with their profiles")
    evaluate: bool = flag(False, "score the predictions against the true profiles")
    flat: bool = flag(False, "write a table without nested columns beside the predictions, OUTPUT/table")
    vectors: bool = flag(False, "write a vector of each user, the mean of the model's fused states: column vector")
    calibrate: bool = flag(
        False, "fit the model's temperatures and thresholds on the true profiles, of a split for that, into its folder"
    )

    num_reviews: int | None = flag(
        None, "reviews of a view; default: view_reviews of the model, or 3; of a JSONL file with --views 1 all"
    )
    num_images: int | None = flag(
        None,
        "photos of each such review, the first; default: 1. Of a JSONL file all. A view has max_images of the model's"
        " processor at most",
    )
    views: int | Literal["all"] | None = flag(
        None,
        "the newest views of a user's history, of num_reviews reviews each, that are read; or all. Default: 64, of"
        " models that read more than one",
    )
    draws: int = flag(
        0, "so many further views, of reviews drawn at random from those that are read; always the same ones"
    )
    combination: str | None = flag(
        None,
        "of views: product, mean of their log-probabilities; mixture, of their probabilities; or states, the decoder"
        " attends to all at once. Default: as the model was trained",
    )
    on_bad_photo: str = flag(
        "skip", "where a photo cannot be read: skip: leave it out, with its caption, and note it; or stop, and name it"
    )
    num_return_profiles: int = flag(5, "profiles to explore at least, where the bounds allow it")
    min_coverage: float = flag(0.0, "explore profiles of this share of the probability mass, 0 to 1, at least")
    decision: str = flag(
        "joint",
        "profile: the most probable as a whole, proved; marginal: of each attribute the most probable value; weighted:"
        " these, weighed for more Macro-F1",
    )
    min_precision: float | None = flag(
        None, "share of values to be right, above 0 and below 1: column decided has no value that is not sure enough"
    )
    max_calls: int | None = flag(None, "decoder calls a user at most; without the proof, exact is false")
    max_decoder_tokens: int | None = flag(
        None,
        "decoder tokens a user at most; 0: no bound; default: those of 64 profiles; a trained model needs fewer",
    )
    expand_per_call: int | None = flag(None, "prefixes a decoder call expands; default: by the device")

    batch_size: int = flag(32, "views of users a batch and process, or one user's")
    # Beside one's search in Python a GPU works for another; a CPU has nothing left to give.
    batches_at_once: int | None = flag(None, "batches a process computes side by side; default: 2 on a GPU, else 1")
    shard_users: int = flag(512, "users a file of the output; what a kill loses at most of each process' work")
    num_workers: int | None = flag(None, "processes that read photos, for each process; default: cores but one")
    dtype: str = flag(
        "float32",
        "of the weights: float32, bfloat16 or float16; on a CPU int8, of the linear layers' alone, or fastest, that of"
        " int8, bfloat16 and float32 it has instructions for",
    )

    def __post_init__(self):
        check_choice(self, "gone", GONE)
        if self.forget:
            check_given(self, "output")
            others = [name for name in WORK if getattr(self, name)] + ["gone"] * (self.gone != "keep")
            if others:
                raise ValueError(f"--forget goes without {' and '.join(f'--{name}' for name in others)}")
            return
        if self.update and (self.overwrite_output or self.output is None):
            raise ValueError("--update is of an --output, and goes without --overwrite_output")
        if self.gone != "keep" and not self.update:
            raise ValueError(f"--gone {self.gone} is of --update true")
        check_given(self, "model", "dataset")
        if self.keep_encodings and self.output is None:
            raise ValueError("--keep_encodings needs an --output")
        written = self.evaluate or self.flat or self.vectors or self.calibrate
        if self.output is None and (written or self.show == 0):
            raise ValueError("--output is needed, or --show N alone")
        if self.views != "all":
            check_least(self, 1, "views")
        if self.combination is not None:
            check_choice(self, "combination", COMBINATIONS)
        check_choice(self, "decision", DECISIONS)
        check_least(self, 1, "num_reviews", "num_return_profiles", "max_calls", "expand_per_call", "batch_size")
        check_least(self, 1, "batches_at_once", "shard_users")
        check_least(self, 0, "show", "num_images", "draws", "max_decoder_tokens", "num_workers")
        if not 0 <= self.min_coverage <= 1:
            raise ValueError(f"min_coverage is from 0 to 1, got {self.min_coverage}")
        if self.min_precision is not None and not 0 < self.min_precision < 1:
            raise ValueError(f"min_precision is above 0 and below 1, got {self.min_precision}")
        if self.calibrate and self.decisions:
            raise ValueError(f"--calibrate fits what {self.decisions} needs; predict again with it")
        if self.calibrate and self.draws:
            raise ValueError(f"--calibrate fits to numbers of views, without --draws {self.draws}")
        if self.calibrate and not Path(self.model).is_dir():
            raise ValueError(f"--calibrate writes to the model's folder, and {self.model!r} is none")
        check_choice(self, "dtype", DTYPES)
        check_choice(self, "on_bad_photo", ON_BAD_PHOTO)

    @property
    def bounds(self) -> dict:
        """Of the search of `generate_profiles`."""
        names = ("num_return_profiles", "min_coverage", "max_calls", "max_decoder_tokens", "expand_per_call")
        chosen = {name: getattr(self, name) for name in names}
        return chosen | ({"max_decoder_tokens": inf} if self.max_decoder_tokens == 0 else {})

    @property
    def search(self) -> dict:
        """Arguments of `profile_users`."""
        combined = {} if self.combination is None else {"combination": self.combination}
        return self.bounds | combined | self.decisions

    @property
    def told(self) -> dict:
        """Arguments of `generate_profiles`: what it tells beside profiles."""
        return {"output_vector": True} if self.vectors else {}

    @property
    def decisions(self) -> dict:
        """Of `search` what decides by the probabilities, where it is not the default."""
        joint = {} if self.decision == "joint" else {"decision": self.decision}
        return joint | ({} if self.min_precision is None else {"min_precision": self.min_precision})
