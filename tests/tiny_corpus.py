"""A corpus of a few users in memory, with the columns that the loading script writes."""

import io

import numpy as np
from datasets import ClassLabel, Dataset, DatasetDict, Features, Image, List, Value
from PIL import Image as PILImage

from mmprofile.configuration_mmprofile import ProfileSchema

SCHEMA = ProfileSchema()
WORDS = [
    first + second for first in ("ba", "co", "du", "fi", "ge") for second in ("lamp", "sofa", "tile", "rug", "pan")
]


def png(value: int, size: int = 8) -> dict:
    """A one-coloured photo as `datasets.Image` stores it."""
    buffer = io.BytesIO()
    PILImage.new("RGB", (size, size), (value % 256, 0, 0)).save(buffer, "PNG")
    return {"bytes": buffer.getvalue(), "path": None}


def features() -> Features:
    labels = {
        a.key: ClassLabel(names=list(a.values)) if a.count == 1 else List(ClassLabel(names=list(a.values)), a.count)
        for a in SCHEMA.attributes
    }
    review = {"text": Value("string"), "images": List(Image()), "captions": List(Value("string"))}
    return Features({"user_id": Value("string"), "reviews": List(review), "profile": labels})


def user(number: int, reviews: int = 4, photos: int = 2, captions: bool = True, seed: int = 0) -> dict:
    """User `number`; photo p of review r is of red value 20 * number + 3 * r + p."""
    rng = np.random.default_rng([seed, number])
    profile = {
        a.key: int(rng.integers(len(a.values)))
        if a.count == 1
        else sorted(rng.choice(len(a.values), a.count, replace=False).tolist())
        for a in SCHEMA.attributes
    }
    rows = [
        {
            "text": f"user {number} review {r} likes place {profile['stars']} " + " ".join(rng.choice(WORDS, 6)),
            "images": [png(20 * number + 3 * r + p) for p in range(photos)],
            "captions": [f"photo {p} of review {r}" if captions else None for p in range(photos)],
        }
        for r in range(reviews)
    ]
    return {"user_id": f"u{number}", "reviews": rows, "profile": profile}


def tiny_dataset(users: int = 5, **options) -> Dataset:
    return Dataset.from_list([user(number, **options) for number in range(users)], features=features())


def write_corpus(folder, sizes=(8, 4, 4), replaced=None, **options) -> None:
    """A folder that `load_dataset` takes: Parquet files of the three splits, photos embedded.

    `replaced`: photos in the place of others, by the numbers of user, review and photo; None takes one away, with its
    caption.
    """
    splits = DatasetDict()
    for number, (name, size) in enumerate(zip(("train", "validation", "test"), sizes, strict=True)):
        rows = [user(100 * number + index, **options) for index in range(size)]
        for (owner, review, place), photo in (replaced or {}).items():
            for row in rows:
                if row["user_id"] == f"u{owner}":
                    its = row["reviews"][review]
                    its["images"][place : place + 1] = [] if photo is None else [photo]
                    its["captions"] = (
                        its["captions"] if photo else its["captions"][:place] + its["captions"][place + 1 :]
                    )
        splits[name] = Dataset.from_list(rows, features=features())
    folder.mkdir(parents=True)
    for name, split in splits.items():
        split.to_parquet(folder / f"{name}-00000-of-00001.parquet")
