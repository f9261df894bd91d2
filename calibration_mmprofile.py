"""What is made of a model's marginals by what was fitted on the development split: calibrated probabilities, and
values that are left open where they are not sure enough.

Shapes: users, and the values of one attribute.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from .configuration_mmprofile import Profile, ProfileSchema

Probabilities = Mapping[str, Mapping[str, float]]  # attribute key -> value -> probability, as of `ProfilePrediction`
Fit = Mapping[str, Any]  # of `calibrations` of `MMProfileConfig`, to one number of views
DECISIONS = ("joint", "marginal", "weighted")
HOW_TO_FIT = "predict.py --model FOLDER --dataset CORPUS --split validation --output OUTPUT --calibrate true"
BISECTIONS = 80  # halves the widest bracket of shifts, some 1e5, below what a float tells apart


def tempered(shares: np.ndarray, count: int, temperature: float, power: float = 1) -> np.ndarray:
    """Marginals sharpened by a temperature below 1, flattened by one above 1; their order stays, and so does their
    sum.

    Of an attribute with one value, the logarithms of the odds of the most probable value against each, raised to the
    power, are divided by the temperature; with power 1 that is p^(1/T), normalised. A power above 1 makes the unsure
    less sure, and the sure surer. Of an attribute with several values each value's logit of being among them is
    divided by the temperature, whatever the power, and all are shifted by what keeps the sum. In both what is 0 stays
    0.

    Args:
        shares: (users, values), from 0 to 1; a user's sum to `count`.
        count: how many values a profile has.
        temperature, power: above 0; where both are 1 the shares stay as they are, to the bit.

    Returns:
        (users, values).
    """
    if count == shares.shape[1] or not len(shares):
        return shares
    if count > 1:
        return shares if temperature == 1 else _shifted(shares, temperature)
    return shares if temperature == power == 1 else _against_the_best(shares, temperature, power)


def _against_the_best(shares: np.ndarray, temperature: float, power: float) -> np.ndarray:
    with np.errstate(divide="ignore"):  # of 0 the odds are infinite
        odds = -np.log(shares / shares.max(axis=1, keepdims=True))
    weights = np.exp(-(odds**power) / temperature)
    return weights / weights.sum(axis=1, keepdims=True)


def _shifted(shares: np.ndarray, temperature: float) -> np.ndarray:
    open_ = (shares > 0) & (shares < 1)  # all others stay
    odds = np.where(open_, shares, 0.5)
    logits = np.where(open_, (np.log(odds) - np.log1p(-odds)) / temperature, 0)
    wanted, number = np.where(open_, shares, 0).sum(axis=1), np.maximum(open_.sum(axis=1), 1)
    mean = np.clip(wanted / number, np.finfo(float).tiny, 1 - np.finfo(float).eps)
    shift = np.log(mean) - np.log1p(-mean)
    # With the one shift no value has more than the mean that is wanted, with the other none has less.
    low, high = shift - logits.max(axis=1, initial=0), shift - logits.min(axis=1, initial=0)
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        enough = np.where(open_, _sigmoid(logits + middle[:, None]), 0).sum(axis=1) >= wanted
        low, high = np.where(enough, low, middle), np.where(enough, middle, high)
    return np.where(open_, _sigmoid(logits + ((low + high) / 2)[:, None]), shares.clip(0, 1))


def _sigmoid(logits: np.ndarray) -> np.ndarray:
    return np.exp(-np.logaddexp(0, -logits))


def fit_of_views(calibrations: Mapping | None, combination: str, views: int) -> Fit | None:
    """What is used of a user with so many views.

    Few views are sure of less than many: a product is the mean of the views' log-probabilities, and the more of them
    agree, the surer it should be. So it is what was fitted to users with so many views; between two numbers for which
    there is something, what lies between them on the logarithm's scale, with the stricter threshold; below the least
    and above the largest of these theirs.

    Args:
        calibrations: of `MMProfileConfig`.
        combination: of the views.
        views: at least 1.

    Returns:
        By the names of `FITTED`; None where nothing was fitted to this combination.
    """
    by_views = (calibrations or {}).get(combination)
    if not by_views:
        return None
    numbers = sorted(map(int, by_views))
    below = max((number for number in numbers if number <= views), default=numbers[0])
    above = min((number for number in numbers if number >= views), default=numbers[-1])
    low, high = by_views[str(below)], by_views[str(above)]
    if below >= above:
        return low
    share = math.log(views / below) / math.log(above / below)

    def of_keys(name: str) -> Iterator[tuple[str, Mapping, Mapping]]:
        for key, of_low in low.get(name, {}).items():
            yield key, of_low, high.get(name, {}).get(key, {})

    return {
        "temperatures": _between(low.get("temperatures", {}), high.get("temperatures", {}), share),
        "odds_powers": _between(low.get("odds_powers", {}), high.get("odds_powers", {}), share),
        "value_weights": {key: _between(one, other, share) for key, one, other in of_keys("value_weights")},
        "precision_thresholds": {key: _stricter(one, other) for key, one, other in of_keys("precision_thresholds")},
    }


def _between(low: Mapping[str, float], high: Mapping[str, float], share: float) -> dict[str, float]:
    """Of positive numbers, 1 where one is missing, so much of the way from the low to the high ones."""
    return {key: low.get(key, 1.0) ** (1 - share) * high.get(key, 1.0) ** share for key in {**low, **high}}


def _stricter(low: Mapping[str, float], high: Mapping[str, float]) -> dict[str, float]:
    """Of two precisions' thresholds for each precision the higher; without those that one of them does not reach."""
    wanted = sorted({*low, *high}, key=float)
    found = {precision: max(_least(of, float(precision)) for of in (low, high)) for precision in wanted}
    return {precision: least for precision, least in found.items() if least < np.inf}


def _least(of_precisions: Mapping[str, float], wanted: float) -> float:
    return min((least for precision, least in of_precisions.items() if float(precision) >= wanted), default=np.inf)


def calibrated(
    schema: ProfileSchema, probabilities: Sequence[Probabilities], fits: Sequence[Fit | None]
) -> list[dict[str, dict[str, float]]]:
    """Users' probabilities, each attribute's by the user's temperature and power of it, see `tempered`.

    Args:
        schema: of the attributes.
        probabilities: of each user, as of `ProfilePrediction`.
        fits: of each user, of `fit_of_views`; of None the probabilities stay.
    """
    found = [{key: dict(of_values) for key, of_values in one.items()} for one in probabilities]
    alike: dict[int, list[int]] = {}
    for user, fit in enumerate(fits):
        if fit is not None:
            alike.setdefault(id(fit), []).append(user)
    for users in alike.values():
        fit: Any = fits[users[0]]
        for attribute in schema.attributes:
            temperature, power = (fit.get(name, {}).get(attribute.key, 1) for name in ("temperatures", "odds_powers"))
            table = probability_table([found[user] for user in users], attribute)
            rows = tempered(table, attribute.count, temperature, power)
            for user, row in zip(users, rows.tolist(), strict=True):
                found[user][attribute.key] = dict(zip(attribute.values, row, strict=True))
    return found


def marginal_profile(
    schema: ProfileSchema,
    probabilities: Probabilities,
    value_weights: Mapping[str, Mapping[str, float]] | None = None,
) -> Profile:
    """Each attribute's most probable value by itself, or values, as many as it takes, in schema order; the first of
    equals.

    Args:
        schema: of the attributes.
        probabilities: of a user, calibrated where there are weights.
        value_weights: attribute key -> value -> what its probability is multiplied by; 1 for what is missing.
    """
    profile: Profile = {}
    for attribute in schema.attributes:
        weights = (value_weights or {}).get(attribute.key, {})
        by = [[probabilities[attribute.key][value] * weights.get(value, 1) for value in attribute.values]]
        (chosen,) = likely_values(np.array(by), attribute.count)
        values = [value for value, is_chosen in zip(attribute.values, chosen, strict=True) if is_chosen]
        profile[attribute.key] = values[0] if attribute.count == 1 else values
    return profile


def likely_values(shares: np.ndarray, count: int) -> np.ndarray:
    """(users, values), bool: the highest so many of each user, the first of equals."""
    chosen = np.zeros(shares.shape, bool)
    np.put_along_axis(chosen, np.argsort(-shares, axis=1, kind="stable")[:, :count], True, axis=1)
    return chosen


def probability_table(probabilities: Sequence[Probabilities], attribute) -> np.ndarray:
    """(users, values), of one attribute."""
    return np.array([[one[attribute.key][value] for value in attribute.values] for one in probabilities], float)


def thresholds_of(schema: ProfileSchema, fit: Fit, min_precision: float) -> dict[str, float]:
    """The least probability with which each attribute's value is decided so that a wanted share of them is right.

    A precision between two that are stored is read at the higher one.

    Args:
        schema: of the attributes.
        fit: of `fit_of_views`.
        min_precision: the share, above 0 and below 1.

    Returns:
        attribute key -> probability; infinity where none reaches the precision.
    """
    of_keys = fit.get("precision_thresholds", {})
    return {key: _least(of_keys.get(key, {}), min_precision) for key in schema.keys}


def check_decision(
    calibrations: Mapping | None, combination: str, decision: str = "joint", min_precision: float | None = None
) -> None:
    """Raises a `ValueError` where there is no such decision or precision, or nothing is fitted for it."""
    if decision not in DECISIONS:
        raise ValueError(f"profiles are decided as one of {list(DECISIONS)}, got {decision!r}")
    is_number = isinstance(min_precision, int | float) and not isinstance(min_precision, bool)
    if min_precision is not None and not (is_number and 0 < min_precision < 1):
        raise ValueError(f"min_precision is above 0 and below 1, got {min_precision!r}")
    needs = ["decision='weighted' needs weights"] * (decision == "weighted")
    needs += [f"min_precision={min_precision} needs thresholds"] * (min_precision is not None)
    if needs and not (calibrations or {}).get(combination):
        raise ValueError(
            f"{' and '.join(needs)} fitted on a development split, and this model has none for views' {combination}:"
            f" {HOW_TO_FIT} fits them"
        )


def sure_parts(profile: Profile, probabilities: Probabilities, thresholds: Mapping[str, float]) -> Profile:
    """A profile in which a value is None where its probability is below its attribute's threshold; of an attribute
    with several values all are, where the least probable of them is.

    Args:
        profile: complete.
        probabilities: calibrated.
        thresholds: of `thresholds_of`.
    """
    return {
        key: value if confidence(value, probabilities[key]) >= thresholds[key] else None
        for key, value in profile.items()
    }


def confidence(value: str | list[str] | None, probabilities: Mapping[str, float]) -> float:
    """The probability of an attribute's value, of several that of the least probable; 0 of None."""
    return min((probabilities[one] for one in ([value] if isinstance(value, str) else value or ())), default=0.0)
