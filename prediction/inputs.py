"""From a dataset or a JSONL file to users: which of their reviews and photos a model may see.

What is wrong with the input as a whole (a path, a split, a column, a line that is no user, an id that occurs twice) is
a `ValueError` before any work. What is wrong with one user (no review, a broken photo) is noted with the user.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset

from corpora.checks import COLUMNS, labels_schema
from corpora.columns import is_text_profile, unified
from corpora.digest import corpus_digest, file_facts, update_by_file
from corpora.opening import open_corpus, table_kind
from mmprofile import Profile, ProfileSchema, cut_history, is_address, shown, shown_path, split_reviews, user_views
from prediction.digests import facts_of, photos_as_facts, user_digest

LINE_FIELDS = ("user_id", "reviews", "images", "captions", "profile")
NUM_REVIEWS = 3  # of a view, as in training
# What JSON has, in words: what is refused is not quoted, it may be a whole user or a file.
JSON_KINDS = {
    dict: "an object",
    list: "a list",
    str: "a text",
    int: "a number",
    float: "a number",
    bool: "true or false",
    type(None): "null",
}
PROBED_USERS = 100  # whose photos are looked for before the work starts


@dataclass
class User:
    """What there is of one user.

    Attributes:
        images: the photos that a model may see, each as `MMProfileProcessor.load_image` takes it.
        positions: of these photos among all photos of the user in the input.
        num_images: how many photos the user has in the input.
        profile: the true one; None where it is not known.
        photos_of: of each review, how many of the photos; None where whose they are is not known.
    """

    user_id: str
    reviews: list[str]
    images: list = field(default_factory=list)
    captions: list[str | None] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    num_images: int = 0
    profile: Profile | None = None
    photos_of: list[int] | None = None

    def in_views(self, num_reviews: int, views: int | None, draws: int = 0) -> list["User"]:
        """The user in parts that a model reads one by one, with their photos, see `user_views`."""
        parts = user_views(self.reviews, self.images, self.captions, self.photos_of, num_reviews, views, draws)
        return [
            replace(
                self,
                reviews=part.reviews,
                images=part.images,
                captions=part.captions,
                positions=[self.positions[place] for place in part.positions],
                photos_of=None,
            )
            for part in parts
        ]


def reviews_in_views(reviews: int, num_reviews: int | None, views: int | None) -> int:
    """How many reviews of a history, the newest, stand in so many views, see `cut_history`; all where `num_reviews` is
    None."""
    return reviews if num_reviews is None else sum(map(len, cut_history(reviews, num_reviews, views)))


class DatasetUsers:
    """Users of a split of the corpus, each with the reviews and photos that evaluation takes: the newest, the first.

    Args:
        num_reviews: of a view.
        num_images: of each of these reviews.
        views: of a user, at most; None: as many as the history has.
        draws: so many further views, drawn at random, see `cut_history`.

    Attributes:
        ids: of the users, in order.
        lengths: in characters, of the reviews taken.
        view_counts: (users,), how many views each one has, with those in which no word stands.
        views, draws, view_reviews: of a user, at most, drawn beside, and of a view; the last None where all of a user
            is one view.
        has_profiles: whether the true profiles are known.
        has_labels: whether they are class labels; else they are texts.
        has_captions: whether a photo has a caption.
        relative_to: the folder that photos' names are relative to; None of a dataset.

    Raises:
        ValueError: if a column is missing or not of the corpus' form, the profiles have another schema, there are no
            rows, or an id occurs twice.
    """

    def __init__(
        self,
        dataset: Dataset,
        schema: ProfileSchema,
        num_reviews: int = NUM_REVIEWS,
        num_images: int = 1,
        views: int | None = 1,
        draws: int = 0,
    ):
        self.dataset, self.schema, self.relative_to = unified(dataset), schema, None
        profile = self.dataset.data.column("profile").type if "profile" in dataset.column_names else pa.null()
        self.has_profiles, self.has_labels = not pa.types.is_null(profile), not is_text_profile(profile)
        if self.has_profiles and self.has_labels:
            given = labels_schema(dataset.features)
            if given != schema:
                raise ValueError(f"the model writes profiles of {schema.to_list()}, the dataset has {given.to_list()}")
        elif self.has_profiles and set(given := [field.name for field in profile]) != set(schema.keys):
            raise ValueError(f"the model writes profiles of {list(schema.keys)}, the dataset has {given}")
        self.ids = _checked_ids(self.dataset.data.column("user_id").to_pylist(), "row")
        self.views, self.draws, self.view_reviews = views, draws, None if views == 1 else num_reviews
        self.taken = partial(reviews_in_views, num_reviews=num_reviews, views=views)
        self.num_images = num_images
        self.lengths = self._review_lengths()
        self.view_counts = _view_counts(self._review_counts(), num_reviews, views, draws)
        chunks = self.dataset.data.column("reviews").chunks
        captions = (chunk.flatten().field("captions").flatten() for chunk in chunks)
        self.has_captions = any(len(texts) > texts.null_count for texts in captions)

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> User:
        """Raises a `ValueError` where a row is not valid."""
        row = self.dataset[index]
        user = self._read(row, lambda image: image["bytes"] or image["path"])
        if self.has_profiles:
            user.profile = self._true_profile(row["profile"])
        return user

    def _read(self, row: dict, photo: Callable[[dict], Any]) -> User:
        """A user without the true profile; `photo` makes of a photo's struct what the user has."""
        reviews = [review for review in row["reviews"] or () if review]
        num_reviews, counts = self.taken(len(reviews)), []
        texts = [review["text"] or "" for review in reviews[:num_reviews]]
        user = User(row["user_id"], texts, photos_of=counts)
        for number, review in enumerate(reviews):
            images = [image and photo(image) for image in review["images"] or ()]
            captions = review["captions"] or [None] * len(images)
            if len(captions) != len(images):
                raise ValueError(f"review {number} has {len(images)} photos and {len(captions)} captions")
            taken = self.num_images if number < num_reviews else 0
            if number < num_reviews:
                counts.append(len(images[:taken]))
            user.images += images[:taken]
            user.captions += captions[:taken]
            user.positions += range(user.num_images, user.num_images + len(images[:taken]))
            user.num_images += len(images)
        return user

    def _true_profile(self, given: dict | None) -> Profile | None:
        with suppress(ValueError):  # a label may be missing
            return (self.schema.profile_from_labels if self.has_labels else self.schema.validate)(given or {})
        return None

    def digest(self) -> str:
        """Tells inputs apart, see `corpus_digest`."""
        return corpus_digest(self.dataset, COLUMNS[: 2 + self.has_profiles])

    def digests(self) -> list[str]:
        """Of each user, see `user_digest`; no photo is read but its ends."""
        found = []
        for chunk in self.dataset.data.column("reviews").chunks:
            for reviews in photos_as_facts(chunk).to_pylist():
                row = {"user_id": "", "reviews": reviews}
                found.append(user_digest(partial(self._read, row, facts_of)))
        return found

    def profiles(self) -> list[Profile | None]:
        """The true ones; None where one is not known."""
        if not self.has_profiles:
            return [None] * len(self)
        return [self._true_profile(given) for given in self.dataset.data.column("profile").to_pylist()]

    def _review_lengths(self) -> np.ndarray:
        """Read from the texts' column alone: rows hold photos."""
        lengths = []
        for chunk in self.dataset.data.column("reviews").chunks:
            characters = pc.fill_null(pc.utf8_length(chunk.flatten().field("text")), 0)
            until = np.concatenate([[0], np.cumsum(characters.to_numpy(zero_copy_only=False))])
            counts = pc.fill_null(pc.list_value_length(chunk), 0).to_numpy(zero_copy_only=False)
            ends = np.cumsum(counts)
            taken = np.array([self.taken(count) for count in counts.tolist()], dtype=np.int64)
            lengths.append(until[ends - counts + taken] - until[ends - counts])
        return np.concatenate(lengths)

    def _review_counts(self) -> np.ndarray:
        counts = [pc.fill_null(pc.list_value_length(chunk), 0) for chunk in self.dataset.data.column("reviews").chunks]
        return np.concatenate([some.to_numpy(zero_copy_only=False) for some in counts])


class LineUsers:
    """Users of a JSONL file, a line each: `{"user_id": "u1", "reviews": ["..."], "images": ["photos/1.jpg"]}`.

    `images` (paths, relative to the file), `captions` and `profile`, the true one, may be left out. A review may be an
    object, `{"text": "...", "images": [...], "captions": [...]}`, with photos of its own, which are all taken with it;
    a line's are all taken, and dealt out to the views. Attributes as of `DatasetUsers`.

    Args:
        num_reviews: of a view; None, with `views=1` alone: all of a line is one view.
        views: of a user, at most; None: as many as the line has.
        draws: as of `DatasetUsers`.

    Raises:
        ValueError: if a line is not of this form, an id occurs twice, or there are no users.
    """

    def __init__(
        self,
        path: str | Path,
        schema: ProfileSchema,
        num_reviews: int | None = None,
        views: int | None = 1,
        draws: int = 0,
    ):
        assert num_reviews is not None or views == 1
        self.path, self.schema, self.relative_to = Path(path), schema, Path(path).parent
        self.views, self.draws, self.view_reviews = views, draws, None if views == 1 else num_reviews
        self.taken = partial(reviews_in_views, num_reviews=num_reviews, views=views)
        counts = []
        self.offsets, self.has_captions, ids, lengths, profiles = [], False, [], [], 0
        with open(self.path, "rb") as file:
            offset = 0
            for number, line in enumerate(file, 1):
                if number == 1 and (line.strip() == b"{" or line.strip().startswith(b"[")):
                    raise ValueError(f"{str(self.path)!r} is one JSON value; a JSONL file has a line for each user")
                if line.strip():
                    fields = self._parse(line, f"line {number} of {self.path}")
                    counts.append(len(fields["reviews"]))
                    self.offsets.append(offset)
                    ids.append(fields["user_id"])
                    lengths.append(sum(map(len, fields["reviews"][: self.taken(counts[-1])])))
                    profiles += fields["profile"] is not None
                    self.has_captions |= any(fields["captions"])
                offset += len(line)
        self.ids = _checked_ids(ids, "user")
        self.lengths = np.array(lengths)
        self.view_counts = _view_counts(np.array(counts), num_reviews or NUM_REVIEWS, views, draws)
        self.has_profiles = profiles == len(ids)

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> User:
        with open(self.path, "rb") as file:
            file.seek(self.offsets[index])
            fields = self._parse(file.readline(), f"user {self.ids[index]!r}")
        user = self._read(fields)
        user.images = [self._place(name) for name in user.images]
        return user

    def _place(self, name: str) -> str:
        """Where a photo is."""
        return name if is_address(name) else str(self.relative_to / name)

    def _read(self, fields: dict) -> User:
        """A user whose photos are named as the line does."""
        images, num_reviews = fields["images"], self.taken(len(fields["reviews"]))
        counts = None if fields["photos_of"] is None else fields["photos_of"][:num_reviews]
        taken = None if counts is None else sum(counts)
        return User(
            user_id=fields["user_id"],
            reviews=fields["reviews"][:num_reviews],
            images=images[:taken],
            captions=fields["captions"][:taken],
            positions=list(range(len(images)))[:taken],
            num_images=len(images),
            profile=fields["profile"],
            photos_of=counts,
        )

    def digest(self) -> str:
        """Tells inputs apart, by the file's bytes and what `update_by_file` takes of its photos."""
        with open(self.path, "rb") as file:
            digest = hashlib.file_digest(file, "sha256")
        for index in range(len(self)):
            update_by_file(digest, self[index].images)
        return digest.hexdigest()

    def digests(self) -> list[str]:
        """Of each user, see `user_digest`; no photo is read."""
        return [user_digest(partial(self._with_facts, fields)) for fields in self._lines()]

    def profiles(self) -> list[Profile | None]:
        """The true ones; None where one is not known."""
        return [fields["profile"] for fields in self._lines()]

    def _with_facts(self, fields: dict) -> User:
        user = self._read(fields)
        user.images = [[name, file_facts(self._place(name))] for name in user.images]
        return user

    def _lines(self) -> Iterator[dict]:
        with open(self.path, "rb") as file:
            for user_id, offset in zip(self.ids, self.offsets, strict=True):
                file.seek(offset)
                yield self._parse(file.readline(), f"user {user_id!r}")

    def _parse(self, line: bytes, where: str) -> dict:
        try:
            fields = json.loads(line)
        except ValueError as error:
            reason = "no text in UTF-8" if isinstance(error, UnicodeDecodeError) else error
            raise ValueError(f"{where} is not JSON: {reason}") from None
        except RecursionError:
            raise ValueError(f"{where} has too many brackets in one another") from None
        if not isinstance(fields, dict):
            raise ValueError(f"{where} needs an object with user_id and reviews, got {JSON_KINDS[type(fields)]}")
        if missing := [name for name in LINE_FIELDS[:2] if name not in fields]:
            raise ValueError(f"{where} needs user_id and reviews, {' and '.join(missing)} missing")
        if unknown := [name for name in fields if name not in LINE_FIELDS]:
            may_have = ", ".join(LINE_FIELDS[2:])
            raise ValueError(f"{where} may have {may_have} beside user_id and reviews, got {shown(unknown)}")
        given = {name: value for name, value in fields.items() if value is not None}
        fields = {"user_id": None, "reviews": [], "images": [], "captions": [], "profile": None} | given
        fields |= _photos_of_reviews(fields, where)
        if not isinstance(fields["user_id"], str):
            raise ValueError(f"{where}: a user_id is a text, got {JSON_KINDS[type(fields['user_id'])]}")
        if not _is_unicode(fields["user_id"]):
            raise ValueError(f"{where}: a user_id has no lone surrogates, got {shown(fields['user_id'])}")
        for name, of in (("reviews", "texts"), ("images", "paths"), ("captions", "texts")):
            if not isinstance(fields[name], list):
                raise ValueError(f"{where}: {name} are a list of {of}, got {JSON_KINDS[type(fields[name])]}")
            for number, value in enumerate(fields[name], 1):
                if not isinstance(value, str) and not (name == "captions" and value is None):
                    kind = JSON_KINDS[type(value)]
                    raise ValueError(f"{where}: {name} are a list of {of}, number {number} is {kind}")
        if fields["profile"] is not None:
            try:
                fields["profile"] = self.schema.validate(fields["profile"])
            except ValueError as error:
                raise ValueError(f"{where}: {error}") from None
        return fields

    def look_for_photos(self) -> None:
        """Raises a `ValueError` where not one photo of the first users is there: the paths are wrong."""
        paths = [image for index in range(min(PROBED_USERS, len(self))) for image in self[index].images]
        if paths and not any(os.path.isfile(path) for path in paths):
            hint = f"paths are relative to {str(self.relative_to)!r}"
            if is_address(paths[0]):
                hint = "no address is fetched"
            raise ValueError(
                f"none of the {len(paths)} photos of the first users is there, e.g. {shown_path(paths[0])}; {hint}"
            )


def _view_counts(counts: np.ndarray, num_reviews: int, views: int | None, draws: int) -> np.ndarray:
    """How many views, of so many reviews each, users with these numbers of reviews have."""
    return np.array([max(1, len(cut_history(count, num_reviews, views, draws))) for count in counts.tolist()])


def _photos_of_reviews(fields: dict, where: str) -> dict:
    """`photos_of` and, where reviews are objects, the fields that they stand for."""
    if not isinstance(fields["reviews"], list):
        return {"photos_of": None}
    try:
        split = split_reviews(fields["reviews"])
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
    if split is None:
        return {"photos_of": None}
    if fields["images"] or fields["captions"]:
        raise ValueError(f"{where}: images and captions are the line's or the reviews', not both")
    return dict(zip(("reviews", "images", "captions", "photos_of"), split, strict=True))


def _is_unicode(text: str) -> bool:
    """Whether UTF-8 has the text: JSON may name halves of a character, as in "\\ud83d"."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _checked_ids(ids: list, kind: str) -> list[str]:
    if not ids:
        raise ValueError("there are no users in the input")
    seen: dict[str, int] = {}
    for index, user_id in enumerate(ids):
        if not isinstance(user_id, str):
            raise ValueError(f"a user_id is a text, got {shown(user_id)} in {kind} {index}")
        if seen.setdefault(user_id, index) != index:
            raise ValueError(f"user_id {shown(user_id)} occurs twice, in {kind}s {seen[user_id]} and {index}")
    return ids


def open_users(
    dataset: str,
    dataset_config: str | None,
    split: str,
    schema: ProfileSchema,
    num_reviews: int | None,
    num_images: int | None,
    dataset_revision: str | None = None,
    views: int | None = 1,
    view_reviews: int = NUM_REVIEWS,
    draws: int = 0,
) -> DatasetUsers | LineUsers:
    """The users of a JSONL file, or of a split of what `open_corpus` takes.

    Args:
        num_reviews: of a view; default: `view_reviews`, as in training, but of a JSONL file's user in one view all.
        num_images: of each of these reviews; default: 1.
        dataset_revision: a branch, tag or commit of a corpus of the Hub; default: main.
        views: of a user, at most; None: as many as the history has.
        draws: so many further views, drawn at random.

    Raises:
        ValueError: if there is no such dataset, revision or split, or as of `LineUsers` and `DatasetUsers`.
    """
    path = Path(dataset)
    if path.is_file() and table_kind(path) is None:
        if any(given is not None for given in (num_images, dataset_config, dataset_revision)):
            raise ValueError(
                f"num_images, dataset_config and dataset_revision are for datasets, {dataset!r} is a file"
            )
        if num_reviews is None and views != 1:
            num_reviews = view_reviews
        return LineUsers(dataset, schema, num_reviews, views, draws)
    splits = open_corpus(dataset, dataset_config, dataset_revision)
    if path.is_file():  # which has no splits
        (split,) = map(str, splits)
    if split not in splits:
        raise ValueError(f"{dataset!r} has the splits {list(splits)}, not {split!r}")
    return DatasetUsers(
        splits[split], schema, num_reviews or view_reviews, 1 if num_images is None else num_images, views, draws
    )
