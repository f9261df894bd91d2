"""Weights of values by which profiles are decided for more Macro-F1, fitted on the development split: a model that
says one value too often gains where others need less probability."""

from collections.abc import Mapping, Sequence

import numpy as np

from mmprofile import ProfileAttribute, likely_values, probability_table
from scoring.bootstrap import named_values

STEPS = np.arange(-20, 21) / 10  # of a weight's logarithm: from a seventh to seven
SWEEPS = 3
# Macro-F1, from 0 to 1, that the mean square of the logarithms has to be worth; without it a few users decide.
RIDGE = 0.05
DIGITS = 4


def fit_value_weights(rows: Sequence[Mapping], attribute: ProfileAttribute) -> dict[str, float]:
    """Value -> weight, by coordinate ascent on the Macro-F1 of what `mmprofile.likely_values` chooses.

    Args:
        rows: calibrated `probabilities`, and `truth` of each user, at least one.
    """
    shares = probability_table([row["probabilities"] for row in rows], attribute)
    true = named_values([row["truth"] for row in rows], attribute)
    logs, several = np.zeros(len(attribute.values)), len(attribute.values) > attribute.count
    best = _worth(shares, true, attribute.count, logs)
    for _ in range(SWEEPS * several):
        before = best
        # Of two values the weight of one says all.
        for value in range(1 if len(logs) == 2 else len(logs)):
            tried = [np.where(np.arange(len(logs)) == value, step, logs) for step in STEPS]
            worths = [_worth(shares, true, attribute.count, one) for one in tried]
            if max(worths) > best:
                best = max(worths)
                logs = tried[worths.index(best)]
        if best == before:
            break
    return {v: round(float(weight), DIGITS) for v, weight in zip(attribute.values, np.exp(logs), strict=True)}


def _worth(shares: np.ndarray, true: np.ndarray, count: int, logs: np.ndarray) -> float:
    return macro_f1(likely_values(shares * np.exp(logs), count), true, count) - RIDGE * (logs**2).mean().item()


def macro_f1(chosen: np.ndarray, true: np.ndarray, count: int) -> float:
    """As the metric `profile_f1` has it of one attribute, from 0 to 1.

    Args:
        chosen, true: (users, values), bool.
        count: of the attribute.
    """
    occurring = chosen.sum(axis=0) + true.sum(axis=0)
    f1 = 2 * (chosen & true).sum(axis=0) / np.maximum(occurring, 1)
    return f1.sum().item() / (np.count_nonzero(occurring) if count == 1 else len(f1))
