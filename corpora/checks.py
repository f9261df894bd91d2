"""Whether a corpus can be trained on, found out before the training: its columns, and every user's row."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset, Features
from datasets import List as ListFeature

from corpora.columns import REVIEW_COLUMNS
from mmprofile import ProfileSchema

COLUMNS = ("user_id", "reviews", "profile")


def labels_schema(features: Features) -> ProfileSchema:
    """The schema of a dataset's class labels.

    Raises:
        ValueError: if it has no profiles, or they are none of class labels.
    """
    if "profile" not in features:
        raise ValueError(f"the dataset needs the columns {list(COLUMNS)}, ['profile'] missing")
    labels = features["profile"]
    try:
        if isinstance(labels, Mapping):
            return ProfileSchema.from_features(labels)
        reason = f"profile is {labels}"
    except (ValueError, AttributeError) as error:
        reason = str(error)
    raise ValueError(
        f"the dataset needs a profile of class labels: {reason}; Dataset.cast_column makes them of texts, see"
        " 'Your own attributes' in README.md"
    )


def check_content(dataset: Dataset, needs_captions: bool) -> None:
    """Raises a `ValueError` where a dataset, photos undecoded, has no rows or lacks the captions needed."""
    if not len(dataset):
        raise ValueError("the dataset has no rows")
    if needs_captions and not any(c for row in dataset["reviews"] for review in row for c in review["captions"] or ()):
        raise ValueError("this paradigm reads captions, and every caption of the dataset is empty")


def review_fields(features: Features) -> Mapping:
    """Of a review, by name."""
    reviews = features["reviews"]
    return reviews.feature if isinstance(reviews, ListFeature) else reviews[0]


def check_rows(dataset: Dataset, schema: ProfileSchema) -> None:
    """Raises a `ValueError` that names the first user whose row training cannot read.

    Args:
        dataset: as of `corpora.columns.unified`.
        schema: of its `profile`.
    """
    check_profiles(dataset.select_columns(["user_id", "profile"]), schema)
    first = 0
    tables: Any = dataset.select_columns("reviews").with_format("arrow").iter(1000)
    for table in tables:
        for reviews in table["reviews"].chunks:
            for place, problem in review_problems(reviews):
                raise ValueError(f"user {dataset['user_id'][first + place]!r} has {problem}")
            first += len(reviews)


def check_profiles(users: Any, schema: ProfileSchema) -> None:
    """Raises a `ValueError` that names the first user without a profile of the schema's.

    Args:
        users: to be gone over, each with a `user_id` and a `profile` of labels.
    """
    for row in users:
        try:
            schema.profile_from_labels(row["profile"] or {})
        except ValueError as error:
            raise ValueError(f"user {row['user_id']!r} has a profile that is none: {error}") from None


def review_problems(reviews: pa.ListArray) -> Iterator[tuple[int, str]]:
    """A user's place in a list of `corpora.columns.unified`, and what is wrong with the reviews."""
    yield from ((place, "no list of reviews") for place in np.flatnonzero(pc.is_null(reviews)).tolist())
    review, user = pc.list_flatten(reviews), pc.list_parent_indices(reviews).to_numpy()
    text, images, captions = (pc.struct_field(review, name) for name in REVIEW_COLUMNS)
    photos, written = (pc.fill_null(pc.list_value_length(column), 0) for column in (images, captions))
    photo, owner = pc.list_flatten(images), user[pc.list_parent_indices(images).to_numpy()]
    is_empty = pc.and_(pc.is_null(pc.struct_field(photo, "bytes")), pc.is_null(pc.struct_field(photo, "path")))
    has_others = pc.and_(pc.greater(written, 0), pc.not_equal(written, photos))
    for users, wrong, problem in (
        (user, pc.is_null(text), "a review without a text"),
        (user, has_others, "a review with another number of captions than photos"),
        (owner, is_empty, "a photo without bytes and path"),
    ):
        yield from ((place, problem) for place in users[np.flatnonzero(wrong)].tolist())
