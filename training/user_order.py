"""The order in which training takes users: another each epoch and, if asked for, users with texts of like length in
one step, so that little of a batch is padding and no process waits long for another."""

from collections.abc import Iterator

import numpy as np
from torch.utils.data import Sampler

from training.batching import UserExamples

POOL = 50  # steps whose users are sorted together, as transformers' group_by_length has it


class UserOrder(Sampler):
    """Every user once, in an order that is a function of seed and epoch alone: the same in every process, the same
    however many there are, and the same again after a run was stopped.

    Args:
        examples: they know the epoch, and how long the texts drawn in it are.
        seed: of the order.
        users_a_step: so many users in a row have texts of like length. None: any.
    """

    def __init__(self, examples: UserExamples, seed: int, users_a_step: int | None = None):
        self.examples, self.seed, self.users_a_step = examples, seed, users_a_step

    def __len__(self) -> int:
        return len(self.examples)

    def __iter__(self) -> Iterator[int]:
        # The users' own draws are seeded by (seed, epoch, user): none of them has this last number.
        rng = np.random.default_rng([self.seed, self.examples.epoch, len(self)])
        order = rng.permutation(len(self))
        if self.users_a_step is not None:
            order = group_by_length(order, self.examples.text_lengths(), self.users_a_step, rng)
        return iter(order.tolist())


def group_by_length(order: np.ndarray, lengths: np.ndarray, group: int, rng: np.random.Generator) -> np.ndarray:
    """An order in which groups of users have texts of like length, the groups themselves in random order.

    The users are sorted in pools of many groups, so that a user has other company in another order.

    Args:
        order: (users,), random.
        lengths: (users,), of each user's text.
        group: users a group; a rest that fills none comes last.

    Returns:
        (users,), in each group the longest text first.
    """
    pool = group * min(POOL, max(len(order) // (4 * group), 1))
    whole = len(order) // group * group
    users = [order[start : min(start + pool, whole)] for start in range(0, whole, pool)]
    by_length = [part[np.argsort(-lengths[part], kind="stable")] for part in users]
    groups = np.concatenate([np.empty(0, order.dtype), *by_length]).reshape(-1, group)
    return np.concatenate([rng.permutation(groups).flatten(), order[whole:]])
