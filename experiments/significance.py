"""Whether two rows of a table differ: a paired bootstrap over test users in which each resample is the mean over
seeds, and Holm's correction over the rows that are compared (Holm, 1979)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from experiments.results import Kept, Rated
from mmprofile import ProfileSchema
from scoring.bootstrap import RESAMPLES, interval, resample_f1, resample_sums
from scoring.evaluation import profile_f1

LEVEL = 0.05
AVERAGE = "average"
ACCURACY, MACRO_F1 = "accuracy", "macro_f1"  # of a classification


@dataclass
class Scored:
    """A row's scores.

    Attributes:
        f1: of each seed, attribute key and "average" -> percent; of a classification `ACCURACY` and `MACRO_F1`.
        resampled: (resamples,) of the average, or the accuracy, the mean over seeds.
    """

    f1: list[dict[str, float]]
    resampled: np.ndarray

    def mean(self, key: str) -> float:
        return float(np.mean([of[key] for of in self.f1]))

    def deviation(self, key: str) -> float | None:
        """The standard deviation of one seed's figure; None of a single one."""
        return float(np.std([of[key] for of in self.f1], ddof=1)) if len(self.f1) > 1 else None


@dataclass
class Compared:
    """What a row has more than another.

    Attributes:
        difference: of the averages, or accuracies, in points.
        interval: 95 %, over users.
        p: two-sided, corrected for how many are compared; 0 is none of the resamples.
    """

    difference: float
    interval: Sequence[float]
    p: float

    @property
    def resolved(self) -> bool:
        return self.p < LEVEL


def score(runs: Sequence[Kept], schema: ProfileSchema, resamples: int = RESAMPLES) -> Scored:
    """A row's runs, a seed each, by the paper's recipe.

    Raises:
        ValueError: if the seeds were tested on other users.
    """
    users = [one.users for one in runs]
    if any(one != users[0] for one in users):
        raise ValueError("runs of a row were tested on different users")
    profiles = [one.profiles[one.own] for one in runs]
    drawn = [resample_f1({"row": its}, runs[0].truths, schema, resamples)["row"][AVERAGE] for its in profiles]
    f1 = [profile_f1(its, runs[0].truths, schema) for its in profiles]
    return Scored(f1, np.mean(drawn, axis=0))


def score_ratings(runs: Sequence[Rated], resamples: int = RESAMPLES) -> Scored:
    """A row's classifications, a seed each; a resample takes all reviews of a user, as often as the user is drawn.

    Raises:
        ValueError: if the seeds were tested on other reviews.
    """
    first = runs[0]
    if any((one.users, one.truths) != (first.users, first.truths) for one in runs):
        raise ValueError("runs of a row were tested on different reviews")
    known = list(dict.fromkeys(first.users))
    at = {user: place for place, user in enumerate(known)}
    places = [at[user] for user in first.users]
    right = [np.equal(one.predicted, one.truths) for one in runs] + [np.ones(len(places))]
    values = np.stack([np.bincount(places, weights, len(known)) for weights in right], axis=1)
    *sums, reviews = resample_sums(values, resamples).T
    told = [{key: one.told[key] for key in (ACCURACY, MACRO_F1)} for one in runs]
    return Scored(told, 100 * np.mean(sums, axis=0) / reviews)


def compare(rows: Mapping[str, Scored], against: str) -> dict[str, Compared]:
    """Of each other row what it has more than one of them; the resamples of all are of the same users."""
    return compare_pairs({name: (row, rows[against]) for name, row in rows.items() if name != against})


def compare_pairs(pairs: Mapping[str, tuple[Scored, Scored]], key: str = AVERAGE) -> dict[str, Compared]:
    """Of each pair what the first row has more than the second; the resamples of all are of the same users.

    Args:
        key: of the score that was resampled.
    """
    found, plain = {}, {}
    for name, (row, base) in pairs.items():
        differences = row.resampled - base.resampled
        plain[name] = min(1.0, 2 * min(float((differences <= 0).mean()), float((differences >= 0).mean())))
        found[name] = Compared(row.mean(key) - base.mean(key), interval(differences), 1.0)
    for name, p in holm(plain).items():
        found[name].p = p
    return found


def holm(values: Mapping[str, float]) -> dict[str, float]:
    """Corrected: the smallest times their number, the next times one fewer, and none below one before it."""
    found, least = {}, 0.0
    for place, name in enumerate(sorted(values, key=values.__getitem__)):
        least = max(least, min(1.0, values[name] * (len(values) - place)))
        found[name] = least
    return found
