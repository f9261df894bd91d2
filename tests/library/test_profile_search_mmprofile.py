from math import exp, inf, log

import numpy as np
import pytest

from mmprofile.configuration_mmprofile import ProfileAttribute, ProfileSchema
from mmprofile.profile_heuristic_mmprofile import Heuristic
from mmprofile.profile_trie_mmprofile import ProfileTrie
from tests.toy_languages import TOKENIZER, TRIES, Language, exhaustive, limits, search, searches
from tests.toy_processor import toy_tokenizer
from tests.toy_schemas import SCHEMAS


@pytest.mark.parametrize("sharpness", [0.1, 1.0, 5.0])
@pytest.mark.parametrize("name", SCHEMAS)
def test_what_is_called_exact_is_the_arg_max_of_all_profiles(name, sharpness):
    for seed in range(15):
        language = Language(seed, sharpness)
        scores = exhaustive(name, language)
        for expand in (1, 4, 100):
            found = search(TRIES[name], language, expand_per_call=expand)
            assert found.exact and found.profile == scores[0][1]
            assert found.log_probability == pytest.approx(scores[0][0], abs=1e-9)


@pytest.mark.parametrize("fields", [{}, {"max_calls": 4}, {"max_decoder_tokens": 200}, {"min_coverage": 0.7}])
@pytest.mark.parametrize("name", SCHEMAS)
def test_users_side_by_side_find_what_each_finds_alone(name, fields):
    languages = [Language(seed, sharpness) for seed, sharpness in enumerate((0.1, 5.0, 1.0, 3.0, 8.0, 0.5))]
    together = searches(TRIES[name], languages, num_return_profiles=3, **fields).predictions()
    alone = [search(TRIES[name], language, num_return_profiles=3, **fields) for language in languages]
    assert together == alone
    assert len({found.log_probability for found in alone}) == len(languages)


@pytest.mark.parametrize("name", SCHEMAS)
def test_bounded_calls_give_a_profile_and_are_honest_about_the_proof(name):
    proved = dict.fromkeys((1, 2, 3, 5), 0)
    for seed in range(20):
        language = Language(seed, 5.0)
        scores = exhaustive(name, language)
        for max_calls in proved:
            found = search(TRIES[name], language, max_calls=max_calls)
            assert 1 <= found.decoder_calls <= max_calls
            assert found.profile in [profile for _, profile in scores]
            assert not found.exact or found.profile == scores[0][1]
            proved[max_calls] += found.exact
    assert 0 == proved[1] <= proved[2] <= proved[3] <= proved[5] == 20


@pytest.mark.parametrize("name", SCHEMAS)
def test_bounded_tokens_are_kept_and_more_of_them_never_lose(name):
    trie = TRIES[name]
    for seed in range(10):
        language, last = Language(seed, 1.0), -inf
        for bound in (trie.longest, 2 * trie.longest, 4 * trie.longest, 10**6):
            found = search(trie, language, max_decoder_tokens=bound)
            assert found.decoder_tokens <= bound
            assert found.log_probability >= last - 1e-9
            last = found.log_probability
        assert found.exact


def test_the_coverage_is_never_more_than_the_true_share():
    for seed in range(20):
        language = Language(seed, 3.0)
        total = sum(exp(score) for score, _ in exhaustive("prefixes", language))
        found = searches(TRIES["prefixes"], [language], num_return_profiles=3)
        true = np.exp(found.prefixes.score[found.explored]).sum() / total
        assert 0 < found.coverage() <= true + 1e-9


def test_more_coverage_is_explored_on_request():
    little, much = (search(TRIES["prefixes"], Language(0, 1.0), min_coverage=c) for c in (0.0, 0.9))
    assert little.coverage < 0.9 <= much.coverage
    assert little.decoder_tokens < much.decoder_tokens


def test_runners_up_are_as_many_as_asked_for_and_in_order():
    found = search(TRIES["several"], Language(0, 5.0), num_return_profiles=7)
    scores = [found.log_probability, *(score for _, score in found.runners_up)]
    assert len(scores) == 7 and scores == sorted(scores, reverse=True)
    texts = [SCHEMAS["several"].render(profile) for profile, _ in found.runners_up]
    assert len({found.text, *texts}) == 7
    assert search(TRIES["alike"], Language(0, 5.0), num_return_profiles=1).runners_up == []


def test_a_schema_has_no_more_runners_up_than_profiles():
    assert len(search(TRIES["alike"], Language(0, 5.0), num_return_profiles=99).runners_up) == 26


def test_a_tie_goes_to_the_schema_order():
    class Fair(Language):
        def log_probability(self, prefix, token):
            return log(0.5)

    schema = ProfileSchema(
        (ProfileAttribute("Size", ("small", "large")), ProfileAttribute("Colours", ("red", "green")))
    )
    found = search(ProfileTrie(schema, toy_tokenizer()), Fair(0, 1.0), min_coverage=1.0, num_return_profiles=4)
    assert found.profile == {"size": "small", "colours": "red"}
    others = [("small", "green"), ("large", "red"), ("large", "green")]
    assert [tuple(profile.values()) for profile, _ in found.runners_up] == others
    assert found.probabilities == {"size": {"small": 0.5, "large": 0.5}, "colours": {"red": 0.5, "green": 0.5}}


def test_more_prefixes_a_call_need_fewer_calls():
    calls = [search(TRIES["several"], Language(1, 1.0), expand_per_call=n).decoder_calls for n in (1, 4, 16)]
    assert calls[0] > calls[1] > calls[2]


def test_a_call_looks_at_no_prefix_that_is_of_no_use_any_more(monkeypatch):
    candidates, looked = Heuristic.candidates, []

    def noted(heuristic, frontier, budget):
        if budget.found[0] and budget.profiles[0] <= 0:  # only the proof is lacking
            looked.append((heuristic.prefixes.bound[frontier] <= budget.goal[0]).sum())
        return candidates(heuristic, frontier, budget)

    monkeypatch.setattr(Heuristic, "candidates", noted)
    found = searches(TRIES["prefixes"], [Language(1, 1.0)], expand_with_profile=1)
    assert looked == [0] * len(looked) and len(looked) > 1
    assert len(found.frontier) == 0 < len(found.left)


@pytest.mark.parametrize("fields", [{}, {"num_return_profiles": 7}, {"max_calls": 3}, {"max_decoder_tokens": 90}])
def test_what_is_sorted_out_before_the_sorting_changes_nothing(fields, monkeypatch):
    languages = [Language(seed, sharpness) for seed, sharpness in enumerate((0.1, 5.0, 1.0, 3.0))]
    expected = searches(TRIES["several"], languages, expand_with_profile=4, **fields).predictions()
    monkeypatch.setattr("mmprofile.profile_heuristic_mmprofile.SORTED", 1)
    assert searches(TRIES["several"], languages, expand_with_profile=4, **fields).predictions() == expected


def test_a_schema_that_fits_one_call_is_explored_by_it():
    found = search(TRIES["alike"], Language(0, 1.0), expand_per_call=100)
    assert found.decoder_calls == 1 and found.coverage == 1


def test_a_schema_of_one_profile_needs_one_call():
    schema = ProfileSchema((ProfileAttribute("Place", ("Bar Seat",)),))
    found = search(ProfileTrie(schema, TOKENIZER), Language(0, 1.0), num_return_profiles=5)
    assert (found.profile, found.exact, found.decoder_calls) == ({"place": "Bar Seat"}, True, 1)
    assert (found.probabilities, found.coverage) == ({"place": {"Bar Seat": 1.0}}, 1)


@pytest.mark.parametrize(
    "fields",
    [
        {"num_return_profiles": 0},
        {"expand_per_call": 0},
        {"max_calls": 0},
        {"max_decoder_tokens": 9},
        {"min_coverage": 1.1},
        {"min_coverage": -0.1},
    ],
)
def test_a_number_out_of_range_is_named(fields):
    with pytest.raises(ValueError, match=next(iter(fields))):
        limits(**fields).check(longest=10)
