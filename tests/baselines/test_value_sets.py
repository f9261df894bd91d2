"""Sets of values and their probabilities, against all sets written out."""

import math
from itertools import combinations, product

import pytest
import torch

from baselines import value_sets
from baselines.value_sets import best_profiles, best_sets, log_partition, split_values, value_probabilities
from mmprofile import ProfileSchema
from tests.toy_processor import SCHEMA

FILMS = ProfileSchema(
    [
        {"name": "Genre", "values": ["a", "b", "c", "d", "e"], "count": 3},
        {"name": "Mood", "values": ["f", "g", "h"]},
        {"name": "Ends", "values": ["i", "j"], "count": 2},
    ]
)


def all_sets(logits, count):
    """Each set's places and probability, by the definition: conditioned on so many values being taken."""
    chances = [1 / (1 + math.exp(-logit)) for logit in logits]
    taken = {
        places: math.prod(p if place in places else 1 - p for place, p in enumerate(chances))
        for places in combinations(range(len(logits)), count)
    }
    whole = sum(taken.values())
    return {places: chance / whole for places, chance in taken.items()}


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_values_are_as_probable_as_the_sets_that_hold_them(count):
    logits = torch.randn(5, dtype=torch.float64) * 2
    sets = all_sets(logits.tolist(), count)
    expected = [sum(chance for places, chance in sets.items() if place in places) for place in range(5)]
    found = value_probabilities(logits, count)
    torch.testing.assert_close(found.tolist(), expected)
    assert found.sum().item() == pytest.approx(count)
    partition = sum(math.exp(sum(logits[place].item() for place in places)) for places in sets)
    assert log_partition(logits, count).item() == pytest.approx(math.log(partition))


def test_one_value_of_an_attribute_has_the_softmax():
    logits = torch.randn(7, 4)
    torch.testing.assert_close(value_probabilities(logits, 1), logits.softmax(-1))


def test_rows_of_a_batch_are_computed_as_each_alone():
    logits = torch.randn(3, 6, dtype=torch.float64)
    torch.testing.assert_close(
        value_probabilities(logits, 2), torch.stack([value_probabilities(row, 2) for row in logits])
    )


def test_many_values_are_those_of_a_loop_and_their_sets_are_summed_at_once(monkeypatch):
    logits, summed = 5 * torch.randn(60, dtype=torch.float64), []
    without = [log_partition(torch.cat([logits[:place], logits[place + 1 :]]), 2) for place in range(60)]
    expected = (logits + torch.stack(without) - log_partition(logits, 3)).exp()
    monkeypatch.setattr(value_sets, "log_partition", lambda *given: summed.append(given) or log_partition(*given))
    torch.testing.assert_close(value_probabilities(logits, 3), expected)
    assert len(summed) == 2  # of all values, and of all but each


def test_logits_of_any_size_give_probabilities():
    found = value_probabilities(torch.tensor([900.0, -900.0, 900.0, 0.0]), 2)
    torch.testing.assert_close(found, torch.tensor([1.0, 0.0, 1.0, 0.0]))


@pytest.mark.parametrize("count", [1, 2, 4])
def test_the_best_sets_come_first_and_none_is_left_out(count):
    logits = torch.randn(6, dtype=torch.float64).tolist()
    sums = {places: sum(logits[place] for place in places) for places in combinations(range(6), count)}
    expected = sorted(sums, key=lambda places: -sums[places])
    assert [places for _, places in best_sets(logits, count, 4)] == expected[:4]
    assert [places for _, places in best_sets(logits, count, 100)] == expected
    best = best_sets(logits, count, 4)
    assert best
    for score, places in best:
        assert score == pytest.approx(sums[places])


@pytest.mark.parametrize("schema", [SCHEMA, FILMS])
def test_profiles_are_the_most_probable_of_all_and_their_probabilities_sum_to_1(schema):
    logits = torch.randn(sum(len(a.values) for a in schema.attributes), dtype=torch.float64)
    parts = split_values(schema, logits)
    sets = [all_sets(part.tolist(), a.count) for a, part in zip(schema.attributes, parts, strict=True)]
    every = []
    for chosen in product(*sets):
        values = [[a.values[i] for i in places] for a, places in zip(schema.attributes, chosen, strict=True)]
        profile = {a.key: v if a.count > 1 else v[0] for a, v in zip(schema.attributes, values, strict=True)}
        chance = math.prod(probabilities[places] for probabilities, places in zip(sets, chosen, strict=True))
        every.append((schema.validate(profile), math.log(chance)))
    every.sort(key=lambda found: -found[1])
    found = best_profiles(schema, logits, 3)
    assert [profile for profile, _ in found] == [profile for profile, _ in every[:3]]
    torch.testing.assert_close([score for _, score in found], [score for _, score in every[:3]])
    found = best_profiles(schema, logits, 1000)
    assert len(found) == len(every)
    assert sum(math.exp(score) for _, score in found) == pytest.approx(1)
