"""A corpus that training cannot read is refused before it, and the user named."""

import pytest
from datasets import Dataset

from corpora.checks import check_content, check_rows, labels_schema
from tests.tiny_corpus import SCHEMA, features, tiny_dataset, user
from training.batching import undecoded


def test_a_corpus_without_what_training_reads_is_refused_at_once():
    rows = tiny_dataset(2)
    assert labels_schema(rows.features) == SCHEMA
    check_content(undecoded(rows), needs_captions=True)
    with pytest.raises(ValueError, match=r"\['profile'\] missing"):
        labels_schema(rows.remove_columns("profile").features)
    with pytest.raises(ValueError, match="caption"):
        check_content(undecoded(tiny_dataset(2, captions=False)), needs_captions=True)
    with pytest.raises(ValueError, match="no rows"):
        check_content(rows.select([]), needs_captions=False)


@pytest.mark.parametrize(
    ("profile", "message"),
    [
        ("4", "the dataset needs a profile of class labels: profile is Value.*cast_column makes them of texts"),
        ({"stars": "4"}, r"of class labels: profile.stars must be a ClassLabel .*'Your own attributes' in README.md"),
        ({"stars": 4}, "of class labels: profile.stars must be a ClassLabel"),
    ],
)
def test_a_profile_that_is_not_of_class_labels_is_refused_and_the_way_said(profile, message):
    rows = tiny_dataset(2).remove_columns("profile").add_column("profile", [profile] * 2)
    with pytest.raises(ValueError, match=message):
        labels_schema(rows.features)


def corpus(spoil, users: int = 2100) -> Dataset:
    """Of the users the one but last is spoilt; more than a batch of Arrow's."""
    rows = [user(number, reviews=2, photos=1) for number in range(20)] * (users // 20)
    rows = [row | {"user_id": f"user {number}"} for number, row in enumerate(rows)]
    spoilt = user(0, reviews=2, photos=1) | {"user_id": f"user {len(rows) - 2}"}
    spoil(spoilt)
    rows[-2] = spoilt
    return undecoded(Dataset.from_list(rows, features=features()))


def test_rows_as_the_loading_script_writes_them_pass():
    check_rows(undecoded(tiny_dataset(3)), SCHEMA)
    check_rows(undecoded(tiny_dataset(3, captions=False)), SCHEMA)
    check_rows(undecoded(tiny_dataset(3, photos=0)), SCHEMA)
    check_rows(corpus(lambda row: row["reviews"][0].update(images=None, captions=None), 20), SCHEMA)
    check_rows(corpus(lambda row: row["reviews"][0].update(captions=[]), 20), SCHEMA)
    check_rows(corpus(lambda row: row.update(reviews=[]), 20), SCHEMA)


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        (lambda row: row.update(profile=None), "has a profile that is none: .* got None"),
        (lambda row: row["profile"].update(stars=None), "has a profile that is none: stars takes indices"),
        (lambda row: row["profile"].update(favorite_category=[1, 1]), "has a profile that is none"),
        (lambda row: row.update(reviews=None), "has no list of reviews"),
        (lambda row: row["reviews"][1].update(text=None), "has a review without a text"),
        (lambda row: row["reviews"][1].update(captions=["a", "b"]), "another number of captions than photos"),
        (lambda row: row["reviews"][0].update(images=[]), "another number of captions than photos"),
        (lambda row: row["reviews"][0].update(images=[{"bytes": None, "path": None}]), "a photo without bytes"),
    ],
)
def test_the_first_user_whose_row_cannot_be_read_is_named(spoil, problem):
    with pytest.raises(ValueError, match=f"user 'user 2098' .*{problem}".replace(" .*has", " has")):
        check_rows(corpus(spoil), SCHEMA)
