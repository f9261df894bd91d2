"""Builds the multimodal user profile corpus from a raw folder of the Yelp Open Dataset, or of its four-file form.

    python -m dataset_script.mmprofile_yelp --data_dir RAW --output FOLDER
    python -m dataset_script.mmprofile_yelp --data_dir RAW --output FOLDER --config full --captions photo_captions
    python -m dataset_script.mmprofile_yelp --data_dir RAW --output FOLDER --push_to_hub user/name

    datasets.load_dataset("FOLDER")

RAW holds three files of JSON, plain or .gz, an object a line, or of Parquet under the same names, and the photos,
whatever of JPEG, PNG, WebP and GIF:

    *business.json   {"business_id": "b1", "categories": "Pizza, Shopping", "attributes": {"HappyHour": "True"}}
    *review.json     {"review_id": "r1", "user_id": "u1", "business_id": "b1", "stars": 4.0, "text": "Good pizza.",
                      "date": "2023-12-31 23:59:59"}, in one line
    *photos.json     {"photo_id": "p1", "business_id": "b1", "caption": "a pizza"}; one with a `review_id` or a
                     `user_id` belongs to that review or user alone
    photos/p1.jpg

Which attributes a profile has, and what of a business tells them, is written in `yelp_schema.yaml`, or in another such
file, --schema, which may also say where files of another form have all this (`sources.py`).

The folder holds Parquet shards with the photos' own bytes, figures, and a dataset card. Where `datasets` is older than
4, this file also loads as a script: `load_dataset("mmprofile_yelp.py", data_dir="RAW", trust_remote_code=True)`. That
version fetches the modules that this file imports relatively, but not what they import in turn, so each stands here,
in a line without a comment, which it would take for an address; what a script does without is imported in functions.
"""

# ruff: noqa: E402, F401

from .corpus_options import YELP_SCHEMA, argument_parser, options

if __name__ == "__main__":
    argument_parser(__doc__).parse_known_args()

import os
from collections.abc import Iterator, Sequence
from functools import cached_property, partial
from heapq import nlargest
from itertools import accumulate
from pathlib import Path
from typing import Any

import datasets
from datasets.utils.file_utils import cached_path

from .build_folder import BuildFolder, build_folder
from .corpus import Corpus, plan_corpus
from .corpus_card import CARD, write_card
from .corpus_config import MMProfileYelpConfig
from .corpus_draw import Draw
from .corpus_report import render_report
from .corpus_rows import Photo, Review, Rows, UserRow
from .corpus_shards import BATCH_BYTES, BATCH_ROWS, row_bytes, write_split
from .csv_lines import csv_lines
from .derivation import TIES
from .drawing import split_users
from .engines import connect
from .literals import parse_literal
from .parquet_records import read_parquet
from .photos import Album
from .profile_rules import Rule, read_rules
from .provenance import Source, raw_files, synthetic_arguments
from .raw_files import RawFolder, find_raw_files
from .raw_folder import ALLOW_LINKS
from .raw_records import RawRecords
from .remote_path import RemotePath, any_path
from .schema_rule import SchemaRule
from .source_lines import source_records
from .sources import read_sources
from .spark_session import spark_session

NAME = "mmprofile_yelp"
# Options that say how a corpus is made, and change nothing in it.
MACHINE_OPTIONS = {"engine", "spark_master", "memory_limit", "threads", "scratch", "allow_links"}


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
    config: MMProfileYelpConfig
    album: Album | None = None  # that of a build, whose configurations open each photo once

    def _info(self) -> datasets.DatasetInfo:
        self.config.check()
        schema = self._schema()
        self.rules = read_rules(schema)
        self.sources = read_sources(schema, self.rules)
        return datasets.DatasetInfo(description=self.config.description or "", features=_features(self.rules))

    def _schema(self) -> str | Path:
        if self.config.schema != YELP_SCHEMA:
            return self.config.schema
        beside = Path(__file__).with_name(YELP_SCHEMA)
        # Loaded as a script, this file is a copy, and the YAML stands where the script came from.
        return beside if beside.exists() else cached_path(f"{self.base_path}/{YELP_SCHEMA}")

    @cached_property
    def raw(self) -> RawFolder:
        if self.config.data_dir is None:
            raise ValueError("data_dir must name the folder with the raw files, got None")
        return find_raw_files(self.config.data_dir, self.sources, self.config.allow_links)

    def plan(self) -> Corpus:
        """Derives the rows, and prints the report of them."""
        corpus = plan_corpus(self.raw, self.config, self.rules, self.album)
        print(render_report(self.config.name, corpus))
        return corpus

    def _split_generators(self, dl_manager: object) -> list[datasets.SplitGenerator]:
        corpus = self.plan()
        self._writer_batch_size = _batch_rows(corpus)
        return [
            datasets.SplitGenerator(name=name, gen_kwargs={"rows": rows, "album": corpus.album})
            for name, rows in corpus.splits.items()
        ]

    def _generate_examples(self, rows: Rows, album: Album) -> Iterator[tuple[str, dict]]:
        for row in rows:
            yield row.user_id, self.example(row, album)

    def example(self, row: UserRow, album: Album) -> dict:
        """The row with its photos."""
        reviews = [self._review(review, photos, album) for review, photos in row.reviews]
        return {"user_id": row.user_id, "reviews": reviews, "profile": row.profile}

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


def _batch_rows(corpus: Corpus) -> int:
    """How many rows, whichever, have photos of at most `BATCH_BYTES` together; at least 1."""
    sizes = (row_bytes(row, corpus.album) for rows in corpus.splits.values() for row in rows)
    fitting = sum(total <= BATCH_BYTES for total in accumulate(nlargest(BATCH_ROWS, sizes)))
    return max(1, fitting)


def build(
    data_dir: str | Path,
    output: str | Path,
    *,
    config: str | Sequence[str] = "default",
    overwrite: bool = False,
    **thresholds: int | bool | str,
) -> dict[str, Corpus]:
    """Writes the corpus to the new folder `output`: shards, figures and a dataset card, for `load_dataset(output)`.

    Everything is written beside `output` and renamed at the end: a build that dies leaves no `output`, and the next
    one removes what it has left.

    Args:
        data_dir: folder, or an address as `any_path` takes it, with `*business.json`, `*review.json`, `*photos.json`,
            plain or .gz or .parquet, and `photos/`; or with the files that the schema's `sources` name.
        output: where the folder shall be.
        config: `default`, `full`, or both.
        overwrite: replace an earlier build at `output`.
        thresholds: fields of `MMProfileYelpConfig`, over the named config's own.

    Returns:
        By config, what was dropped and what a report tells; the rows stand in `output` alone.

    Raises:
        ValueError: if `output` is there, an argument is none, a raw file is missing or ambiguous, or too few users
            are left. Or if the build cannot go on: the disk is full, a file changes meanwhile, another build of
            `output` is at work.
    """
    from .corpus_figures import write_figures

    names = [config] if isinstance(config, str) else list(config)
    known = [known.name for known in MMProfileYelp.BUILDER_CONFIGS]
    if not names or len(set(names)) < len(names) or not set(names) <= set(known):
        raise ValueError(f"config must be one or more of {', '.join(known)}, each once, got {config!r}")
    if unknown := thresholds.keys() - {option.name for option in options()}:
        fitting = ", ".join(option.name for option in options())
        raise ValueError(f"unknown thresholds {', '.join(sorted(unknown))}; there are {fitting}")
    output = Path(os.path.abspath(output))
    raw, resolved = any_path(data_dir), output.resolve()
    # `datasets` puts a class of its own in the place of this module's Path, once there is a builder.
    if not isinstance(raw, RemotePath) and (resolved.is_relative_to(raw) or raw.is_relative_to(resolved)):
        raise ValueError(f"output must be a folder apart from the raw data, got {output} for data_dir {raw}")

    with build_folder(output) as place:
        _check_output(output, overwrite)
        options_here = thresholds | {"scratch": thresholds.get("scratch") or str(place.scratch)}
        builders = {name: _builder(name, data_dir, place, options_here) for name in names}
        first = builders[names[0]]
        chosen = first.config
        album = Album(first.raw, chosen.max_photo_bytes, chosen.max_photo_pixels, chosen.image_size)
        corpora = {name: _write_shards(builder, album, place) for name, builder in builders.items()}
        figures = {name: write_figures(place.corpus, name, corpus) for name, corpus in corpora.items()}
        infos = {name: builder.info for name, builder in builders.items()}
        source = _source(first.raw, thresholds)
        write_card(place.corpus / CARD, corpora, infos, figures, _chosen(thresholds), source)
        place.publish()
    return corpora


def _chosen(thresholds: dict) -> dict[str, int | bool | str]:
    """What a reader of the corpus must know of the options: all that are not the defaults, nor of the machine."""
    chosen = {
        option.name: thresholds[option.name]
        for option in options()
        if option.name not in MACHINE_OPTIONS and thresholds.get(option.name, option.default) != option.default
    }
    return chosen | {"schema": Path(chosen["schema"]).name} if "schema" in chosen else chosen


def _source(raw: RawFolder, thresholds: dict) -> Source:
    files = raw_files(raw)
    arguments = synthetic_arguments(raw, files)
    if arguments is not None:
        return Source("synthetic", files, arguments)
    return Source("yelp" if thresholds.get("schema", YELP_SCHEMA) == YELP_SCHEMA else "platform", files)


def _check_output(output: Path, overwrite: bool) -> None:
    if not os.path.lexists(output):
        return
    if not overwrite:
        raise ValueError(f"output must not exist unless overwrite is asked for, got {output}")
    if output.is_symlink() or not (output / CARD).is_file() or not (output / "data").is_dir():
        raise ValueError(f"overwrite replaces an earlier build with {CARD} and data/, {output} is none")


def _builder(name: str, data_dir: str | Path, place: BuildFolder, thresholds: dict) -> MMProfileYelp:
    # The dataset's name, because the module is called __main__ where this file runs as a program.
    work = place.scratch / "builders"
    return MMProfileYelp(
        config_name=name, data_dir=str(data_dir), cache_dir=str(work), dataset_name=NAME, **thresholds
    )


def _write_shards(builder: MMProfileYelp, album: Album, place: BuildFolder) -> Corpus:
    """Writes `data/<config>/<split>*.parquet`."""
    builder.album = album
    corpus = builder.plan()
    folder, info = place.corpus / "data" / builder.config.name, builder.info
    folder.mkdir(parents=True)
    info.splits = datasets.splits.SplitDict(dataset_name=NAME)
    for split, rows in corpus.splits.items():
        assert isinstance(rows, Rows) and info.features is not None
        size, example = partial(row_bytes, album=album), partial(builder.example, album=album)
        info.splits.add(write_split(folder, split, rows, size, example, info.features, builder.config.workers))
    info.dataset_size = sum(split.num_bytes for split in info.splits.values())
    info.download_size = sum(shard.stat().st_size for shard in folder.iterdir())
    return corpus


def main(argv: Sequence[str] | None = None) -> int:
    """The program: see the module's docstring."""
    from cli.progress import log_progress

    log_progress()
    parser = argument_parser(__doc__)
    arguments = vars(parser.parse_args(argv))
    name, private = arguments.pop("push_to_hub", None), arguments.pop("private", None)
    try:
        if name is None:
            if private is not None:
                raise ValueError("--private and --no-private are of the repository that --push_to_hub names")
            build(**arguments)
        else:
            _build_and_push(name, private, **arguments)
    except ValueError as error:
        parser.error(str(error))
    return 0


def _build_and_push(name: str, private: bool | None, data_dir: str, output: str, **others: Any) -> None:
    """Builds, then pushes; what is wrong with the repository is said before, where the Hub answers."""
    from .corpus_upload import check_repository, is_private, push, push_command

    if Path(output, CARD).exists() and not others.get("overwrite"):
        command = push_command(output, name, private)
        raise ValueError(f"output {output} is there. What it holds is pushed by\n\n    {command}\n")
    given = others.get("schema", YELP_SCHEMA)
    schema = Path(__file__).with_name(YELP_SCHEMA) if given == YELP_SCHEMA else given
    sources = read_sources(schema, read_rules(schema))
    synthetic = synthetic_arguments(find_raw_files(data_dir, sources, others.get("allow_links", False))) is not None
    check_repository(name, is_private(private, synthetic))
    build(data_dir, output, **others)
    push(output, name, private)


if __name__ == "__main__":
    raise SystemExit(main())
