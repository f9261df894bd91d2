"""A user's history, reviews with photos of their own, and the views that a model reads it in."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate, pairwise

from .texts_mmprofile import shown

REVIEW_FIELDS = ("text", "images", "captions")  # of a review that is an object


@dataclass
class UserView:
    """A part of a user's history.

    Attributes:
        reviews: texts, newest first.
        images: photos of these reviews.
        captions: a photo's own beside it, None where it has none; where their numbers differ, whose they are is not
            known.
        positions: of the images among all of the user's.
        photos_of: of each review, how many of the images; None where whose they are is not known.
    """

    reviews: list[str]
    images: list = field(default_factory=list)
    captions: list[str | None] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    photos_of: list[int] | None = None


def cut_history(reviews: int, num_reviews: int, views: int | None = None) -> list[range]:
    """Which of a user's reviews, newest first, each view has: every review once, the newest view first.

    Cut is from the oldest review on, so that one that is new changes the newest view alone, which has what is left
    over.

    Args:
        reviews: how many there are.
        num_reviews: of a view.
        views: so many at most, the newest; a single one has the `num_reviews` newest reviews. None: all.
    """
    if views == 1:
        return [range(min(reviews, num_reviews))] if reviews else []
    ends = [0, *range((reviews - 1) % num_reviews + 1, reviews + 1, num_reviews)] if reviews else [0]
    return [range(first, end) for first, end in pairwise(ends)][:views]


def photos_of_parts(photos_of: Sequence[int], parts: Sequence[range]) -> list[range]:
    """Which of a user's photos, those of each review one behind the other, each part of the reviews has.

    Args:
        photos_of: of each review, how many.
        parts: of `cut_history`.
    """
    ends = [0, *accumulate(photos_of)]
    return [range(ends[part.start], ends[part.stop]) for part in parts]


def split_reviews(reviews: Sequence) -> tuple[list, list, list, list[int]] | None:
    """Texts, images and captions of reviews of which some are objects, `{"text": ..., "images": [...], "captions":
    [...]}`, the last two optional, a caption or None for each image, and how many images each review has; None where
    all reviews are texts.

    Raises:
        ValueError: names the review that is not of this form, counted from 1.
    """
    if not any(isinstance(review, dict) for review in reviews):
        return None
    texts, all_images, all_captions, counts = [], [], [], []
    for number, review in enumerate(reviews, 1):
        given = review if isinstance(review, dict) else {"text": review}
        if unknown := [name for name in given if name not in REVIEW_FIELDS]:
            raise ValueError(f"review {number} has {', '.join(REVIEW_FIELDS)}, got {shown(unknown)}")
        if "text" not in given:
            raise ValueError(f"review {number} needs a text")
        images, captions = ([] if given.get(name) is None else given[name] for name in REVIEW_FIELDS[1:])
        for name, values in (("images", images), ("captions", captions)):
            if not isinstance(values, list | tuple):
                raise ValueError(f"{name} of review {number} are a list, got {type(values).__name__}")
        captions = captions or [None] * len(images)
        if len(captions) != len(images):
            raise ValueError(f"review {number} has {len(images)} photos and {len(captions)} captions")
        texts.append(given["text"])
        all_images += images
        all_captions += captions
        counts.append(len(images))
    return texts, all_images, all_captions, counts


def user_views(
    reviews: Sequence[str],
    images: Sequence,
    captions: Sequence[str | None],
    photos_of: Sequence[int] | None,
    num_reviews: int,
    views: int | None = None,
) -> list[UserView]:
    """A user's views, see `cut_history`; without a review one, of the photos and captions alone.

    Args:
        reviews: newest first.
        images, captions: of all reviews.
        photos_of: of each review, how many of the images; None where whose they are is not known: then they are dealt
            out to the views one by one.
    """
    parts = cut_history(len(reviews), num_reviews, views) or [range(0)]
    if photos_of is None or not reviews:
        places = [range(number, len(images), len(parts)) for number in range(len(parts))]
        notes = [captions[number :: len(parts)] for number in range(len(parts))]
    else:
        places = photos_of_parts(photos_of, parts)
        notes = [captions[place.start : place.stop] for place in places]
    return [
        UserView(
            list(reviews[part.start : part.stop]),
            [images[n] for n in place],
            list(note),
            list(place),
            None if photos_of is None else list(photos_of[part.start : part.stop]),
        )
        for part, place, note in zip(parts, places, notes, strict=True)
    ]
