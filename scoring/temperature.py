"""What of a model is fitted on the development split once it is trained: a temperature an attribute (Guo et al.,
2017), and from which probability on a value is decided. Rows have a user's `profile`, `probabilities`, `truth` and
`views`, of how many views the probabilities are the product (1 of another combination); those without a prediction do
not count."""

from collections.abc import Mapping, Sequence
from math import floor
from typing import Any

import numpy as np
from scipy.optimize import minimize, minimize_scalar

from mmprofile import (
    ProfileAttribute,
    ProfileSchema,
    calibrated,
    confidence,
    probability_table,
    tempered,
    thresholds_of,
    view_powers,
)
from scoring.bootstrap import named_values
from scoring.decisions import fit_value_weights
from scoring.plots import calibration, values_of

FITTED_ON = ["profile", "probabilities", "truth"]  # columns of predictions
TEMPERATURES = 0.02, 50.0
DIGITS = 6  # of a temperature, and of a threshold
# Of thresholds: finer where few mistakes are left.
PRECISIONS = [percent / 100 for percent in (*range(5, 90, 5), *range(90, 100))]
Z = 1.645  # standard deviations above which 5 % lie
SHOWN_PRECISION = 0.9
MIN_DECIDED = 30  # users of the development split that a threshold leaves decided


def fit_calibration(rows: Sequence[Mapping], schema: ProfileSchema) -> dict[str, Any]:
    """Fields of `MMProfileConfig`, fitted on the rows of a development split.

    Args:
        rows: `profile`, the model's own `probabilities`, so of a configuration in which nothing is fitted yet, `truth`
            and `views` of each user; `probabilities` None where there is no prediction.
        schema: of the profiles.

    Returns:
        `temperatures`, `odds_powers`, `calibrated_views`, which is the most views that a row has, None where that is
        1, `value_weights` and `precision_thresholds`.

    Raises:
        ValueError: if no row has a prediction.
    """
    answered = [row for row in rows if row["probabilities"] is not None]
    if not answered:
        raise ValueError(f"a calibration is fitted on users with predictions, got {len(rows)} users without one")
    most = max(int(row["views"]) for row in answered)
    fitted: dict[str, Any] = {"temperatures": {}, "odds_powers": {}, "calibrated_views": most if most > 1 else None}
    for attribute in schema.attributes:
        temperature, power = fit_attribute(answered, attribute, fitted["calibrated_views"])
        fitted["temperatures"][attribute.key] = temperature
        if attribute.count == 1:
            fitted["odds_powers"][attribute.key] = power
    after = recalibrated(answered, schema, fitted)
    return fitted | {
        "value_weights": {attribute.key: fit_value_weights(after, attribute) for attribute in schema.attributes},
        "precision_thresholds": {key: precision_thresholds(after, key) for key in schema.keys},
    }


def fit_attribute(
    rows: Sequence[Mapping], attribute: ProfileAttribute, fitted_on: int | None = None
) -> tuple[float, float]:
    """The temperature, from 0.02 to 50, and the power of the least negative log-likelihood, of users with `fitted_on`
    views; of an attribute with several values the power is 1.

    Terms of (log T)^2 / 2 and 2 (log power)^2 beside the sum over users keep them finite where no user is wrong; of
    hundreds of users they move the temperature by a few percent of the way to 1.

    Args:
        rows: `probabilities`, `truth` and `views` of each user, at least one.
        fitted_on: of `view_powers`; None: the same whatever the views.
    """
    shares = probability_table([row["probabilities"] for row in rows], attribute)
    true, weights = named_values([row["truth"] for row in rows], attribute), _weights(rows, fitted_on)
    low, high = np.log(TEMPERATURES)

    def cost(exponents: Sequence[float]) -> float:
        t, power = np.clip(exponents[0], low, high), exponents[1]
        loss = negative_log_likelihood(shares, true, attribute.count, np.exp(t * weights), np.exp(power * weights))
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


def _weights(rows: Sequence[Mapping], fitted_on: int | None) -> np.ndarray:
    """(users,), of `view_powers`."""
    return view_powers([row["views"] for row in rows], fitted_on, "product")


def negative_log_likelihood(
    shares: np.ndarray,
    true: np.ndarray,
    count: int,
    temperature: float | np.ndarray = 1,
    power: float | np.ndarray = 1,
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

    A threshold holds a precision where the precision of the users whom it leaves decided, at least 30, has it as the
    lower end of Wilson's interval, with 95 % confidence. Of an attribute with several values a user counts with the
    share of the chosen ones that are true, and the probability is that of the least probable.

    Args:
        rows: `profile`, calibrated `probabilities` and `truth` of each user.

    Returns:
        Precision as text -> threshold, from the highest precision that all users together have, with threshold 0, to
        the highest that any threshold holds. Empty where there is none.
    """
    sure = np.array([confidence(row["profile"][key], row["probabilities"][key]) for row in rows])
    chosen = [(values_of(row["profile"], key), values_of(row["truth"], key)) for row in rows]
    right = np.array([np.mean([value in true for value in values]) for values, true in chosen])
    order = np.argsort(-sure, kind="stable")
    sure, number = sure[order], np.arange(1, len(rows) + 1)
    bound = lower_bound(right[order].cumsum() / number, number)
    ends = (number >= MIN_DECIDED) & np.append(sure[:-1] > sure[1:], True)  # of those who are alike all are decided
    found: dict[str, float] = {}
    for precision in PRECISIONS:
        if holds := (ends & (bound >= precision)).nonzero()[0].tolist():
            least = 0.0 if holds[-1] == len(rows) - 1 else floor(sure[holds[-1]] * 10**DIGITS) / 10**DIGITS
            found = {} if least == 0 else found
            found[f"{precision:g}"] = least
    return found


def lower_bound(share: np.ndarray, users: np.ndarray) -> np.ndarray:
    """Of Wilson's one-sided interval of 95 %."""
    middle = share + Z**2 / (2 * users)
    width = Z * np.sqrt(share * (1 - share) / users + (Z / (2 * users)) ** 2)
    return (middle - width) / (1 + Z**2 / users)


def recalibrated(rows: Sequence[Mapping], schema: ProfileSchema, fitted: Mapping[str, Any]) -> list[dict]:
    """The rows with probabilities calibrated by what `fit_calibration` returned; one without a prediction as it is."""
    told = [row for row in rows if row["probabilities"] is not None]
    plain, weights = [row["probabilities"] for row in told], _weights(told, fitted["calibrated_views"])
    shares = iter(calibrated(schema, plain, fitted["temperatures"], fitted["odds_powers"], weights))
    return [{**row, "probabilities": None if row["probabilities"] is None else next(shares)} for row in rows]


def fitted_table(rows: Sequence[Mapping], schema: ProfileSchema, fitted: Mapping[str, Any]) -> str:
    """A line for each attribute: the temperature, the expected calibration error without and with it, and the share
    of users of whom a value is decided at a precision of 0.9.

    Args:
        rows: of `fit_calibration`.
        fitted: what it returned.
    """
    after = recalibrated(rows, schema, fitted)
    errors = [calibration(of, schema) for of in (rows, after)]
    answered = [row for row in after if row["probabilities"] is not None]
    thresholds = thresholds_of(schema, fitted["precision_thresholds"], SHOWN_PRECISION)
    head = "temperature", "error without", "error with", f"decided at {SHOWN_PRECISION}"
    width = max(len(attribute.name) for attribute in schema.attributes)
    lines = [" " * width + "".join(f"{name:>16}" for name in head)]
    for attribute in schema.attributes:
        key = attribute.key
        sure = [confidence(row["profile"][key], row["probabilities"][key]) >= thresholds[key] for row in answered]
        numbers = fitted["temperatures"][key], *(error[key]["expected_error"] for error in errors)
        cells = "".join(f"{number:16.3f}" for number in numbers)
        lines.append(f"{attribute.name:{width}}{cells}{np.mean(sure):16.0%}")
    return "\n".join(lines)
