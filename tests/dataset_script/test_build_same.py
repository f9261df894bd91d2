"""A corpus of many users built again: the same bytes, whatever the engine, threads, memory, and form of the files."""

import gzip
import random
import shutil

import datasets
import pytest

from benchmarks.build_corpus import write_raw
from dataset_script import corpus_shards
from dataset_script.mmprofile_yelp import build

pytestmark = pytest.mark.slow

REVIEWS, PHOTOS = 60_000, 3_000


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    """Of files like Yelp's, with photos that do not decode, odd dates, and reviews with the id of another."""
    folder = tmp_path_factory.mktemp("same") / "raw"
    write_raw(folder, REVIEWS, PHOTOS, 32)
    for photo in sorted((folder / "photos").iterdir())[::40]:
        photo.write_bytes(b"no photo")
    path = folder / "yelp_review.json"
    lines = path.read_text().splitlines()
    lines[::100] = [line.replace('"date":"2', '"date":"never 2') for line in lines[::100]]
    lines[50::100] = [line.removesuffix('"}') + '+01:00"}' for line in lines[50::100]]
    lines += [line.replace('"stars":5.0', '"stars":1.0') for line in lines[:20_000:10]]
    path.write_text("".join(f"{line}\n" for line in lines))
    return folder


def plain(folder):
    return folder


def shuffled(folder):
    for path in folder.glob("*.json"):
        lines = path.read_text().splitlines(keepends=True)
        random.Random(0).shuffle(lines)
        path.write_text("".join(lines))


def packed(folder):
    for path in folder.glob("*.json"):
        path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes(), 1))
        path.unlink()


def built(folder, output, **options):
    """What the shards hold, of which there are several, and the ledger."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets.config, "MAX_SHARD_SIZE", 2**20)
        patch.setattr(corpus_shards, "BATCH_BYTES", 2**19)
        ledger = build(folder, output, min_reviews=20, **options)["default"].ledger
    return {path.name: path.read_bytes() for path in (output / "data" / "default").iterdir()}, ledger


@pytest.fixture(scope="module")
def first(raw, tmp_path_factory):
    return built(raw, tmp_path_factory.mktemp("first") / "corpus")


@pytest.mark.parametrize(
    ("change", "options"),
    [
        (plain, {"threads": 1}),
        (plain, {"threads": 5}),
        (shuffled, {"memory_limit": "200MB"}),
        (packed, {}),
        (plain, {"engine": "local[2]"}),
    ],
)
def test_a_corpus_built_again_has_the_same_shards(raw, first, tmp_path, change, options):
    if "engine" in options:
        pytest.importorskip("pyspark")
    folder = shutil.copytree(raw, tmp_path / "raw")
    change(folder)
    shards, ledger = built(folder, tmp_path / "corpus", **options)
    assert shards.keys() == first[0].keys() and len(shards) > 4
    assert shards == first[0] and ledger == first[1]
    assert ledger.dropped["photos", "photo does not decode"] and ledger.dropped["review", "duplicate review_id"]
