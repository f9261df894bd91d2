"""Builds the multimodal user profile corpus from a raw folder of the Yelp Open Dataset, or of its four-file form.

    python -m dataset_script.mmprofile_yelp --data_dir RAW --output FOLDER
    python -m dataset_script.mmprofile_yelp --data_dir RAW --output FOLDER --config full --captions photo_captions

    datasets.load_dataset("FOLDER")

The folder holds Parquet shards with the photos' own bytes, and a dataset card. Where `datasets` is older than 4, this
file also loads as a script: `load_dataset("mmprofile_yelp.py", data_dir="RAW", trust_remote_code=True)`. That version
fetches the modules that this file imports relatively, but not what they import in turn, so each stands here, in a line
without a comment, which it would take for an address.
"""

# ruff: noqa: F401

import argparse
import os
import secrets
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import datasets
import huggingface_hub
from datasets.exceptions import DatasetGenerationError
from datasets.info import DatasetInfosDict
from datasets.utils.file_utils import cached_path
from datasets.utils.metadata import MetadataConfigs

from .corpus import Corpus, Photo, Review, UserRow, plan_corpus
from .corpus_config import YELP_SCHEMA, MMProfileYelpConfig, options
from .corpus_report import render_report
from .derivation import TIES
from .drawing import split_users
from .engines import connect
from .photos import Album
from .profile_rules import Rule, read_rules
from .raw_files import find_raw_files

NAME = "mmprofile_yelp"
CARD = "README.md"
# Where the template of the dataset card, the README.md beside this file, takes in the report.
REPORT_MARK = "<!-- the build puts its report here -->"


def _features(rules: Sequence[Rule]) -> datasets.Features:
    labels = {rule.key: datasets.ClassLabel(names=list(rule.values)) for rule in rules}
    # The length tells a reader of the features how many values a profile takes.
    labels |= {rule.key: datasets.Sequence(labels[rule.key], length=rule.count) for rule in rules if rule.count > 1}
    string = datasets.Value("string")
    review = {
        "review_id": string,
        "business_id": string,
        "date": string,
        "stars": datasets.Value("float32"),
        "text": string,
        "photo_ids": [string],
        "images": [datasets.Image()],
        "photo_captions": [string],
        "captions": [string],
    }
    return datasets.Features({"user_id": string, "reviews": [review], "profile": labels})


class MMProfileYelp(datasets.GeneratorBasedBuilder):
    """One row a user: reviews, their photos, and the profile derived from all of the user's reviews."""

    BUILDER_CONFIG_CLASS = MMProfileYelpConfig
    BUILDER_CONFIGS = [
        MMProfileYelpConfig(name="default", version="1.0.0", description="4,000 users: 3,000, 500 and 500"),
        MMProfileYelpConfig(
            name="full",
            version="1.0.0",
            description="every user: 80 %, 10 % and 10 %",
            all_users=True,
            train_size=80,
            validation_size=10,
            test_size=10,
        ),
    ]
    DEFAULT_CONFIG_NAME = "default"

    def _info(self) -> datasets.DatasetInfo:
        self.config.check()
        self.rules = read_rules(self._schema())
        return datasets.DatasetInfo(description=self.config.description, features=_features(self.rules))

    def _schema(self) -> str | Path:
        if self.config.schema != YELP_SCHEMA:
            return self.config.schema
        beside = Path(__file__).with_name(YELP_SCHEMA)
        # Loaded as a script, this file is a copy, and the YAML stands where the script came from.
        return beside if beside.exists() else cached_path(f"{self.base_path}/{YELP_SCHEMA}")

    def _split_generators(self, dl_manager: object) -> list[datasets.SplitGenerator]:
        if self.config.data_dir is None:
            raise ValueError("data_dir must name the folder with the raw files, got None")
        self.corpus = plan_corpus(find_raw_files(self.config.data_dir), self.config, self.rules)
        print(render_report(self.config.name, self.corpus))
        return [
            datasets.SplitGenerator(name=name, gen_kwargs={"rows": rows, "album": self.corpus.album})
            for name, rows in self.corpus.splits.items()
        ]

    def _generate_examples(self, rows: tuple[UserRow, ...], album: Album) -> Iterator[tuple[str, dict]]:
        for row in rows:
            reviews = [self._review(review, photos, album) for review, photos in row.reviews]
            yield row.user_id, {"user_id": row.user_id, "reviews": reviews, "profile": row.profile}

    def _review(self, review: Review, photos: Sequence[Photo], album: Album) -> dict:
        written = self.config.captions == "photo_captions"
        return {
            "review_id": review.review_id,
            "business_id": review.business_id,
            "date": review.date,
            "stars": review.stars,
            "text": review.text,
            "photo_ids": [photo.photo_id for photo in photos],
            "images": [{"path": f"{photo.photo_id}.jpg", "bytes": album.content(photo.photo_id)} for photo in photos],
            "photo_captions": [photo.caption for photo in photos],
            "captions": [photo.caption if written and photo.caption else None for photo in photos],
        }


def build(
    data_dir: str | Path,
    output: str | Path,
    *,
    config: str | Sequence[str] = "default",
    overwrite: bool = False,
    **thresholds: int | bool | str,
) -> dict[str, Corpus]:
    """Writes the corpus to the new folder `output`: Parquet shards and a dataset card, for `load_dataset(output)`.

    Everything is written beside `output` and renamed at the end: a build that dies leaves no `output`.

    Args:
        data_dir: folder with `*business.json`, `*review.json`, `*photos.json`, plain or .gz, and `photos/`.
        output: where the folder shall be.
        config: `default`, `full`, or both.
        overwrite: replace an earlier build at `output`.
        thresholds: fields of `MMProfileYelpConfig`, over the named config's own.

    Returns:
        By config, the rows and what was dropped.

    Raises:
        ValueError: if `output` is there, an argument is none, a raw file is missing or ambiguous, or too few users
            are left.
    """
    names = [config] if isinstance(config, str) else list(config)
    known = [known.name for known in MMProfileYelp.BUILDER_CONFIGS]
    if not names or len(set(names)) < len(names) or not set(names) <= set(known):
        raise ValueError(f"config must be one or more of {', '.join(known)}, each once, got {config!r}")
    if unknown := thresholds.keys() - {option.name for option in options()}:
        fitting = ", ".join(option.name for option in options())
        raise ValueError(f"unknown thresholds {', '.join(sorted(unknown))}; there are {fitting}")
    output = Path(os.path.abspath(output))
    _check_output(output, Path(data_dir), overwrite)

    partial = output.with_name(f".{output.name}.{secrets.token_hex(4)}.partial")
    try:
        partial.mkdir(parents=True)
    except OSError as error:
        raise ValueError(f"output must be a folder that can be written, got {output}: {error}") from None
    try:
        builders = {name: _write_shards(name, data_dir, partial, thresholds) for name in names}
        _write_card(partial / CARD, builders)
        _publish(partial, output)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return {name: builder.corpus for name, builder in builders.items()}


def _check_output(output: Path, data_dir: Path, overwrite: bool) -> None:
    raw = data_dir.resolve()
    if output.resolve().is_relative_to(raw) or raw.is_relative_to(output.resolve()):
        raise ValueError(f"output must be a folder apart from the raw data, got {output} for data_dir {raw}")
    if not os.path.lexists(output):
        return
    if not overwrite:
        raise ValueError(f"output must not exist unless overwrite is asked for, got {output}")
    if output.is_symlink() or not (output / CARD).is_file() or not (output / "data").is_dir():
        raise ValueError(f"overwrite replaces an earlier build with {CARD} and data/, {output} is none")


def _write_shards(name: str, data_dir: str | Path, partial: Path, thresholds: dict) -> MMProfileYelp:
    """Writes `data/<config>/<split>*.parquet`, without what the builder writes beside its shards."""
    work, shards = partial / "work", partial / "data" / name
    # The dataset's name, because the module is called __main__ where this file runs as a program.
    builder = MMProfileYelp(
        config_name=name, data_dir=str(data_dir), cache_dir=str(work), dataset_name=NAME, **thresholds
    )
    # Unlike `Dataset.to_parquet`, this puts the photos' bytes into the shards, not their paths.
    try:
        builder.download_and_prepare(str(work / name), file_format="parquet")
    except DatasetGenerationError as error:
        if isinstance(error.__cause__, ValueError):  # ours: a file changed meanwhile
            raise error.__cause__ from None
        raise
    shards.mkdir(parents=True)
    for shard in (work / name).glob("*.parquet"):
        shard.rename(shards / shard.name.removeprefix(f"{NAME}-"))
    builder.info.download_size = sum(shard.stat().st_size for shard in shards.iterdir())
    shutil.rmtree(work)
    return builder


def _write_card(path: Path, builders: dict[str, MMProfileYelp]) -> None:
    """Fills the template: which files are which split, the features, and the report of each config."""
    card = huggingface_hub.DatasetCard(Path(__file__).with_name(CARD).read_text(encoding="utf-8"))
    for name, builder in builders.items():
        files = [{"split": split, "path": f"data/{name}/{split}*.parquet"} for split in builder.corpus.splits]
        MetadataConfigs({name: {"data_files": files}}).to_dataset_card_data(card.data)
        DatasetInfosDict({name: builder.info}).to_dataset_card_data(card.data)
    users = max(sum(map(len, builder.corpus.splits.values())) for builder in builders.values())
    card.data["size_categories"] = [_size_category(users)]
    reports = "\n\n".join(render_report(name, builder.corpus) for name, builder in builders.items())
    card.text = card.text.replace(REPORT_MARK, reports)
    card.save(path)


def _size_category(rows: int) -> str:
    bounds = {1_000: "n<1K", 10_000: "1K<n<10K", 100_000: "10K<n<100K", 1_000_000: "100K<n<1M"}
    return next((name for bound, name in bounds.items() if rows < bound), "n>1M")


def _publish(partial: Path, output: Path) -> None:
    if output.exists():
        earlier = partial.with_suffix(".earlier")
        output.rename(earlier)
        partial.rename(output)
        shutil.rmtree(earlier)
    else:
        partial.rename(output)


def main(argv: Sequence[str] | None = None) -> int:
    """The program: see the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], argument_default=argparse.SUPPRESS)
    parser.add_argument("--data_dir", required=True, help="folder with the raw files")
    parser.add_argument("--output", required=True, help="folder to write, which must not exist")
    parser.add_argument("--config", nargs="+", help="default (4,000 users), full (everyone), or both")
    parser.add_argument("--overwrite", action="store_true", help="replace an earlier build")
    for option in options():
        explanation = f"{option.metadata['help']} (default: {option.default})"
        if option.type is bool:
            parser.add_argument(f"--{option.name}", action=argparse.BooleanOptionalAction, help=explanation)
        else:
            parser.add_argument(f"--{option.name}", type=option.type, help=explanation)
    arguments = vars(parser.parse_args(argv))
    try:
        build(**arguments)
    except ValueError as error:
        parser.error(str(error))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
