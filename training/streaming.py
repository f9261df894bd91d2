"""Training on a corpus larger than memory and disk: a row group is read while users of it are drawn.

The order of an epoch is planned from the row groups' sizes alone. So every process knows all of it, the length of an
epoch and where a stopped run goes on, whose first batches read again what the buffer held.
"""

from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from datasets import Dataset
from torch.utils.data import Sampler

from corpora.shards import Shards
from training.batching import UserExamples

POOLED = 4  # row groups or more, the users of which are mixed
LANES = 64  # at most; a power of two, as the number of those who read mostly is


class Plan(NamedTuple):
    """Of an epoch. Positions are of the users as they come with the row groups in the epoch's order."""

    rng: np.random.Generator  # what draws the rest
    groups: np.ndarray  # (groups,), the epoch's order
    ranks: np.ndarray  # (groups,), of each its place in it
    positions: np.ndarray  # (groups + 1,), at which the row groups begin
    cuts: np.ndarray  # (lanes + 1,), at which the lanes begin
    firsts: np.ndarray  # (lanes + 1,), the rank of the row group in which a lane begins


class StreamedUsers:
    """A training split of which row groups are held while users of them are drawn; to others it is its labels.

    The row groups, in random order, are cut into lanes of as many batches each, and those of a lane into pools, whose
    users are mixed. Batches come from the lanes in turn: where there are as many processes and workers as lanes, or a
    divisor of that, each of them reads the row groups of its own lanes and no others.

    Args:
        shards: where the users are.
        buffer: so many users are held at once, at most, by each process that reads; the more, the more are mixed.
        batch_size: users a batch of one process.
        seed: of the order.

    Attributes:
        features: of the columns.
        lanes: how many there are.

    Raises:
        ValueError: if the buffer does not hold the largest row group.
    """

    def __init__(self, shards: Shards, buffer: int, batch_size: int, seed: int):
        largest = int(shards.sizes.max())
        if largest > buffer:
            raise ValueError(
                f"a row group of {largest} users is larger than --shuffle_buffer {buffer}, the users held at once:"
                " write smaller ones (batch_size of Dataset.to_parquet), or raise the flag if that much fits in memory"
            )
        held = buffer // largest
        self.lanes = min(LANES, 2 ** (max(held // POOLED, 1).bit_length() - 1))
        self.pooled = held // self.lanes
        self.shards, self.batch_size, self.seed, self.features = shards, batch_size, seed, shards.features
        self._ends = np.cumsum(shards.sizes)
        self._planned: tuple[int, Plan] | None = None  # epoch, and its plan
        self._held: dict[int, tuple[int, dict]] = {}  # lane -> its pool, and row groups of it

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitem__(self, column: str):
        """A column of the labels'."""
        return self.shards.labels[column]

    def select_columns(self, columns: str | list[str]) -> Dataset:
        """Of the labels'."""
        return self.shards.labels.select_columns(columns)

    def row(self, index: int, epoch: int) -> Mapping:
        """A user by the row's number in the split; in the epoch's order a row group is read once, or twice where it is
        in two lanes.

        Raises:
            UnreadableRow: as of `Shards.read`.
        """
        if self._planned is None or self._planned[0] != epoch:
            self._planned, self._held = (epoch, self._plan(epoch)), {}
        plan = self._planned[1]
        group = int(np.searchsorted(self._ends, index, side="right"))
        rank, place = plan.ranks[group], index - int(self._ends[group] - self.shards.sizes[group])
        lane = min(int(np.searchsorted(plan.cuts, plan.positions[rank] + place, side="right")), self.lanes) - 1
        pool = int(rank - plan.firsts[lane]) // self.pooled
        if lane not in self._held or self._held[lane][0] != pool:
            self._held[lane] = (pool, {})
        tables = self._held[lane][1]
        if group not in tables:
            tables[group] = self.shards.read(group)
        return tables[group].slice(place, 1).to_pylist()[0] | self.shards.labels[index]

    def order(self, epoch: int) -> np.ndarray:
        """(users,), every row number once; batches come from the lanes in turn, the users who fill none last."""
        plan, rows = self._plan(epoch), np.split(np.arange(len(self)), self._ends[:-1])
        rows = np.concatenate([rows[group] for group in plan.groups])
        for lane, (first, last) in enumerate(pairwise(plan.cuts)):
            edges = plan.positions[plan.firsts[lane] + self.pooled :: self.pooled]
            for pool in np.split(rows[first:last], edges[edges < last] - first):
                plan.rng.shuffle(pool)
        whole = plan.cuts[-1]
        turns = np.concatenate([np.arange(batches) for batches in np.diff(plan.cuts) // self.batch_size])
        batches = rows[:whole].reshape(-1, self.batch_size)[np.argsort(turns, kind="stable")]
        return np.concatenate([batches.flatten(), plan.rng.permutation(rows[whole:])])

    def first_reviews(self, users: int) -> Iterator[list[dict]]:
        """Of the first so many users, a row group at a time."""
        for group, first in enumerate(self._ends - self.shards.sizes):
            if first < users:
                yield from (reviews.as_py() for reviews in self.shards.read(group)["reviews"].slice(0, users - first))

    def _plan(self, epoch: int) -> Plan:
        # The users' own draws are seeded by (seed, epoch, user): none of them has this last number.
        rng = np.random.default_rng([self.seed, epoch, len(self)])
        groups = rng.permutation(len(self.shards.sizes))
        positions = np.append(0, np.cumsum(self.shards.sizes[groups]))
        batches, more = divmod(len(self) // self.batch_size, self.lanes)
        cuts = np.append(0, np.cumsum(batches + (np.arange(self.lanes) < more)) * self.batch_size)
        firsts = np.searchsorted(positions, cuts, side="right") - 1
        return Plan(rng, groups, np.argsort(groups), positions, cuts, firsts)


class StreamedExamples(UserExamples):
    """`UserExamples` of a `StreamedUsers`: the same of each user."""

    dataset: StreamedUsers

    def _row(self, index: int) -> Mapping:
        return self.dataset.row(index, self.epoch)


class StreamedOrder(Sampler):
    """Every user once, in the order of a `StreamedUsers`: a function of seed, epoch and batch size, the same in every
    process, the same however many there are, and the same again after a run was stopped.

    Args:
        examples: they know the epoch.
    """

    def __init__(self, examples: StreamedExamples):
        self.examples = examples

    def __len__(self) -> int:
        return len(self.examples)

    def __iter__(self) -> Iterator[int]:
        return map(int, self.examples.dataset.order(self.examples.epoch))
