"""How far predicted values have moved since an earlier run: the population stability index, and who changed."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.stats import chi2

from mmprofile import Profile, ProfileAttribute, ProfileSchema
from scoring.plots import values_of
from scoring.reporting import format_cells, table_order

# The usual reading (Siddiqi, Credit Risk Scorecards, 2006): below the first stable, above the second large.
MODERATE, LARGE = 0.1, 0.25
SMOOTHING = 0.5  # added to each value's count in both runs, as Jeffreys' prior does, for logarithms of no 0
CONFIDENCE = 0.95

Profiles = Mapping[str, Profile | None]


def stability_index(now: Sequence[float], earlier: Sequence[float]) -> float:
    """The population stability index of counts (values,): the sum of (p - q) ln(p / q) over the values, where p and q
    are the shares now and earlier, of counts that each are greater by `SMOOTHING`. It is at least 0, and the same
    either way round.

    Raises:
        ValueError: if the counts are not of the same values, or a run has none.
    """
    counts = np.array(now, float), np.array(earlier, float)
    if counts[0].shape != counts[1].shape or not counts[0].sum() or not counts[1].sum():
        raise ValueError(f"the index is of counts of the same values in two runs, got {list(now)} and {list(earlier)}")
    p, q = (count + SMOOTHING for count in counts)
    p, q = p / p.sum(), q / q.sum()
    return float(((p - q) * np.log(p / q)).sum())


def index_by_chance(now: Sequence[float], earlier: Sequence[float]) -> float:
    """Up to which index 19 of 20 pairs of runs come whose users are drawn from the same: it is chi-squared, times
    1 / n + 1 / m (Yurdakul, Statistical Properties of Population Stability Index, 2018). Of the same users predicted
    twice it is less."""
    counts = np.array(now, float), np.array(earlier, float)
    free = np.count_nonzero(counts[0] + counts[1]) - 1
    return float(chi2.ppf(CONFIDENCE, free) * sum(1 / count.sum() for count in counts)) if free else 0.0


def reading(index: float) -> str:
    """What an index usually is taken for."""
    return "stable" if index < MODERATE else "moderate" if index <= LARGE else "large"


def drift(now: Profiles, earlier: Profiles, schema: ProfileSchema) -> dict[str, Any]:
    """How two runs differ in what they predict.

    Args:
        now, earlier: user id -> the profile predicted, None where there is none.

    Returns:
        `users` and `earlier_users` who are predicted, and how many of them are in both runs, `users_in_both`; and by
        attribute `psi`, the `stability_index` of all users of each run, each value of a profile counted; `reading`;
        `psi_by_chance`; `without_value` and `earlier_without_value`, the shares of users of whom nothing is predicted,
        which the index leaves out; and `changed`, the share of the users in both whose values are others. What cannot
        be told is None.
    """
    runs = [{user: profile for user, profile in run.items() if profile is not None} for run in (now, earlier)]
    both = [user for user in runs[0] if user in runs[1]]
    found = {}
    for attribute in schema.attributes:
        counts = [_counts(run, attribute) for run in runs]
        index = stability_index(*counts) if all(map(sum, counts)) else None
        absent = [_without_value(run, attribute.key) for run in (now, earlier)]
        changed = [values_of(runs[0][u], attribute.key) != values_of(runs[1][u], attribute.key) for u in both]
        found[attribute.key] = {
            "psi": index,
            "reading": None if index is None else reading(index),
            "psi_by_chance": None if index is None else index_by_chance(*counts),
            "without_value": absent[0],
            "earlier_without_value": absent[1],
            "changed": sum(changed) / len(both) if both else None,
        }
    return {"users": len(runs[0]), "earlier_users": len(runs[1]), "users_in_both": len(both), "attributes": found}


def format_drift(found: Mapping[str, Any], schema: ProfileSchema) -> str:
    """A table of what `drift` returns, a line an attribute, for a terminal and for Markdown."""
    cells = [["", "PSI", "by chance up to", "reading", "changed", "without value", "earlier"]]
    for attribute in table_order(schema):
        its = found["attributes"][attribute.key]
        numbers = ["–" if its[name] is None else f"{its[name]:.3f}" for name in ("psi", "psi_by_chance")]
        shares = [
            "–" if its[n] is None else f"{its[n]:.1%}" for n in ("changed", "without_value", "earlier_without_value")
        ]
        cells.append([attribute.name, *numbers, its["reading"] or "–", *shares])
    return format_cells(cells)


def _counts(run: Mapping[str, Profile], attribute: ProfileAttribute) -> list[int]:
    counted = Counter(value for profile in run.values() for value in values_of(profile, attribute.key))
    return [counted[value] for value in attribute.values]


def _without_value(run: Profiles, key: str) -> float | None:
    return sum(not values_of(profile, key) for profile in run.values()) / len(run) if run else None
