"""The worked examples of docs/corpus.md: each schema, taken out of the page, reads files of its platform's form.

The files are made by `tests.platform_files`, and what a corpus of them must hold is read by plain Python.
"""

import csv
import hashlib
import json
import random
import re

import datasets
import pytest

from dataset_script.corpus import plan_corpus
from dataset_script.mmprofile_yelp import main
from dataset_script.profile_rules import read_rules
from dataset_script.raw_files import find_raw_files
from dataset_script.sources import read_sources
from tests import ROOT
from tests.platform_files import FLAGS, PLATFORMS, expected, google, write_table
from tests.raw_corpus import config


def example(heading, folder):
    """The YAML under a heading of the page, as a file."""
    page = (ROOT / "docs" / "corpus.md").read_text(encoding="utf-8")
    path = folder / "schema.yaml"
    path.write_text(re.search(rf"### {heading}\n.*?```yaml\n(.*?)```", page, re.DOTALL)[1], encoding="utf-8")
    return path


def planned(folder, schema, **options):
    rules = read_rules(schema)
    raw = find_raw_files(folder, read_sources(schema, rules))
    return plan_corpus(raw, config(**FLAGS | options), rules)


def told(corpus):
    return {
        row.user_id: (
            row.profile,
            [
                (r.review_id, r.business_id, r.date, r.stars, r.text, {photo.photo_id for photo in photos})
                for r, photos in row.reviews
            ],
        )
        for rows in corpus.splits.values()
        for row in rows
    }


@pytest.mark.parametrize("platform", PLATFORMS)
@pytest.mark.parametrize("seed", [0, 1])
def test_a_documented_schema_reads_its_platforms_files(tmp_path, platform, seed):
    schema, folder = example(platform, tmp_path), tmp_path / "raw"
    folder.mkdir()
    reviews, described = PLATFORMS[platform](folder, random.Random(seed))
    corpus = planned(folder, schema)
    assert told(corpus) == expected(reviews, described, read_rules(schema))
    assert any(len(photos) > 1 for _, shown in told(corpus).values() for *_, photos in shown)
    assert not [note for note in corpus.ledger.notes if "No record" in note]


@pytest.mark.slow
@pytest.mark.usefixtures("spark")
@pytest.mark.parametrize("platform", PLATFORMS)
def test_spark_gives_duckdbs_rows_of_a_platform(tmp_path, platform):
    schema, folder = example(platform, tmp_path), tmp_path / "raw"
    folder.mkdir()
    PLATFORMS[platform](folder, random.Random(2))
    ducks, sparks = planned(folder, schema), planned(folder, schema, engine="local[1]")
    for name in ("ledger", "splits", "lines", "dates", "tally", "cuts"):
        assert getattr(ducks, name) == getattr(sparks, name)


def test_the_program_builds_from_another_platforms_files(tmp_path):
    schema, folder = example("Google Local", tmp_path), tmp_path / "raw"
    folder.mkdir()
    reviews, described = google(folder, random.Random(0))
    flags = [f"--{name}={value}" for name, value in FLAGS.items()]
    output = tmp_path / "corpus"
    assert main(["--data_dir", str(folder), "--output", str(output), "--schema", str(schema), *flags]) == 0
    splits = datasets.load_dataset(str(output), cache_dir=str(tmp_path / "cache"))
    rows = {row["user_id"]: row for split in splits.values() for row in split}
    wanted = expected(reviews, described, read_rules(schema))
    assert {user: [review["text"] for review in row["reviews"]] for user, row in rows.items()} == {
        user: [review[4] for review in shown] for user, (_, shown) in wanted.items()
    }
    card = (output / "README.md").read_text()
    for name in ("meta-Vermont.json.gz", "review-Vermont_10.json.gz"):
        digest = hashlib.sha256((folder / name).read_bytes()).hexdigest()
        assert card.count(digest) == 1
    assert "the raw files' terms" in card and "- A review's id is a hash of its user_id, gmap_id, time.\n" in card


@pytest.mark.parametrize(("field", "column"), [("stars", "Bubbles"), ("user_id", "Author")])
def test_a_column_that_a_table_lacks_is_told_with_those_it_has(tmp_path, field, column):
    schema, folder = example("TripAdvisor-like tables", tmp_path), tmp_path / "raw"
    folder.mkdir()
    PLATFORMS["TripAdvisor-like tables"](folder, random.Random(0))
    schema.write_text(schema.read_text().replace(f"{field}: {column}", f"{field}: Rated"))
    columns = "Author, Restaurant ID, Bubbles, Date of Visit, Review"
    message = f"^No record of reviews.csv has Rated, .* for {field} of review. The first record has {columns}$"
    with pytest.raises(ValueError, match=message):
        planned(folder, schema)


def test_photos_may_be_listed_in_a_column_of_a_file_whose_name_another_has(tmp_path):
    schema, folder = example("TripAdvisor-like tables", tmp_path), tmp_path / "raw"
    folder.mkdir()
    reviews, described = PLATFORMS["TripAdvisor-like tables"](folder, random.Random(0))
    rows = list(csv.DictReader((folder / "restaurants.csv").open(newline="", encoding="utf-8-sig")))
    photos = list(csv.DictReader((folder / "photos.csv").open(newline="", encoding="utf-8-sig")))
    for row in rows:
        own = [photo["File"] for photo in photos if photo["Restaurant ID"] == row["Restaurant ID"]]
        row["Media.All"] = own[0] if len(own) == 1 else json.dumps(own)
    write_table(folder / "restaurants.csv", rows)
    (folder / "photos.csv").unlink()
    text = schema.read_text().split("  photos:\n")[0]
    for name in ("restaurants", "reviews"):
        (folder / name).mkdir()
        (folder / f"{name}.csv").rename(folder / name / "data.csv")
        text = text.replace(f"{name}.csv", f"{name}/data.csv")
    text += "  photos: {listed_in: business, fields: {photo_id: Media.All}, folder: images, extension: .png}\n"
    schema.write_text(text)
    assert told(planned(folder, schema)) == expected(reviews, described, read_rules(schema))
