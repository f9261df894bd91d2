"""Unified joint training (section 5 of the paper): several objectives on one batch, the same labels for all.

What the model sees under each objective and paradigm is the table `OBJECTIVES` of the configuration. The corruptions
are random functions of a generator alone, so that a user's views do not depend on the process or the worker that makes
them.

Shapes: batch users, images photos a user, seq text tokens, target label tokens.
"""

import re
import unicodedata
from collections.abc import Iterable, Sequence

import numpy as np
import torch

from mmprofile import OBJECTIVES, PARADIGMS, View, check_objectives

SCHEDULES = ("all", "sampled")
TEXT_PARTS = ("reviews", "captions", "masked_captions", "masked_profile")
PHOTO_SETS = ("photos", "masked_photos")
# Letters of scripts that put no blanks between words: Thai, Lao, Tibetan and Burmese; Khmer; kana; ideographs.
UNSPACED = re.compile(
    "[\u0e00-\u109f\u1780-\u17ff\u3005-\u3007\u3041-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
    "\uff66-\uff9f\U00020000-\U0003ffff]"
)


def select_views(paradigm: str, objectives: Iterable[str]) -> dict[str, View]:
    """The views of some objectives, in the table's order.

    Raises:
        ValueError: if the paradigm or an objective is unknown, none or one twice is given, or a view of theirs names
            what cannot be shown.
    """
    if paradigm not in PARADIGMS:
        raise ValueError(f"paradigm must be one of {list(PARADIGMS)}, got {paradigm!r}")
    chosen = check_objectives(objectives)
    views = {name: views[paradigm] for name, views in OBJECTIVES.items() if name in chosen}
    for name, view in views.items():
        _check_view(name, view)
    return views


def text_parts(text: str) -> set[str]:
    """The parts of a view's text, of `TEXT_PARTS`."""
    return set(text.split("+"))


def _check_view(objective: str, view: View) -> None:
    parts = text_parts(view.text)
    if not parts <= set(TEXT_PARTS) or not parts & {"reviews", "masked_profile"}:
        raise ValueError(
            f"the text of objective {objective!r} is of {list(TEXT_PARTS)}, joined by '+', the first or the last"
            f" among them, got {view.text!r}"
        )
    if {"captions", "masked_captions"} <= parts:
        raise ValueError(f"objective {objective!r} shows captions masked or as they are, got {view.text!r}")
    if view.photos not in (None, *PHOTO_SETS):
        raise ValueError(f"the photos of objective {objective!r} are None or of {PHOTO_SETS}, got {view.photos!r}")


def check_probability(name: str, value: float) -> float:
    """The value, if it is a probability; else a `ValueError`."""
    if not 0 <= value <= 1:
        raise ValueError(f"{name} is a probability from 0 to 1, got {value}")
    return value


def mask_captions(captions: Sequence[str], probability: float, mask_token: str, rng: np.random.Generator) -> list[str]:
    """Each word becomes `mask_token` with the given probability (section 5.2); for words count the letters of scripts
    that write none apart."""
    masked = []
    for caption in captions:
        runs = [_words(run) for run in caption.split()]
        hidden = iter(rng.random(sum(map(len, runs))) < probability)
        masked.append(" ".join("".join(mask_token if next(hidden) else word for word in words) for words in runs))
    return masked


def _words(run: str) -> list[str]:
    """The words of a text without blanks: it is one, but for letters of `UNSPACED`, each of which is one by itself.
    Punctuation and vowel signs stay with the letter before them."""
    words = [""]
    for letter in run:
        after_unspaced = UNSPACED.match(words[-1]) and letter.isalnum()
        if words[-1] and (after_unspaced or UNSPACED.match(letter)) and unicodedata.category(letter)[0] != "M":
            words.append("")
        words[-1] += letter
    return words


def mask_profile(keys: Sequence[str], probability: float, rng: np.random.Generator) -> list[str]:
    """The attributes to mask, each with the given probability, at least one (section 5.1)."""
    masked = [key for key, draw in zip(keys, rng.random(len(keys)), strict=True) if draw < probability]
    return masked or [keys[int(rng.integers(len(keys)))]]


def mask_pixels(shape: Sequence[int], probability: float, rng: np.random.Generator) -> torch.Tensor:
    """Which pixels turn black, True with the given probability, of any shape (section 5.1)."""
    return torch.from_numpy(rng.random(shape, dtype=np.float32) < probability)


def blacken(pixel_values: torch.Tensor, pixel_mask: torch.Tensor, black: torch.Tensor) -> torch.Tensor:
    """Photos with their masked pixels black, all channels at once.

    Args:
        pixel_values: (batch, images, channels, height, width), normalised.
        pixel_mask: (batch, images, height, width), True turns black.
        black: (channels,), what normalisation makes of a black pixel: 0 there would be mid-grey.
    """
    black = black.to(pixel_values)[:, None, None]
    return torch.where(pixel_mask[:, :, None], black, pixel_values)
