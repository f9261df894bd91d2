"""Which prefixes a decoder call is asked: the heuristic of the best-first search.

It decides how soon a search ends and nothing of what it finds: the proof needs bounds alone. What it goes by:

    bound     a prefix' log-probability up to its branch's first token, which no profile behind it exceeds. Before its
              parent went through the decoder a guess: what the edge was worth in the latest call that had it, or an
              even share.
    expected  the bound, less what the branch's other tokens may lose: for each the mean of such tokens so far.
    promise   what the best profile behind a prefix may be worth: expected, less what the best known profile lost
              behind that slot. The highest are asked first.
    goal      the bound up to which a prefix is of no use for the proof: what the best known profile is worth. Before
              there is one, what the way comes to if each slot to come loses what those behind it lost on average;
              the promise takes its share of this for the loss to come.
    way       to a first profile: along each step's best child, from the start. Where it stands is asked in any case,
              so that a profile is there after as many calls as it has choices, whatever else is asked.
    step      a move of the way. In the last call that may be made the step is asked too, down to a profile.
    budget    what a call may be asked for a user: so many prefixes, the tokens left (before there is a profile, the
              way's are kept back), and, where more profiles are wanted than the proof needs, so many beyond it.

What they are worth, a user (`python benchmarks/search.py rules --users 32 --output FILE`; the last column with
`--profiles 2`, a near bound, where the mean log-probability of what is found tells them apart):

                                        default bound                        near bound
    all rules                           18.3 calls, 1063 tokens, 97 % proved  -14.40
    bounds guessed by even shares       21.3 calls, 1223 tokens, 91 % proved  -14.40
    expected = bound                    32.0 calls, 1645 tokens, 75 % proved  -14.44
    promise = expected                  18.1 calls, 1055 tokens, 97 % proved  -14.52
    goal only with a profile            18.3 calls, 1067 tokens, 97 % proved  -14.40
    no way                              18.3 calls, 1062 tokens, 97 % proved  may end without a profile
    48 prefixes a call in place of 12    6.2 calls, 1224 tokens, 97 % proved  -14.40
"""

from dataclasses import dataclass
from math import inf, nan
from typing import NamedTuple

import numpy as np

from .profile_prefixes_mmprofile import Branches, BranchTable, Prefixes, places_in, sums_before

SORTED = 8  # of more prefixes than so many times as may be asked, the most promising are found before any is sorted


@dataclass(frozen=True)
class SearchLimits:
    """How much to explore, and how much at once; see `generate_profiles`."""

    num_return_profiles: int
    expand_per_call: int
    expand_with_profile: int  # as expand_per_call, once there is a profile: then it is for the proof, no guess
    max_calls: float
    max_decoder_tokens: float
    min_coverage: float

    def check(self, longest: int):
        """For a schema whose profiles have up to `longest` tokens.

        Raises:
            ValueError: if a number is out of range.
        """
        if not 0 <= self.min_coverage <= 1:
            raise ValueError(f"min_coverage must be from 0 to 1, got {self.min_coverage}")
        for name, value, least in (
            ("num_return_profiles", self.num_return_profiles, 1),
            ("expand_per_call", min(self.expand_per_call, self.expand_with_profile), 1),
            ("max_calls", self.max_calls, 1),
            ("max_decoder_tokens", self.max_decoder_tokens, longest),
        ):
            if not value >= least:  # nor nan
                raise ValueError(f"{name} must be at least {least}, a profile has up to {longest} tokens; got {value}")


class Budget(NamedTuple):
    """What a call may be asked for a user, (users,) each.

    Args:
        prefixes: how many.
        tokens: how many they may feed.
        profiles: how many it needs beyond the proof.
        found: whether a profile is known.
        goal: the bound up to which prefixes are of no use for the proof.
        step: the prefix that is asked in any case, on the way to a first profile; -1 for none.
    """

    prefixes: np.ndarray
    tokens: np.ndarray
    profiles: np.ndarray
    found: np.ndarray
    goal: np.ndarray
    step: np.ndarray


class Heuristic:
    """Of the searches of a batch.

    Args:
        prefixes: of the searches, the first ones alone.
        table: of the schema's trie.
        limits: of each search.
    """

    def __init__(self, prefixes: Prefixes, table: BranchTable, limits: SearchLimits):
        self.prefixes, self.table, self.trie, self.limits = prefixes, table, table.trie, limits
        self._way = np.arange(prefixes.users)  # where it stands
        # The log-probability of the tokens without a choice, and their number.
        self._forced, self._num_forced = np.zeros(prefixes.users), np.zeros(prefixes.users)
        self._loss_behind = np.zeros((prefixes.users, self.trie.num_slots))  # what the best profile lost behind a slot
        # (users, edges), the log-probability in the latest call that had the edge.
        self._seen = np.full((prefixes.users, self.branches.num_edges), nan)

    @property
    def branches(self) -> Branches:
        """Those numbered so far."""
        return self.table.branches

    def budget(self, best_score: np.ndarray, tokens: np.ndarray, profiles: np.ndarray) -> Budget:
        """For the next call, (users,) each: the score of the best profile known, -inf without one; how many tokens
        were fed; how many profiles are wanted beyond what the proof needs."""
        limits, found = self.limits, best_score > -inf
        start, branch = self.prefixes.start[self._way], self.prefixes.branch[self._way]
        behind = self.trie.longest - start - self.branches.fed[branch]  # what the way may need behind the next call
        share = self.trie.num_slots / (1 + self.branches.slot[branch])
        return Budget(
            prefixes=np.where(found, limits.expand_with_profile, limits.expand_per_call),
            tokens=limits.max_decoder_tokens - tokens - np.where(found, 0, behind),
            profiles=profiles,
            found=found,
            goal=np.where(found, best_score, self.prefixes.bound[self._way] * share),
            step=np.where(found, -1, self._way),
        )

    def with_last_steps(self, budget: Budget, children: np.ndarray, last: np.ndarray) -> Budget:
        """Where no further call may be made, (users,), the step behind the last one is asked too."""
        if not last.any():
            return budget
        return budget._replace(step=np.where(last, self._step(budget.step, children), budget.step))

    def candidates(self, frontier: np.ndarray, budget: Budget) -> tuple[np.ndarray, np.ndarray]:
        """Of these, sorted by user, all that `within` may leave, and their promises."""
        promise, user = self.promise(frontier, budget), self.prefixes.user[frontier]
        ends = np.searchsorted(user, np.arange(self.prefixes.users + 1))
        kept = np.ones(len(frontier), bool)
        for many in (np.diff(ends) > SORTED * budget.prefixes).nonzero()[0]:
            its, number = slice(ends[many], ends[many + 1]), budget.prefixes[many]
            needless = self._needless(frontier[its], promise[its], budget)
            enough = len(needless) - needless.sum() >= number
            rank = np.where(needless, -inf if enough else promise[its], promise[its] if enough else inf)
            kept[its] = rank >= np.partition(rank, -number)[-number]
        return frontier[kept], promise[kept]

    def within(
        self, budget: Budget, chosen: np.ndarray, promise: np.ndarray, opened: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The best of these prefixes, as many as the budget has, sorted by user; each with its promise and whether it
        is opened."""
        user, needless = self.prefixes.user[chosen], self._needless(chosen, promise, budget)
        order = np.lexsort((-promise, needless, user))
        user, branch, needless = user[order], self.prefixes.branch[chosen[order]], needless[order]
        fed, complete = self.branches.fed[branch], self.branches.complete[branch]
        kept = places_in(user) < budget.prefixes[user]
        kept &= sums_before(user, fed) + fed <= budget.tokens[user]
        kept &= ~needless | (sums_before(user, complete) < budget.profiles[user])
        order = order[kept | (promise[order] == inf)]
        return chosen[order], promise[order], opened[order]

    def _needless(self, numbers: np.ndarray, promise: np.ndarray, budget: Budget) -> np.ndarray:
        """Which of these are of no use for the proof, nor asked in any case."""
        return (self.prefixes.bound[numbers] <= budget.goal[self.prefixes.user[numbers]]) & (promise < inf)

    def promise(self, numbers: np.ndarray, budget: Budget) -> np.ndarray:
        """What the best profiles behind these may be worth; of what is asked in any case, the most."""
        user, slot = self.prefixes.user[numbers], self.branches.slot[self.prefixes.branch[numbers]]
        loss = budget.goal[user] * (1 - (slot + 1) / self.trie.num_slots)
        loss = np.where(budget.found[user], self._loss_behind[user, slot], loss)
        return np.where(numbers == budget.step[user], inf, self.expected(numbers) + loss)

    def expected(self, numbers: np.ndarray) -> np.ndarray:
        """Scores before the decoder knows them."""
        mean = self._forced / np.maximum(self._num_forced, 1)
        others = self.branches.length[self.prefixes.branch[numbers]] - 1
        return self.prefixes.bound[numbers] + others * mean[self.prefixes.user[numbers]]

    def guesses(self, parent: np.ndarray, branch: np.ndarray, count: np.ndarray) -> np.ndarray:
        """Bounds of prefixes whose parents do not go through the decoder before they are asked.

        Args:
            parent: (prefixes,), number of each one's.
            branch: (prefixes,), each one's.
            count: (prefixes,), how many have the same parent.
        """
        edge = self.branches.edge[branch]
        if self.branches.num_edges > self._seen.shape[1]:
            new_edges = 2 * self.branches.num_edges - self._seen.shape[1]
            self._seen = np.pad(self._seen, ((0, 0), (0, new_edges)), constant_values=nan)
        seen = self._seen[self.prefixes.user[parent], edge]
        return self.expected(parent) + np.where(np.isnan(seen), -np.log(count), seen)

    def note_values(self, fed: np.ndarray, rest: np.ndarray, children: np.ndarray, following: np.ndarray) -> None:
        """Takes what the decoder said, as `ProfileSearch.update`; of an edge's several values the highest counts."""
        self._forced += self.prefixes.sums(fed, rest)
        self._num_forced += self.prefixes.sums(fed, self.branches.length[self.prefixes.branch[fed]] - 1)
        place = self.prefixes.user[children], self.branches.edge[self.prefixes.branch[children]]
        self._seen[place] = -inf
        np.maximum.at(self._seen, place, following)

    def go_on(self, children: np.ndarray, steps: int) -> None:
        """Moves the ways along these, whose bounds are known now."""
        for _ in range(steps):
            self._way = self._step(self._way, children)

    def note_best(self, user: np.ndarray, best: np.ndarray) -> None:
        """Takes the users' new best profiles, (better users,)."""
        self._loss_behind[user] = nan
        node, score = best, self.prefixes.score[best]
        while len(node):
            slot, loss = self.branches.slot[self.prefixes.branch[node]], score - self.prefixes.score[node]
            known = self._loss_behind[user, slot]
            self._loss_behind[user, slot] = np.where(np.isnan(known), loss, known)
            node = self.prefixes.parent[node]
            user, score, node = user[node >= 0], score[node >= 0], node[node >= 0]
        np.nan_to_num(self._loss_behind, copy=False)

    def _step(self, way: np.ndarray, children: np.ndarray) -> np.ndarray:
        """(users,), the best child of each one's `way`; the way itself where its children are not among these."""
        children = children[self.prefixes.parent[children] == way[self.prefixes.user[children]]]
        best = self.prefixes.best(children, self.expected(children))
        return np.where(best >= 0, best, way)
