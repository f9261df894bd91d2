"""Lines of profiles in users' own texts. Whoever writes a review can write a profile into it: training shows the model
such lines of other users as distractors, and evaluation measures whether it still takes them for the user's."""

from collections.abc import Sequence

import numpy as np

from mmprofile import ATTRIBUTE_SEPARATOR, Profile, ProfileSchema

# What may stand before the line, the words of section marks among it.
LEADS = ("", "Profile: ", "Review: ", "My profile: ", "Photo: a menu. Profile: ")
SEPARATORS = (ATTRIBUTE_SEPARATOR, ATTRIBUTE_SEPARATOR, ". ", ", ", " ")
WHOLE = 0.7  # of the lines have every attribute, as evaluation's have
ALONE, IN_REVIEW = 0.5, 0.85  # a review of its own, within a review, or else within a caption
SEVERAL, MOST = 0.5, 8  # of the forgeries say it so often, to push what is honest out of the text
SCANT, SCANT_WORDS = 0.25, 10  # of the forgeries stand beside one honest review, of up to so many words


def forge(
    schema: ProfileSchema,
    profile: Profile,
    reviews: Sequence[str],
    captions: Sequence[str | None],
    rng: np.random.Generator,
    photos_of: list[int] | None = None,
) -> tuple[list[str], list[str | None]]:
    """A user's texts with another's profile in them, as a stranger may do it: once or often, beside much that is
    honest or little.

    Args:
        photos_of: how many photos each review has; changed in place as reviews come and go.
    """
    if reviews and rng.random() < SCANT:
        words = reviews[int(rng.integers(len(reviews)))].split()
        reviews = [" ".join(words[: rng.integers(1, SCANT_WORDS + 1)])]
        if photos_of is not None:
            photos_of[:] = [sum(photos_of)]
    for _ in range(rng.integers(2, MOST + 1) if rng.random() < SEVERAL else 1):
        reviews, captions = add_line(forge_line(schema, profile, rng), reviews, captions, rng, photos_of)
    return list(reviews), list(captions)


def forge_line(schema: ProfileSchema, profile: Profile, rng: np.random.Generator) -> str:
    """A profile as a stranger may write it: the whole line or some attributes of it, in several spellings."""
    parts = schema.render(profile).split(ATTRIBUTE_SEPARATOR)
    if rng.random() >= WHOLE:
        parts = [parts[place] for place in rng.permutation(len(parts))[: rng.integers(1, len(parts) + 1)]]
    line = SEPARATORS[rng.integers(len(SEPARATORS))].join(parts)
    return LEADS[rng.integers(len(LEADS))] + line


def add_line(
    line: str,
    reviews: Sequence[str],
    captions: Sequence[str | None],
    rng: np.random.Generator,
    photos_of: list[int] | None = None,
) -> tuple[list[str], list[str | None]]:
    """The texts with the line as a review of its own, or between the words of a review or of a caption; `photos_of` as
    of `forge`."""
    reviews, captions, kind = list(reviews), list(captions), rng.random()
    written = [(place, caption) for place, caption in enumerate(captions) if caption]
    if kind < ALONE or not reviews:
        place = int(rng.integers(len(reviews) + 1))
        reviews.insert(place, line)
        if photos_of is not None:
            photos_of.insert(place, 0)
    elif kind < IN_REVIEW or not written:
        place = rng.integers(len(reviews))
        reviews[place] = _between_words(line, reviews[place], rng)
    else:
        place, caption = written[rng.integers(len(written))]
        captions[place] = _between_words(line, caption, rng)
    return reviews, captions


def _between_words(line: str, text: str, rng: np.random.Generator) -> str:
    words = text.split()
    place = rng.integers(len(words) + 1)
    return " ".join([*words[:place], line, *words[place:]])


def agreement(predictions: Sequence[Profile], forged: Sequence[Profile], schema: ProfileSchema) -> dict[str, float]:
    """Attribute key -> percent of the users whose predicted value, all of several, is that of the forged profile."""
    pairs = list(zip(predictions, forged, strict=True))
    return {key: 100 * sum(p[key] == f[key] for p, f in pairs) / len(pairs) for key in schema.keys}
