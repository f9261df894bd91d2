"""Writes the words of the synthetic Yelp: reviews and photo captions.

A review tells its rating by what it praises and blames, and its trade by the things it names; whether the place is one
for lunch or dinner, cheap or dear, it tells seldom and often wrongly. Nothing is said that only one kind of place or
rating would say: a good review may call the coffee "okay", and people mention trades that they merely passed by.
"""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from dataset_script.synthetic.words import (
    ASIDES,
    CAPTION_CUES,
    CAPTION_SUBJECTS,
    CAPTION_TRADES,
    CAPTION_TRUTH,
    CATEGORIES,
    DAYS,
    ERRANDS,
    FAREWELLS,
    FOODS,
    FRIENDS,
    HINT_TRUTH,
    HINTS,
    JUDGEMENTS,
    JUDGING,
    NUM_CAPTION_CUES,
    OPENINGS,
    PASSAGES,
    PLACES,
    REMARKS,
    TOO_SHORT,
    TRADES,
    VAGUE_CAPTIONS,
)

MIN_WORDS, MAX_WORDS = 12, 240

# Of a review's sentences, opening and farewell apart.
SENTENCES = {"opinion": 0.48, "remark": 0.13, "errand": 0.08, "hint": 0.09, "passage": 0.1, "aside": 0.12}
# Of the things judged: the place's trade, its food, anything else.
THINGS = {"trade": 0.55, "food": 0.17, "place": 0.28}


class Traits(NamedTuple):
    """What holds for a place, and what its photos may show."""

    evening: bool
    """Good for dinner, not for lunch."""
    upscale: bool
    """Price range 3 or 4, not 1 or 2."""
    happy_hour: bool
    takeaway: bool


def write_review(
    rng: random.Random,
    rating: int,
    categories: tuple[str, ...],
    tastes: tuple[str, ...],
    traits: Traits,
    num_words: int | None = None,
) -> str:
    """A review of `rating` stars, 1 to 5, for a place in `categories` by somebody whose favourites are `tastes`.

    It has about `num_words` words; without it, MIN_WORDS to MAX_WORDS, 59 on average, as Yelp's reviews have.
    """
    if num_words is None:
        num_words = min(MAX_WORDS, max(MIN_WORDS, round(rng.lognormvariate(math.log(50), 0.55))))
    writer = _Writer(rng, rating, categories, tastes, traits)
    sentences = [writer.fill(OPENINGS if rng.random() < 0.75 else JUDGING)]
    farewell = writer.graded(FAREWELLS) if rng.random() < 0.7 else ""
    length = len(sentences[0].split()) + len(farewell.split())
    while length < num_words - 3:
        sentence = writer.sentence()
        if sentence not in sentences:
            sentences.append(sentence)
            length += len(sentence.split())
    if farewell:
        sentences.append(farewell)
    return _punctuate(rng, sentences, rating)


def write_too_short(rng: random.Random) -> str:
    """A review that says next to nothing."""
    return rng.choice(TOO_SHORT)


def write_caption(rng: random.Random, label: str, category: str, shown: Traits) -> str:
    """What somebody wrote under a photo of kind `label` that shows `shown`: often nothing, sometimes wrong."""
    kind = rng.random()
    if kind < 0.25:
        return ""
    if kind < 0.35:
        return rng.choice(VAGUE_CAPTIONS)
    words = [rng.choice(CAPTION_TRADES[category] if rng.random() < 0.5 else CAPTION_SUBJECTS[label])]
    count = _draw(rng, NUM_CAPTION_CUES)
    for holds, cues in rng.sample(list(zip(shown, CAPTION_CUES, strict=True)), count):
        words.append(rng.choice(cues[holds == (rng.random() < CAPTION_TRUTH)]))
    if rng.random() < 0.2:
        words.reverse()
    caption = ", ".join(words)
    return caption if rng.random() < 0.3 else _capital(caption)


@dataclass
class _Writer:
    """Sentences about one visit, by somebody who dislikes to repeat a word."""

    rng: random.Random
    rating: int
    categories: tuple[str, ...]
    tastes: tuple[str, ...]
    traits: Traits
    used: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.friend = self.rng.choice(FRIENDS)
        self.day = self.rng.choice(DAYS)

    def sentence(self) -> str:
        kind = _draw(self.rng, SENTENCES)
        if kind == "remark":
            return self.graded(REMARKS)
        if kind == "hint":
            return self._hint()
        return self.fill({"opinion": JUDGING, "errand": ERRANDS, "passage": PASSAGES, "aside": ASIDES}[kind])

    def fill(self, templates: Sequence[str]) -> str:
        """One of the templates, its blanks filled."""
        thing, judgement = self._thing(), self.graded(JUDGEMENTS)
        trade = self.rng.choice(self.tastes if self.rng.random() < 0.8 else CATEGORIES)
        return self._fresh(templates).format(
            thing=thing,
            Thing=_capital(thing),
            other=self._thing(),
            judgement=judgement,
            Judgement=_capital(judgement),
            verdict=self.graded(JUDGEMENTS),
            errand=self._fresh(TRADES[self.rng.choice(self.categories)][1]),
            before=self.rng.choice(TRADES[trade][2]),
            friend=self.friend,
            day=self.day,
        )

    def graded(self, lists: Sequence[Sequence[str]]) -> str:
        """One of the phrases for the rating, at times for one near to it, seldom for any."""
        rating, luck = self.rating, self.rng.random()
        if luck > 0.95:
            rating = self.rng.randint(1, 5)
        elif luck > 0.78:
            rating = min(5, max(1, rating + self.rng.choice((-1, 1))))
        return self._fresh(lists[rating - 1])

    def _hint(self) -> str:
        trait = self.rng.randrange(len(HINTS))
        return self.rng.choice(HINTS[trait][self.traits[trait] == (self.rng.random() < HINT_TRUTH[trait])])

    def _thing(self) -> str:
        kind = _draw(self.rng, THINGS)
        if kind == "trade":
            return self._fresh(TRADES[self.rng.choice(self.categories)][0])
        return self._fresh(FOODS if kind == "food" else PLACES)

    def _fresh(self, options: Sequence[str]) -> str:
        """One of the options, an unused one if two attempts find it."""
        choice = self.rng.choice(options)
        if choice in self.used:
            choice = self.rng.choice(options)
        self.used.add(choice)
        return choice


def _draw(rng: random.Random, shares: dict):
    return rng.choices(tuple(shares), tuple(shares.values()))[0]


def _capital(words: str) -> str:
    return words[0].upper() + words[1:]


def _punctuate(rng: random.Random, sentences: list[str], rating: int) -> str:
    """Join the sentences as people do: a paragraph here, an exclamation mark there."""
    text = ""
    for sentence in sentences:
        if rating in (1, 5) and rng.random() < 0.12 and sentence.endswith("."):
            sentence = sentence[:-1] + "!"
        separator = "\n\n" if rng.random() < 0.03 else " "
        text += (separator if text else "") + sentence
    return text.lower() if rng.random() < 0.03 else text
