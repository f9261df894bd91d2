"""How far other users could have moved a Macro-F1: percentile intervals of a bootstrap over users (Efron, 1979).

A resample draws as many users as there are, each as often as chance has it, and scores them as the metric does. All
systems are scored on the same resamples, so that the difference of two is paired: what is hard for both cancels.
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from mmprofile import Profile, ProfileAttribute, ProfileSchema

RESAMPLES = 10_000
CONFIDENCE = 0.95
CELLS = 2**24  # users times resamples at once, 64 MiB

Resampled = dict[str, np.ndarray]


def resample_f1(
    systems: Mapping[str, Sequence[Profile]],
    references: Sequence[Profile],
    schema: ProfileSchema,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> dict[str, Resampled]:
    """The metric `profile_f1` of each system's predictions on resamples of the users, the same for all systems.

    Args:
        systems: name -> one prediction a user; a value that is None or not valid is wrong, as in the metric.
        references: the true profiles, valid, in the same order.
        resamples: how many.
        seed: of the drawing; with as many users the same seed draws the same ones.

    Returns:
        name -> attribute key, and "average" -> (resamples,), percent.

    Raises:
        ValueError: if there is no user or no resample, or a system has not one prediction a user.
    """
    lengths = {name: len(predictions) for name, predictions in systems.items()}
    if not references or resamples < 1 or set(lengths.values()) - {len(references)}:
        raise ValueError(f"{resamples} resamples of {len(references)} users need as many predictions, got {lengths}")
    true = _named(references, schema)
    predicted = {name: _named(predictions, schema) for name, predictions in systems.items()}
    columns = np.hstack([true, *(part for named in predicted.values() for part in (named, named & true))])
    counts = np.vstack([drawn @ columns.astype(np.float32) for drawn in _draws(len(references), resamples, seed)])
    of_true, *of_systems = np.split(counts, 1 + 2 * len(systems), axis=1)
    pairs = zip(of_systems[::2], of_systems[1::2], strict=True)
    return {name: _macro(of_true, *pair, schema) for name, pair in zip(predicted, pairs, strict=True)}


def _draws(users: int, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """(some resamples, users), how often each is drawn; all together as many rows as resamples."""
    generator, rows = np.random.default_rng(seed), max(1, CELLS // users)
    for first in range(0, resamples, rows):
        number = min(rows, resamples - first)
        drawn = generator.integers(users, size=(number, users)) + users * np.arange(number)[:, None]
        yield np.bincount(drawn.ravel(), minlength=number * users).reshape(number, users).astype(np.float32)


def _named(profiles: Sequence[Profile], schema: ProfileSchema) -> np.ndarray:
    """(users, values of all attributes), whether the profile names the value."""
    return np.hstack([named_values(profiles, attribute) for attribute in schema.attributes])


def named_values(profiles: Sequence[Profile], attribute: ProfileAttribute) -> np.ndarray:
    """(users, values), of one attribute; none of a profile in which it is not valid."""
    at = {value: column for column, value in enumerate(attribute.values)}
    named = np.zeros((len(profiles), len(at)), dtype=bool)
    for row, profile in enumerate(profiles):
        value = profile.get(attribute.key)
        names = [value] if isinstance(value, str) else value or []
        columns = {at[name] for name in names if name in at}
        if len(columns) == len(names) == attribute.count:
            named[row, list(columns)] = True
    return named


def _macro(true: np.ndarray, predicted: np.ndarray, right: np.ndarray, schema: ProfileSchema) -> Resampled:
    """Macro-F1 by attribute from counts (resamples, values); of an attribute with one value a profile those values
    count that occur, of others all."""
    occurring = true + predicted
    f1 = 2 * right / np.maximum(occurring, 1)
    found, first = {}, 0
    for attribute in schema.attributes:
        columns = slice(first, first := first + len(attribute.values))
        counted = occurring[:, columns] > 0 if attribute.count == 1 else np.ones_like(f1[:, columns])
        found[attribute.key] = 100 * f1[:, columns].sum(axis=1, dtype=float) / counted.sum(axis=1)
    return found | {"average": np.mean(list(found.values()), axis=0)}


def mean_intervals(values: np.ndarray, resamples: int = RESAMPLES, seed: int = 0) -> list[list[float]]:
    """`interval` of each column's mean over users, on the same resamples.

    Args:
        values: (users, columns); of a paired difference the differences.
    """
    means = resample_sums(values, resamples, seed) / len(values)
    return [interval(column) for column in means.T]


def resample_sums(values: np.ndarray, resamples: int = RESAMPLES, seed: int = 0) -> np.ndarray:
    """(resamples, columns), each column's sum over the users drawn; with as many users the same seed draws the same.

    Args:
        values: (users, columns).
    """
    return np.vstack([counts @ values for counts in _draws(len(values), resamples, seed)])


def interval(resampled: np.ndarray) -> list[float]:
    """The lower and upper end of the middle 95 % of what the resamples came to."""
    return np.quantile(resampled, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2]).tolist()


def intervals(resampled: Resampled) -> dict[str, list[float]]:
    """`interval` of each attribute and of the average."""
    return {key: interval(values) for key, values in resampled.items()}


def difference_intervals(first: Resampled, second: Resampled) -> dict[str, list[float]]:
    """`interval` of what the first system of `resample_f1` has more than the second, which is paired: resamples are
    the same. Where 0 is outside, the split tells the two systems apart."""
    return {key: interval(values - second[key]) for key, values in first.items()}


def half_width(ends: Sequence[float]) -> float:
    """Points from an interval's middle to its ends."""
    return (ends[1] - ends[0]) / 2
