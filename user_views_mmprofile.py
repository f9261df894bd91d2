"""Views of a user: parts of a history that the model reads one by one, and one score of what it says to each.

Shapes, throughout:
    rows   of a batch, each a view; those of a user stand one behind the other
    views  of the user who has most; who has fewer is padded
"""

from collections.abc import Iterator, Sequence

import numpy as np

from .configuration_mmprofile import COMBINATIONS
from .texts_mmprofile import shown


class UserViews:
    """Which rows are views of which user, and how log-probabilities under them become one.

    Of states that are joined (`join_views`) there is one row a user left: nothing is to be combined.

    A mixture is the mean of the probabilities, a product the mean of their logarithms. Both are at most 0 as
    logarithms, fall along a text as each view's do, and of a beginning are no less than all texts behind it have
    together (of the product by Hölder's inequality): bounds stay bounds, and the search is as exact as with one view.

    Args:
        counts: of each user's rows, at least one.
        combination: of `COMBINATIONS`.

    Raises:
        ValueError: if a count is below 1, or there is no such combination.
    """

    def __init__(self, counts: Sequence[int] | np.ndarray, combination: str = "product"):
        if combination not in COMBINATIONS:
            raise ValueError(f"views are combined as one of {list(COMBINATIONS)}, got {shown(combination)}")
        self.counts, self.combination = np.array(counts, np.int64).reshape(-1), combination
        if (self.counts < 1).any():
            raise ValueError(f"a user has at least one view, got {shown(self.counts.tolist())}")
        self.users, self.most = len(self.counts), int(self.counts.max(initial=1))
        self.there = np.arange(self.most) < self.counts[:, None]  # (users, views)

    def of(self, users: np.ndarray) -> "UserViews":
        """Those of some users alone."""
        return UserViews(self.counts[users], self.combination)

    def rows_of(self, users: np.ndarray) -> np.ndarray:
        """Numbers of these users' rows, user after user."""
        owner = np.arange(self.users).repeat(self.counts)
        return np.isin(owner, users).nonzero()[0]

    def parts(self, rows: int | None) -> Iterator[np.ndarray]:
        """All users, so many at a time that they have at most so many rows, or one who has more; None: at once."""
        at, first = 0, 0
        for user, count in enumerate(self.counts.tolist()):
            if rows is not None and user > first and at + count > rows:
                yield np.arange(first, user)
                at, first = 0, user
            at += count
        if self.users:
            yield np.arange(first, self.users)

    def combined(self, user: np.ndarray, scores: np.ndarray) -> np.ndarray:
        """(prefixes,), of log-probabilities (prefixes, views); `user` (prefixes,) says whose they are."""
        if self.most == 1:
            return scores[:, 0]
        assert self.combination != "states"
        there, count = self.there[user], self.counts[user]
        if self.combination == "product":
            return np.where(there, scores, 0).sum(axis=1) / count
        top = np.where(there, scores, -np.inf).max(axis=1)
        masses = np.where(there, np.exp(scores - top[:, None]), 0).sum(axis=1)
        return np.minimum(top + np.log(masses / count), top)  # who rounds is not to exceed the highest


def views_of_batch(views: Sequence[int] | None, rows: int, combination: str) -> UserViews:
    """Of `generate_profiles`' argument `views`; None is one a user.

    Raises:
        ValueError: if they are not the batch's rows together, or as of `UserViews`.
    """
    if views is None:
        return UserViews([1] * rows, combination)
    if not all(isinstance(count, int | np.integer) for count in views) or sum(views) != rows:
        raise ValueError(f"views are each user's number of rows, {rows} together, got {shown(list(views))}")
    return UserViews(list(views), combination)
