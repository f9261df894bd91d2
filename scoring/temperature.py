"""What of a model is fitted on the development split once it is trained: a temperature an attribute (Guo et al.,
2017), and from which probability on a value is decided. Rows have a user's `profile`, `probabilities`, `truth` and
`views`, how many views were read; those without a prediction do not count."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.optimize import minimize, minimize_scalar

from mmprofile import (
    ProfileAttribute,
    ProfileSchema,
    calibrated,
    confidence,
    fit_of_views,
    probability_table,
    tempered,
    thresholds_of,
)
from scoring.bootstrap import named_values
from scoring.decisions import fit_value_weights
from scoring.plots import calibration, values_of

FITTED_ON = ["profile", "probabilities", "truth", "views"]  # columns of predictions
TEMPERATURES = 0.02, 50.0
DIGITS = 6  # of a temperature, and of a threshold
# Of thresholds: finer where few mistakes are left.
PRECISIONS = [percent / 100 for percent in (*range(5, 90, 5), *range(90, 100))]
# Shares of the users, the surest first, that a threshold may leave decided. Few, and whatever is right the same, since
# of those that hold a precision the largest is taken, and one may by chance.
DECIDED = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.35, 0.2)
Z = 2.498  # standard deviations above which lie 5 % divided by their number
SHOWN_PRECISION = 0.9
MIN_DECIDED = 30  # users of the development split that a threshold leaves decided
MIN_USERS = 30  # of a number of views, to which something is fitted, where there are others with more


def fitted_views(counts: Sequence[int]) -> list[int]:
    """To users of which numbers of views something is fitted: 1, 4, 16 and so on, and the most that a quarter of them
    have.

    Args:
        counts: of each user's views, at least one.
    """
    most = sorted(counts, reverse=True)[max(len(counts) // 4 - 1, 0)]
    found, number = [], 1
    while number < most:
        found.append(number)
        number *= 4
    return [*found, most]


def fit_by_views(rows: Sequence[Mapping], schema: ProfileSchema) -> dict[str, dict]:
    """`fit_calibration` of the users with each of `fitted_views`, of a combination's entry in `calibrations` of
    `MMProfileConfig`. Users with another number count with the nearest, on the logarithm's scale.

    Raises:
        ValueError: if no row has a prediction.
    """
    answered = [row for row in rows if row["probabilities"] is not None]
    if not answered:
        raise ValueError(f"a calibration is fitted on users with predictions, got {len(rows)} users without one")
    numbers = np.array(fitted_views([row["views"] for row in answered]))
    distances = np.abs(np.log(np.array([row["views"] for row in answered])[:, None] / numbers))
    nearest = distances.argmin(axis=1)
    of_numbers = {int(number): np.flatnonzero(nearest == place) for place, number in enumerate(numbers)}
    enough = min(MIN_USERS, max(map(len, of_numbers.values())))
    return {
        str(number): fit_calibration([answered[place] for place in places], schema)
        for number, places in of_numbers.items()
        if len(places) >= enough
    }


def fit_calibration(rows: Sequence[Mapping], schema: ProfileSchema) -> dict[str, Any]:
    """`temperatures`, `odds_powers`, `value_weights` and `precision_thresholds` of `MMProfileConfig`, fitted to users
    of whom as many views are read.

    Args:
        rows: `profile`, the model's own `probabilities`, so of a configuration in which nothing is fitted yet, and
            `truth` of each user, at least one.
        schema: of the profiles.
    """
    fitted: dict[str, Any] = {"temperatures": {}, "odds_powers": {}}
    for attribute in schema.attributes:
        temperature, power = fit_attribute(rows, attribute)
        fitted["temperatures"][attribute.key] = temperature
        if attribute.count == 1:
            fitted["odds_powers"][attribute.key] = power
    shares = calibrated(schema, [row["probabilities"] for row in rows], [fitted] * len(rows))
    after = [{**row, "probabilities": found} for row, found in zip(rows, shares, strict=True)]
    return fitted | {
        "value_weights": {attribute.key: fit_value_weights(after, attribute) for attribute in schema.attributes},
        "precision_thresholds": {key: precision_thresholds(after, key) for key in schema.keys},
    }


def fit_attribute(rows: Sequence[Mapping], attribute: ProfileAttribute) -> tuple[float, float]:
    """The temperature, from 0.02 to 50, and the power of the least negative log-likelihood; of an attribute with
    several values the power is 1.

    Terms of (log T)^2 / 2 and 2 (log power)^2 beside the sum over users keep them finite where no user is wrong; of
    hundreds of users they move the temperature by a few percent of the way to 1.

    Args:
        rows: `probabilities` and `truth` of each user, at least one.
    """
    shares = probability_table([row["probabilities"] for row in rows], attribute)
    true = named_values([row["truth"] for row in rows], attribute)
    low, high = np.log(TEMPERATURES)

    def cost(exponents: Sequence[float]) -> float:
        t, power = np.clip(exponents[0], low, high), exponents[1]
        loss = negative_log_likelihood(shares, true, attribute.count, np.exp(t).item(), np.exp(power).item())
        return len(rows) * loss + exponents[0] ** 2 / 2 + 2 * power**2

    if attribute.count == len(attribute.values):
        return 1.0, 1.0
    alone: Any = minimize_scalar(
        lambda t: cost((t, 0.0)), bounds=(low, high), method="bounded", options={"xatol": 1e-6}
    )
    best = (alone.x, 0.0)
    if attribute.count == 1:
        best = minimize(cost, best, method="Nelder-Mead", options={"xatol": 1e-6, "fatol": 1e-8}).x
    if cost(best) >= cost((0.0, 0.0)):
        return 1.0, 1.0
    return round(float(np.exp(np.clip(best[0], low, high))), DIGITS), round(float(np.exp(best[1])), DIGITS)


def negative_log_likelihood(
    shares: np.ndarray,
    true: np.ndarray,
    count: int,
    temperature: float = 1,
    power: float = 1,
) -> float:
    """Of the true values under tempered marginals, the mean over users; of an attribute with several values a user's
    are the sum of its values' binary cross entropies.

    Args:
        shares: (users, values), as of `tempered`.
        true: (users, values), bool.
        count: of the attribute.
        temperature, power: of `tempered`.
    """
    found = tempered(shares, count, temperature, power)
    likelihood = np.where(true, found, 1 if count == 1 else 1 - found)
    return -np.log(np.maximum(likelihood, np.finfo(float).tiny)).sum(axis=1).mean().item()


def precision_thresholds(rows: Sequence[Mapping], key: str) -> dict[str, float]:
    """The least probability from which on an attribute's values are decided so that they are right often enough.

    A threshold leaves one of the shares `DECIDED` of the users decided, at least 30, and those who are as sure as the
    last of them. It holds a precision where theirs has it as the lower end of Wilson's interval, all shares tried
    together with 95 % confidence. Of an attribute with several values a user counts with the share of the chosen ones
    that are true, and the probability is that of the least probable.

    Args:
        rows: `profile`, calibrated `probabilities` and `truth` of each user.

    Returns:
        Precision as text -> the threshold that holds it and decides most, from the highest precision that all users
        together have to the highest that any threshold holds. Empty where there is none.
    """
    sure = np.array([confidence(row["profile"][key], row["probabilities"][key]) for row in rows])
    chosen = [(values_of(row["profile"], key), values_of(row["truth"], key)) for row in rows]
    right = np.array([np.mean([value in true for value in values]) for values, true in chosen])
    order = np.argsort(-sure, kind="stable")
    sure, share = sure[order], right[order].cumsum() / np.arange(1, len(rows) + 1)
    tried = [np.count_nonzero(sure >= sure[math.ceil(part * len(rows)) - 1]) for part in DECIDED]
    tried = np.array(sorted({number for number in tried if number >= MIN_DECIDED}, reverse=True), int)
    bounds = lower_bound(share[tried - 1], tried)
    found: dict[str, float] = {}
    for precision in PRECISIONS:
        if len(holds := tried[bounds >= precision]):
            found = {} if holds[0] == len(rows) else found
            found[f"{precision:g}"] = math.floor(sure[holds[0] - 1] * 10**DIGITS) / 10**DIGITS
    return found


def lower_bound(share: np.ndarray, users: np.ndarray) -> np.ndarray:
    """Of Wilson's one-sided interval, see `Z`."""
    middle = share + Z**2 / (2 * users)
    width = Z * np.sqrt(share * (1 - share) / users + (Z / (2 * users)) ** 2)
    return (middle - width) / (1 + Z**2 / users)


def recalibrated(rows: Sequence[Mapping], schema: ProfileSchema, by_views: Mapping[str, Mapping]) -> list[dict]:
    """The rows with probabilities calibrated by what `fit_by_views` returned; one without a prediction as it is."""
    told = [row for row in rows if row["probabilities"] is not None]
    fits = _fits(told, by_views)
    shares = iter(calibrated(schema, [row["probabilities"] for row in told], fits))
    return [{**row, "probabilities": None if row["probabilities"] is None else next(shares)} for row in rows]


def _fits(rows: Sequence[Mapping], by_views: Mapping[str, Mapping]) -> list:
    of_numbers = {number: fit_of_views({"": by_views}, "", number) for number in {row["views"] for row in rows}}
    return [of_numbers[row["views"]] for row in rows]


def fitted_table(rows: Sequence[Mapping], schema: ProfileSchema, by_views: Mapping[str, Mapping]) -> str:
    """A line for each attribute: the temperature of users with the most views, the expected calibration error of all
    without and with what was fitted, and the share of users of whom a value is decided at a precision of 0.9.

    Args:
        rows: of `fit_by_views`.
        by_views: what it returned.
    """
    after = recalibrated(rows, schema, by_views)
    errors = [calibration(of, schema) for of in (rows, after)]
    answered = [row for row in after if row["probabilities"] is not None]
    thresholds = [thresholds_of(schema, fit, SHOWN_PRECISION) for fit in _fits(answered, by_views)]
    head = "temperature", "error without", "error with", f"decided at {SHOWN_PRECISION}"
    width = max(len(attribute.name) for attribute in schema.attributes)
    lines = [" " * width + "".join(f"{name:>16}" for name in head)]
    for attribute in schema.attributes:
        key = attribute.key
        sure = [
            confidence(row["profile"][key], row["probabilities"][key]) >= its[key]
            for row, its in zip(answered, thresholds, strict=True)
        ]
        temperature = by_views[max(by_views, key=int)]["temperatures"][key]
        numbers = temperature, *(error[key]["expected_error"] for error in errors)
        cells = "".join(f"{number:16.3f}" for number in numbers)
        lines.append(f"{attribute.name:{width}}{cells}{np.mean(sure):16.0%}")
    return "\n".join(lines)
