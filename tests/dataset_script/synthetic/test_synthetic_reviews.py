"""The synthetic reviews and captions: of the length asked for, telling stars and trade, and noisily the rest."""

import random
from collections import Counter

import pytest

from dataset_script.synthetic.reviews import Traits, write_caption, write_review
from dataset_script.synthetic.words import (
    CAPTION_CUES,
    CAPTION_TRADES,
    CATEGORIES,
    HINTS,
    JUDGEMENTS,
    TRADES,
    VAGUE_CAPTIONS,
)

ALL, NONE = Traits(True, True, True, True), Traits(False, False, False, False)


def reviews(rating=4, categories=("Pizza",), traits=ALL, count=400, num_words=None):
    rng = random.Random(0)
    return [write_review(rng, rating, categories, ("Pizza", "Shopping"), traits, num_words) for _ in range(count)]


def mentions(texts, phrases):
    """How many of the texts hold one of the phrases."""
    return sum(any(phrase.lower() in text.lower() for phrase in phrases) for text in texts)


def test_no_blank_is_left_open_or_filled_with_nothing():
    text = "\n".join(reviews(categories=CATEGORIES))
    assert not set("{}") & set(text)
    assert "  " not in text and " ." not in text


def test_a_review_has_about_the_words_asked_for():
    texts = list(reviews(num_words=100))
    assert texts and all(abs(len(text.split()) - 100) <= 15 for text in texts)


@pytest.mark.parametrize("rating", [1, 2, 3, 4, 5])
def test_a_rating_is_told_most_by_its_own_judgements_but_not_by_them_alone(rating):
    texts = reviews(rating)
    counts = {stars: mentions(texts, words) for stars, words in enumerate(JUDGEMENTS, start=1)}
    assert max(counts, key=counts.get) == rating
    assert all(counts.values())


def test_a_review_names_the_things_of_its_trade_more_than_those_of_any_other():
    texts = reviews(categories=("Health & Medical",))
    counts = {name: mentions(texts, things + errands) for name, (things, errands, _) in TRADES.items()}
    assert counts["Health & Medical"] > 0.8 * len(texts)
    assert sum(counts.values()) < 1.5 * counts["Health & Medical"]


@pytest.mark.parametrize("trait", [0, 1, 2, 3])
def test_hints_are_told_both_ways_of_any_place(trait):
    absent, present = HINTS[trait]
    for traits in (ALL, NONE):
        texts = reviews(traits=traits, count=800)
        for hints in (absent, present):
            assert mentions(texts, hints) > 20


def captions(shown, count=4000):
    rng = random.Random(1)
    return [write_caption(rng, "food", "Pizza", shown) for _ in range(count)]


def test_a_quarter_of_the_captions_is_empty_and_a_tenth_vague():
    counts = Counter(captions(ALL))
    assert counts[""] == pytest.approx(1000, abs=100)
    assert sum(counts[caption] for caption in VAGUE_CAPTIONS) == pytest.approx(400, abs=70)


@pytest.mark.parametrize("trait", [0, 1, 2, 3])
def test_a_caption_tells_a_shown_trait_mostly_right_and_at_times_wrong(trait):
    absent, present = CAPTION_CUES[trait]
    parts = [part.lower() for caption in captions(ALL) for part in caption.split(", ")]
    right, wrong = sum(part in present for part in parts), sum(part in absent for part in parts)
    assert 0.8 < right / (right + wrong) < 0.95
    assert right + wrong > 600


def test_captions_may_name_the_trade():
    assert mentions(captions(NONE), CAPTION_TRADES["Pizza"]) > 1000
