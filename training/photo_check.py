"""Photos of a corpus that cannot be read: found before the training starts, and told by whose they are."""

import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Any

from datasets import Dataset
from tqdm.auto import tqdm

from training.photo_cache import digest

NAMED = 5  # problems in the error; of more the number
AT_ONCE = 512  # photos held


class UnreadablePhoto(ValueError):
    """A photo that cannot be read, and whose it is."""


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
    """

    def problem(photo: bytes | str) -> str | None:
        try:
            processor.load_image(photo)
        except ValueError as error:
            return str(error)
        return None

    workers = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    found, photos = [], _different_photos(splits)
    with ThreadPoolExecutor(workers) as pool, tqdm(desc="checking photos", unit=" photos", leave=False) as bar:
        while some := list(islice(photos, AT_ONCE)):
            problems = pool.map(problem, [photo for _, photo in some])
            found += [f"{name}: {said}" for (name, _), said in zip(some, problems, strict=True) if said]
            bar.update(len(some))
    if found:
        more = f"; and {len(found) - NAMED} more" if len(found) > NAMED else ""
        number = "a photo" if len(found) == 1 else f"{len(found)} photos"
        raise UnreadablePhoto(f"{number} of the corpus cannot be read: {'; '.join(found[:NAMED])}{more}")


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
