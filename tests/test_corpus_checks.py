"""A corpus that training cannot read is refused before it, and the user named."""

import pytest
from datasets import Dataset

from mmprofile.batching import undecoded
from mmprofile.corpus_checks import check_content, check_features, check_rows
from tests.tiny_corpus import SCHEMA, features, tiny_dataset, user


def test_a_corpus_without_what_training_reads_is_refused_at_once():
    rows = tiny_dataset(2)
    check_features(rows.features)
    check_content(undecoded(rows), needs_captions=True)
    with pytest.raises(ValueError, match=r"\['profile'\] missing"):
        check_features(rows.remove_columns("profile").features)
    with pytest.raises(ValueError, match="caption"):
        check_content(undecoded(tiny_dataset(2, captions=False)), needs_captions=True)
    with pytest.raises(ValueError, match="no rows"):
        check_content(rows.select([]), needs_captions=False)


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("user_id", [1, 2], "a user_id is a text, got Value"),
        ("reviews", [["good"], ["bad"]], "reviews are a list of .*'text', 'images', 'captions'.*, got List"),
        ("reviews", ["good", "bad"], "reviews are a list of .*, got Value"),
        ("reviews", [[{"text": "good"}], [{"text": "bad"}]], "reviews are a list of .*, got List"),
    ],
)
def test_a_column_of_another_type_is_named(column, values, message):
    rows = tiny_dataset(2).remove_columns(column).add_column(column, values)
    with pytest.raises(ValueError, match=message):
        check_features(rows.features)


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
