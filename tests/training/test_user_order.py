"""The order in which users are trained on."""

import numpy as np
import pytest

from tests.tiny_corpus import SCHEMA, tiny_dataset
from training.batching import UserExamples, review_lengths, undecoded
from training.user_order import UserOrder, group_by_length


def random_lengths(users=103):
    return np.random.default_rng(1).integers(1, 1000, users)


def grouped(lengths, group, seed=0):
    rng = np.random.default_rng(seed)
    return group_by_length(rng.permutation(len(lengths)), lengths, group, rng)


@pytest.mark.parametrize("group", [1, 4, 32, 103, 200])
def test_every_user_comes_once(group):
    assert sorted(grouped(random_lengths(), group).tolist()) == list(range(103))


def test_a_group_of_users_has_texts_of_like_length_and_groups_come_in_any_order():
    lengths = random_lengths(1000)
    groups = lengths[grouped(lengths, 4)].reshape(-1, 4)
    assert np.ptp(lengths.reshape(-1, 4), axis=1).mean() > 550
    assert np.ptp(groups, axis=1).mean() < 30
    assert (np.diff(groups, axis=1) <= 0).all()
    middles = groups.mean(axis=1)
    assert abs(np.corrcoef(middles[:-1], middles[1:])[0, 1]) < 0.2


def test_a_user_has_other_company_in_another_order():
    lengths = random_lengths(100)
    company = [{frozenset(group) for group in grouped(lengths, 4, seed).reshape(-1, 4).tolist()} for seed in (0, 1)]
    assert len(company[0] & company[1]) < 3


def test_users_that_fill_no_group_come_last_and_are_any():
    lengths = np.arange(10)
    rests = {tuple(grouped(lengths, 4, seed)[8:]) for seed in range(20)}
    assert len(rests) > 10


@pytest.mark.parametrize("users_a_step", [None, 2])
def test_the_order_is_a_function_of_seed_and_epoch(users_a_step):
    examples = UserExamples(undecoded(tiny_dataset(9)), SCHEMA, seed=0)
    order = UserOrder(examples, 0, users_a_step)
    orders = []
    for epoch in (1, 2, 1):
        examples.set_epoch(epoch)
        np.random.seed(epoch)
        orders.append(list(order))
    assert orders[0] == orders[2] != orders[1]
    assert list(UserOrder(examples, 1, users_a_step)) != orders[0]
    assert sorted(orders[1]) == list(range(9)) and len(order) == 9


def test_lengths_are_those_of_the_reviews_that_are_drawn():
    split = undecoded(tiny_dataset(5))
    assert review_lengths(split) == [[len(review["text"]) for review in row["reviews"]] for row in split]
    assert review_lengths(split.select([3, 1])) == [review_lengths(split)[3], review_lengths(split)[1]]
    examples = UserExamples(split, SCHEMA, num_reviews=2, seed=0)
    for epoch in (1, 2):
        examples.set_epoch(epoch)
        drawn = [sum(map(len, examples[index].reviews)) for index in range(5)]
        assert examples.text_lengths().tolist() == drawn
