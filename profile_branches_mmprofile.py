"""A trie's branches as arrays, so that the searches of a batch follow them side by side.

A place with a choice is numbered when a search comes to it, and its branches with it, one after the other: of a schema
with many values only what is looked at.
"""

from collections.abc import Sequence
from functools import lru_cache
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
    """Numbers a trie's branches; threads may share it.

    Args:
        trie: of the schema.
        start_token: with which the decoder starts.

    Attributes:
        branches: those numbered so far. Longer ones replace it; numbers stay.
    """

    def __init__(self, trie: ProfileTrie, start_token: int):
        self.trie = trie
        self._lock = Lock()
        self._edges: dict[Edge | None, int] = {}
        self._places: dict[Location, int] = {}
        none = np.empty(0, np.int64)
        nothing = dict.fromkeys(Branches._fields, none) | {"num_edges": 0, "complete": none.astype(bool)}
        nothing |= {"tokens": none.reshape(0, 0), "choices": none.reshape(0, trie.num_slots)}
        self.branches = Branches(**nothing)
        start = trie.start._replace(tokens=(start_token, *trie.start.tokens))
        self.branches = self._with([(0, [start])])

    def number(self, places: Sequence[int]) -> None:
        """Numbers the branches of these places, where they have none."""
        with self._lock:
            locations = list(self._places)
            places = [place for place in sorted(set(places)) if self.branches.first[place] < 0]
            if not places:
                return
            found = [(locations[place].slot, self.trie.branches(locations[place])) for place in places]
            begin = len(self.branches.length)
            branches = self._with(found)
            branches.count[places] = [len(new) for _, new in found]
            branches.first[places] = begin + np.cumsum(branches.count[places]) - branches.count[places]
            self.branches = branches

    def _with(self, found: Sequence[tuple[int, Sequence[Branch]]]) -> Branches:
        """The known branches and these, of a slot each; the arrays are new."""
        known, new = self.branches, [(slot, branch) for slot, branches in found for branch in branches]
        complete = np.array([branch.target is None for _, branch in new])
        length = np.array([len(branch.tokens) for _, branch in new])
        places = [-1 if branch.target is None else self._place(branch.target) for _, branch in new]
        edges = [self._edges.setdefault(branch.edge, len(self._edges)) for _, branch in new]
        choices = np.full((len(new), self.trie.num_slots), -1)
        for row, (slot, branch) in enumerate(new):
            choices[row, slot : slot + len(branch.choices)] = branch.choices
        tokens = np.zeros((len(known.tokens) + len(new), max(known.tokens.shape[1], length.max())), np.int64)
        tokens[: len(known.tokens), : known.tokens.shape[1]] = known.tokens
        for row, (_, branch) in enumerate(new, len(known.tokens)):
            tokens[row, : len(branch.tokens)] = branch.tokens
        new_places = (0, len(self._places) - len(known.first))
        return Branches(
            tokens=tokens,
            length=np.concatenate([known.length, length]),
            fed=np.concatenate([known.fed, length - complete]),
            complete=np.concatenate([known.complete, complete]),
            edge=np.concatenate([known.edge, edges]),
            slot=np.concatenate([known.slot, [slot for slot, _ in new]]),
            choices=np.concatenate([known.choices, choices]),
            target=np.concatenate([known.target, places]),
            first=np.pad(known.first, new_places, constant_values=-1),
            count=np.pad(known.count, new_places),
            num_edges=len(self._edges),
        )

    def _place(self, location: Location) -> int:
        return self._places.setdefault(location, len(self._places))


@lru_cache(maxsize=8)
def branch_table(trie: ProfileTrie, start_token: int) -> BranchTable:
    """`BranchTable`, built once."""
    return BranchTable(trie, start_token)
