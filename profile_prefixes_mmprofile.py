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
        column: of the first token in the decoder's memory; -1 before it went through the decoder.
    """

    def __init__(self):
        self.size = 0
        self.user = self.parent = self.branch = self.start = self.column = np.empty(0, np.int64)
        self.bound = self.score = np.empty(0)

    def append(self, **fields: np.ndarray) -> np.ndarray:
        """Adds prefixes, by `user`, `parent`, `branch`, `start` and `bound`; returns their numbers."""
        first, self.size = self.size, self.size + len(fields["user"])
        for name, values in {**fields, "score": nan, "column": -1}.items():
            if self.size > len(known := getattr(self, name)):
                setattr(self, name, np.concatenate([known[:first], np.empty(2 * self.size - first, known.dtype)]))
            getattr(self, name)[first : self.size] = values
        return np.arange(first, self.size)

    def among(self, numbers: np.ndarray) -> np.ndarray:
        """By number, whether a prefix is one of these."""
        flags = np.zeros(len(self.user), bool)
        flags[numbers] = True
        return flags


def sums_before(group: np.ndarray, values: np.ndarray) -> np.ndarray:
    """The sum of the values before each one in its group; groups are sorted."""
    before = np.cumsum(values) - values
    return before - before[np.searchsorted(group, group)]
