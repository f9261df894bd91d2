"""What is made of a model's marginals by what was fitted on the development split: calibrated probabilities, and
values that are left open where they are not sure enough.

Shapes: users, and the values of one attribute.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from .configuration_mmprofile import Profile, ProfileSchema

Probabilities = Mapping[str, Mapping[str, float]]  # attribute key -> value -> probability, as of `ProfilePrediction`
DECISIONS = ("joint", "marginal", "weighted")
HOW_TO_FIT = "predict.py --model FOLDER --dataset CORPUS --split validation --output OUTPUT --calibrate true"
BISECTIONS = 80  # halves the widest bracket of shifts, some 1e5, below what a float tells apart


def tempered(
    shares: np.ndarray, count: int, temperature: float | np.ndarray, power: float | np.ndarray = 1
) -> np.ndarray:
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
        temperature, power: above 0, of all users or (users,) of each; where both are 1 the shares stay as they are, to
            the bit.

    Returns:
        (users, values).
    """
    if count == shares.shape[1] or not len(shares):
        return shares
    t, power = (np.broadcast_to(np.asarray(one, float), len(shares))[:, None] for one in (temperature, power))
    if count > 1:
        return np.where(t == 1, shares, _shifted(shares, t))
    return np.where((t == 1) & (power == 1), shares, _against_the_best(shares, t, power))


def _against_the_best(shares: np.ndarray, temperature: np.ndarray, power: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore"):  # of 0 the odds are infinite
        odds = -np.log(shares / shares.max(axis=1, keepdims=True))
    weights = np.exp(-(odds**power) / temperature)
    return weights / weights.sum(axis=1, keepdims=True)


def _shifted(shares: np.ndarray, temperature: np.ndarray) -> np.ndarray:
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


def view_powers(counts: Sequence[int], fitted_on: int | None, combination: str) -> np.ndarray:
    """(users,), powers to which what was fitted is raised for users with so many views.

    A product is the mean of the views' log-probabilities, and the more views agree, the surer it should be: what was
    fitted on N views is, of n, raised to log n / log N. So it is all there at N, and of one view nothing, which is as
    sure as the model was trained to be.

    Args:
        counts: of each user's views.
        fitted_on: as `calibrated_views` of `MMProfileConfig`.
        combination: of the views.
    """
    numbers = np.maximum(np.asarray(counts, float), 1)
    if fitted_on is None:
        return np.ones(len(numbers))
    if combination != "product":
        return np.zeros(len(numbers))
    return np.log(numbers) / np.log(fitted_on)


def calibrated(
    schema: ProfileSchema,
    probabilities: Sequence[Probabilities],
    temperatures: Mapping[str, float] | None,
    odds_powers: Mapping[str, float] | None = None,
    weights: np.ndarray | None = None,
) -> list[dict[str, dict[str, float]]]:
    """Users' probabilities, each attribute's by its temperature and power, see `tempered`.

    Args:
        schema: of the attributes.
        probabilities: of each user, as of `ProfilePrediction`.
        temperatures, odds_powers: attribute key -> number; of an attribute that has none, and where None is given, 1.
        weights: (users,), of `view_powers`; default: 1 each.
    """
    found = [{key: dict(of_values) for key, of_values in one.items()} for one in probabilities]
    of_each = np.ones(len(found)) if weights is None else weights
    for attribute in schema.attributes:
        temperature, power = ((of or {}).get(attribute.key, 1) for of in (temperatures, odds_powers))
        if temperature == power == 1 or not found:
            continue
        table = probability_table(found, attribute)
        rows = tempered(table, attribute.count, temperature**of_each, power**of_each)
        for one, row in zip(found, rows.tolist(), strict=True):
            one[attribute.key] = dict(zip(attribute.values, row, strict=True))
    return found


def marginal_profile(
    schema: ProfileSchema,
    probabilities: Probabilities,
    value_weights: Mapping[str, Mapping[str, float]] | None = None,
    power: float = 1,
) -> Profile:
    """Each attribute's most probable value by itself, or values, as many as it takes, in schema order; the first of
    equals.

    Args:
        schema: of the attributes.
        probabilities: of a user, calibrated where there are weights.
        value_weights: attribute key -> value -> what its probability is multiplied by, raised to the power; 1 for
            what is missing.
        power: the user's of `view_powers`.
    """
    profile: Profile = {}
    for attribute in schema.attributes:
        weights = (value_weights or {}).get(attribute.key, {})
        by = [[probabilities[attribute.key][value] * weights.get(value, 1) ** power for value in attribute.values]]
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


def thresholds_of(
    schema: ProfileSchema,
    precision_thresholds: Mapping[str, Mapping[str, float]] | None,
    min_precision: float,
) -> dict[str, float]:
    """The least probability with which each attribute's value is decided so that a wanted share of them is right.

    A precision between two that are stored is read at the higher one.

    Args:
        schema: of the attributes.
        precision_thresholds: of `MMProfileConfig`.
        min_precision: the share, above 0 and below 1.

    Returns:
        attribute key -> probability; infinity where none reaches the precision.

    Raises:
        ValueError: if the precision is out of range, or the model has no thresholds.
    """
    if not isinstance(min_precision, int | float) or not 0 < min_precision < 1:
        raise ValueError(f"min_precision is above 0 and below 1, got {min_precision!r}")
    if precision_thresholds is None:
        raise ValueError(
            f"min_precision={min_precision} needs thresholds fitted on a development split, and this model has none:"
            f" {HOW_TO_FIT} fits them"
        )
    found = {}
    for key in schema.keys:
        of_precisions = precision_thresholds.get(key, {})
        reached = [least for precision, least in of_precisions.items() if float(precision) >= min_precision]
        found[key] = min(reached, default=np.inf)
    return found


def check_decision(decision: str, value_weights: Mapping | None) -> None:
    """Raises a `ValueError` where there is no such decision, or nothing is fitted for it."""
    if decision not in DECISIONS:
        raise ValueError(f"profiles are decided as one of {list(DECISIONS)}, got {decision!r}")
    if decision == "weighted" and value_weights is None:
        raise ValueError(
            "decision='weighted' needs weights fitted on a development split, and this model has none:"
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
