"""Photos of a corpus that cannot be read: found before the training starts or left out of it, and told by whose they
are."""

import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Any, NamedTuple

import torch
from datasets import Dataset
from tqdm.auto import tqdm

from cli.logs import told_anywhere
from files.unreadable_photos import UnreadablePhoto
from training.photo_cache import PhotoCache, digest

NAMED = 5  # problems; of more the number
AT_ONCE = 512  # photos held


class DrawnPhoto(NamedTuple):
    """A photo that is shown of a user.

    Args:
        image: its bytes or path.
        caption: its own, if it has one.
        name: whose it is, and which.
        place: of its review among those that are shown.
    """

    image: bytes | str
    caption: str | None
    name: str
    place: int


def photo_name(user_id: str, review: Mapping, number: int, place: int) -> str:
    """Says which photo it is, by a user's id, the review, its number and the photo's place in it, both from 0."""
    known = review.get("photo_ids")
    of_corpus = f" ({known[place]})" if known else ""
    return f"user {user_id!r}, photo {place + 1} of review {number + 1}{of_corpus}"


def check_photos(splits: Mapping[Any, Dataset], processor) -> None:
    """Decodes each different photo once, on all processors.

    Args:
        splits: name -> rows of the corpus, see `batching.undecoded`.
        processor: `MMProfileProcessor`.

    Raises:
        UnreadablePhoto: says how many photos cannot be read, and which the first are.
        ValueError: if not one can be read.
    """

    def problem(photo: bytes | str) -> str | None:
        try:
            processor.load_image(photo)
        except ValueError as error:
            return str(error)
        return None

    workers = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    found, number, photos = [], 0, _different_photos(splits)
    with ThreadPoolExecutor(workers) as pool, tqdm(desc="checking photos", unit=" photos", leave=False) as bar:
        while some := list(islice(photos, AT_ONCE)):
            number += len(some)
            problems = pool.map(problem, [photo for _, photo in some])
            found += [f"{name}: {said}" for (name, _), said in zip(some, problems, strict=True) if said]
            bar.update(len(some))
    if found and len(found) == number:
        raise ValueError(f"none of the {number} photos of the corpus can be read: {_first(found)}")
    if found:
        raise UnreadablePhoto(f"{_number(found)} of the corpus cannot be read: {_first(found)}")


def known_problems(splits: Mapping[Any, Dataset], cache: PhotoCache) -> str | None:
    """The sentence of `check_photos` on the photos that a cache could not read, None without such."""
    unreadable, photos = cache.unreadable, _different_photos(splits) if cache.unreadable else ()
    found = [f"{name}: {unreadable[key]}" for name, photo in photos if (key := digest(photo)) in unreadable]
    return f"{_number(found)} of the corpus cannot be read: {_first(found)}" if found else None


def _number(found: Sequence[str]) -> str:
    return "a photo" if len(found) == 1 else f"{len(found)} photos"


def _first(found: Sequence[str]) -> str:
    return "; ".join(found[:NAMED]) + (f"; and {len(found) - NAMED} more" if len(found) > NAMED else "")


class ReadablePhotos:
    """Leaves drawn photos out that cannot be read, as if they had not been drawn.

    What can be read is a photo's own: no epoch, process or order changes it.

    Args:
        processor: `MMProfileProcessor`.
        cache: of the photos, which knows what it could not read. None: they are decoded here, once.
        aloud: name the first that are left out, each once in a process, in the error stream.
    """

    def __init__(self, processor, cache: PhotoCache | None = None, aloud: bool = True):
        self._processor, self._cache, self._aloud = processor, cache, aloud
        self._told: set[str] = set()

    def of(self, photos: Sequence[DrawnPhoto]) -> tuple[list[DrawnPhoto], list[torch.Tensor] | None]:
        """Those of some photos that can be read, and the `pixel_values` of each, (3, height, width); None with a
        cache, which has them."""
        kept, pixels = [], []
        for photo in photos:
            try:
                if self._cache is None:
                    pixels.append(self._processor.load_image(photo.image))
                else:
                    self._cache.check(photo.image)
            except ValueError as error:
                self._tell(f"{photo.name}: {error}")
                continue
            if self._cache is None:  # a decoded photo is large, its pixels are small
                pixels[-1] = self._processor.encode_images([[pixels[-1]]])["pixel_values"][0, 0]
            kept.append(photo)
        return kept, pixels if self._cache is None else None

    def _tell(self, problem: str) -> None:
        if not self._aloud or problem in self._told or len(self._told) > NAMED:
            return
        self._told.add(problem)
        rest = f"photos that cannot be read are left out without a word after the first {NAMED}; --check_photos counts"
        told_anywhere.warning(f"left out: {problem}" if len(self._told) <= NAMED else rest)


def _different_photos(splits: Mapping[Any, Dataset]) -> Iterator[tuple[str, bytes | str]]:
    """Each photo with the name of where it first is."""
    seen = set()
    for split, dataset in splits.items():
        rows: Any = dataset.select_columns(["user_id", "reviews"])
        for row in rows:
            for number, review in enumerate(row["reviews"]):
                for place, image in enumerate(review["images"] or ()):
                    photo = image["bytes"] or image["path"]
                    if (key := digest(photo)) not in seen:
                        seen.add(key)
                        yield f"split {split!r}, {photo_name(row['user_id'], review, number, place)}", photo
