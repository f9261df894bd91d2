"""A user's text in sections: each review and caption tokenised behind its mark, and shortened with the others."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from .texts_mmprofile import MASK_TOKEN, SECTION_MARKS, check_texts, readable_texts, special_tokens

# Of a text that is too long: a model tells little by pieces of reviews, so that some are rather left out than all cut
# short, and captions have a quarter of the tokens beside them, and what the reviews leave.
CAPTIONS_SHARE = 1 / 4
MIN_REVIEW, MIN_CAPTION = 64, 8  # tokens of each; where there are too many texts, the first are read
# Of a review that may be too long so many letters are read for each token that is wanted, and as many again, times
# `GROWTH`, where they were too few. English has 4 or 5 to a token.
LETTERS_A_TOKEN, GROWTH = 8, 4
BETWEEN_WORDS = re.compile(r"(?<=\w) (?=\w)")


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


class SectionTokenizer:
    """Tokenises the reviews, captions and profiles of a user: what several texts of the user share, once.

    Args:
        tokenizer: of a `MMProfileProcessor`.
        section_marks: which of `SECTION_MARKS`.
        most: the most tokens that a text of these sections may have: beyond so many of its own a review or caption is
            not tokenised, where its beginning is known to be tokenised as it is in the whole. None: everything is,
            for counts that are of the whole.
    """

    def __init__(self, tokenizer, section_marks: str, most: int | None = None):
        self._tokenizer, self._marks, self._most = tokenizer, SECTION_MARKS[section_marks], most
        self._marks_are_words = section_marks == "words"
        self._special = special_tokens(tokenizer)
        ids = tokenizer.convert_tokens_to_ids([*self._special, MASK_TOKEN])
        self._special_ids, self._mask_id = set(ids) - {None, tokenizer.unk_token_id}, ids[-1]
        self._known: dict[tuple, list[list[int]]] = {}

    def encode(
        self,
        reviews: Sequence[str],
        captions: Sequence[str | None],
        profile: str | None,
        limit: int,
        keep_masks: bool = False,
    ) -> EncodedText:
        """A user's text, see `MMProfileProcessor.encode_sections`. With `most`, which is no less than the limit, what
        is told of tokens that there were is a least number, 0 where there are none.

        Args:
            profile: as text, masked or not.
            limit: the most tokens, `</s>` included.

        Raises:
            ValueError: if a text is not a str, or the profile alone is too long.
        """
        review_ids = self._sections("review", reviews)
        caption_ids = self._sections("caption", captions, keep_masks)
        profile_ids = [] if profile is None else self._tokenize("profile", [profile], None, with_masks=True)
        budget = limit - 1 - _tokens(profile_ids)
        if budget < 0:
            raise ValueError(f"a profile of {limit - budget} tokens does not fit in max_text_tokens={limit}")
        kept_reviews, kept_captions = share_tokens(review_ids, caption_ids, budget)
        segments = profile_ids + kept_reviews + kept_captions
        return EncodedText(
            ids=[token for segment in segments for token in segment] + [self._tokenizer.eos_token_id],
            reviews=(_tokens(kept_reviews), _tokens(review_ids)),
            captions=(_tokens(kept_captions), _tokens(caption_ids)),
            limit=limit,
        )

    def _sections(self, kind: str, texts: Sequence[str | None], keep_masks: bool = False) -> list[list[int]]:
        """Of the texts that show something, each behind its mark."""
        check_texts(kind, texts)
        key = (kind, keep_masks, *texts)
        if key not in self._known:
            readable = readable_texts(texts, self._special, MASK_TOKEN if keep_masks else None)
            self._known[key] = self._tokenize(kind, readable, self._most, keep_masks)
        return self._known[key]

    def _tokenize(self, kind: str, texts: list[str], most: int | None, with_masks: bool) -> list[list[int]]:
        """Each text behind its section's mark, without special tokens that are spelled in it; of what has more tokens
        than `most`, at least so many."""
        mark, first = self._marks[kind], []
        if self._marks_are_words:
            texts = [f"{mark} {text}" for text in texts]
        else:
            first = [self._tokenizer.convert_tokens_to_ids(mark)]
        left_out = self._special_ids - {self._mask_id} if with_masks else self._special_ids
        rows: list[list[int]] = [[] for _ in texts]
        letters, unread = LETTERS_A_TOKEN * (most or 0), list(range(len(texts)))
        while unread:
            parts = [texts[row] if most is None else self._beginning(texts[row], letters) for row in unread]
            found = self._tokenizer(parts, add_special_tokens=False, verbose=False).input_ids
            for row, ids in zip(unread, found, strict=True):
                rows[row] = [token for token in ids if token not in left_out]
            were_cut = [row for row, part in zip(unread, parts, strict=True) if len(part) < len(texts[row])]
            unread = [row for row in were_cut if len(rows[row]) < (most or 0)]
            letters *= GROWTH
        return [first + row for row in rows]

    @cached_property
    def _parts_words(self) -> bool:
        return _parts_words(self._tokenizer)

    def _beginning(self, text: str, letters: int) -> str:
        """So many letters of a text, and up to the next blank between words; all of it, if its tokens might be others
        without the rest."""
        cut = BETWEEN_WORDS.search(text, letters) if len(text) > letters else None
        return text[: cut.start()] if cut and self._parts_words else text


def _parts_words(tokenizer) -> bool:
    """Whether what stands before a blank between two words is tokenised by itself."""
    if not tokenizer.is_fast or any(" " in token.content for token in tokenizer.added_tokens_decoder.values()):
        return False
    backend, text = tokenizer.backend_tokenizer, "a b"
    if backend.pre_tokenizer is None:
        return False
    if backend.normalizer is not None:
        text = backend.normalizer.normalize_str(text)
    pieces = [piece.lower() for piece, _ in backend.pre_tokenizer.pre_tokenize_str(text)]
    return any("a" in piece for piece in pieces) and not any("a" in piece and "b" in piece for piece in pieces)


def _tokens(segments: Iterable[list[int]]) -> int:
    return sum(map(len, segments))
