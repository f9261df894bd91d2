"""What of a user's texts a model reads: cleaned, marked as sections, and shortened where they are too long."""

import os
import re
import reprlib
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
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
# Of a text that is too long: a model tells little by pieces of reviews, so that some are rather left out than all cut
# short, and captions have a quarter of the tokens beside them, and what the reviews leave.
CAPTIONS_SHARE = 1 / 4
MIN_REVIEW, MIN_CAPTION = 64, 8  # tokens of each; where there are too many texts, the first are read
# Letters by their Unicode category that show nothing.
BLANK_LETTERS = "\u115f\u1160\u2800\u3164\uffa0"


@dataclass(frozen=True)
class EncodedText:
    """A user's text: token ids, and how many tokens of the reviews and captions are among them.

    Args:
        ids: `</s>` included.
        reviews: tokens kept, and tokens there were, section marks included.
        captions: likewise.
        limit: the most tokens that there might be.
    """

    ids: list[int]
    reviews: tuple[int, int]
    captions: tuple[int, int]
    limit: int

    @property
    def shortening(self) -> dict:
        """`tokens_left_out`, a number, and `problems`, a list with a sentence where it is not 0."""
        left_out = self.reviews[1] - self.reviews[0] + self.captions[1] - self.captions[0]
        parts = (("reviews", *self.reviews), ("captions", *self.captions))
        kept = " and ".join(f"{kept} of the {there} tokens of the {name}" for name, kept, there in parts if there)
        note = f"the text was shortened to max_text_tokens={self.limit}: {kept} were read"
        return {"tokens_left_out": left_out, "problems": [note] if left_out else []}


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


def truncate_evenly(segments: Sequence[list[int]], budget: int, least: int = 0) -> list[list[int]]:
    """Cuts the longest segments to one length, the greatest with which all fit in; shorter ones stay whole.

    Args:
        segments: token ids.
        budget: how many tokens there may be in all.
        least: to less than so many no segment is cut for the sake of others: the last ones are then left out.
    """
    length, kept = max(_even_length(segments, budget), least), []
    for segment in segments:
        part = segment[: min(length, budget)]
        if len(part) < min(len(segment), 2):  # a section's mark alone tells nothing
            break
        kept.append(part)
        budget -= len(part)
    return kept


def _even_length(segments: Sequence[list[int]], budget: int) -> int:
    lengths = sorted(map(len, segments))
    for index, length in enumerate(lengths):
        share = budget // (len(lengths) - index)
        if length > share:
            return share
        budget -= length
    return lengths[-1] if lengths else 0


def share_tokens(
    reviews: Sequence[list[int]], captions: Sequence[list[int]], budget: int
) -> tuple[list[list[int]], list[list[int]]]:
    """Reviews and captions that fit into a budget together, each kind shortened by `truncate_evenly`.

    Captions have `CAPTIONS_SHARE` of the budget and reviews the rest, or what the other kind does not need.

    Args:
        reviews: token ids of each.
        captions: likewise.
        budget: how many tokens there may be in all.
    """
    told, shown = sum(map(len, reviews)), sum(map(len, captions))
    if told + shown > budget:
        part = max(min(shown, int(budget * CAPTIONS_SHARE)), budget - told)
        captions = truncate_evenly(captions, part, MIN_CAPTION)
        reviews = truncate_evenly(reviews, budget - sum(map(len, captions)), MIN_REVIEW)
    return list(reviews), list(captions)


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


def readable_texts(
    kind: str, texts: Sequence[str | None], special: frozenset[str], mask_token: str | None = None
) -> list[str]:
    """The texts with single blanks between words, without those that show nothing; a caption may be None.

    What is said again is left out too, so that copies of one text cannot push the others out.

    Args:
        kind: "review" or "caption".
        special: of `special_tokens`.
        mask_token: where the texts are masked ones, what is a word in them.

    Raises:
        ValueError: if they are no list of texts.
    """
    if not isinstance(texts, list | tuple):
        raise ValueError(f"a user's {kind}s are a list of texts, got {type(texts).__name__}: {shown(texts)}")
    for text in texts:
        if not isinstance(text, str) and not (text is None and kind == "caption"):
            raise ValueError(f"a {kind} is a text, got {type(text).__name__}: {shown(text)}")
    cleaned = [clean_text(text) for text in texts]
    if mask_token is not None:  # of masked captions many are equal
        return [text for text in cleaned if shows_something(text, special) or mask_token in text]
    return [text for text in dict.fromkeys(cleaned) if shows_something(text, special)]


def tokenize_sections(
    tokenizer,
    section_marks: str,
    reviews: Sequence[str],
    captions: Sequence[str | None],
    profile: str | None,
    limit: int,
    keep_masks: bool = False,
) -> EncodedText:
    """A user's text as token ids, see `MMProfileProcessor.encode_sections`.

    Args:
        section_marks: which of `SECTION_MARKS`.
        profile: as text, masked or not.
        limit: the most tokens, `</s>` included.

    Raises:
        ValueError: if a text is not a str, or the profile alone is too long.
    """
    special, masks = special_tokens(tokenizer), {tokenizer.convert_tokens_to_ids(MASK_TOKEN)}
    special_ids = set(tokenizer.convert_tokens_to_ids(list(special))) - {None, tokenizer.unk_token_id}

    def tokenize(kind: str, texts: list[str], with_masks: bool) -> list[list[int]]:
        """Each text behind its section's mark, without special tokens that are spelled in it."""
        if not texts:
            return []
        mark, first = SECTION_MARKS[section_marks][kind], []
        if section_marks == "words":
            texts = [f"{mark} {text}" for text in texts]
        else:
            first = [tokenizer.convert_tokens_to_ids(mark)]
        left_out = special_ids - masks if with_masks else special_ids
        rows = tokenizer(texts, add_special_tokens=False, verbose=False).input_ids
        return [first + [token for token in row if token not in left_out] for row in rows]

    review_ids = tokenize("review", readable_texts("review", reviews, special), False)
    kept = readable_texts("caption", captions, special, MASK_TOKEN if keep_masks else None)
    caption_ids = tokenize("caption", kept, keep_masks)
    profile_ids = tokenize("profile", [] if profile is None else [profile], True)
    budget = limit - 1 - _tokens(profile_ids)
    if budget < 0:
        raise ValueError(f"a profile of {limit - budget} tokens does not fit in max_text_tokens={limit}")
    kept_reviews, kept_captions = share_tokens(review_ids, caption_ids, budget)
    segments = profile_ids + kept_reviews + kept_captions
    return EncodedText(
        ids=[token for segment in segments for token in segment] + [tokenizer.eos_token_id],
        reviews=(_tokens(kept_reviews), _tokens(review_ids)),
        captions=(_tokens(kept_captions), _tokens(caption_ids)),
        limit=limit,
    )


def _tokens(segments: Iterable[list[int]]) -> int:
    return sum(map(len, segments))


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
