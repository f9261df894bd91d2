"""What of a user's texts there is to read, and what marks its sections; the arguments of a call, checked."""

import os
import re
import reprlib
import unicodedata
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

MASK_TOKEN = "<extra_id_0>"
# What begins a section, by a processor's `section_marks`. T5's last sentinels stand for nothing else, and no user can
# spell one: what a text holds of special tokens is left out. Words were the first form, which any review can imitate;
# checkpoints that were trained with it keep it.
SECTION_MARKS = {
    "sentinels": {"review": "<extra_id_99>", "caption": "<extra_id_98>", "profile": "<extra_id_97>"},
    "words": {"review": "Review:", "caption": "Photo:", "profile": "Profile:"},
}
# Letters by their Unicode category that show nothing.
BLANK_LETTERS = "\u115f\u1160\u2800\u3164\uffa0"


class _Shown(reprlib.Repr):
    def __init__(self):
        super().__init__()
        self.maxstring = self.maxother = 100

    def repr_bytes(self, value, level: int) -> str:
        return f"<{len(value)} bytes>"

    repr_bytearray = repr_memoryview = repr_bytes

    def repr_instance(self, value, level: int) -> str:
        plain = isinstance(value, int | float | os.PathLike | None)
        return super().repr_instance(value, level) if plain else f"<{type(value).__name__}>"


def shown(value) -> str:
    """What was given, for an error: a line of it at most, and of a file's bytes only their number."""
    return _Shown().repr(value)


def positive(name: str, value: int) -> int:
    if type(value) is not int or value < 1:
        raise ValueError(f"{name} is a positive integer, got {value!r}")
    return value


def clean_text(text: str | None) -> str:
    """The text with single blanks between words, and question marks for halves of surrogate pairs, as JSON cut in the
    middle of an emoji leaves them: these are no text for the tokenizer."""
    return " ".join((text or "").encode("utf-8", "replace").decode("utf-8").split())


def is_readable(text: str) -> bool:
    """Whether a text shows anything: blanks, control characters, zero-width and combining ones alone do not."""
    return any(
        not letter.isspace()
        and letter not in BLANK_LETTERS
        and unicodedata.category(letter) not in ("Cc", "Cf", "Mn", "Me", "Zl", "Zp")
        for letter in text
    )


def special_tokens(tokenizer) -> frozenset[str]:
    """What no text may hold; unknown words it may. What the mask and the marks are counts as special in any
    tokenizer. Read at each call: tokens may be added at any time."""
    added = {token.content for token in tokenizer.added_tokens_decoder.values() if token.special}
    marks = {MASK_TOKEN, *SECTION_MARKS["sentinels"].values()}
    return frozenset(added.union(tokenizer.all_special_tokens, marks) - {tokenizer.unk_token})


def shows_something(text: str, special: frozenset[str]) -> bool:
    """Whether anything is left to read without special tokens, also such as a tokenizer's normalisation makes."""
    return is_readable(_any_of(special).sub("", unicodedata.normalize("NFKC", text)))


@lru_cache(maxsize=8)
def _any_of(tokens: frozenset[str]) -> re.Pattern:
    return re.compile("|".join(map(re.escape, sorted(tokens, key=len, reverse=True))))


def check_texts(kind: str, texts: Sequence[str | None]) -> None:
    """Raises a `ValueError` if they are no list of texts; a caption may be None.

    Args:
        kind: "review" or "caption".
    """
    if not isinstance(texts, list | tuple):
        raise ValueError(f"a user's {kind}s are a list of texts, got {type(texts).__name__}: {shown(texts)}")
    for text in texts:
        if not isinstance(text, str) and not (text is None and kind == "caption"):
            raise ValueError(f"a {kind} is a text, got {type(text).__name__}: {shown(text)}")


def readable_texts(texts: Sequence[str | None], special: frozenset[str], mask_token: str | None = None) -> list[str]:
    """The texts with single blanks between words, without those that show nothing.

    What is said again is left out too, so that copies of one text cannot push the others out.

    Args:
        texts: that `check_texts` lets pass.
        special: of `special_tokens`.
        mask_token: where the texts are masked ones, what is a word in them.
    """
    cleaned = [clean_text(text) for text in texts]
    if mask_token is not None:  # of masked captions many are equal
        return [text for text in cleaned if shows_something(text, special) or mask_token in text]
    return [text for text in dict.fromkeys(cleaned) if shows_something(text, special)]


def users_of_text(text: str | Sequence[str], images) -> tuple[list, Any]:
    """`reviews` and `images` of `text`, and images, as transformers' pipelines have them."""
    if not isinstance(text, str | list | tuple):
        raise ValueError(f"text is a text, or a list of one for each user, got {type(text).__name__}: {shown(text)}")
    if isinstance(text, str):
        if images is not None and not isinstance(images, list | tuple):
            images = [images]
        if images is not None and len(images) == 1 and isinstance(images[0], list | tuple):
            images = images[0]
        return [text], images
    if isinstance(images, list | tuple):
        images = [photos if isinstance(photos, list | tuple | None) else [photos] for photos in images]
    return [[review] for review in text], images


def count_users(reviews: list | None, profiles: Mapping | list | None) -> tuple[bool, int]:
    """Whether the arguments of a call are one user's rather than a batch's, and the number of users."""
    if reviews is not None and not isinstance(reviews, list | tuple):
        raise ValueError(
            f"reviews are a list of texts, or of such lists, got {type(reviews).__name__}: {shown(reviews)}"
        )
    if reviews is None and not isinstance(profiles, Mapping | list | tuple):
        raise ValueError(f"reviews, text or profiles are needed, got none and profiles={shown(profiles)}")
    if reviews and any(isinstance(review, list | tuple) for review in reviews):
        return False, len(reviews)
    if not reviews and isinstance(profiles, list | tuple):
        return False, len(profiles)
    return True, 1


def padded_length(texts: Sequence[list[int]], options: Mapping, most: int) -> int:
    """How long a batch of token ids is made, by a call's options; `most` where "max_length" pads to no other."""
    longest = max(map(len, texts), default=0)
    match options["padding"]:
        case "do_not_pad" | False | None:
            if any(len(ids) != longest for ids in texts):
                raise ValueError(f"texts of {min(map(len, texts))} to {longest} tokens need padding=True")
            return longest
        case "max_length":
            longest = max(longest, options.get("max_length") or most)
        case other if other not in (True, "longest"):
            raise ValueError(f"padding is True, 'longest', 'max_length', False or 'do_not_pad', got {other!r}")
    multiple = positive("pad_to_multiple_of", options.get("pad_to_multiple_of") or 1)
    return -(-longest // multiple) * multiple
