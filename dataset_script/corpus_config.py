"""The configuration of a build: its options, as `datasets` has them."""

from dataclasses import dataclass

import datasets

from .corpus_options import CorpusOptions


@dataclass
class MMProfileYelpConfig(CorpusOptions, datasets.BuilderConfig):
    """A named set of thresholds."""
