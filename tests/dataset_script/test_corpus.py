"""From the hand-written raw corpus to rows: profiles as worked out on paper, thresholds at their borders, no luck."""

from collections import Counter

import pytest

from dataset_script.corpus_options import options
from dataset_script.corpus_report import PAPER_DISTRIBUTION, PAPER_STATISTICS, render_report
from tests.raw_corpus import DROPPED_USERS, MEDIAN_PRICE, PROFILES, RULES, config, hand_written, jpeg, plan


def rows(corpus):
    return {row.user_id: row for split in corpus.splits.values() for row in split}


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    return hand_written().write(tmp_path_factory.mktemp("hand") / "raw")


@pytest.fixture(scope="module")
def corpus(raw):
    return plan(raw)


@pytest.mark.parametrize("user", PROFILES)
def test_a_profile_is_the_one_worked_out_by_hand(corpus, user):
    assert rows(corpus)[user].profile == PROFILES[user]


def test_users_are_dropped_and_counted_by_reason(corpus):
    assert rows(corpus).keys() == PROFILES.keys()
    dropped = {reason: count for (where, reason), count in corpus.ledger.dropped.items() if where == "users"}
    assert dropped == DROPPED_USERS
    assert list(corpus.ledger.left.values()) == [361, 361, 359, 11, 10, 8, 8]
    assert corpus.cuts == {"budget_range": (MEDIAN_PRICE,)}


def test_photos_that_no_row_could_show_are_counted(tmp_path):
    raw = hand_written()
    raw.photos += [{"photo_id": "stray", "business_id": "unheard of"}, {"photo_id": "other", "review_id": "none"}]
    corpus = plan(raw.write(tmp_path / "raw"))
    assert corpus.ledger.dropped["photos", "belongs to no review that is left"] == 2
    assert "Photos belong by their lines' ids: 1 to a review, 10 to a business." in corpus.ledger.notes


def test_what_no_business_tells_is_said(corpus, tmp_path):
    absent = "Active Life, Local Services, Health & Medical, Home Services"
    assert f"Favorite Category: no business has {absent} in categories." in corpus.ledger.notes
    assert len(corpus.ledger.notes) == 2
    raw = hand_written()
    for business in raw.businesses:
        if business["attributes"]:
            unknown = {"HappyHour": "perhaps", "RestaurantsPriceRange2": "45 dollars"}
            business["attributes"] = business["attributes"] | unknown
    with pytest.raises(
        ValueError, match="Budget Range: no business has a number that counts in RestaurantsPriceRange2"
    ):
        plan(raw.write(tmp_path / "raw"))
    with pytest.raises(ValueError, match="Discount Preference: no business has true or false in HappyHour"):
        plan(tmp_path / "raw")


def test_the_report_shows_the_notes(corpus):
    assert "\n\n- Photos belong by their lines' ids: 9 to a business.\n- Favorite" in render_report("default", corpus)


def test_five_words_fit_and_four_do_not_nor_301(corpus):
    assert corpus.ledger.dropped["review", "fewer than 5 words"] == 1
    assert corpus.ledger.dropped["review", "more than 300 words"] == 1
    assert Counter(len(review.text.split()) for review, _ in rows(corpus)["gus"].reviews) == {300: 1, 5: 23}


def test_a_row_shows_the_newest_reviews_with_a_photo(corpus):
    shown = rows(corpus)
    assert [review.review_id for review, _ in shown["ann"].reviews] == [f"ann-{n:02}" for n in range(24)]
    assert {review.business_id for review, _ in shown["cat"].reviews} == {"pizzeria"}
    assert len(shown["kim"].reviews) == 3
    assert {len(photos) for _, photos in shown["cat"].reviews} == {3}
    assert all(review.text for row in shown.values() for review, _ in row.reviews)


def test_reviews_of_one_moment_stand_by_their_ids(tmp_path):
    raw = hand_written()
    for record in raw.reviews:
        record["date"] = "2020-01-01 00:00:00"
    raw.reviews.reverse()
    shown = rows(plan(raw.write(tmp_path / "raw")))["ann"].reviews
    assert [review.review_id for review, _ in shown] == [f"ann-{n:02}" for n in range(24)]


@pytest.mark.parametrize("form", [{"gz": True}, {"shuffle": True}])
def test_compression_and_the_order_of_lines_change_nothing(tmp_path, corpus, form):
    raw = hand_written()
    twins = [raw.reviews[0] | {"text": "another text of one id", "stars": 1.0}, raw.businesses[0] | {"attributes": {}}]
    twins.append(raw.photos[0] | {"caption": "another"})
    for records, twin in zip((raw.reviews, raw.businesses, raw.photos), twins, strict=True):
        records.append(twin)
    first, second = plan(raw.write(tmp_path / "plain")), plan(raw.write(tmp_path / "other", **form))
    assert first.splits == second.splits
    assert first.ledger == second.ledger
    assert [first.ledger.dropped[key] for key in first.ledger.dropped if key[1].startswith("duplicate")] == [1, 1, 1]


def test_photos_that_name_a_review_or_a_user_belong_to_them_alone(tmp_path):
    raw = hand_written()
    named = {
        "of-review": {"review_id": "ann-01", "business_id": "pizzeria"},
        "of-visit": {"user_id": "bob", "business_id": "bistro"},
        "of-user": {"user_id": "cat"},
        "of-nobody": {"review_id": "zoe-01", "business_id": "pizzeria"},
    }
    raw.photos += [{"photo_id": photo_id, "caption": None} | links for photo_id, links in named.items()]
    raw.files |= dict.fromkeys(named, jpeg())
    shown = {
        photo_id: {
            (row.user_id, review.business_id)
            for row in rows(plan(raw.write(tmp_path / photo_id), max_images_per_review=9)).values()
            for review, photos in row.reviews
            if photo_id in {photo.photo_id for photo in photos}
        }
        for photo_id in named
    }
    assert shown == {
        "of-review": {("ann", "pizzeria")},
        "of-visit": {("bob", "bistro")},
        "of-user": {("cat", "pizzeria"), ("cat", "cafe")},
        "of-nobody": set(),
    }


CHANGED = {
    "min_words": 6,
    "max_words": 301,
    "min_reviews": 29,
    "max_reviews": 9,
    "max_images_per_review": 2,
    "min_photo_reviews": 2,
    "train_size": 500,
    "validation_size": 1500,
    "test_size": 1500,
    "seed": 1,
    "max_photo_pixels": 100,
    "max_photo_bytes": 2000,
}


# These say how a corpus is made, and change nothing in it: see test_engines.py, of the master test_spark_session.py,
# and of links test_raw_folder.py.
MACHINE = {"engine", "spark_master", "memory_limit", "threads", "scratch", "allow_links"}


@pytest.mark.parametrize("name", CHANGED)
def test_every_threshold_changes_the_corpus(tmp_path, name):
    raw = hand_written()
    for record in raw.reviews:
        if record["user_id"] not in ("ann", "fay", "gus"):  # whose words stay at the borders
            record["text"] += " two more"
    raw.files["pizzeria-0"] = jpeg(size=(16, 8)) + b"\0" * 2000
    folder = raw.write(tmp_path / "raw")
    assert plan(folder, **{name: CHANGED[name]}).splits != plan(folder).splits


def test_all_users_keeps_who_would_not_be_drawn(raw):
    sizes = {"train_size": 2, "validation_size": 1, "test_size": 1}
    assert len(rows(plan(raw, **sizes))) == 4
    assert len(rows(plan(raw, **sizes, all_users=True))) == 8


@pytest.mark.parametrize(
    ("thresholds", "message"),
    [
        ({"min_words": 0}, "min_words must be at least 1, got 0"),
        ({"min_words": 9, "max_words": 8}, "max_words must be at least min_words, got 8 and 9"),
        ({"spark_master": "local[2]"}, r"spark_master 'local\[2\]' needs engine 'spark', got 'duckdb'"),
        ({"max_reviews": 2}, "max_reviews must be at least min_photo_reviews, got 2 and 3"),
        ({"min_reviews": "30"}, "min_reviews must be of type int, got '30'"),
        ({"max_words": 1000}, "max_words must be at most 999, got 1000"),
        ({"image_size": -1}, "image_size must be at least 0, got -1"),
        ({"threads": 1_000_000}, "threads must be at most 1024, got 1000000"),
        ({"captions": "blip"}, "captions must be one of none, photo_captions, got 'blip'"),
    ],
)
def test_thresholds_that_are_none_are_refused(thresholds, message):
    with pytest.raises(ValueError, match=message):
        config(**thresholds).check()


def test_the_report_stands_beside_the_papers_tables(corpus):
    report = render_report("default", corpus)
    # ann, gus, bob and lou favour Event Planning & Services: 4 of 16 favourites.
    assert "| favorite_category | Event Planning & Services | 1,883 (23.5%) | 4 (25.0%) |" in report
    assert "| Users | 14,821 | 8 |" in report
    assert "| users | no evidence for preferred_meal | 1 |" in report
    # All wrote 30; with a photo cat has 15, dan 20, eve 25, kim 3, lou 25, the others all. Rows show 24, kim's 3.
    assert "| Avg. reviews per user: all of a fitting length | - | 30.0 |" in report
    assert "| Avg. reviews per user: of these with a listed photo | 24.3 | 22.2 |" in report
    assert "| Avg. reviews per user: of these shown, `max_reviews` at most | - | 19.8 |" in report
    assert [sum(PAPER_DISTRIBUTION[rule.key].values()) for rule in RULES] == [4000, 8000, 4000, 4000, 4000, 4000]
    assert all(name in report for name in PAPER_STATISTICS)


def test_each_option_says_what_it_is():
    assert {option.name for option in options()} == {
        *CHANGED,
        "all_users",
        "captions",
        *MACHINE,
        "image_size",
        "schema",
    }
    assert (given := list(options())) and all(option.metadata["help"] for option in given)
