"""The arguments of score.py: one flat dataclass, filled from a YAML recipe and the command line."""

from dataclasses import dataclass

from cli.flags import check_given, check_least, flag


@dataclass
class ScoreArguments:
    """Every flag of score.py.

    Raises:
        ValueError: at construction, if a value does not fit.
    """

    predictions: str = flag("", "the output folder of predict.py")
    truth: str | None = flag(
        None, "true profiles: a JSONL or Parquet file, or a corpus; default: the predictions' own"
    )
    truth_config: str | None = flag(None, "configuration of the corpus of true profiles")
    truth_revision: str | None = flag(None, "branch, tag or commit of such a corpus of the Hub; default: main")
    split: str = flag("test", "of such a corpus")
    against: str | None = flag(None, "the output folder of an earlier run, for how far the predicted values moved")
    output: str | None = flag(None, "folder for scores.json and figures")
    resamples: int | None = flag(
        None, "of the bootstrap, for 95 % intervals; 0: none; default: 10000, fewer of more than 100000 users"
    )

    def __post_init__(self):
        check_given(self, "predictions")
        check_least(self, 0, "resamples")
        if self.truth is None and (self.truth_config or self.truth_revision):
            raise ValueError("truth_config and truth_revision are of a corpus that --truth names, which is missing")
