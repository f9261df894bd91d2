"""Best-first search for the most probable profiles of a batch, with the proof that they are.

Log-probabilities only fall along a text, those under several views of a user too, so a prefix's bounds that of every
profile that begins with it. Once a complete profile is worth at least as much as every prefix not yet followed, none
can be more probable. The search asks for many prefixes at once (a decoder call) and knows the decoder as
log-probabilities only; which prefixes, the heuristic says.

The searches of a batch go on side by side, in arrays over the prefixes of all users: a loop over prefixes would keep a
GPU waiting. A call looks at those that it opens and at those that may still be asked, not at all that were ever made.
"""

from itertools import pairwise
from math import inf
from typing import NamedTuple

import numpy as np

from .profile_heuristic_mmprofile import Heuristic, SearchLimits
from .profile_predictions_mmprofile import ProfilePrediction, describe_profiles, marginals
from .profile_prefixes_mmprofile import Branches, BranchTable, Prefixes, places_in
from .user_views_mmprofile import UserViews

NEGLIGIBLE = 12.0  # so much below the best profile's log-probability a beginning changes no probability


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


class ProfileSearch:
    """The searches of a batch.

    Args:
        table: of the schema's trie.
        limits: when to stop.
        views: of the users, see `UserViews`.
    """

    def __init__(self, table: BranchTable, limits: SearchLimits, views: UserViews):
        self.table, self.trie, self.limits, self.views, self.users = table, table.trie, limits, views, views.users
        users = views.users
        self.prefixes, zero = Prefixes(users, views.most), np.zeros(users, np.int64)
        # Prefixes whose bound is known, not expanded, sorted by user; those that no call will be asked are aside.
        self.frontier = self.prefixes.append(np.arange(users), parent=zero - 1, branch=zero, start=zero, bound=zero)
        self.prefixes.view_bound[self.frontier] = 0
        self._aside: list[np.ndarray] = [np.empty(0, np.int64)]
        self._explored: list[np.ndarray] = [np.empty(0, np.int64)]
        self.heuristic = Heuristic(self.prefixes, table, limits)
        # Of each user:
        self.calls, self.tokens, self.finished = zero, zero, np.zeros(users, bool)
        self.best_score = np.full(users, -inf)
        self._highest_aside = self._explored_mass = self.best_score  # the mass as a logarithm
        self._num_explored, self._covered = zero, np.full(users, limits.min_coverage == 0)

    @property
    def branches(self) -> Branches:
        """Those numbered so far."""
        return self.table.branches

    @property
    def explored(self) -> np.ndarray:
        """Complete profiles, in the order in which they were found."""
        return np.concatenate(self._explored)

    @property
    def left(self) -> np.ndarray:
        """All prefixes that are not expanded, whether a call may be asked them or not."""
        return np.sort(np.concatenate([self.frontier, *self._aside]))

    def exact(self) -> np.ndarray:
        """(users,), whether nothing left can beat the best profile."""
        highest = self.prefixes.highest(self.frontier, self.prefixes.bound[self.frontier])
        return self.best_score >= np.maximum(highest, self._highest_aside)

    def coverage(self) -> np.ndarray:
        """(users,), see `ProfilePrediction`; 0 where no profile is known."""
        return self._coverage(self.left)

    def _coverage(self, left: np.ndarray) -> np.ndarray:
        return np.exp(-np.logaddexp(0, self._mass(left, self.prefixes.bound[left]) - self._explored_mass))

    def _mass(self, numbers: np.ndarray, values: np.ndarray) -> np.ndarray:
        """(users,), the logarithm of what each one's prefixes of these log-probabilities have together."""
        top = self.prefixes.highest(numbers, values)
        sums = self.prefixes.sums(numbers, np.exp(values - top[self.prefixes.user[numbers]]))
        return top + np.log(np.where(sums > 0, sums, 1))

    def select(self) -> Call | None:
        """What the next decoder call is asked; None when all searches are over.

        It is fed the best prefixes of each user, by what the best profile behind them may be worth, among those whose
        bound is known and all that continue them.
        """
        before, levels, lacking = self.prefixes.size, 0, self._lacking()
        self.finished = self.finished | self._need_no_more(lacking)
        self._set_aside(lacking)
        budget = self.heuristic.budget(self.best_score, self.tokens, lacking)
        chosen, promise = self.heuristic.candidates(self.frontier, budget)
        opened = np.zeros(len(chosen), bool)
        while True:
            chosen, promise, opened = self.heuristic.within(budget, chosen, promise, opened)
            new = ~opened & ~self.branches.complete[self.prefixes.branch[chosen]]
            if not new.any():
                break
            # A child promises no more than its parent: whichever stay, their parents do.
            children, parents = self._open(chosen[new])
            budget = self.heuristic.with_last_steps(budget, children, self.calls + 1 >= self.limits.max_calls)
            promises = np.minimum(self.heuristic.promise(children, budget), promise[new][parents])
            fed = self.branches.fed[self.prefixes.branch[children]] > 0
            opened = np.arange(len(chosen) + fed.sum()) < len(chosen)
            chosen, promise = np.append(chosen, children[fed]), np.append(promise, promises[fed])
            levels += 1
        self.finished = self.prefixes.counts(chosen) == 0  # where no token may be fed too
        children = np.arange(before, self.prefixes.size)
        children = children[np.isin(self.prefixes.parent[children], chosen)]
        return Call(chosen, children, levels) if len(chosen) else None

    def update(self, call: Call, rest: np.ndarray, following: np.ndarray) -> None:
        """Takes what the decoder said.

        Args:
            call: that was asked.
            rest: (prefixes, views), log-probability of the tokens behind each prefix' first.
            following: (children, views), of each child's first token.
        """
        prefixes, fed, children = self.prefixes, call.prefixes, call.children
        branch, child = prefixes.branch[fed], prefixes.branch[children]
        self.calls = self.calls + ~self.finished
        self.tokens = self.tokens + prefixes.sums(fed, self.branches.fed[branch]).astype(int)
        for _ in range(call.levels + 1):
            prefixes.view_score[fed] = prefixes.view_bound[fed] + rest
            prefixes.view_bound[children] = prefixes.view_score[prefixes.parent[children]] + following
        prefixes.score[fed] = self.views.combined(prefixes.user[fed], prefixes.view_score[fed])
        prefixes.bound[children] = self.views.combined(prefixes.user[children], prefixes.view_bound[children])
        if self.views.most == 1:
            rest, following = rest[:, 0], following[:, 0]
        else:  # what the tokens were worth under all views together
            rest = prefixes.score[fed] - prefixes.bound[fed]
            following = prefixes.bound[children] - prefixes.score[prefixes.parent[children]]
        self.heuristic.note_values(fed, rest, children, following)
        ended = children[self.branches.fed[child] == 0]
        prefixes.score[ended], prefixes.view_score[ended] = prefixes.bound[ended], prefixes.view_bound[ended]
        self.frontier = np.append(self.frontier, children)
        self.frontier = self.frontier[np.isnan(prefixes.score[self.frontier])]
        self.frontier = self.frontier[prefixes.user[self.frontier].argsort(kind="stable")]
        self.heuristic.go_on(children, call.levels + 1)
        self._note_profiles(np.append(fed[self.branches.complete[branch]], ended))

    def predictions(self) -> list[ProfilePrediction]:
        """One a user, who needs an explored profile."""
        explored, beginnings = self.explored, self._to_values(self.left)
        known, scores = np.append(explored, beginnings), self.prefixes.score[explored]
        user, choices = self.prefixes.user[known], self._choices(known)
        masses = np.append(scores, self.heuristic.expected(beginnings))
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

    def _lacking(self) -> np.ndarray:
        """(users,), how many profiles to explore beyond what the proof needs; without any, or without the share of
        the probability mass that is asked for, all that have place."""
        if not self._covered.all():  # what is explored only grows; of whom something is aside the answer is known
            self._covered |= self._coverage(self.frontier) >= self.limits.min_coverage
        lacking = self.limits.num_return_profiles - self._num_explored
        return np.where((self.best_score == -inf) | ~self._covered, inf, lacking)

    def _need_no_more(self, lacking: np.ndarray) -> np.ndarray:
        """(users,), which searches have a profile and all that was asked for, or may make no further call."""
        over = (self.calls >= self.limits.max_calls) | (self.exact() & (lacking <= 0))
        return (self.best_score > -inf) & over

    def _set_aside(self, lacking: np.ndarray) -> None:
        """Those that no further call is asked: of finished searches, and what cannot beat the best profile where only
        the proof is lacking."""
        user, bound = self.prefixes.user[self.frontier], self.prefixes.bound[self.frontier]
        aside = self.finished[user] | ((lacking[user] <= 0) & (bound <= self.best_score[user]))
        self._aside.append(self.frontier[aside])
        highest = self.prefixes.highest(self.frontier[aside], bound[aside])
        self._highest_aside = np.maximum(self._highest_aside, highest)
        self.frontier = self.frontier[~aside]

    def _open(self, parents: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The prefixes that continue these, bounded by a guess; each with its parent's place among these."""
        target = self.branches.target[self.prefixes.branch[parents]]
        if (self.branches.first[target] < 0).any():
            self.table.number(target.tolist())
        count = self.branches.count[target]
        place = np.arange(len(parents)).repeat(count)
        branch, parent = self.branches.first[target][place] + places_in(place), parents[place]
        children = self.prefixes.append(
            user=self.prefixes.user[parent],
            parent=parent,
            branch=branch,
            start=self.prefixes.start[parent] + self.branches.length[self.prefixes.branch[parent]],
            bound=self.heuristic.guesses(parent, branch, count[place]),
        )
        return children, place

    def _note_profiles(self, found: np.ndarray) -> None:
        """These are complete, and their scores known."""
        scores = self.prefixes.score[found]
        self._explored.append(found)
        self._num_explored = self._num_explored + self.prefixes.counts(found)
        self._explored_mass = np.logaddexp(self._explored_mass, self._mass(found, scores))
        best = self.prefixes.best(found, scores)
        score = np.where(best >= 0, self.prefixes.score[best], -inf)
        better = score > self.best_score
        self.best_score = np.maximum(score, self.best_score)
        self.heuristic.note_best(better.nonzero()[0], best[better])

    def _to_values(self, numbers: np.ndarray) -> np.ndarray:
        """These prefixes, those that end within a value followed to the ends of all values that it may become."""
        while True:
            within = self.branches.choices[self.prefixes.branch[numbers]].max(axis=1) < 0
            expected = self.heuristic.expected(numbers)
            within &= expected > self.best_score[self.prefixes.user[numbers]] - NEGLIGIBLE
            if not within.any():
                return numbers
            children, _ = self._open(numbers[within])
            numbers = np.append(numbers[~within], children)

    def _choices(self, numbers: np.ndarray) -> np.ndarray:
        """(prefixes, slots), the values that these have come to; -1 in the slots behind."""
        choices = self.branches.choices[self.prefixes.branch[numbers]]
        above, rows = self.prefixes.parent[numbers], np.arange(len(numbers))
        while len(rows := rows[above >= 0]):
            above = above[above >= 0]
            choices[rows] = np.maximum(choices[rows], self.branches.choices[self.prefixes.branch[above]])
            above = self.prefixes.parent[above]
        return choices
