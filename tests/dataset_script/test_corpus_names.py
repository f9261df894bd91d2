"""An attribute may be called like anything in the raw files or in the derivation: its values stay the same."""

from dataclasses import replace

import pytest

from tests.raw_corpus import MEDIAN_PRICE, PROFILES, RULES, hand_written, plan

SHARE, TOP, MEDIAN = 4, 1, 3
SHARE_NAMES = ["Ratings", "Reviews", "HappyHour", "happyhour", "Caters", "GoodForMeal", "Attributes", "Categories"]
SHARE_NAMES += ["user_id", "Business_ID", "Favorite Category 0", "Budget Range Sum", "Sum 3", "Top 1 0", "Told"]


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    return hand_written().write(tmp_path_factory.mktemp("names") / "raw")


def renamed(place, name):
    return (*RULES[:place], replace(RULES[place], name=name), *RULES[place + 1 :])


def check(raw, rules, **options):
    corpus = plan(raw, rules, threads=1, **options)
    found = {row.user_id: list(row.profile.values()) for rows in corpus.splits.values() for row in rows}
    assert found == {user: list(profile.values()) for user, profile in PROFILES.items()}
    assert list(corpus.cuts.values()) == [(MEDIAN_PRICE,)]


@pytest.mark.parametrize("name", SHARE_NAMES)
def test_a_share_has_any_name(raw, name):
    check(raw, renamed(SHARE, name))


@pytest.mark.parametrize("name", ["Ratings", "Reviews", "RestaurantsPriceRange2", "Stars Count"])
def test_a_median_has_any_name(raw, name):
    check(raw, renamed(MEDIAN, name))


@pytest.mark.parametrize("name", ["Categories", "Business_ID", "Attributes", "Told"])
def test_the_most_frequent_values_have_any_name(raw, name):
    check(raw, renamed(TOP, name))


def test_a_field_and_an_attribute_of_one_name_are_told_apart(tmp_path):
    raw = hand_written()
    for business in raw.businesses:
        business["Text_0"] = business["categories"]
        if business["attributes"]:
            business["attributes"]["categories"] = business["attributes"]["HappyHour"]
            business["attributes"]["business_id"] = business["attributes"]["Caters"]
    of = {TOP: ("Text_0",), 4: ("categories",), 5: ("RestaurantsTakeOut", "business_id")}
    rules = tuple(replace(rule, of=of.get(place, rule.of)) for place, rule in enumerate(RULES))
    check(raw.write(tmp_path / "raw"), rules)


@pytest.mark.slow
def test_spark_takes_any_name(raw):
    pytest.importorskip("pyspark")
    for name in ("Ratings", "Business_ID", "HappyHour", "Favorite Category 0"):
        check(raw, renamed(SHARE, name), engine="local[1]")
