"""Which values of an attribute a profile takes, and how probable: a classifier has one logit a value.

Each value is taken or not by a chance of its own, the sigmoid of its logit; of an attribute that takes `count` of
them, given that it takes so many, a set's probability is in proportion to the exponential of its logits' sum. With
`count` 1 that is the softmax.
"""

import heapq
from collections.abc import Sequence

import torch

from mmprofile import Profile, ProfileSchema

Scored = tuple[float, tuple]  # a log-probability, up to a constant, and what it is of


def log_partition(logits: torch.Tensor, count: int) -> torch.Tensor:
    """(...,), the logarithm of what all sets of `count` values come to (an elementary symmetric polynomial of the
    exponentials).

    Args:
        logits: (..., values), at least `count`.
    """
    sums = [torch.zeros_like(logits[..., 0])]  # of sets of 0, 1, ... of the values so far
    for logit in logits.unbind(-1):
        more = [torch.logaddexp(sums[size], sums[size - 1] + logit) for size in range(1, len(sums))]
        sums = [sums[0], *more, sums[-1] + logit][: count + 1]
    return sums[count]


def value_probabilities(logits: torch.Tensor, count: int) -> torch.Tensor:
    """(..., values), each value's probability to be among the `count`: they sum to it.

    Args:
        logits: (..., values), at least `count`.
    """
    if count == 1:
        return logits.softmax(dim=-1)
    places = torch.arange(logits.shape[-1], device=logits.device)
    others = places.expand(len(places), -1)[places[:, None] != places].view(len(places), -1)
    without = log_partition(logits[..., others], count - 1)  # of (..., values, all values but this)
    return (logits + without - log_partition(logits, count)[..., None]).exp()


def best_sets(logits: Sequence[float], count: int, number: int) -> list[Scored]:
    """The sets of `count` values with the highest sums of logits, the highest first: the sums and the values' places,
    in order; at most `number`."""
    best: list[list[Scored]] = [[(0.0, ())]] + [[] for _ in range(count)]
    for place, logit in enumerate(logits):
        for size in range(count, 0, -1):
            taken = [(score + logit, (*places, place)) for score, places in best[size - 1]]
            best[size] = _best(best[size] + taken, number)
    return best[count]


def best_profiles(schema: ProfileSchema, logits: torch.Tensor, number: int) -> list[tuple[Profile, float]]:
    """A user's most probable profiles with their log-probabilities, the best first; at most `number`.

    Args:
        logits: (values,), all attributes' side by side in schema order.
    """
    found: list[Scored] = [(0.0, ())]
    for attribute, part in zip(schema.attributes, split_values(schema, logits), strict=True):
        whole = log_partition(part, attribute.count).item()
        sets = best_sets(part.tolist(), attribute.count, number)
        found = _best(
            [(score + more - whole, (*chosen, places)) for score, chosen in found for more, places in sets], number
        )
    return [(_profile(schema, chosen), score) for score, chosen in found]


def split_values(schema: ProfileSchema, values: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """(..., values) of all attributes -> (..., the attribute's values) of each."""
    return values.split([len(attribute.values) for attribute in schema.attributes], dim=-1)


def _profile(schema: ProfileSchema, chosen: tuple) -> Profile:
    values = [[a.values[place] for place in places] for a, places in zip(schema.attributes, chosen, strict=True)]
    return {a.key: many if a.count > 1 else many[0] for a, many in zip(schema.attributes, values, strict=True)}


def _best(found: list[Scored], number: int) -> list[Scored]:
    return heapq.nsmallest(number, found, key=lambda scored: (-scored[0], scored[1]))
