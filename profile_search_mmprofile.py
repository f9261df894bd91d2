"""Best-first search for the most probable profiles of a batch, with the proof that they are.

Log-probabilities only fall along a text, so a prefix's bounds that of every profile that begins with it. Once a
complete profile is worth at least as much as every prefix not yet followed, none can be more probable. The search asks
for many prefixes at once (a decoder call) and knows the decoder as log-probabilities only.

The searches of a batch go on side by side, in arrays over the prefixes of all users: a loop over prefixes would keep a
GPU waiting.
"""

from dataclasses import dataclass
from itertools import pairwise
from math import inf, nan
from typing import NamedTuple

import numpy as np

from .profile_branches_mmprofile import Branches, BranchTable
from .profile_predictions_mmprofile import ProfilePrediction, describe_profiles, marginals
from .profile_prefixes_mmprofile import Prefixes, places_in, sums_before

NEGLIGIBLE = 12.0  # so much below the best profile's log-probability a beginning changes no probability


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


class Call(NamedTuple):
    """What a decoder call is asked.

    Args:
        prefixes: to feed, (prefixes,), sorted by user, parents before children.
        children: all that continue one of these, (children,): the log-probability of their first token is asked for.
        levels: a prefix has at most so many ancestors among `prefixes`.
    """

    prefixes: np.ndarray
    children: np.ndarray
    levels: int


class Budget(NamedTuple):
    """What a call may be asked for a user, (users,) each.

    Args:
        prefixes: how many.
        tokens: how many they may feed.
        profiles: how many it needs beyond the proof.
        goal: the bound up to which prefixes are of no use for the proof.
        step: the prefix that is asked in any case, on the way to a first profile; -1 for none.
    """

    prefixes: np.ndarray
    tokens: np.ndarray
    profiles: np.ndarray
    goal: np.ndarray
    step: np.ndarray


class ProfileSearch:
    """The searches of a batch.

    Args:
        table: of the schema's trie.
        limits: when to stop.
        users: how many there are.
    """

    def __init__(self, table: BranchTable, limits: SearchLimits, users: int):
        self.table, self.trie, self.limits, self.users = table, table.trie, limits, users
        self.branches: Branches = table.branches
        self.prefixes = Prefixes()
        zero = np.zeros(users, np.int64)
        # Prefixes whose bound is known, not expanded.
        self.frontier = self.prefixes.append(np.arange(users), parent=zero - 1, branch=zero, start=zero, bound=zero)
        self.explored = np.empty(0, np.int64)  # complete profiles
        # Of each user:
        self.calls, self.tokens, self.finished = zero, zero, np.zeros(users, bool)
        self.best_score = np.full(users, -inf)
        self._way = self.frontier  # to a first profile, along the best child of each step: where it stands
        # The log-probability of the tokens without a choice, and their number.
        self._forced, self._num_forced = np.zeros(users), np.zeros(users)
        self._loss_behind = np.zeros((users, self.trie.num_slots))  # what the best profile lost behind a slot
        # (users, edges), the log-probability in the latest call that had the edge.
        self._seen = np.full((users, self.branches.num_edges), nan)

    def exact(self) -> np.ndarray:
        """(users,), whether nothing left can beat the best profile."""
        return self.best_score >= self._highest(self.frontier, self.prefixes.bound[self.frontier])

    def coverage(self) -> np.ndarray:
        """(users,), see `ProfilePrediction`; 0 where no profile is known."""
        left, score = self.prefixes.bound[self.frontier], self.prefixes.score[self.explored]
        top = np.maximum(self.best_score, self._highest(self.frontier, left))
        explored = self._sums(self.explored, np.exp(score - top[self.prefixes.user[self.explored]]))
        return explored / (explored + self._sums(self.frontier, np.exp(left - top[self.prefixes.user[self.frontier]])))

    def select(self) -> Call | None:
        """What the next decoder call is asked; None when all searches are over.

        It is fed the best prefixes of each user, by what the best profile behind them may be worth, among those whose
        bound is known and all that continue them.
        """
        before, levels, lacking = self.prefixes.size, 0, self._lacking()
        finished, budget = self.finished | self._need_no_more(lacking), self._budget(lacking)
        chosen = self.frontier[~finished[self.prefixes.user[self.frontier]]]
        promise, opened = self._promise(chosen, budget), np.zeros(len(chosen), bool)
        while True:
            chosen, promise, opened = self._within(budget, chosen, promise, opened)
            new = ~opened & ~self.branches.complete[self.prefixes.branch[chosen]]
            if not new.any():
                break
            # A child promises no more than its parent: whichever stay, their parents do.
            children, parents = self._open(chosen[new])
            budget = self._with_last_steps(budget, children)
            promises = np.minimum(self._promise(children, budget), promise[new][parents])
            fed = self.branches.fed[self.prefixes.branch[children]] > 0
            opened = np.arange(len(chosen) + fed.sum()) < len(chosen)
            chosen, promise = np.append(chosen, children[fed]), np.append(promise, promises[fed])
            levels += 1
        self.finished = self._counts(chosen) == 0  # where no token may be fed too
        children = np.arange(before, self.prefixes.size)
        children = children[self.prefixes.among(chosen)[self.prefixes.parent[children]]]
        return Call(chosen, children, levels) if len(chosen) else None

    def update(self, call: Call, rest: np.ndarray, following: np.ndarray) -> None:
        """Takes what the decoder said.

        Args:
            call: that was asked.
            rest: (prefixes,), log-probability of the tokens behind each prefix' first.
            following: (children,), of each child's first token.
        """
        prefixes, fed, children = self.prefixes, call.prefixes, call.children
        branch, child = prefixes.branch[fed], prefixes.branch[children]
        self.calls = self.calls + ~self.finished
        self.tokens = self.tokens + self._sums(fed, self.branches.fed[branch]).astype(int)
        self._forced += self._sums(fed, rest)
        self._num_forced += self._sums(fed, self.branches.length[branch] - 1)
        self._see(children, following)
        for _ in range(call.levels + 1):
            prefixes.score[fed] = prefixes.bound[fed] + rest
            prefixes.bound[children] = prefixes.score[prefixes.parent[children]] + following
        ended = children[self.branches.fed[child] == 0]
        prefixes.score[ended] = prefixes.bound[ended]
        found = np.append(fed[self.branches.complete[branch]], ended)
        self.explored = np.append(self.explored, found)
        self.frontier = np.append(self.frontier, children)
        self.frontier = self.frontier[np.isnan(prefixes.score[self.frontier])]
        for _ in range(call.levels + 1):
            self._way = self._step(self._way, children)
        self._note_best(found)

    def predictions(self) -> list[ProfilePrediction]:
        """One a user, who needs an explored profile."""
        beginnings = self._to_values(self.frontier)
        known, scores = np.append(self.explored, beginnings), self.prefixes.score[self.explored]
        user, choices = self.prefixes.user[known], self._choices(known)
        masses = np.append(scores, self._expected(beginnings))
        probabilities = marginals(self.trie, self.users, user, masses, choices)
        user, choices = user[: len(scores)], choices[: len(scores)]
        order = np.lexsort((*choices.T[::-1], -scores, user))  # of each user the best first, equals in schema order
        scores, choices = scores[order], choices[order]
        bounds = np.searchsorted(user[order], np.arange(self.users + 1))
        facts = (fact.tolist() for fact in (self.exact(), self.coverage(), self.calls, self.tokens))
        return [
            describe_profiles(
                self.trie,
                scores[first:last],
                choices[first:last],
                self.limits.num_return_profiles,
                probabilities=of_values,
                exact=exact,
                coverage=coverage,
                decoder_calls=calls,
                decoder_tokens=tokens,
            )
            for (first, last), of_values, exact, coverage, calls, tokens in zip(
                pairwise(bounds), probabilities, *facts, strict=True
            )
        ]

    def _to_values(self, numbers: np.ndarray) -> np.ndarray:
        """These prefixes, those that end within a value followed to the ends of all values that it may become."""
        while True:
            within = self.branches.choices[self.prefixes.branch[numbers]].max(axis=1) < 0
            within &= self._expected(numbers) > self.best_score[self.prefixes.user[numbers]] - NEGLIGIBLE
            if not within.any():
                return numbers
            children, _ = self._open(numbers[within])
            numbers = np.append(numbers[~within], children)

    def _lacking(self) -> np.ndarray:
        """(users,), how many profiles to explore beyond what the proof needs; without any, all that have place."""
        lacking, everything = self.limits.num_return_profiles - self._counts(self.explored), self.best_score == -inf
        if self.limits.min_coverage > 0:
            everything |= self.coverage() < self.limits.min_coverage
        return np.where(everything, inf, lacking)

    def _need_no_more(self, lacking: np.ndarray) -> np.ndarray:
        """(users,), which searches have a profile and all that was asked for, or may make no further call."""
        over = (self.calls >= self.limits.max_calls) | (self.exact() & (lacking <= 0))
        return (self.best_score > -inf) & over

    def _budget(self, lacking: np.ndarray) -> Budget:
        """For the next call."""
        limits, found = self.limits, self.best_score > -inf
        start, branch = self.prefixes.start[self._way], self.prefixes.branch[self._way]
        behind = self.trie.longest - start - self.branches.fed[branch]  # what the way may need behind the next call
        share = self.trie.num_slots / (1 + self.branches.slot[branch])
        return Budget(
            prefixes=np.where(found, limits.expand_with_profile, limits.expand_per_call),
            tokens=limits.max_decoder_tokens - self.tokens - np.where(found, 0, behind),
            profiles=lacking,
            goal=np.where(found, self.best_score, self.prefixes.bound[self._way] * share),
            step=np.where(found, -1, self._way),
        )

    def _within(
        self, budget: Budget, chosen: np.ndarray, promise: np.ndarray, opened: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The best of these prefixes, as many as the budget has, sorted by user; each with its promise and whether it
        is opened. What is asked in any case promises the most."""
        user = self.prefixes.user[chosen]
        promise = np.where(chosen == budget.step[user], inf, promise)
        needless = (self.prefixes.bound[chosen] <= budget.goal[user]) & (promise < inf)
        order = np.lexsort((-promise, needless, user))
        user, branch, needless = user[order], self.prefixes.branch[chosen[order]], needless[order]
        fed, complete = self.branches.fed[branch], self.branches.complete[branch]
        kept = places_in(user) < budget.prefixes[user]
        kept &= sums_before(user, fed) + fed <= budget.tokens[user]
        kept &= ~needless | (sums_before(user, complete) < budget.profiles[user])
        order = order[kept | (promise[order] == inf)]
        return chosen[order], promise[order], opened[order]

    def _with_last_steps(self, budget: Budget, children: np.ndarray) -> Budget:
        """Where no further call may be made, the step behind the last one is asked too."""
        last = self.calls + 1 >= self.limits.max_calls
        if not last.any():
            return budget
        return budget._replace(step=np.where(last, self._step(budget.step, children), budget.step))

    def _open(self, parents: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The prefixes that continue these, bounded by what their tokens were worth elsewhere; each with its parent's
        place among these."""
        target = self.branches.target[self.prefixes.branch[parents]]
        if (self.branches.first[target] < 0).any():
            self.table.number(target.tolist())
            self.branches = self.table.branches
            new_edges = self.branches.num_edges - self._seen.shape[1]
            self._seen = np.pad(self._seen, ((0, 0), (0, new_edges)), constant_values=nan)
        count = self.branches.count[target]
        place = np.arange(len(parents)).repeat(count)
        branch = self.branches.first[target][place] + places_in(place)
        parent = parents[place]
        user = self.prefixes.user[parent]
        seen = self._seen[user, self.branches.edge[branch]]
        children = self.prefixes.append(
            user=user,
            parent=parent,
            branch=branch,
            start=self.prefixes.start[parent] + self.branches.length[self.prefixes.branch[parent]],
            bound=self._expected(parents)[place] + np.where(np.isnan(seen), -np.log(count)[place], seen),
        )
        return children, place

    def _expected(self, numbers: np.ndarray) -> np.ndarray:
        """Scores before the decoder knows them: other tokens than the first lose what such tokens lost on average."""
        mean = self._forced / np.maximum(self._num_forced, 1)
        others = self.branches.length[self.prefixes.branch[numbers]] - 1
        return self.prefixes.bound[numbers] + others * mean[self.prefixes.user[numbers]]

    def _promise(self, numbers: np.ndarray, budget: Budget) -> np.ndarray:
        """What the best profiles behind these may be worth, if they lose behind them what the best known one lost;
        without one, what the goal loses."""
        user, slot = self.prefixes.user[numbers], self.branches.slot[self.prefixes.branch[numbers]]
        loss = budget.goal[user] * (1 - (slot + 1) / self.trie.num_slots)
        loss = np.where(self.best_score[user] > -inf, self._loss_behind[user, slot], loss)
        return self._expected(numbers) + loss

    def _step(self, way: np.ndarray, children: np.ndarray) -> np.ndarray:
        """(users,), the best child of each one's `way`; the way itself where its children are not among these."""
        children = children[self.prefixes.parent[children] == way[self.prefixes.user[children]]]
        best = self._best_of(children, self._expected(children))
        return np.where(best >= 0, best, way)

    def _see(self, children: np.ndarray, values: np.ndarray) -> None:
        """Notes what the edges were worth; of several values the highest."""
        place = self.prefixes.user[children], self.branches.edge[self.prefixes.branch[children]]
        self._seen[place] = -inf
        np.maximum.at(self._seen, place, values)

    def _note_best(self, found: np.ndarray) -> None:
        best = self._best_of(found, self.prefixes.score[found])
        score = np.where(best >= 0, self.prefixes.score[best], -inf)
        better = score > self.best_score
        self.best_score = np.maximum(score, self.best_score)
        self._loss_behind[better] = nan
        user, node = better.nonzero()[0], best[better]
        while len(node):
            slot, loss = self.branches.slot[self.prefixes.branch[node]], score[user] - self.prefixes.score[node]
            known = self._loss_behind[user, slot]
            self._loss_behind[user, slot] = np.where(np.isnan(known), loss, known)
            node = self.prefixes.parent[node]
            user, node = user[node >= 0], node[node >= 0]
        np.nan_to_num(self._loss_behind, copy=False)

    def _choices(self, numbers: np.ndarray) -> np.ndarray:
        """(prefixes, slots), the values that these have come to; -1 in the slots behind."""
        choices = self.branches.choices[self.prefixes.branch[numbers]]
        above, rows = self.prefixes.parent[numbers], np.arange(len(numbers))
        while len(rows := rows[above >= 0]):
            above = above[above >= 0]
            choices[rows] = np.maximum(choices[rows], self.branches.choices[self.prefixes.branch[above]])
            above = self.prefixes.parent[above]
        return choices

    def _sums(self, numbers: np.ndarray, values: np.ndarray) -> np.ndarray:
        """(users,), the sum of the values of each one's prefixes."""
        return np.bincount(self.prefixes.user[numbers], values, self.users)

    def _counts(self, numbers: np.ndarray) -> np.ndarray:
        """(users,), how many of these are each one's."""
        return np.bincount(self.prefixes.user[numbers], minlength=self.users)

    def _highest(self, numbers: np.ndarray, values: np.ndarray) -> np.ndarray:
        """(users,), the highest value of each one's prefixes; -inf without any."""
        highest = np.full(self.users, -inf)
        np.maximum.at(highest, self.prefixes.user[numbers], values)
        return highest

    def _best_of(self, numbers: np.ndarray, values: np.ndarray) -> np.ndarray:
        """(users,), of each one's prefixes that of the highest value, the first of equals; -1 without any."""
        best, user = np.full(self.users, -1), self.prefixes.user[numbers]
        order = np.lexsort((-values, user))[::-1]
        best[user[order]] = numbers[order]  # the last one stays
        return best
