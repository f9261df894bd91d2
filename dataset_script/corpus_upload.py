"""Pushes a built corpus, captioned or not, to a dataset repository of the Hugging Face Hub.

    python -m dataset_script.corpus_upload outputs/yelp user/yelp
    python -m dataset_script.corpus_upload outputs/yelp user/yelp --no-private

The first word names a corpus' folder, as the builder or caption.py writes it: README.md, a card that names the splits
and their rows; data/CONFIGURATION/SPLIT*.parquet; figures/*.png. The second is the dataset's name on the Hub.

A corpus that is not marked as synthetic goes to a private repository, unless --no-private says otherwise; a repository
that is there keeps its visibility, and where that is the wrong one, nothing is sent. Shards go first, a few at a time;
then one commit brings them in, with figures and card, and takes the shards of an earlier build away. So the repository
has the old corpus or the new one, never a part. A push that was stopped may be run again: shards that the Hub has are
not sent twice. The token is that of `hf auth login`, or HF_TOKEN.
"""

# ruff: noqa: E402

import argparse


def argument_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", help="a corpus as the builder or caption.py writes it")
    parser.add_argument("name", help="user/name of the dataset on the Hub")
    explanation = "whether only you can see a new repository (default: yes, unless the corpus is synthetic)"
    parser.add_argument("--private", action=argparse.BooleanOptionalAction, default=None, help=explanation)
    return parser


if __name__ == "__main__":  # --help is there before what takes seconds to import
    argument_parser().parse_known_args()

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

import yaml
from datasets.info import DatasetInfosDict
from datasets.utils.metadata import MetadataConfigs
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, DatasetCard, HfApi
from huggingface_hub import utils as hub_utils
from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError, RepositoryNotFoundError

from publishing.hub_answers import REFUSED, check_name, check_writer, refusal

from .captions.store import corpus_files, open_shard
from .corpus_card import CARD, SYNTHETIC, metadata_of
from .profile_rules import where_no_yaml

BUILT = ("data", "figures")  # folders of which the repository keeps nothing that the corpus lacks
TOGETHER = 5  # shards sent at once: what a push that is killed has to send again


# ---------------------------------------------------------------------------------------------------------------------
# Before anything is sent


def check_corpus(folder: str | Path) -> DatasetCard:
    """Returns the card of a corpus that is whole.

    Raises:
        ValueError: if the folder has no card as the builder writes it, or other rows than the card tells.
    """
    folder = Path(folder)
    if not (folder / CARD).is_file():
        raise ValueError(f"a corpus is a folder with {CARD}, as the builder writes it; {str(folder)!r} has none")
    try:
        card = DatasetCard((folder / CARD).read_text(encoding="utf-8"))
        configs = MetadataConfigs.from_dataset_card_data(metadata_of(card))
        infos = DatasetInfosDict.from_dataset_card_data(metadata_of(card))
        told = {
            (config, file["split"], file["path"]): (infos[config].splits or {})[file["split"]].num_examples
            for config, metadata in configs.items()
            for file in metadata["data_files"]
        }
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(f"{folder / CARD} is no card as the builder writes it: {where_no_yaml(error)}") from None
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise ValueError(f"{folder / CARD} is no card as the builder writes it: {error!r}") from None
    if not told:
        raise ValueError(f"{folder / CARD} is no card as the builder writes it: it names no configuration")
    for (config, split, pattern), expected in told.items():
        rows = 0
        for shard in sorted(folder.glob(pattern)):
            with open_shard(shard) as file:
                rows += file.metadata.num_rows
        if rows != expected:
            raise ValueError(f"{folder} is not whole: split {split} of {config} has {rows} rows, its card {expected}")
    return card


def is_private(private: bool | None, synthetic: bool) -> bool | None:
    """Whether the repository must be private; None leaves a new one to the Hub's settings."""
    return True if private is None and not synthetic else private


def check_repository(name: str, private: bool | None) -> None:
    """Finds out whether a push can succeed, before a corpus is built for it.

    A Hub that does not answer is no reason to build nothing, and only told.

    Raises:
        ValueError: if no repository can have the name, there is no token that may write there, or the repository is
            public and shall be `private`.
    """
    check_name(name)
    api = HfApi()
    try:
        check_writer(api.whoami(), name.split("/")[0])
        _check_visibility(name, not api.repo_info(name, repo_type="dataset").private, private)
    except RepositoryNotFoundError:
        return  # the push makes it
    except LocalTokenNotFoundError:
        raise ValueError(f"{name} cannot be pushed to: there is no token, see `hf auth login`") from None
    except (hub_utils.httpx.HTTPError, OSError) as error:
        if isinstance(error, HfHubHTTPError) and error.response.status_code in REFUSED:
            raise ValueError(f"{name} cannot be pushed to: {REFUSED[error.response.status_code]}") from None
        print(f"The Hub does not answer now, so {name} was not looked at: {refusal(error)}", file=sys.stderr)


def _check_visibility(name: str, is_public: bool, private: bool | None) -> None:
    if private and is_public:
        raise ValueError(
            f"{name} is public, and this corpus shall be private, which one that is not synthetic always is unless"
            " --no-private is given: take another name, or make the repository private in its settings"
        )


# ---------------------------------------------------------------------------------------------------------------------
# The push


def push_corpus(api: HfApi, folder: str | Path, name: str, private: bool | None) -> str:
    """Pushes the folder, hidden files apart; returns where it then is, and who sees it. A commit takes 25,000 shards.

    Raises:
        ValueError: if the repository is public and shall be `private`.
        HfHubHTTPError, OSError and others of huggingface_hub: if the Hub refuses or cannot be reached.
    """
    folder = Path(folder)
    paths = [path.as_posix() for path in corpus_files(folder) if not any(part.startswith(".") for part in path.parts)]
    url = api.create_repo(name, repo_type="dataset", private=private, exist_ok=True)
    head = api.repo_info(name, repo_type="dataset")
    _check_visibility(name, not head.private, private)
    there = api.list_repo_files(name, repo_type="dataset", revision=head.sha)
    earlier = {path for path in there if path.split("/")[0] in BUILT}
    operations = [CommitOperationDelete(path, is_folder=False) for path in sorted(earlier - set(paths))]
    for start in range(0, len(paths), TOGETHER):
        additions = [CommitOperationAdd(path, folder / path) for path in paths[start : start + TOGETHER]]
        api.preupload_lfs_files(name, additions, repo_type="dataset", num_threads=TOGETHER)
        operations += additions
    # On what the repository held above: if somebody has written meanwhile, the Hub refuses.
    message = "Upload the corpus"
    api.create_commit(name, operations, commit_message=message, repo_type="dataset", parent_commit=head.sha)
    return f"{url} ({'private' if head.private else 'public'})"


def push(folder: str | Path, name: str, private: bool | None = None) -> None:
    """Pushes a built corpus and says where to; what fails at the Hub ends the program with the command to go on by.

    Args:
        private: by default, unless the corpus is synthetic.

    Raises:
        ValueError: before anything is sent, if folder or name does not fit.
        SystemExit: if the push fails.
    """
    synthetic = SYNTHETIC in (metadata_of(check_corpus(folder)).get("tags") or ())
    check_name(name)
    try:
        print(f"Pushed to {push_corpus(HfApi(), folder, name, is_private(private, synthetic))}")
    # A large file's failure is a RuntimeError, a gateway's page in the place of the Hub's JSON a ValueError.
    except (hub_utils.httpx.HTTPError, OSError, RuntimeError, ValueError) as error:
        command = push_command(folder, name, private)
        sys.exit(f"Not pushed to {name}: {refusal(error)}\n{folder} is whole, and goes there by\n\n    {command}\n")


def push_command(folder: str | Path, name: str, private: bool | None) -> str:
    """The command that pushes a folder that is there."""
    flag = {None: [], True: ["--private"], False: ["--no-private"]}[private]
    return shlex.join(["python", "-m", "dataset_script.corpus_upload", str(folder), name, *flag])


def main(argv: Sequence[str] | None = None) -> int:
    """The program: see the module's docstring."""
    from cli.progress import log_progress

    log_progress()
    parser = argument_parser()
    options = parser.parse_args(argv)
    try:
        push(options.folder, options.name, options.private)
    except ValueError as error:
        parser.error(str(error))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
