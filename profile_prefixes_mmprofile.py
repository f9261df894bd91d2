"""The prefixes that searches have come to, as arrays."""

from math import nan

import numpy as np


class Prefixes:
    """Prefixes by number. One ends where the schema leaves a choice, or with the profile: it is its parent's tokens
    and a branch's.

    Attributes, arrays by number that may have place for more:
        user: whose search it is of.
        parent: number of the prefix that it continues; -1 for the first.
        branch: number in the branch table.
        start: position in the text of the branch's first token.
        bound: log-probability up to that token; a guess before the parent went through the decoder.
        score: log-probability up to the branch's last token; nan before it went through the decoder.
        column: of the first token in the decoder's memory; -1 before it went through. The decoder's own note.
    """

    def __init__(self):
        self.size = 0
        self.user = self.parent = self.branch = self.start = self.column = np.empty(0, np.int64)
        self.bound = self.score = np.empty(0)

    def append(
        self, user: np.ndarray, parent: np.ndarray, branch: np.ndarray, start: np.ndarray, bound: np.ndarray
    ) -> np.ndarray:
        """Adds prefixes; returns their numbers."""
        first, self.size = self.size, self.size + len(user)
        self.user = self._with(self.user, first, user)
        self.parent = self._with(self.parent, first, parent)
        self.branch = self._with(self.branch, first, branch)
        self.start = self._with(self.start, first, start)
        self.bound = self._with(self.bound, first, bound)
        self.score = self._with(self.score, first, nan)
        self.column = self._with(self.column, first, -1)
        return np.arange(first, self.size)

    def _with(self, known: np.ndarray, first: int, added: np.ndarray | float) -> np.ndarray:
        if self.size > len(known):
            known = np.concatenate([known[:first], np.empty(2 * self.size - first, known.dtype)])
        known[first : self.size] = added
        return known

    def among(self, numbers: np.ndarray) -> np.ndarray:
        """By number, whether a prefix is one of these."""
        flags = np.zeros(len(self.user), bool)
        flags[numbers] = True
        return flags


def places_in(group: np.ndarray) -> np.ndarray:
    """How many stand before each one in its group; groups are sorted."""
    return np.arange(len(group)) - np.searchsorted(group, group)


def sums_before(group: np.ndarray, values: np.ndarray) -> np.ndarray:
    """The sum of the values before each one in its group; groups are sorted."""
    before = np.cumsum(values) - values
    return before - before[np.searchsorted(group, group)]
