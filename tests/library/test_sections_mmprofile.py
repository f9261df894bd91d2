"""A user's texts, made of sections that are tokenised once, are those that each would be by itself and in whole."""

import numpy as np
import pytest
from tokenizers.models import Unigram
from tokenizers.pre_tokenizers import Metaspace

from mmprofile.sections_mmprofile import SectionTokenizer, share_tokens
from systems.presets import tiny_processor
from tests.toy_processor import PROFILE, toy_processor, toy_tokenizer

WORDS = [
    *("a", "b", "c", "d", "e", "pizza", "wonderful,", "7", "x-y", "don't", "\u00e9t\u00e9", "e\u0301t", "e\u0301"),
    *("\u0301a", "\u6599\u7406", "\U0001f355", "\ud83d", "</s>", "<extra_id_0>", "<extra_id_98>x", "Review:", "<pad>"),
    *("\u1680", "\u200b", "\uff1c/s\uff1e", "Review:Photo:"),
]


def random_text(rng: np.random.Generator, most: int) -> str:
    blanks = rng.choice([" ", " ", " ", "  ", "\n", ""], most)
    return "".join(word + blank for word, blank in zip(rng.choice(WORDS, most), blanks, strict=True))


def random_views(rng: np.random.Generator) -> list[dict]:
    """What train.py's objectives show of a user, of up to 6 reviews and captions of up to 300 words."""
    kinds = []
    for most in (300, 40):
        texts = [random_text(rng, int(rng.integers(1, most) ** rng.random())) for _ in range(rng.integers(6))]
        kinds.append(texts + texts[:1] * int(rng.integers(2)))
    reviews, captions = kinds
    masked = [" ".join("<extra_id_0>" if rng.random() < 0.5 else word for word in text.split()) for text in captions]
    return [
        {"reviews": reviews},
        {"reviews": reviews, "captions": [*captions, None]},
        {"reviews": reviews, "captions": masked, "keep_masks": True},
        {"reviews": reviews, "captions": captions, "keep_masks": True},
        {"captions": captions, "profile": PROFILE, "masked": ["colours"]},
        {"reviews": list(reviews), "captions": captions[:1], "profile": PROFILE},
    ]


def processors() -> dict:
    schema = toy_processor().profile_schema
    texts = ["a pizza wonderful, \u00e9t\u00e9 \u6599\u7406 don't", "x-y 7"]
    made = {"words": toy_processor(), "unigram": tiny_processor(texts, schema, vocab_size=400, image_size=8)}
    made["marks are words"] = toy_processor(section_marks="words")
    return made


PROCESSORS = processors()


@pytest.mark.parametrize("kind", PROCESSORS)
@pytest.mark.parametrize("seed", range(8))
def test_texts_that_share_sections_are_those_of_each_alone_and_in_whole(kind, seed):
    processor, rng = PROCESSORS[kind], np.random.default_rng(seed)
    views, least = random_views(rng), len(PROCESSORS[kind].encode_text(profile=PROFILE))
    for limit in (least, *(least + rng.integers(1, 400, 4)).tolist()):
        whole = [processor.encode_sections(**view, max_text_tokens=limit).ids for view in views]
        assert processor.encode_texts(views, limit) == whole
        assert [processor.encode_text(**view, max_text_tokens=limit) for view in views] == whole


@pytest.fixture
def tokenised(monkeypatch):
    """The texts that a tokenizer was given, in order."""
    given, call = [], type(PROCESSORS["unigram"].tokenizer).__call__

    def spy(self, texts, *arguments, **options):
        given.extend([texts] if isinstance(texts, str) else texts)
        return call(self, texts, *arguments, **options)

    monkeypatch.setattr(type(PROCESSORS["unigram"].tokenizer), "__call__", spy)
    return given


def test_a_review_is_tokenised_once_for_all_texts_of_a_user(tokenised):
    reviews, captions = ["a pizza", "don't"], ["a 7", None]
    views = [
        {"reviews": reviews},
        {"reviews": reviews, "captions": captions},
        {"captions": captions, "profile": PROFILE},
    ]
    PROCESSORS["unigram"].encode_texts(views)
    assert [text for text in tokenised if "Size" not in text] == ["a pizza", "don't", "a 7"]


@pytest.mark.parametrize("letters_a_word", [2, 10, 90])
def test_of_a_very_long_review_no_more_is_tokenised_than_can_be_kept(tokenised, letters_a_word):
    review = " ".join("x" * (letters_a_word - 1) for _ in range(1_000_000 // letters_a_word))
    processor = PROCESSORS["words"]
    ids = processor.encode_text([review], max_text_tokens=600)
    assert len(ids) == 600
    assert sum(map(len, tokenised)) < 600 * max(10, 6 * letters_a_word)
    tokenised.clear()
    counted = processor.encode_sections([review], max_text_tokens=600)
    assert (counted.ids, counted.reviews) == (ids, (599, 1 + 1_000_000 // letters_a_word))


MANY = " ".join("abcdefgh" * 3)


def token_of_many_words():
    tokenizer = toy_tokenizer()
    tokenizer.add_tokens([MANY])
    return tokenizer


def model_of_many_words():
    tokenizer = toy_tokenizer()
    backend, pieces = tokenizer.backend_tokenizer, [f"\u2581{letter}" for letter in "abcdefgh"]
    backend.model = Unigram([(piece, -1.0) for piece in ("<unk>", *pieces, "".join(pieces * 3))], 0, False)
    backend.pre_tokenizer = Metaspace(split=False)
    return tokenizer


@pytest.mark.parametrize("tokenizer", [token_of_many_words(), model_of_many_words()])
def test_a_review_is_read_in_whole_where_words_may_be_tokenised_together(tokenizer):
    together = tokenizer(MANY, add_special_tokens=False).input_ids
    assert len(together) == 1
    reviews = [MANY + " d d d d"]
    ids = [SectionTokenizer(tokenizer, "sentinels", most).encode(reviews, (), None, 4).ids for most in (None, 4)]
    assert ids[0] == ids[1] and ids[0][1:2] == together


def test_segments_of_which_only_as_many_tokens_are_known_as_there_may_be_share_them_as_whole_ones():
    rng = np.random.default_rng(0)
    for _ in range(2000):
        budget = int(rng.integers(0, 300))
        kinds = [[[0] * int(n) for n in rng.integers(1, 600, rng.integers(8)) ** rng.random()] for _ in range(2)]
        known = [[segment[: budget + int(rng.integers(1, 50))] for segment in kind] for kind in kinds]
        assert share_tokens(*known, budget) == share_tokens(*kinds, budget)
