"""From raw files to the rows of the corpus: every threshold, the passes over the files, and who is left at the end.

review.json is passed over twice: first for users, ratings and lengths, then for the texts of the reviews kept. So the
memory holds no text but those of the rows.
"""

import statistics
import sys
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

import datasets
from datasets.utils import tqdm

from .derivation import Evidence, Labels, choose_photos, derive_labels, split_users
from .raw_files import (
    Ledger,
    Photo,
    RawFolder,
    Rejected,
    Review,
    keep_one,
    parse_business,
    parse_photo,
    parse_review,
    photo_owners,
    prove_decodable,
    read_photo,
    read_records,
)

CAPTION_SOURCES = ("none", "photo_captions")


def _option(default: int | bool | str, explanation: str):
    return field(default=default, metadata={"help": explanation})


@dataclass
class MMProfileYelpConfig(datasets.BuilderConfig):
    """Every threshold of the corpus; the paper gives `min_reviews` and the split sizes (sections 3 and 6.1)."""

    min_words: int = _option(5, "reviews with fewer words are dropped")
    max_words: int = _option(300, "reviews with more words are dropped")
    min_reviews: int = _option(30, "users with fewer such reviews are dropped")
    max_reviews: int = _option(10, "reviews of a row: the newest that have a photo")
    max_images_per_review: int = _option(3, "photos of a review, drawn by a hash of user and photo")
    min_photo_reviews: int = _option(3, "users with fewer reviews that have a photo are dropped")
    train_size: int = _option(3000, "users of the split, or its proportion of the users there are")
    validation_size: int = _option(500, "as train_size")
    test_size: int = _option(500, "as train_size")
    all_users: bool = _option(False, "keep every user, so that the three sizes are proportions")
    seed: int = _option(0, "of the hash that draws the users and their split")
    captions: str = _option("none", f"what fills the captions, one of {', '.join(CAPTION_SOURCES)}")
    max_photo_pixels: int = _option(50_000_000, "a photo with more is dropped by its header, before it is decoded")
    max_photo_bytes: int = _option(32 * 2**20, "a photo file with more is dropped before it is read")

    def check(self) -> None:
        """Raises `ValueError` for values that are no thresholds, or that exclude each other."""
        for option in options():
            value = vars(self)[option.name]
            if type(value) is not option.type:
                raise ValueError(f"{option.name} must be of type {option.type.__name__}, got {value!r}")
            if option.type is int and option.name != "seed" and value < 1:
                raise ValueError(f"{option.name} must be at least 1, got {value}")
        if self.max_words < self.min_words:
            raise ValueError(f"max_words must be at least min_words, got {self.max_words} and {self.min_words}")
        if self.max_reviews < self.min_photo_reviews:
            given = f"{self.max_reviews} and {self.min_photo_reviews}"
            raise ValueError(f"max_reviews must be at least min_photo_reviews, got {given}")
        if self.captions not in CAPTION_SOURCES:
            raise ValueError(f"captions must be one of {', '.join(CAPTION_SOURCES)}, got {self.captions!r}")

    @property
    def split_sizes(self) -> dict[str, int]:
        return {"train": self.train_size, "validation": self.validation_size, "test": self.test_size}


def options() -> list:
    """The config's own dataclass fields, without those of every `datasets.BuilderConfig`."""
    inherited = {option.name for option in fields(datasets.BuilderConfig)}
    return [option for option in fields(MMProfileYelpConfig) if option.name not in inherited]


class RowReview(NamedTuple):
    """A review of a row, with its photos in the order of the row."""

    review: Review
    photos: tuple[Photo, ...]


class UserRow(NamedTuple):
    """A row of the dataset, its photos not yet read."""

    user_id: str
    reviews: tuple[RowReview, ...]
    profile: dict[str, str | list[str]]


class Album:
    """The photos, by what they belong to; each is proved to decode once, when a review first wants it."""

    def __init__(self, raw: RawFolder, config: MMProfileYelpConfig, ledger: Ledger) -> None:
        self._raw, self._config, self._ledger = raw, config, ledger
        self._proofs: dict[str, bytes | None] = {}
        self._photos: dict[str, Photo] = {}
        for photo in read_records(raw.photos, parse_photo, "photos", ledger):
            if not keep_one(self._photos, photo.photo_id, photo):
                ledger.drop("photos", "duplicate photo_id")
        self._owners = defaultdict(list)
        for photo in self._photos.values():
            self._owners[photo.owner].append(photo.photo_id)

    def illustrate(self, reviews: Iterable[Review]) -> list[RowReview]:
        """Of a user's `reviews`, newest first, those that have a photo, up to the row's limits."""
        illustrated = []
        for review in reviews:
            photo_ids = [photo_id for owner in photo_owners(review) for photo_id in self._owners.get(owner, ())]
            limit = self._config.max_images_per_review
            chosen = choose_photos(review.user_id, photo_ids, self._is_usable, limit)
            if chosen:
                illustrated.append(RowReview(review, tuple(self._photos[photo_id] for photo_id in chosen)))
            if len(illustrated) == self._config.max_reviews:
                break
        return illustrated

    def content(self, photo_id: str) -> bytes:
        """The bytes of a photo of a row, the same that were proved to decode.

        Raises:
            ValueError: if the file is no longer the one that was proved.
        """
        try:
            content = read_photo(self._raw, photo_id, self._config.max_photo_bytes)
        except Rejected as rejected:
            raise ValueError(f"photo {photo_id} was there when the build began, now: {rejected}") from None
        if _digest(content) != self._proofs[photo_id]:
            raise ValueError(f"the file of photo {photo_id} changed since the build began")
        return content

    def _is_usable(self, photo_id: str) -> bool:
        if photo_id not in self._proofs:
            try:
                content = read_photo(self._raw, photo_id, self._config.max_photo_bytes)
                prove_decodable(content, self._config.max_photo_pixels)
                self._proofs[photo_id] = _digest(content)
            except Rejected as rejected:
                self._ledger.drop("photos", str(rejected))
                self._proofs[photo_id] = None
        return self._proofs[photo_id] is not None


def _digest(content: bytes) -> bytes:
    return blake2b(content, digest_size=16).digest()


@dataclass
class Corpus:
    """The rows of each split, their photos, the price above which a budget is High, and what was dropped."""

    splits: dict[str, tuple[UserRow, ...]]
    album: Album
    median_price: float
    ledger: Ledger


def plan_corpus(raw: RawFolder, config: MMProfileYelpConfig) -> Corpus:
    """Reads the raw files and derives every row, the photos' bytes apart.

    Raises:
        ValueError: if fewer users than splits are left; the message says where the others went.
    """
    ledger = Ledger()
    businesses = _read_businesses(raw.business, ledger)
    album = Album(raw, config, ledger)
    histories = _read_histories(raw.review, config, ledger)
    histories = _with_at_least(config.min_reviews, histories, "reviews of a fitting length", ledger)
    chosen = {user: album.illustrate(histories[user]) for user in tqdm(histories, "choosing photos", unit=" users")}
    chosen = _with_at_least(config.min_photo_reviews, chosen, "reviews with a photo", ledger)
    labels = _label({user: histories[user] for user in chosen}, businesses, ledger)
    _check_enough(len(labels), len(config.split_sizes), raw, ledger)

    # The corpus, as far as the median goes, is everyone who could be drawn: `default` and `full` agree on a user.
    median_price = statistics.median(label.mean_price for label in labels.values())
    drawn = split_users(labels, config.seed, config.split_sizes, config.all_users)
    ledger.left["users drawn"] = sum(map(len, drawn.values()))
    texts = _read_texts(raw.review, {row.review for users in drawn.values() for user in users for row in chosen[user]})

    def row(user: str) -> UserRow:
        reviews = (RowReview(review._replace(text=texts[review.review_id]), photos) for review, photos in chosen[user])
        return UserRow(user, tuple(reviews), labels[user].profile(median_price))

    return Corpus({name: tuple(map(row, users)) for name, users in drawn.items()}, album, median_price, ledger)


def _with_at_least(minimum: int, users: dict[str, list], what: str, ledger: Ledger) -> dict[str, list]:
    kept = {user: items for user, items in users.items() if len(items) >= minimum}
    ledger.drop("users", f"fewer than {minimum} {what}", len(users) - len(kept))
    ledger.left[f"users with at least {minimum} {what}"] = len(kept)
    return kept


def _check_enough(users: int, splits: int, raw: RawFolder, ledger: Ledger) -> None:
    if users < splits:
        dropped = "; ".join(f"{where}: {reason} ({n})" for (where, reason), n in sorted(ledger.dropped.items()))
        raise ValueError(
            f"{splits} splits need a user each, but {raw.root} leaves {users}. "
            f"Left: {ledger.left}. Dropped: {dropped or 'nothing'}"
        )


def _read_businesses(path: Path, ledger: Ledger) -> dict[str, Evidence]:
    businesses = {}
    for business in read_records(path, parse_business, "business", ledger):
        if not keep_one(businesses, business.business_id, business):
            ledger.drop("business", "duplicate business_id")
    return {business_id: business.evidence for business_id, business in businesses.items()}


def _read_histories(path: Path, config: MMProfileYelpConfig, ledger: Ledger) -> dict[str, list[Review]]:
    """The first pass: each user's reviews of a fitting length, newest first, without their texts."""
    reviews: dict[str, Review] = {}
    for review in read_records(path, parse_review, "review", ledger):
        if review.words < config.min_words:
            ledger.drop("review", f"fewer than {config.min_words} words")
        elif review.words > config.max_words:
            ledger.drop("review", f"more than {config.max_words} words")
        else:
            # One string for all reviews of a user or business, not one each.
            user_id, business_id = sys.intern(review.user_id), sys.intern(review.business_id)
            slim = review._replace(user_id=user_id, business_id=business_id, text="")
            if not keep_one(reviews, review.review_id, slim):
                ledger.drop("review", "duplicate review_id")
    ledger.left |= {"reviews read": ledger.read["review"], "reviews of a fitting length": len(reviews)}
    histories = defaultdict(list)
    for review in sorted(reviews.values(), key=lambda review: review.review_id):
        histories[review.user_id].append(review)
    for history in histories.values():
        history.sort(key=lambda review: review.date, reverse=True)
    ledger.left["users who wrote them"] = len(histories)
    return dict(histories)


def _read_texts(path: Path, wanted: set[Review]) -> dict[str, str]:
    """The second pass: the texts of the reviews `wanted`, by review_id."""
    texts = {}
    for review in read_records(path, parse_review, "texts", Ledger()):
        if review._replace(text="") in wanted:
            texts[review.review_id] = review.text
    if len(texts) < len(wanted):
        raise ValueError(f"{path} changed while it was read: {len(wanted)} reviews wanted, {len(texts)} found again")
    return texts


def _label(histories: dict[str, list[Review]], businesses: dict[str, Evidence], ledger: Ledger) -> dict[str, Labels]:
    labels = {}
    for user, reviews in histories.items():
        visited = {review.business_id for review in reviews} & businesses.keys()
        label = derive_labels([review.stars for review in reviews], map(businesses.get, visited))
        if missing := label.missing():
            ledger.drop("users", f"no evidence for {missing}")
        else:
            labels[user] = label
    ledger.left["users with evidence for every attribute"] = len(labels)
    return labels
