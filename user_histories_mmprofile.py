"""A user's history, reviews with photos of their own, and the views that a model reads it in."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, pairwise

import numpy as np

from .texts_mmprofile import shown

# Of a user's, the newest, where no number is asked for: each costs memory, at base size some 40 MB.
MOST_VIEWS = 64
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


def cut_history(reviews: int, num_reviews: int, views: int | None = None, draws: int = 0) -> list[list[int]]:
    """Which of a user's reviews, newest first, each view has: every review once, the newest view first.

    Cut is from the oldest review on, so that one that is new changes the newest view alone, which has what is left
    over.

    Args:
        reviews: how many there are.
        num_reviews: of a view.
        views: so many at most, the newest; a single one has the `num_reviews` newest reviews. None: all.
        draws: so many further views behind these, of reviews that they have, see `drawn_reviews`.
    """
    if views == 1:
        return [list(range(min(reviews, num_reviews)))] if reviews else []
    ends = [0, *range((reviews - 1) % num_reviews + 1, reviews + 1, num_reviews)] if reviews else [0]
    parts = [list(range(first, end)) for first, end in pairwise(ends)][:views]
    return parts + drawn_reviews(sum(map(len, parts)), num_reviews, draws)


def drawn_reviews(reviews: int, num_reviews: int, draws: int) -> list[list[int]]:
    """Which reviews views have that are drawn at random: cards are dealt, and all are dealt out before they are
    shuffled again; a view that reaches into the next shuffle takes the first ones there that it has not.

    The draw is a function of the numbers alone, so that it is always the same. Of what is a single view there is none.
    """
    if reviews <= num_reviews:
        return []
    rng, cards, found = np.random.default_rng(reviews), [], []
    for _ in range(draws):
        hand = cards[:num_reviews]
        cards = cards[num_reviews:]
        if len(hand) < num_reviews:
            shuffled = rng.permutation(reviews).tolist()
            more = [card for card in shuffled if card not in hand][: num_reviews - len(hand)]
            cards = [card for card in shuffled if card not in more]
            hand += more
        found.append(sorted(hand))
    return found


def photos_of_parts(photos_of: Sequence[int], parts: Sequence[Sequence[int]]) -> list[list[int]]:
    """Which of a user's photos, those of each review one behind the other, each part of the reviews has.

    Args:
        photos_of: of each review, how many.
        parts: of `cut_history`.
    """
    ends = [0, *accumulate(photos_of)]
    return [[place for review in part for place in range(ends[review], ends[review + 1])] for part in parts]


def photo_weights(positions: Iterable[int], weights: Iterable[float], photos: int) -> list[float]:
    """A weight for each of a user's photos: the sum of those that it has in the views; 0 of one that no view has.

    Args:
        positions: among all of the user's, of the views' photos, view after view.
        weights: of these; none where no photo was looked at.
        photos: how many the user has.
    """
    found = [0.0] * photos
    for position, weight in zip(positions, weights, strict=False):
        found[position] += weight
    return found


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
    draws: int = 0,
) -> list[UserView]:
    """A user's views, see `cut_history`; without a review one, of the photos and captions alone.

    Args:
        reviews: newest first.
        images, captions: of all reviews.
        photos_of: of each review, how many of the images; None where whose they are is not known: then they are dealt
            out to the views one by one, and a view that is drawn has those of another.
    """
    parts = cut_history(len(reviews), num_reviews, views, draws) or [[]]
    if photos_of is None or not reviews:
        windows = len(cut_history(len(reviews), num_reviews, views)) or 1
        dealt = [slice(number % windows, None, windows) for number in range(len(parts))]
        places = [list(range(len(images)))[of] for of in dealt]
        notes = [captions[of] for of in dealt]
    else:
        places = photos_of_parts(photos_of, parts)
        notes = [[captions[n] for n in place] for place in places]
    return [
        UserView(
            [reviews[n] for n in part],
            [images[n] for n in place],
            list(note),
            list(place),
            None if photos_of is None else [photos_of[n] for n in part],
        )
        for part, place, note in zip(parts, places, notes, strict=True)
    ]
