"""The probability of each value: exact where all is explored, near to that where little is."""

from math import exp, log

import numpy as np
import pytest

from mmprofile.configuration_mmprofile import ProfileAttribute, ProfileSchema
from mmprofile.profile_predictions_mmprofile import marginals
from mmprofile.profile_search_mmprofile import ProfileSearch
from mmprofile.profile_trie_mmprofile import ProfileTrie
from tests.toy_languages import TRIES, Language, exhaustive, search, tokens_of
from tests.toy_processor import WORDS, toy_tokenizer
from tests.toy_schemas import SCHEMAS

COLOURS = ("red", "green", "blue", "white", "yellow")
NAMES = ("Hat", "Coat", "Shoes", "Bag")
PLAIN = ProfileTrie(
    ProfileSchema(tuple(ProfileAttribute(name, COLOURS) for name in NAMES)),
    toy_tokenizer(" ".join([WORDS, *(f"{name}:" for name in NAMES), *COLOURS])),
)


class Inside(Language):
    """All of its probability is the schema's."""

    def answer(self, search: ProfileSearch, number: int) -> tuple[float, float]:
        branches, branch = search.branches, search.prefixes.branch[number]
        parent = search.prefixes.parent[number]
        if parent < 0:
            return 0.0, 0.0
        place = branches.target[search.prefixes.branch[parent]]
        seed = [self.seed, *tokens_of(search, parent)]
        logits = np.random.default_rng(seed).normal(0, self.sharpness, branches.count[place])
        return (logits - np.logaddexp.reduce(logits))[branch - branches.first[place]].item(), 0.0


def numbers(probabilities: dict[str, dict[str, float]]) -> np.ndarray:
    return np.array([share for values in probabilities.values() for share in values.values()])


def test_the_whole_schema_explored_gives_the_exact_marginals():
    language = Language(3, 1.0)
    scores = exhaustive("several", language)
    found = search(TRIES["several"], language, min_coverage=1.0)
    total = sum(exp(score) for score, _ in scores)
    for attribute in SCHEMAS["several"].attributes:
        for value in attribute.values:
            mass = sum(exp(s) for s, p in scores if value in (p[attribute.key], *p[attribute.key]))
            assert found.probabilities[attribute.key][value] == pytest.approx(mass / total)
    assert found.coverage == pytest.approx(1)


def test_an_attributes_probabilities_sum_to_its_count():
    found = search(TRIES["several"], Language(0, 3.0))
    assert [sum(values.values()) for values in found.probabilities.values()] == pytest.approx([3, 1, 2])
    assert list(found.probabilities["budget_range"]) == ["Low", "High"]


@pytest.mark.parametrize("seed", range(5))
def test_values_of_the_first_attribute_are_exact_after_one_call(seed):
    little, all_of_it = (
        search(PLAIN, Inside(seed, 1.5), **fields) for fields in ({"max_calls": 1}, {"min_coverage": 1})
    )
    assert little.coverage < 0.5 and all_of_it.coverage == 1
    assert little.probabilities["hat"] == pytest.approx(all_of_it.probabilities["hat"])
    assert little.probabilities["bag"] != pytest.approx(all_of_it.probabilities["bag"])


def test_what_proves_the_best_profile_tells_the_probabilities_within_a_few_percent():
    errors, coverages = [], []
    for seed in range(20):
        little, all_of_it = (search(PLAIN, Inside(seed, 1.5), min_coverage=c) for c in (0.0, 1.0))
        errors.append(np.abs(numbers(little.probabilities) - numbers(all_of_it.probabilities)))
        coverages.append(little.coverage)
    assert np.mean(coverages) < 0.5
    assert np.mean(errors) < 0.05


@pytest.mark.parametrize("sharpness", [0.3, 1.0, 5.0])
@pytest.mark.parametrize("name", ["prefixes", "alike"])
def test_a_beginning_counts_with_what_its_next_tokens_leave_of_it(name, sharpness):
    """Nearly all of these languages' probability is of no profile, and the more the longer a text is."""
    errors = []
    for seed in range(20):
        language = Language(seed, sharpness)
        little, all_of_it = (search(TRIES[name], language, min_coverage=c) for c in (0.0, 1.0))
        errors.append(np.abs(numbers(little.probabilities) - numbers(all_of_it.probabilities)))
    assert np.mean(errors) < 0.001
    assert np.quantile(np.max(errors, axis=1), 0.9) < 0.02


def test_a_value_begun_counts_for_all_that_it_may_become():
    schema = ProfileSchema((ProfileAttribute("Likes", ("blue", "red wine", "red cloth")),))
    tokenizer = toy_tokenizer(f"{WORDS} Likes: blue wine cloth")
    trie = ProfileTrie(schema, tokenizer)
    words = tokenizer.convert_tokens_to_ids(["blue", "red", "wine", "cloth"])
    chances = dict(zip(words, (0.6, 0.2, 0.9, 0.1), strict=True))

    class Fixed(Language):
        def log_probability(self, prefix, token):
            return log(chances.get(token, 1.0))

    limits = {"expand_per_call": 1, "max_calls": 1}, {"min_coverage": 1.0}
    little, all_of_it = (search(trie, Fixed(0, 1), **limit) for limit in limits)
    assert little.profile == all_of_it.profile == {"likes": "blue"} and little.coverage == pytest.approx(0.75)
    assert all_of_it.probabilities["likes"] == pytest.approx({"blue": 0.75, "red wine": 0.225, "red cloth": 0.025})
    assert little.probabilities["likes"] == pytest.approx({"blue": 0.75, "red wine": 0.125, "red cloth": 0.125})


def test_an_attribute_is_judged_by_the_prefixes_that_have_all_its_values():
    schema = ProfileSchema((ProfileAttribute("Size", ("small", "large")), ProfileAttribute("Likes", COLOURS[:3], 2)))
    trie = ProfileTrie(schema, toy_tokenizer())
    user = np.array([0, 0, 0, 0, 1])
    scores = np.log([0.3, 0.1, 0.2, 0.4, 1e-300])
    choices = np.array([[0, 0, 1], [0, 0, 2], [0, 1, -1], [1, -1, -1], [1, 1, 2]])
    first, second = marginals(trie, 2, user, scores, choices)
    assert first["size"] == pytest.approx({"small": 0.6, "large": 0.4})
    assert first["likes"] == pytest.approx({"red": 1.0, "green": 0.75, "blue": 0.25})
    assert second == {"size": {"small": 0.0, "large": 1.0}, "likes": {"red": 0.0, "green": 1.0, "blue": 1.0}}


def test_a_profile_far_less_probable_than_a_beginning_still_counts_alone():
    scores, choices = np.array([-900.0, -1.0]), np.array([[0, 1, 2, 3], [4, -1, -1, -1]])
    (found,) = marginals(PLAIN, 1, np.array([0, 0]), scores, choices)
    assert found["bag"] == dict.fromkeys(COLOURS, 0.0) | {"white": 1.0}
    assert found["hat"] == dict.fromkeys(COLOURS, 0.0) | {"yellow": 1.0}
