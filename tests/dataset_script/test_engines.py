"""Same rows whatever the engine, its threads and memory, the order and compression of lines; and for any platform."""

import hashlib
import json

import pytest

from dataset_script.profile_rules import read_rules
from tests import ROOT
from tests.raw_corpus import PROFILES, RawCorpus, hand_written, jpeg, plan

FORMS = {
    "plain": ({}, {}),
    "shuffled": ({"shuffle": True}, {}),
    "gz": ({"gz": True}, {}),
    "one thread": ({}, {"threads": 1}),
    "little memory": ({"shuffle": True}, {"threads": 3, "memory_limit": "200MB"}),
}
HASH = "56a145e3ddd4888d6d4177295e1027787eac6ff83d29362085a7254f49bc7145"


def fingerprint(corpus):
    rows = [(name, [[*map(list, row.reviews), row] for row in rows]) for name, rows in corpus.splits.items()]
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


@pytest.mark.parametrize("form", FORMS)
def test_the_rows_have_one_hash(tmp_path, form):
    written, options = FORMS[form]
    assert fingerprint(plan(hand_written().write(tmp_path / "raw", **written), **options)) == HASH


def film_platform() -> RawCorpus:
    """Three people who each saw two films twice; the third film nobody reviewed often."""
    films = [
        {
            "business_id": "noir",
            "genres": "Drama, Horror",
            "attributes": {"minutes": 130, "audience": {"family": False}},
        },
        {"business_id": "farce", "genres": "Comedy", "attributes": {"minutes": "90", "group_discount": True}},
        {"business_id": "ghost", "genres": "Horror", "attributes": {"minutes": 100, "audience": "{'family': True}"}},
    ]
    seen = {"ann": ["noir", "farce"], "bob": ["farce", "ghost"], "cat": ["noir", "ghost"]}
    scores = {"ann": [9, 10], "bob": [6, 7], "cat": [1, 2]}
    reviews, photos = [], []
    for user, films_seen in seen.items():
        for n, film in enumerate(films_seen * 2):
            line = {"review_id": f"{user}-{n}", "user_id": user, "business_id": film, "stars": scores[user][n % 2]}
            reviews.append(line | {"text": "a film of some five words", "date": f"2024-01-0{n + 1}T20:00:00"})
            photos.append({"photo_id": f"{user}{n}", "review_id": f"{user}-{n}", "caption": "the screen"})
    return RawCorpus(films, reviews, photos, {photo["photo_id"]: jpeg() for photo in photos})


FILM_PROFILES = {
    # 9.5 is 10; Drama, Comedy and Horror once each: the first; 110 minutes; one of two for company is no majority.
    "ann": {"score": "10", "genre": "Drama", "length": "Short", "company": "Alone"},
    "bob": {"score": "7", "genre": "Comedy", "length": "Short", "company": "Together"},
    "cat": {"score": "2", "genre": "Horror", "length": "Long", "company": "Alone"},
}


def test_another_platform_needs_a_yaml_and_no_code(tmp_path):
    rules = read_rules(ROOT / "tests" / "film_schema.yaml")
    corpus = plan(film_platform().write(tmp_path / "raw"), rules, min_reviews=4)
    rows = {row.user_id: row for split in corpus.splits.values() for row in split}
    assert {user: row.profile for user, row in rows.items()} == FILM_PROFILES
    assert corpus.cuts == {"length": (110,)}
    for review, photos in rows["ann"].reviews:
        assert [photo.photo_id for photo in photos] == [review.review_id.replace("-", "")]
    assert rows["ann"].reviews[0].review.date == "2024-01-04 20:00:00"


def test_memory_that_is_none_is_refused(tmp_path):
    with pytest.raises(ValueError, match="DuckDB cannot go on"):
        plan(hand_written().write(tmp_path / "raw"), memory_limit="much")


@pytest.mark.parametrize("engine", ["nonsense", "Spark", "local[x]", "http://master"])
def test_an_engine_that_is_none_is_refused(tmp_path, engine):
    with pytest.raises(ValueError, match="engine must be duckdb, spark, or a Spark master like local"):
        plan(hand_written().write(tmp_path / "raw"), engine=engine)


@pytest.mark.slow
def test_a_spark_that_does_not_start_is_refused(tmp_path):
    pytest.importorskip("pyspark")
    with pytest.raises(ValueError, match="Spark cannot go on: .*with 0 threads"):
        plan(hand_written().write(tmp_path / "raw"), engine="local[0]")


@pytest.mark.parametrize("nest", ["[" * 10_000 + "]" * 10_000, '{"a":' * 10_000 + "1" + "}" * 10_000])
def test_a_line_nested_without_end_takes_no_other_line_with_it(tmp_path, nest):
    corpus = hand_written()
    corpus.reviews = [f'{{"review_id": "deep", "user_id": "x", "text": {nest}}}', *corpus.reviews]
    assert fingerprint(plan(corpus.write(tmp_path / "raw"))) == HASH


def with_odd_lines() -> RawCorpus:
    """The hand-written corpus, its categories as lists, and lines that some engine could take for a review."""
    raw = hand_written()
    for business in raw.businesses:
        business["categories"] = business["categories"] and business["categories"].split(", ")
    for n, stars in enumerate(ODD_NUMBERS):
        raw.reviews.append(raw.reviews[0] | {"review_id": f"odd-{n}", "stars": stars, "date": "2024-01-01 00:00:00"})
    raw.reviews.append(str(raw.reviews[0] | {"review_id": "single quotes"}))
    return raw


ODD_NUMBERS = ["1d", "1F", "0x1p0", "1_0e-1", "Infinity", "nan", "4,0", "."]


def test_what_one_engine_takes_for_a_number_is_none(tmp_path):
    corpus = plan(with_odd_lines().write(tmp_path / "raw"))
    assert fingerprint(corpus) == HASH
    assert corpus.ledger.dropped["review", "stars is missing, null or not a number"] == len(ODD_NUMBERS)


def test_a_number_has_any_plain_form(tmp_path):
    raw = hand_written()
    for record, form in zip(raw.reviews, ["3", "3.", " 3.0 ", "+3", "30e-1", ".3E+1"], strict=False):
        record["stars"] = form
    assert fingerprint(plan(raw.write(tmp_path / "raw"))) == HASH


@pytest.mark.slow
@pytest.mark.parametrize("raw", [hand_written, with_odd_lines])
def test_spark_gives_duckdbs_rows(tmp_path, raw):
    pytest.importorskip("pyspark")
    corpus = plan(raw().write(tmp_path / "raw"), engine="local[2]")
    assert {row.user_id: row.profile for rows in corpus.splits.values() for row in rows} == PROFILES
    assert fingerprint(corpus) == HASH
