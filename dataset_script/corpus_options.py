"""Every option of a build, with its default, its explanation and what values fit; and the command line made of them.

Imports neither datasets nor an engine, so that --help is there at once.
"""

import argparse
import os
from dataclasses import dataclass, field, fields
from typing import Any

CAPTION_SOURCES = ("none", "photo_captions")
YELP_SCHEMA = "yelp_schema.yaml"
# More than any machine has cores. With a million, DuckDB ends the process.
MAX_THREADS = 1024
# `derivation.with_words` counts to one more.
MAX_COUNTED_WORDS = 999


UNSAID = "without a number"  # of a threshold that the paper has, but does not tell
NONE = "no such threshold"


def _option(default: int | bool | str, explanation: str, paper: int | str | None = None) -> Any:
    """`paper`: the value that the paper gives, `UNSAID` or `NONE`; None for what is no matter of the paper."""
    return field(default=default, metadata={"help": explanation, "paper": paper})


@dataclass
class CorpusOptions:
    """Every threshold of the corpus; the paper gives `min_reviews` and the split sizes (sections 3 and 6.1)."""

    min_words: int = _option(5, "reviews with fewer words are dropped", UNSAID)
    max_words: int = _option(300, "reviews with more words are dropped", UNSAID)
    min_reviews: int = _option(30, "users with fewer such reviews are dropped", 30)
    # The paper's Table 1 has 24.3 a user: eight views of three.
    max_reviews: int = _option(24, "reviews of a row: the newest that have a photo", NONE)
    max_images_per_review: int = _option(3, "photos of a review, drawn by a hash of user and photo", NONE)
    min_photo_reviews: int = _option(3, "users with fewer reviews that have a photo are dropped", NONE)
    train_size: int = _option(3000, "users of the split, or its proportion of the users there are", 3000)
    validation_size: int = _option(500, "as train_size", 500)
    test_size: int = _option(500, "as train_size", 500)
    all_users: bool = _option(False, "keep every user, so that the three sizes are proportions")
    seed: int = _option(0, "of the hash that draws the users and their split")
    captions: str = _option("none", f"what fills the captions, one of {', '.join(CAPTION_SOURCES)}")
    max_photo_pixels: int = _option(50_000_000, "a photo with more is dropped by its header, before it is decoded")
    max_photo_bytes: int = _option(32 * 2**20, "a photo file with more is dropped before it is read")
    image_size: int = _option(0, "re-encode photos to at most so many pixels a side; 0 keeps the files' own bytes")
    schema: str = _option(YELP_SCHEMA, "YAML of the profile's attributes and how each is derived")
    engine: str = _option("duckdb", "duckdb or spark")
    spark_master: str = _option("", "like yarn, spark://host:7077 or local[4]; empty is spark-submit's or local")
    memory_limit: str = _option("2.5GB", "of DuckDB; what does not fit is written to scratch")
    threads: int = _option(0, "of DuckDB and of the photos; 0 is one a core")
    scratch: str = _option("", "folder for what does not fit in memory; empty is beside the output")
    allow_links: bool = _option(False, "follow symbolic links that lead out of the raw folder, to another disk say")

    def check(self) -> None:
        """Raises `ValueError` for values that are no thresholds, or that exclude each other."""
        for option in options():
            value = vars(self)[option.name]
            if type(value) is not option.type:
                raise ValueError(f"{option.name} must be of type {option.type.__name__}, got {value!r}")
            least = min(option.default, 1) if option.type is int else None
            if option.type is int and option.name != "seed" and value < least:
                raise ValueError(f"{option.name} must be at least {least}, got {value}")
        if self.threads > MAX_THREADS:
            raise ValueError(f"threads must be at most {MAX_THREADS}, got {self.threads}")
        if self.max_words < self.min_words:
            raise ValueError(f"max_words must be at least min_words, got {self.max_words} and {self.min_words}")
        if self.max_words > MAX_COUNTED_WORDS:
            raise ValueError(f"max_words must be at most {MAX_COUNTED_WORDS}, got {self.max_words}")
        if self.max_reviews < self.min_photo_reviews:
            given = f"{self.max_reviews} and {self.min_photo_reviews}"
            raise ValueError(f"max_reviews must be at least min_photo_reviews, got {given}")
        if self.captions not in CAPTION_SOURCES:
            raise ValueError(f"captions must be one of {', '.join(CAPTION_SOURCES)}, got {self.captions!r}")
        if self.spark_master and self.engine != "spark":
            raise ValueError(f"spark_master {self.spark_master!r} needs engine 'spark', got {self.engine!r}")

    @property
    def engine_or_master(self) -> str:
        """As `engines.connect` takes it."""
        return self.spark_master or self.engine

    @property
    def split_sizes(self) -> dict[str, int]:
        return {"train": self.train_size, "validation": self.validation_size, "test": self.test_size}

    @property
    def workers(self) -> int:
        return self.threads or os.cpu_count() or 1


def options() -> list:
    """The options as dataclass fields."""
    return list(fields(CorpusOptions))


def argument_parser(description: str | None) -> argparse.ArgumentParser:
    """The builder's command line; an option that is not given is not set."""
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        description=description, argument_default=argparse.SUPPRESS, formatter_class=formatter
    )
    parser.add_argument("--data_dir", required=True, help="folder with the raw files")
    parser.add_argument("--output", required=True, help="folder to write, which must not exist")
    parser.add_argument("--config", nargs="+", help="default (4,000 users), full (everyone), or both")
    parser.add_argument("--overwrite", action="store_true", help="replace an earlier build")
    parser.add_argument("--push_to_hub", metavar="USER/NAME", help="push the corpus to this dataset repository")
    explanation = "whether only you can see a new repository (default: yes, unless the raw files are synthetic)"
    parser.add_argument("--private", action=argparse.BooleanOptionalAction, help=explanation)
    for option in options():
        explanation = f"{option.metadata['help']} (default: {option.default})"
        if option.type is bool:
            parser.add_argument(f"--{option.name}", action=argparse.BooleanOptionalAction, help=explanation)
        else:
            parser.add_argument(f"--{option.name}", type=option.type, help=explanation)
    return parser
