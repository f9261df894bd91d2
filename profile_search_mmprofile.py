"""Best-first search for the most probable profile, with the proof that it is.

Log-probabilities only fall along a text, so a prefix's bounds that of every profile that begins with it. Once a
complete profile is worth at least as much as every prefix not yet followed, none can be more probable. The search asks
for many prefixes at once (a decoder call) and knows the decoder as log-probabilities only.
"""

import heapq
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import count
from math import exp, fsum, inf, log

from .configuration_mmprofile import Profile
from .profile_trie_mmprofile import Branch, ProfileTrie


@dataclass
class ProfilePrediction:
    """The profile of one user.

    Args:
        profile: the most probable profile found.
        text: its one line.
        log_probability: of the text and `</s>` under the model; natural logarithm, at most 0.
        exact: True where no profile of the schema can have a higher log-probability (the proof is complete).
        runners_up: the next best profiles found with their log-probabilities, best first.
        probabilities: key -> value -> probability among the profiles explored, in schema order; an attribute's sum to
            its count. With `coverage` 1 they are the exact marginals over the schema.
        coverage: the share of the schema's probability mass that the explored profiles have. A lower bound, since an
            unexplored prefix counts with its whole mass; 1 if every profile is explored.
        decoder_calls: how many decoder calls this user took part in.
        decoder_tokens: how many tokens they fed for this user.
    """

    profile: Profile
    text: str
    log_probability: float
    exact: bool
    runners_up: list[tuple[Profile, float]]
    probabilities: dict[str, dict[str, float]]
    coverage: float
    decoder_calls: int
    decoder_tokens: int


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
        for name, value, least in (
            ("num_return_profiles", self.num_return_profiles, 1),
            ("expand_per_call", min(self.expand_per_call, self.expand_with_profile), 1),
            ("max_calls", self.max_calls, 1),
            ("max_decoder_tokens", self.max_decoder_tokens, longest),
        ):
            if value < least:
                raise ValueError(f"{name} must be at least {least}, a profile has up to {longest} tokens; got {value}")
        if not 0 <= self.min_coverage <= 1:
            raise ValueError(f"min_coverage must be from 0 to 1, got {self.min_coverage}")


class Run:
    """A prefix that ends where the schema leaves a choice, or with the profile: its parent's, and a branch's tokens.

    Attributes:
        start: the decoder position of its first token.
        complete: whether it ends with the profile.
        fed: how many of its tokens the decoder must see, all but a final `</s>`.
        bound: log-probability up to its first token; a guess before its parent went through the decoder.
        score: log-probability up to its last token; None before it went through the decoder.
        column: of its first token in the decoder's memory; None before it went through the decoder.
        children: the prefixes that continue it; empty before it was chosen for a call.
    """

    __slots__ = ("parent", "branch", "tokens", "start", "complete", "fed", "bound", "score", "column", "children")

    def __init__(self, parent: "Run | None", branch: Branch, tokens: tuple[int, ...], start: int, bound: float):
        self.parent, self.branch, self.tokens, self.start, self.bound = parent, branch, tokens, start, bound
        self.complete = branch.target is None
        self.fed = len(tokens) - self.complete
        self.score = self.column = None
        self.children: list[Run] = []

    def choices(self) -> tuple[int, ...]:
        return (self.parent.choices() if self.parent else ()) + self.branch.choices

    def rank(self) -> tuple[float, tuple[int, ...]]:
        """Sorts complete ones: the best first, equals in schema order."""
        return -self.score, self.choices()


class ProfileSearch:
    """The search for one user.

    Args:
        trie: of the schema.
        start_token: with which the decoder starts.
        limits: when to stop.
    """

    def __init__(self, trie: ProfileTrie, start_token: int, limits: SearchLimits):
        self.trie, self.limits = trie, limits
        self.calls = self.tokens = 0
        self.explored: list[Run] = []  # complete profiles
        self.frontier: list[Run] = []  # prefixes whose bound is known, not expanded
        self.best: Run | None = None
        # The way to a first profile, along the best child of each step: where it stands.
        self._way = Run(None, trie.start, (start_token, *trie.start.tokens), 0, 0.0)
        self._seen: dict[object, float] = {}  # edge of the trie -> its latest log-probability
        self._forced, self._num_forced = 0.0, 0  # log-probability of the tokens without a choice, their number,
        self._mean_forced = 0.0  # and its mean
        self._loss_behind: dict[int, float] = {}  # slot -> what the best profile lost behind its run there

    @property
    def exact(self) -> bool:
        return self.best.score >= max((run.bound for run in self.frontier), default=-inf)

    def coverage(self) -> float:
        """See `ProfilePrediction`."""
        top = max([self.best.score, *(run.bound for run in self.frontier)])
        mass = fsum(exp(run.score - top) for run in self.explored)
        return mass / (mass + fsum(exp(run.bound - top) for run in self.frontier))

    def select(self) -> list[Run]:
        """The prefixes that the next call expands, parents before children; none when the search is over."""
        lacking = self._lacking()
        if self.best and (self.calls >= self.limits.max_calls or (self.exact and lacking <= 0)):
            return []
        chosen = [] if self.best else self._steps_to_first_profile()
        limit = self.limits.expand_with_profile if self.best else self.limits.expand_per_call
        room = self._room() - sum(run.fed for run in chosen)
        goal, on_the_way, order, heap = self._goal(), tuple(chosen), count(), []

        def consider(runs: Iterable[Run]):
            for run in runs:
                if run.fed and run not in on_the_way:
                    heapq.heappush(heap, (run.bound <= goal, -self._promise(run, goal), next(order), run))

        consider(self.frontier)
        for run in on_the_way:
            consider(run.children)
        while heap and len(chosen) < limit:
            needless, _, _, run = heapq.heappop(heap)
            if needless and lacking <= 0:
                break
            if run.fed <= room:
                chosen.append(run)
                room -= run.fed
                lacking -= run.complete
                consider(self._open(run))
        return chosen

    def update(self, runs: list[Run], log_probabilities: list[tuple[float, list[float]]]):
        """Takes what the decoder said of the chosen runs: for each the log-probability of its tokens behind the first,
        and of the first token of each child."""
        self.calls += 1
        self.tokens += sum(run.fed for run in runs)
        for run, (rest, following) in zip(runs, log_probabilities, strict=True):
            run.score = run.bound + rest
            self._forced += rest
            self._num_forced += len(run.tokens) - 1
            for child, value in zip(run.children, following, strict=True):
                child.bound = run.score + value
                self._seen[child.branch.edge] = value
                if not child.fed:
                    child.score = child.bound
        self._mean_forced = self._forced / max(self._num_forced, 1)
        first = [run for run in runs if run.parent is None]
        known = [*first, *self.frontier, *(child for run in runs for child in run.children)]
        self.frontier = [run for run in known if run.score is None]
        self.explored += (found := [run for run in known if run.complete and run.score is not None])
        while self._way.score is not None and not self._way.complete:
            self._way = max(self._way.children, key=self._expected_score)
        if found:
            self._note_best(min(found, key=Run.rank))

    def prediction(self) -> ProfilePrediction:
        ranked = sorted(self.explored, key=Run.rank)
        profiles = [self.trie.profile(run.choices()) for run in ranked]
        weights = [exp(run.score - ranked[0].score) for run in ranked]
        total = fsum(weights)
        probabilities = {a.key: dict.fromkeys(a.values, 0.0) for a in self.trie.schema.attributes}
        for profile, weight in zip(profiles, weights, strict=True):
            for key, value in profile.items():
                for name in [value] if isinstance(value, str) else value:
                    probabilities[key][name] += weight / total
        others = slice(1, self.limits.num_return_profiles)
        return ProfilePrediction(
            profile=profiles[0],
            text=self.trie.schema.render(profiles[0]),
            log_probability=ranked[0].score,
            exact=self.exact,
            runners_up=[(p, run.score) for p, run in zip(profiles[others], ranked[others], strict=True)],
            probabilities=probabilities,
            coverage=self.coverage(),
            decoder_calls=self.calls,
            decoder_tokens=self.tokens,
        )

    def _lacking(self) -> float:
        """How many profiles to explore beyond what the proof needs; without one yet, all that a call has place for."""
        if not self.best or (self.limits.min_coverage > 0 and self.coverage() < self.limits.min_coverage):
            return inf
        return self.limits.num_return_profiles - len(self.explored)

    def _steps_to_first_profile(self) -> list[Run]:
        """One step, or all that are left where no further call may be made."""
        runs = [self._way]
        self._open(self._way)
        while self.calls + 1 >= self.limits.max_calls and not runs[-1].complete:
            runs.append(max(runs[-1].children, key=self._expected_score))
            self._open(runs[-1])
        return [run for run in runs if run.fed]

    def _open(self, run: Run) -> list[Run]:
        """Gives the run its children, with guesses at their bounds: what their tokens were worth elsewhere."""
        branches = () if run.complete else self.trie.branches(run.branch.target)
        start, unknown = run.start + len(run.tokens), -log(max(len(branches), 1))
        score = self._expected_score(run)
        run.children = [
            Run(run, branch, branch.tokens, start, score + self._seen.get(branch.edge, unknown)) for branch in branches
        ]
        return run.children

    def _expected_score(self, run: Run) -> float:
        """Of a run before it went through the decoder: its other tokens lose what such tokens lost on average."""
        return run.bound + (len(run.tokens) - 1) * self._mean_forced

    def _room(self) -> float:
        """How many tokens may still be fed, less what the way to a first profile may need behind the next call."""
        left = self.limits.max_decoder_tokens - self.tokens
        return left if self.best else left - (self.trie.longest - self._way.start - self._way.fed)

    def _goal(self) -> float:
        """The bound up to which prefixes need no expansion; before there is a profile, the way to it extrapolated."""
        if self.best:
            return self.best.score
        if self._way.parent is None:
            return 0.0
        return self._way.bound * self.trie.num_slots / (1 + len(self._way.parent.choices()))

    def _promise(self, run: Run, goal: float) -> float:
        """What the best profile behind the run may be worth, if it loses behind it what the goal loses."""
        slot = run.parent.branch.target.slot
        if self.best:
            return self._expected_score(run) + self._loss_behind.get(slot, 0.0)
        return self._expected_score(run) + goal * (1 - (slot + 1) / self.trie.num_slots)

    def _note_best(self, found: Run):
        if self.best and self.best.rank() <= found.rank():
            return
        self.best, self._loss_behind, run = found, {}, found
        while run.parent is not None:
            self._loss_behind.setdefault(run.parent.branch.target.slot, found.score - run.score)
            run = run.parent
