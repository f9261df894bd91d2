"""Training on a corpus larger than memory and disk: a row group is read while users of it are drawn.

The order of an epoch is planned from the row groups' sizes alone. So every process knows all of it, the length of an
epoch and where a stopped run goes on, whose first batches read again what the buffer held.
"""

from collections.abc import Iterator, Mapping

import numpy as np
from datasets import Dataset, Features
from torch.utils.data import Sampler

from corpora.shards import Shards
from training.batching import UserExamples

POOLED = 4  # row groups or more, the users of which are mixed
LANES = 64  # at most; a power of two, as the number of those who read mostly is


class StreamedUsers:
    """A training split of which row groups are held while users of them are drawn; to others it is its labels.

    The row groups come in random order, in pools whose users are mixed. The pools are dealt to lanes, from which
    batches come in turn: with as many processes and workers as there are lanes, or a divisor of it, each of them reads
    the row groups of its own lanes and no others.

    Args:
        shards: where the users are.
        buffer: so many users are held at once, at most, by each process that reads; the more, the more are mixed.
        seed: of the order.

    Attributes:
        features: of the columns.
        lanes: how many there are.

    Raises:
        ValueError: if the buffer does not hold the largest row group.
    """

    def __init__(self, shards: Shards, buffer: int, seed: int):
        largest = int(shards.sizes.max())
        if largest > buffer:
            raise ValueError(
                f"a row group of {largest} users is larger than --shuffle_buffer {buffer}, the users held at once: write"
                " smaller ones (batch_size of Dataset.to_parquet), or raise the flag if that much fits in memory"
            )
        held = buffer // largest
        self.lanes = min(LANES, 2 ** (max(held // POOLED, 1).bit_length() - 1))
        self.pooled = held // self.lanes
        self.shards, self.seed, self.features = shards, seed, shards.features
        self._ends = np.cumsum(shards.sizes)
        self._epoch: int | None = None
        self._pools = np.empty(0, np.int64)  # of each row group, in this epoch
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
        """A user by the row's number in the split; in the epoch's order no row group is read twice, or hardly one.

        Raises:
            UnreadableRow: as of `Shards.read`.
        """
        group = int(np.searchsorted(self._ends, index, side="right"))
        place = index - int(self._ends[group] - self.shards.sizes[group])
        return self._group(group, epoch).slice(place, 1).to_pylist()[0] | self.shards.labels[index]

    def order(self, epoch: int, batch_size: int) -> np.ndarray:
        """(users,), every row number once, so that batches of this size come from the lanes in turn."""
        shuffled, rng = self._shuffled(epoch)
        starts = self._ends - self.shards.sizes
        lanes: list[list[np.ndarray]] = [[] for _ in range(self.lanes)]
        for pool, first in enumerate(range(0, len(shuffled), self.pooled)):
            groups = shuffled[first : first + self.pooled]
            rows = np.concatenate([np.arange(starts[group], self._ends[group]) for group in groups])
            lanes[pool % self.lanes].append(rng.permutation(rows))
        users = [np.concatenate(lane) for lane in lanes if lane]
        whole = [len(lane) // batch_size for lane in users]
        batches = [lane[: n * batch_size].reshape(-1, batch_size) for lane, n in zip(users, whole, strict=True)]
        turns = np.argsort(np.concatenate([np.arange(n) for n in whole]), kind="stable")
        rest = [lane[n * batch_size :] for lane, n in zip(users, whole, strict=True)]
        return np.concatenate([np.concatenate(batches)[turns].flatten(), *rest])

    def first_reviews(self, users: int) -> Iterator[list[dict]]:
        """Of the first so many users, a row group at a time."""
        for group, first in enumerate(self._ends - self.shards.sizes):
            if first < users:
                yield from (reviews.as_py() for reviews in self.shards.read(group)["reviews"].slice(0, users - first))

    def _shuffled(self, epoch: int) -> tuple[np.ndarray, np.random.Generator]:
        """The row groups in the epoch's order, and what draws the rest of it."""
        # The users' own draws are seeded by (seed, epoch, user): none of them has this last number.
        rng = np.random.default_rng([self.seed, epoch, len(self)])
        return rng.permutation(len(self.shards.sizes)), rng

    def _group(self, group: int, epoch: int):
        if epoch != self._epoch:
            shuffled, _ = self._shuffled(epoch)
            self._pools = np.argsort(shuffled) // self.pooled
            self._epoch, self._held = epoch, {}
        pool = int(self._pools[group])
        held = self._held.get(pool % self.lanes)
        if held is None or held[0] != pool:
            held = self._held[pool % self.lanes] = (pool, {})
        if group not in held[1]:
            held[1][group] = self.shards.read(group)
        return held[1][group]


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
        batch_size: users a batch of one process.
    """

    def __init__(self, examples: StreamedExamples, batch_size: int):
        self.examples, self.batch_size = examples, batch_size

    def __len__(self) -> int:
        return len(self.examples)

    def __iter__(self) -> Iterator[int]:
        return map(int, self.examples.dataset.order(self.examples.epoch, self.batch_size))
