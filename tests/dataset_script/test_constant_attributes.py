"""An attribute is no constant where most businesses tell nothing of it; one that is nevertheless is told of."""

import random
from collections import Counter
from dataclasses import replace

import pytest

from dataset_script.profile_rules import warn_of_constants
from tests.raw_corpus import RULES, RawCorpus, jpeg, plan, review

SERVICE = RULES[-1]
FITTING = {"GoodForMeal": "{'lunch': True}", "RestaurantsPriceRange2": "2", "HappyHour": "False"}
# Of the real files: so many businesses tell of takeout or catering, and so many of these have it.
TELLING, YES = 1952, 0.924
BUSINESSES = 5000


def real_rates() -> RawCorpus:
    """Sixty users with thirty visits each; whoever goes to places that tell goes to such that mostly say yes."""
    rng = random.Random(0)
    businesses = []
    for n in range(BUSINESSES):
        told = {"RestaurantsTakeOut": str(rng.random() < YES), "Caters": "None"} if n < TELLING else {}
        line = {"business_id": f"b{n}", "categories": "Pizza, Shopping", "attributes": FITTING | told}
        businesses.append(line if n % 50 else line | {"attributes": {"RestaurantsTakeOut": "None"}})
    reviews = []
    for user in range(60):
        diner = rng.random()  # how much of this one's visits are of places that tell
        for n in range(30):
            places = range(TELLING) if rng.random() < diner else range(TELLING, BUSINESSES)
            reviews.append(review(f"u{user}", n, f"b{rng.choice(places)}", 1 + (user + n // 3) % 5))
    visited = {record["business_id"] for record in reviews}
    photos = [{"photo_id": f"p-{place}", "business_id": place, "caption": ""} for place in sorted(visited)]
    return RawCorpus(businesses, reviews, photos, {photo["photo_id"]: jpeg() for photo in photos})


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    return real_rates().write(tmp_path_factory.mktemp("real") / "raw")


def share_of_service(corpus):
    counts = Counter(row.profile["service_preference"] for rows in corpus.splits.values() for row in rows)
    return counts["True"] / counts.total()


def warnings(corpus):
    return [note for note in corpus.ledger.notes if note.startswith("Warning: Service")]


def test_service_is_no_constant_where_most_businesses_tell_nothing(raw):
    corpus = plan(raw)
    assert 0.2 < share_of_service(corpus) < 0.8
    assert not warnings(corpus)


def test_without_the_rule_it_would_be_and_the_build_says_what_to_change(raw):
    corpus = plan(raw, (*RULES[:-1], replace(SERVICE, unknown=None)))
    assert share_of_service(corpus) == 1
    (warning,) = warnings(corpus)
    assert 'Service Preference is True for 100.0 % of the users. In the schema add `unknown: "no"`' in warning


@pytest.mark.slow
def test_spark_counts_the_unknown_alike(raw):
    pytest.importorskip("pyspark")
    assert plan(raw, engine="local[1]").splits == plan(raw).splits


def test_a_business_without_a_line_counts_as_a_no(tmp_path):
    raw = real_rates()
    raw.businesses = [business for business in raw.businesses if int(business["business_id"][1:]) < TELLING]
    corpus = plan(raw.write(tmp_path / "raw"))
    assert 0.2 < share_of_service(corpus) < 0.8


@pytest.mark.parametrize(("rare", "warned"), [(0, True), (4, True), (5, False)])
def test_a_value_of_more_than_95_percent_is_told_of(rare, warned):
    values = {SERVICE.key: Counter({"False": rare, "True": 100 - rare})}
    assert bool(warn_of_constants([SERVICE], values, 100)) == warned


def test_of_several_values_one_that_nearly_everybody_has_is_told_of():
    categories = RULES[1]
    values = {categories.key: Counter({"Shopping": 10, categories.values[0]: 5, categories.values[3]: 5})}
    (warning,) = warn_of_constants([categories], values, 10)
    assert "Favorite Category is Shopping for 100.0 % of the users." in warning
    assert "a smaller `count` than 2, or other `values`" in warning
