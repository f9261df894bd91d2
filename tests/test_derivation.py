"""What businesses tell, and how shares, ties, draws and splits come out at their borders."""

import os
import random
import warnings

import pytest

from dataset_script.derivation import (
    FAVORITE_CATEGORIES,
    PROFILE_VALUES,
    Evidence,
    business_evidence,
    choose_photos,
    derive_labels,
    favorite_categories,
    majority,
    parse_literal,
    round_half_up,
    split_users,
)

SIZES = {"train": 3000, "validation": 500, "test": 500}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("True", True),
        ("None", None),
        ("2", 2),
        ("u'no'", "no"),
        ("'average'", "average"),
        ("{'dessert': False, u'lunch': True, 'dinner': None}", {"dessert": False, "lunch": True, "dinner": None}),
        (True, True),
        (None, None),
        (2, 2),
        ("", None),
        ("yes", None),
        ("{'lunch': ", None),
        ("{[]: 1}", None),
        ("\x00", None),
        ("\ud800", None),
        ("(" * 1999, None),
        ("-" * 1999 + "1", None),
        ("1" + " " * 2000, None),
    ],
)
def test_a_literal_is_parsed_or_unknown(text, value):
    assert parse_literal(text) == value


def test_a_literal_is_never_executed(monkeypatch):
    monkeypatch.setattr(os, "getcwd", lambda: pytest.fail("executed"))
    assert parse_literal("__import__('os').getcwd()") is None


def test_no_string_makes_the_literal_parser_raise_or_warn():
    rng = random.Random(0)
    alphabet = "()[]{},:'\"u\\\n \t0123456789.eEjTrueFalsNo-+*~#;=f\x00\u00e9\ud800"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        parsed = [
            parse_literal("".join(rng.choices(alphabet, k=rng.choice((1, 2, 4, 12, 200))))) for _ in range(20000)
        ]
    assert any(value is not None for value in parsed)


def test_a_business_without_attributes_tells_nothing():
    unknown = Evidence((), None, None, None, None)
    for business in ({}, {"attributes": None, "categories": None}, {"attributes": "x", "categories": ["Pizza"]}):
        assert business_evidence(business) == unknown


@pytest.mark.parametrize(
    ("meals", "dinner"),
    [
        ("{'lunch': False, 'dinner': True}", True),
        ("{'dinner': True}", True),
        ("{'lunch': True, 'dinner': None}", False),
        ("{'lunch': True, 'dinner': True}", None),
        ("{'lunch': False, 'dinner': False}", None),
        ("{'lunch': True, 'dinner': ", None),
        ("True", None),
    ],
)
def test_only_a_business_good_for_one_of_the_two_meals_is_evidence(meals, dinner):
    assert business_evidence({"attributes": {"GoodForMeal": meals}}).dinner is dinner


@pytest.mark.parametrize(
    ("takeout", "caters", "service"),
    [
        ("True", "False", True),
        ("None", "True", True),
        ("False", "None", False),
        ("False", "False", False),
        ("None", None, None),
    ],
)
def test_takeout_or_catering_is_service(takeout, caters, service):
    attributes = {"RestaurantsTakeOut": takeout, "Caters": caters}
    assert business_evidence({"attributes": attributes}).service is service


@pytest.mark.parametrize(
    ("price", "known"), [("1", 1), (4, 4), ("0", None), ("5", None), ("True", None), ("u'2'", None)]
)
def test_a_price_is_a_number_from_one_to_four(price, known):
    assert business_evidence({"attributes": {"RestaurantsPriceRange2": price}}).price == known


def test_categories_are_whole_names_and_count_once():
    evidence = business_evidence({"categories": "Coffee & Tea Supplies, Pizza,Pizza , Health & Medical, Food"})
    assert evidence.categories == ("Pizza", "Health & Medical")


def test_the_mean_rating_rounds_a_half_up():
    assert [round_half_up(r) for r in ([3, 4], [3] * 16 + [4] * 14, [1], [4.5], [2, 2, 3, 3])] == [4, 3, 1, 5, 3]


def test_exactly_half_is_no_majority():
    assert [majority(v) for v in ([True, False], [True, True, False, None], [None], [])] == [False, True, None, None]


def test_a_tie_of_categories_goes_to_the_schema_order():
    assert favorite_categories([["Pizza"], ["Shopping"], ["Automotive"]]) == ("Automotive", "Shopping")
    assert favorite_categories([["Pizza", "Home Services"], ["Home Services"]]) == ("Pizza", "Home Services")
    assert favorite_categories([["Pizza"], ["Pizza"]]) is None


def test_labels_name_the_first_attribute_without_evidence():
    silent = Evidence(("Pizza", "Shopping"), True, 2.0, None, None)
    labels = derive_labels([4.0], [silent])
    assert labels.missing() == "discount_preference"
    assert labels._replace(discount_preference="True", service_preference="True").missing() is None


def test_every_label_is_a_value_of_the_schema():
    business = Evidence(("Pizza", "Shopping"), True, 2.0, True, False)
    profile = derive_labels([4.0], [business]).profile(median_price=1.9)
    assert list(profile) == list(PROFILE_VALUES)
    assert profile.pop("favorite_category") == ["Shopping", "Pizza"]
    assert profile.pop("budget_range") == "High"
    assert all(value in PROFILE_VALUES[key] for key, value in profile.items())
    assert len(FAVORITE_CATEGORIES) == 10


def test_photos_are_drawn_by_user_and_id_alone():
    names = [f"photo{n}" for n in range(20)]
    first = choose_photos("ann", names, lambda photo: True, 3)
    assert first == choose_photos("ann", names[::-1] + names, lambda photo: True, 3)
    assert first != choose_photos("bob", names, lambda photo: True, 3)
    rest = choose_photos("ann", names, lambda photo: photo != first[0], 3)
    assert rest[:2] == first[1:] and first[0] not in rest


def test_a_large_corpus_is_drawn_to_the_sizes_asked_for():
    users = [f"user{n}" for n in range(4100)]
    splits = split_users(users, 0, SIZES, all_users=False)
    assert {name: len(drawn) for name, drawn in splits.items()} == SIZES
    assert len({user for drawn in splits.values() for user in drawn}) == 4000
    assert splits == split_users(users[::-1], 0, SIZES, all_users=False)
    assert splits != split_users(users, 1, SIZES, all_users=False)


@pytest.mark.parametrize(
    ("users", "sizes", "counts"),
    [
        (800, (3000, 500, 500), [600, 100, 100]),
        (12, (3000, 500, 500), [10, 1, 1]),
        (3, (3000, 500, 500), [1, 1, 1]),
        (3, (1, 100, 1), [1, 1, 1]),
        (105, (80, 10, 10), [85, 10, 10]),
    ],
)
def test_other_corpora_keep_the_proportions_and_no_split_is_empty(users, sizes, counts):
    sizes = dict(zip(SIZES, sizes, strict=True))
    splits = split_users(map(str, range(users)), 0, sizes, all_users=True)
    assert [len(drawn) for drawn in splits.values()] == counts


def test_fewer_users_than_splits_are_refused():
    with pytest.raises(ValueError, match="3 splits need a user each, but 2"):
        split_users(["ann", "bob"], 0, SIZES, all_users=True)
