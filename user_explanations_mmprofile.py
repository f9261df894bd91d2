"""Which of a user's reviews and photos counted: the profile is searched again without each of them.

Shapes: rows = views of the user, and those that a deletion changes; seq = tokens of the longest.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch

from .fusion_mmprofile import FusedEncoderOutput, join_views
from .generation_mmprofile import profile_users, target_losses
from .user_deletions_mmprofile import EncodedHistory
from .user_views_mmprofile import UserViews

NOTHING_LEFT = "nothing is left to read without it"
ROWS_AT_A_TIME = 32  # whose keys and values are held at once: at base size 40 MB each, of 600 tokens


@torch.no_grad()
def explain_user(model, processor, history: EncodedHistory, **options) -> dict:
    """A user's profile, and how it differs without each review and each photo.

    What is told is what the model does, not why: each one is left out alone, so that of two reviews that say the same
    neither may count. Without a review that stood alone in its view there is a view less; all are calibrated by the
    number of the whole history's, or what the fewer ones say alike would be told as less sure.

    Args:
        model: of this package; `processor` is its own.
        history: of the processor's `encode_history`.
        options: of `generate_profiles`, for all searches alike, but `views`.

    Returns:
        The answer of `profile_users`, and `review_effects` and `photo_effects`, one for each review and photo given: 0
        throughout for one that is not read, None where it was not asked, an `error` alone, a sentence, where nothing
        would be left to read or what the model computes is not finite, else

        - `log_probability`: by how much that of the profile, natural logarithm, falls without it; below 0 where it
          rises.
        - `share`: its part of the falls of all reviews, or of all photos, rises not counted; they sum to 1, or are 0
          where there is no fall.
        - `probabilities`: key -> chosen value -> by how much its probability falls.
        - `changed`: key -> value of the profile that is found without it, of the attributes that have another one.

        Where what the model computes of the whole is not finite, an `error` alone.
    """
    own = tuple(range(history.views))
    places = [*history.without_review, *history.without_photo]
    asked = list(dict.fromkeys([own, *(tuple(rows) for rows in places if rows)]))
    encoded, image_mask = _encode(model, processor, history.rows)
    answers: dict[tuple, dict] = {}
    for some in _in_parts(asked):
        rows = torch.tensor([row for variant in some for row in variant])
        photos = {} if image_mask is None else {"image_mask": image_mask[rows]}
        given = {"encoder_outputs": _rows_of(encoded, rows), "views": [len(variant) for variant in some]}
        given |= {"calibrated_as": [history.views] * len(some)}
        answers |= zip(some, profile_users(model, processor.tokenizer, photos, **options | given), strict=True)
    answer = answers[own]
    if "error" in answer:
        return answer
    scores = _log_probabilities(model, processor, encoded, answer["text"], asked, options.get("combination"))

    def effect(rows: list[int] | None) -> dict | None:
        if not rows:
            return None if rows is None else {"error": NOTHING_LEFT}
        other = answers[tuple(rows)]
        return other if "error" in other else _effect(answer, other, scores[own] - scores[tuple(rows)])

    effects = [effect(rows) for rows in places]
    reviews = len(history.without_review)
    return answer | {"review_effects": _shared(effects[:reviews]), "photo_effects": _shared(effects[reviews:])}


def _encode(model, processor, rows: Sequence[dict]) -> tuple[FusedEncoderOutput, torch.Tensor | None]:
    """The encoder's outputs of all rows, and their `image_mask`."""
    batch = {name: tensor.to(model.device) for name, tensor in processor.pad_users(rows).items()}
    parts = [
        model.encode(
            **{name: tensor[first : first + ROWS_AT_A_TIME] for name, tensor in batch.items()}, output_fusion=True
        )
        for first in range(0, len(rows), ROWS_AT_A_TIME)
    ]
    names = ("last_hidden_state", "attention_mask", "image_attentions", "gate")
    joined: dict[str, Any] = {
        name: torch.cat([part[name] for part in parts]) for name in names if parts[0].get(name) is not None
    }
    return FusedEncoderOutput(**joined), batch.get("image_mask")


def _rows_of(encoded: FusedEncoderOutput, rows: torch.Tensor) -> FusedEncoderOutput:
    picked: dict[str, Any] = {name: tensor[rows.to(tensor.device)] for name, tensor in encoded.items()}
    return FusedEncoderOutput(**picked)


def _in_parts(variants: Sequence[tuple]) -> Iterator[list[tuple]]:
    """As many at a time as have `ROWS_AT_A_TIME` together, at least one."""
    some: list[tuple] = []
    for variant in variants:
        if some and sum(map(len, some)) + len(variant) > ROWS_AT_A_TIME:
            yield some
            some = []
        some.append(variant)
    yield some


def _log_probabilities(
    model, processor, encoded: FusedEncoderOutput, text: str, variants: Sequence[tuple], combination: str | None
) -> dict[tuple, float]:
    """Of one profile's text under each variant's rows together."""
    combination = model.config.combination if combination is None else combination
    labels = processor.tokenizer([text], return_tensors="pt").input_ids.to(model.device)

    def scores(state: FusedEncoderOutput) -> list[float]:
        inputs: dict[str, Any] = {"encoder_outputs": state}
        return (-target_losses(model, inputs, {"labels": labels.expand(len(state[0]), -1)})).tolist()

    found: list[float] = []
    if combination == "states":
        for some in _in_parts(variants):
            given = _rows_of(encoded, torch.tensor([row for variant in some for row in variant]))
            counts = torch.tensor([len(variant) for variant in some])
            state, mask = join_views(given[0], given.attention_mask, counts)
            found += scores(FusedEncoderOutput(last_hidden_state=state, attention_mask=mask))
        return dict(zip(variants, found, strict=True))
    for rows in torch.arange(len(encoded[0])).split(ROWS_AT_A_TIME):
        found += scores(_rows_of(encoded, rows))
    views = UserViews([len(variant) for variant in variants], combination)
    of_views = np.zeros((len(variants), views.most))
    of_views[views.there] = [found[row] for variant in variants for row in variant]
    return dict(zip(variants, views.combined(np.arange(len(variants)), of_views).tolist(), strict=True))


def _effect(answer: dict, other: dict, fall: float) -> dict:
    chosen = {key: value if isinstance(value, list) else [value] for key, value in answer["profile"].items()}
    of_values, without = answer["probabilities"], other["probabilities"]
    return {
        "log_probability": fall,
        "share": 0.0,
        "probabilities": {
            key: {value: of_values[key][value] - without[key][value] for value in values if value in of_values[key]}
            for key, values in chosen.items()
        },
        "changed": {key: other["profile"][key] for key in chosen if other["profile"][key] != answer["profile"][key]},
    }


def _shared(effects: Sequence[dict | None]) -> list[dict | None]:
    """With the `share` of each that was found."""
    found = [effect for effect in effects if effect is not None and "error" not in effect]
    total = sum(max(effect["log_probability"], 0.0) for effect in found)
    for effect in found:
        effect["share"] = max(effect["log_probability"], 0.0) / total if total else 0.0
    return list(effects)
