"""Prefixes of profiles as arrays, and the branches that they are made of, so that the searches of a batch go on side
by side.

A branch is a trie's, of the schema; a prefix is a user's, it has a branch and the prefix before it. Both are numbered
when a search comes to them, of a schema with many values only what is looked at, and numbers stay. What is added costs
what it is itself, however many were there before.
"""

from collections.abc import Sequence
from functools import lru_cache
from math import inf, nan
from threading import Lock
from typing import NamedTuple

import numpy as np

from .profile_trie_mmprofile import Branch, Edge, Location, ProfileTrie


class Branches(NamedTuple):
    """The branches numbered so far, (branches,) each but for `tokens` and `choices`; number 0 is the trie's start.

    Args:
        tokens: (branches, longest), padded.
        length: how many tokens a branch has.
        fed: how many of them the decoder must see, all but a final `</s>`.
        complete: whether the profile ends with it.
        edge: number of its first token's edge.
        slot: the one for whose value it begins, or goes on.
        choices: (branches, slots), the values that it ends; -1 in all other slots.
        target: number of the place behind it; -1 behind a complete one.
        first: (places,), number of a place's first branch; -1 where its branches have no numbers yet.
        count: (places,), how many branches it has.
        num_edges: how many edges have a number.
    """

    tokens: np.ndarray
    length: np.ndarray
    fed: np.ndarray
    complete: np.ndarray
    edge: np.ndarray
    slot: np.ndarray
    choices: np.ndarray
    target: np.ndarray
    first: np.ndarray
    count: np.ndarray
    num_edges: int


class BranchTable:
    """Numbers a trie's branches, those of a place one after the other; threads may share it.

    Args:
        trie: of the schema.
        start_token: with which the decoder starts.

    Attributes:
        branches: those numbered so far. Others replace it; what one holds does not change.
    """

    def __init__(self, trie: ProfileTrie, start_token: int):
        self.trie = trie
        self._lock = Lock()
        self._edges: dict[Edge | None, int] = {}
        self._numbers: dict[Location, int] = {}  # of places
        self._places: list[Location] = []
        none = np.empty(0, np.int64)
        # Field -> array that has room behind what `branches` shows of it; what is shown is written once.
        self._rooms: dict[str, np.ndarray] = {"tokens": none.reshape(0, 0), "choices": none.reshape(0, trie.num_slots)}
        self._rooms |= dict.fromkeys(("length", "fed", "edge", "slot", "target"), none)
        self._rooms["complete"] = none.astype(bool)
        self.branches = Branches(**self._rooms, first=none, count=none, num_edges=0)
        start = trie.start._replace(tokens=(start_token, *trie.start.tokens))
        self.branches = self._with([(0, [start])])

    def number(self, places: Sequence[int]) -> None:
        """Numbers the branches of these places, where they have none."""
        with self._lock:
            places = [place for place in sorted(set(places)) if self.branches.first[place] < 0]
            if not places:
                return
            found = [(self._places[place].slot, self.trie.branches(self._places[place])) for place in places]
            begin = len(self.branches.length)
            branches = self._with(found)
            branches.count[places] = [len(new) for _, new in found]
            branches.first[places] = begin + np.cumsum(branches.count[places]) - branches.count[places]
            self.branches = branches

    def _with(self, found: Sequence[tuple[int, Sequence[Branch]]]) -> Branches:
        """The known branches and these, of a slot each; `first` and `count` are new arrays."""
        known, new = self.branches, [(slot, branch) for slot, branches in found for branch in branches]
        length = np.array([len(branch.tokens) for _, branch in new])
        complete = np.array([branch.target is None for _, branch in new])
        width = max(known.tokens.shape[1], length.max())
        tokens, choices = np.zeros((len(new), width), np.int64), np.full((len(new), self.trie.num_slots), -1)
        for row, (slot, branch) in enumerate(new):
            tokens[row, : len(branch.tokens)] = branch.tokens
            choices[row, slot : slot + len(branch.choices)] = branch.choices
        added = {
            "tokens": tokens,
            "length": length,
            "fed": length - complete,
            "complete": complete,
            "edge": np.array([self._edges.setdefault(branch.edge, len(self._edges)) for _, branch in new]),
            "slot": np.array([slot for slot, _ in new]),
            "choices": choices,
            "target": np.array([-1 if branch.target is None else self._place(branch.target) for _, branch in new]),
        }
        if width > known.tokens.shape[1]:
            self._rooms["tokens"] = np.pad(known.tokens, ((0, 0), (0, width - known.tokens.shape[1])))
        size = len(known.length)
        self._rooms = {name: extended(self._rooms[name], size, rows, len(new)) for name, rows in added.items()}
        shown = {name: array[: size + len(new)] for name, array in self._rooms.items()}
        new_places = (0, len(self._places) - len(known.first))
        first, count = np.pad(known.first, new_places, constant_values=-1), np.pad(known.count, new_places)
        return Branches(**shown, first=first, count=count, num_edges=len(self._edges))

    def _place(self, location: Location) -> int:
        if location not in self._numbers:
            self._numbers[location] = len(self._places)
            self._places.append(location)
        return self._numbers[location]


@lru_cache(maxsize=8)
def branch_table(trie: ProfileTrie, start_token: int) -> BranchTable:
    """`BranchTable`, built once."""
    return BranchTable(trie, start_token)


class Prefixes:
    """Prefixes by number. One ends where the schema leaves a choice, or with the profile: it is its parent's tokens
    and a branch's.

    Args:
        users: how many there are.
        views: of the user who has most.

    Attributes, arrays by number that may have place for more:
        user: whose search it is of.
        parent: number of the prefix that it continues; -1 for the first.
        branch: number in the branch table.
        start: position in the text of the branch's first token.
        bound: log-probability up to that token; a guess before the parent went through the decoder.
        score: log-probability up to the branch's last token; nan before it went through the decoder.
        view_bound, view_score: (prefixes, views), the same under each view; nan before they are known.
        column: of the first token in the decoder's memory, of the user's first view; -1 before it went through. The
            decoder's own note, as `stride` is, how many columns behind it the next view's is.
    """

    def __init__(self, users: int, views: int = 1):
        self.users, self.size = users, 0
        self.user = self.parent = self.branch = self.start = self.column = self.stride = np.empty(0, np.int64)
        self.bound = self.score = np.empty(0)
        self.view_bound = self.view_score = np.empty((0, views))

    def append(
        self, user: np.ndarray, parent: np.ndarray, branch: np.ndarray, start: np.ndarray, bound: np.ndarray
    ) -> np.ndarray:
        """Adds prefixes; returns their numbers."""
        first, count = self.size, len(user)
        self.size += count
        self.user = extended(self.user, first, user, count)
        self.parent = extended(self.parent, first, parent, count)
        self.branch = extended(self.branch, first, branch, count)
        self.start = extended(self.start, first, start, count)
        self.bound = extended(self.bound, first, bound, count)
        self.score = extended(self.score, first, nan, count)
        self.view_bound = extended(self.view_bound, first, nan, count)
        self.view_score = extended(self.view_score, first, nan, count)
        self.column = extended(self.column, first, -1, count)
        self.stride = extended(self.stride, first, 0, count)
        return np.arange(first, self.size)

    def sums(self, numbers: np.ndarray, values: np.ndarray) -> np.ndarray:
        """(users,), the sum of the values of each one's prefixes."""
        return np.bincount(self.user[numbers], values, self.users)

    def counts(self, numbers: np.ndarray) -> np.ndarray:
        """(users,), how many of these are each one's."""
        return np.bincount(self.user[numbers], minlength=self.users)

    def highest(self, numbers: np.ndarray, values: np.ndarray) -> np.ndarray:
        """(users,), the highest value of each one's prefixes; -inf without any."""
        highest = np.full(self.users, -inf)
        np.maximum.at(highest, self.user[numbers], values)
        return highest

    def best(self, numbers: np.ndarray, values: np.ndarray) -> np.ndarray:
        """(users,), of each one's prefixes that of the highest value, the first of equals; -1 without any."""
        best, user = np.full(self.users, -1), self.user[numbers]
        order = np.lexsort((-values, user))[::-1]
        best[user[order]] = numbers[order]  # the last one stays
        return best


def extended(known: np.ndarray, size: int, added: np.ndarray | float, count: int) -> np.ndarray:
    """The array with `count` rows, or a value as often, behind its first `size`; it may have place for more."""
    if size + count > len(known):
        known = np.concatenate([known[:size], np.empty((size + 2 * count, *known.shape[1:]), known.dtype)])
    known[size : size + count] = added
    return known


def places_in(group: np.ndarray) -> np.ndarray:
    """How many stand before each one in its group; groups are sorted."""
    return np.arange(len(group)) - np.searchsorted(group, group)


def sums_before(group: np.ndarray, values: np.ndarray) -> np.ndarray:
    """The sum of the values before each one in its group; groups are sorted."""
    before = np.cumsum(values) - values
    return before - before[np.searchsorted(group, group)]
