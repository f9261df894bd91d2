"""The synthetic Yelp: the same bytes for a seed, the real files' form and quirks, no label, and nothing half done."""

import ast
import json
import os
import re
import subprocess
import sys

import pytest
from PIL import Image

from dataset_script import synthesize as module
from dataset_script.provenance import MARKER
from dataset_script.synthesize import main, synthesize
from tests import ROOT

BUSINESS, REVIEW, PHOTOS = "yelp_academic_dataset_business.json", "yelp_academic_dataset_review.json", "photos.json"


def records(folder, name):
    return [json.loads(line) for line in (folder / name).read_text(encoding="utf-8").splitlines()]


def contents(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("synthetic") / "raw"
    synthesize(folder, num_users=60, seed=3, num_businesses=150, image_size=32)
    return folder


def test_a_seed_gives_the_same_bytes_in_every_process(tmp_path):
    command = [sys.executable, "-m", "dataset_script.synthesize", "--users", "2", "--businesses", "20", "--seed", "5"]
    for name in ("1", "2"):
        environment = os.environ | {"PYTHONHASHSEED": name}
        subprocess.run([*command, "--output", str(tmp_path / name)], cwd=ROOT, env=environment, check=True)
    assert contents(tmp_path / "1") == contents(tmp_path / "2")
    with Image.open(next((tmp_path / "1" / "photos").iterdir())) as image:
        assert image.size == (96, 96)


def test_another_seed_gives_other_users_texts_and_photos(tmp_path):
    for seed in (0, 1):
        synthesize(tmp_path / str(seed), 2, seed, num_businesses=20, image_size=16)
    one, other = contents(tmp_path / "0"), contents(tmp_path / "1")
    assert all(one[name] != other[name] for name in (BUSINESS, REVIEW, PHOTOS, MARKER))
    assert set(one) & set(other) == {BUSINESS, REVIEW, PHOTOS, MARKER}


@pytest.mark.parametrize("num_users", [1, 7])
def test_any_number_of_users_is_written_and_a_few_casual_ones_on_top(tmp_path, num_users):
    synthesize(tmp_path / "raw", num_users, num_businesses=30, image_size=16)
    counts = usable_reviews(tmp_path / "raw")
    assert sum(count >= 30 for count in counts.values()) == num_users
    assert sum(count < 30 for count in counts.values()) == 1


def usable_reviews(folder):
    counts = {}
    for review in records(folder, REVIEW):
        usable = 5 <= len(review["text"].split()) <= 300
        counts[review["user_id"]] = counts.get(review["user_id"], 0) + usable
    return counts


def test_the_files_have_the_fields_of_the_yelp_open_dataset(corpus):
    fields = {name: {tuple(record) for record in records(corpus, name)} for name in (BUSINESS, REVIEW, PHOTOS)}
    assert fields == {
        BUSINESS: {
            ("business_id", "name", "address", "city", "state", "postal_code", "latitude", "longitude", "stars",
             "review_count", "is_open", "attributes", "categories", "hours")
        },
        REVIEW: {("review_id", "user_id", "business_id", "stars", "useful", "funny", "cool", "text", "date")},
        PHOTOS: {("photo_id", "business_id", "caption", "label")},
    }  # fmt: skip


def test_no_label_of_a_user_is_written(corpus):
    assert sorted(path.name for path in corpus.iterdir()) == sorted(["photos", PHOTOS, BUSINESS, REVIEW, MARKER])
    for name in (BUSINESS, REVIEW, PHOTOS):
        text = (corpus / name).read_text(encoding="utf-8").lower()
        assert not re.search("profile|preferred_meal|favorite_category|budget_range|_preference", text)


def test_ids_dates_and_ratings_look_as_yelps_do(corpus):
    assert (reviews := list(records(corpus, REVIEW)))
    for review in reviews:
        assert all(re.fullmatch(r"[\w-]{22}", review[key]) for key in ("review_id", "user_id", "business_id"))
        assert re.fullmatch(r"20\d\d-\d\d-\d\d \d\d:\d\d:\d\d", review["date"])
        assert review["stars"] in (1.0, 2.0, 3.0, 4.0, 5.0) and isinstance(review["stars"], float)
    assert {photo["label"] for photo in records(corpus, PHOTOS)} == {"food", "drink", "inside", "outside", "menu"}


def test_businesses_count_their_reviews_and_mean_their_stars(corpus):
    given = {}
    for review in records(corpus, REVIEW):
        given.setdefault(review["business_id"], []).append(review["stars"])
    assert (businesses := list(records(corpus, BUSINESS)))
    for business in businesses:
        ratings = given.pop(business["business_id"], [])
        assert business["review_count"] == len(ratings)
        assert not ratings or abs(business["stars"] - sum(ratings) / len(ratings)) <= 0.25
    assert given == {}


def test_attributes_are_python_literals_in_strings_and_may_be_null_absent_or_none(corpus):
    businesses = records(corpus, BUSINESS)
    for field in ("attributes", "categories", "hours"):
        assert 0 < sum(business[field] is None for business in businesses) < 40, field
    attributes = [business["attributes"] for business in businesses if business["attributes"]]
    values = {name: {entry.get(name) for entry in attributes} for name in attributes[0]}
    assert values["WiFi"] >= {"u'no'", "'no'", None}
    assert values["RestaurantsPriceRange2"] >= {"1", "2", "3", "4", None}
    assert values["HappyHour"] >= {"True", "False", None}
    assert any("None" in entry.values() for entry in attributes)
    meals = [entry["GoodForMeal"] for entry in attributes if entry.get("GoodForMeal", "None") != "None"]
    assert any("u'lunch': True" in meal for meal in meals) and any("'dinner': None" in meal for meal in meals)
    assert set(ast.literal_eval(meals[0])) == {"breakfast", "brunch", "dessert", "dinner", "latenight", "lunch"}


def test_reviews_have_59_words_on_average_and_some_are_too_short_or_too_long(corpus):
    lengths = [len(review["text"].split()) for review in records(corpus, REVIEW)]
    usable = [length for length in lengths if 5 <= length <= 300]
    assert sum(usable) / len(usable) == pytest.approx(59, abs=3)
    assert min(usable) < 20 and max(usable) > 150
    assert 0 < sum(length < 5 for length in lengths) < 60 and 0 < sum(length > 300 for length in lengths) < 30


def test_every_photo_decodes_and_a_few_listed_ones_have_no_file(corpus):
    listed = {photo["photo_id"] for photo in records(corpus, PHOTOS)}
    files = {path.stem for path in (corpus / "photos").iterdir()}
    assert files < listed and len(files) > 0.95 * len(listed)
    for name in files:
        with Image.open(corpus / "photos" / f"{name}.jpg") as image:
            image.load()
            assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (32, 32))


def test_nearly_every_business_has_2_to_4_photos_and_a_quarter_of_the_captions_are_empty(corpus):
    photos = records(corpus, PHOTOS)
    counts = [
        sum(photo["business_id"] == business["business_id"] for photo in photos)
        for business in records(corpus, BUSINESS)
    ]
    assert set(counts) == {0, 2, 3, 4} and counts.count(0) < 15
    assert 0.2 < sum(photo["caption"] == "" for photo in photos) / len(photos) < 0.3


@pytest.mark.parametrize("users", [0, -1])
def test_no_users_are_refused(tmp_path, users):
    with pytest.raises(ValueError, match=f"num_users is {users}; at least 1"):
        synthesize(tmp_path / "raw", users)


def test_sizes_out_of_range_are_refused_with_the_range(tmp_path):
    with pytest.raises(ValueError, match="image_size is 8; it must be 16 to 2048"):
        synthesize(tmp_path / "raw", 1, image_size=8)
    with pytest.raises(ValueError, match="num_businesses is 19; users need 20 or more"):
        synthesize(tmp_path / "raw", 1, num_businesses=19)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_holds_something_is_refused_and_left_alone_but_an_empty_one_is_filled(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(ValueError, match="holds mine.txt already"):
        synthesize(tmp_path, 1)
    with pytest.raises(ValueError, match="is a file"):
        synthesize(tmp_path / "mine.txt", 1)
    assert contents(tmp_path) == {"mine.txt": b"mine"}
    (tmp_path / "empty").mkdir()
    main(["--output", str(tmp_path / "empty"), "--users", "1", "--businesses", "20", "--image_size", "16"])
    assert {BUSINESS, REVIEW, PHOTOS} < set(contents(tmp_path / "empty"))


def test_a_run_that_fails_half_way_leaves_nothing(tmp_path, monkeypatch):
    def full_disk(*_):
        raise OSError("no space left on device")

    monkeypatch.setattr(module, "draw_photo", full_disk)
    with pytest.raises(OSError, match="no space"):
        synthesize(tmp_path / "raw", 1, num_businesses=20)
    assert list(tmp_path.iterdir()) == []
