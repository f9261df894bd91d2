"""A user's history without one of its reviews or photos, and the rows that a model reads of what is left."""

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate

from .user_histories_mmprofile import UserView, photo_weights


@dataclass
class EncodedHistory:
    """What a model reads of a user, and of the user without one review or one photo.

    Attributes:
        rows: for each view what a processor's `encode_views` returns: the user's own, and behind them those that a
            deletion changes.
        views: how many are the user's own.
        without_review: of each review, newest first, the places among `rows` of what is read without it: none where
            nothing is left to read; None where it was not asked.
        without_photo: likewise, of each photo in the order given.
    """

    rows: list[dict]
    views: int
    without_review: list[list[int] | None] = field(default_factory=list)
    without_photo: list[list[int] | None] = field(default_factory=list)

    @property
    def not_asked(self) -> int:
        """Of how many reviews and photos it was not asked."""
        return [*self.without_review, *self.without_photo].count(None)

    def with_notes(self, answer: dict, photos: int) -> dict:
        """An answer of `profile_users` with `views`, how many were read, what of their texts was left out, and in
        `image_weights` a number for each of so many photos that the user gave, see `photo_weights`."""
        own = self.rows[: self.views]
        notes = {
            "views": self.views,
            "tokens_left_out": sum(row["tokens_left_out"] for row in own),
            "problems": [problem for row in own for problem in row["problems"]],
        }
        weights = answer.get("image_weights")
        if weights is not None:  # of an error, or a fusion that weighs none
            positions = [position for row in own for position in row["positions"]]
            notes["image_weights"] = photo_weights(positions, weights, photos)
        return answer | notes


def without_review(views: Sequence[UserView], number: int) -> list[UserView]:
    """The views without a review, and without its photos where whose they are is known. The others stay as they are
    cut; of a view without a review left the photos are the next one's.

    Args:
        number: of the review, newest first, from 0; of one that no view has nothing is left out.
    """
    starts = [0, *accumulate(len(view.reviews) for view in views)]
    if number >= starts[-1]:
        return list(views)
    place = bisect_right(starts, number) - 1
    before, view, behind = list(views[:place]), views[place], list(views[place + 1 :])
    number -= starts[place]
    left = replace(view, reviews=_without(view.reviews, number, number + 1))
    if view.photos_of is not None:
        first = sum(view.photos_of[:number])
        end = first + view.photos_of[number]
        left = replace(
            left,
            images=_without(view.images, first, end),
            captions=_without(view.captions, first, end),
            positions=_without(view.positions, first, end),
            photos_of=_without(view.photos_of, number, number + 1),
        )
    if left.reviews:
        return [*before, left, *behind]
    if left.images or left.captions:
        if behind:
            behind[0] = _with_photos(behind[0], left)
        elif before:
            before[-1] = _with_photos(before[-1], left)
    return before + behind


def without_photo(views: Sequence[UserView], position: int) -> list[UserView]:
    """The views without a photo and its caption, where whose the captions are is known.

    Args:
        position: of the photo among all of the user's, from 0; of one that no view has nothing is left out.
    """
    paired = sum(len(view.images) for view in views) == sum(len(view.captions) for view in views)
    changed = []
    for view in views:
        if position in view.positions:
            place = view.positions.index(position)
            captions = _without(view.captions, place, place + 1) if paired else view.captions
            images, positions = (_without(values, place, place + 1) for values in (view.images, view.positions))
            view = replace(view, images=images, positions=positions, captions=captions, photos_of=None)
        changed.append(view)
    return changed


def encode_deletions(
    views: Sequence[UserView],
    encode: Callable[[UserView], dict | None],
    reviews: int = 0,
    photos: int = 0,
    most: int | None = None,
) -> EncodedHistory:
    """The rows of a user, and of the user without each review and each photo. What several have is encoded once.

    Args:
        views: the user's.
        encode: a view to its row; None where there is nothing to read in it.
        reviews, photos: how many the user gave, read or not.
        most: so many searches are asked for at most, of the first reviews and the first photos by turns; the rest is
            not asked, but for what changes nothing that is read.
    """
    rows: list[dict] = []
    places: dict[tuple, int] = {}

    def place_of(view: UserView, new: bool = False) -> int | None:
        row = encode(view)
        if row is None:
            return None
        key = (*row["input_ids"], None, *row["positions"])
        if new or key not in places:
            places[key] = len(rows)
            rows.append(row)
        return places[key]

    own = {id(view): place_of(view, new=True) for view in views}

    def places_of(layout: Sequence[UserView]) -> list[int]:
        found = [own[id(view)] if id(view) in own else place_of(view) for view in layout]
        return [place for place in found if place is not None]

    of_user = len(rows)
    searches = {tuple(range(of_user))}
    asked: dict[Callable, list[list[int] | None]] = {without_review: [None] * reviews, without_photo: [None] * photos}
    turns = [(number, left_out) for left_out, found in asked.items() for number in range(len(found))]
    for number, left_out in sorted(turns, key=lambda turn: turn[0]):
        layout = left_out(views, number)
        if len(searches) - 1 == most and list(map(id, layout)) != list(own):
            continue
        found = asked[left_out][number] = places_of(layout)
        searches.add(tuple(found))
    return EncodedHistory(rows, of_user, asked[without_review], asked[without_photo])


def _with_photos(view: UserView, others: UserView) -> UserView:
    """A view that has another one's photos too."""
    return replace(
        view,
        images=view.images + others.images,
        captions=view.captions + others.captions,
        positions=view.positions + others.positions,
        photos_of=None,
    )


def _without(values: list, first: int, end: int) -> list:
    return values[:first] + values[end:]
