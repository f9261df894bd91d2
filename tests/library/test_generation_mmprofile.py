"""`generate_profiles` on real T5 decoders: against exhaustive scoring, teacher forcing and beam search."""

import math
from itertools import product

import pytest
import torch

from mmprofile.configuration_mmprofile import ProfileSchema
from mmprofile.profile_trie_mmprofile import profile_trie
from tests.profile_models import USERS, inputs_for, model_for, teacher_forced, trained_model
from tests.toy_schemas import SCHEMAS, TOKENIZERS, all_profiles, blind_tokenizer, unigram_tokenizer, word_tokenizer

PROVED = {"max_decoder_tokens": math.inf}
EVERYTHING = {"min_coverage": 1.0, **PROVED}


def allowed_tokens(trie):
    """`prefix_allowed_tokens_fn` of a trie whose walks have different tokens."""

    def allowed(batch, prefix):
        left, tails = prefix.tolist()[1:], [trie.start]
        while True:
            tails = [tail for tail in tails if list(tail.tokens[: len(left)]) == left[: len(tail.tokens)]]
            if len(tails) == 1 and len(tails[0].tokens) <= len(left):
                left = left[len(tails[0].tokens) :]
                if tails[0].target is None:
                    return [0]
                tails = trie.branches(tails[0].target)
            else:
                return [tail.tokens[len(left)] for tail in tails]

    return allowed


@pytest.mark.parametrize("sharpness", [0.3, 3.0])
@pytest.mark.parametrize("kind", TOKENIZERS)
@pytest.mark.parametrize("name", SCHEMAS)
def test_the_profile_is_the_arg_max_of_exhaustive_scoring(name, kind, sharpness):
    tokenizer, schema = TOKENIZERS[kind](), SCHEMAS[name]
    model, inputs = model_for(tokenizer, name, sharpness), inputs_for(tokenizer)
    profiles = all_profiles(schema)
    scores = teacher_forced(model, tokenizer, inputs, [schema.render(profile) for profile in profiles])
    proved = model.generate_profiles(**inputs, tokenizer=tokenizer, **PROVED)
    for user, found in zip(range(USERS), proved, strict=True):
        assert found.exact and schema.parse(found.text) == found.profile
        assert found.log_probability == pytest.approx(scores[user].max().item(), abs=1e-4)
        for profile, score in [(found.profile, found.log_probability), *found.runners_up]:
            assert score == pytest.approx(scores[user, profiles.index(profile)].item(), abs=1e-4)
        assert len(found.runners_up) == 4


def near_bound(schema, tokenizer) -> dict:
    """Leaves a part of the searches without the proof."""
    return {"max_decoder_tokens": 6 * profile_trie(schema, tokenizer).longest}


@pytest.mark.slow
def test_no_proof_is_wrong_on_hundreds_of_inputs():
    searches = proved = 0
    for name, kind, sharpness, seed in product(SCHEMAS, TOKENIZERS, (0.3, 1.0, 3.0), range(5)):
        tokenizer, profiles = TOKENIZERS[kind](), all_profiles(SCHEMAS[name])
        model, inputs = model_for(tokenizer, name, sharpness, seed=seed), inputs_for(tokenizer, seed)
        checked = check_against_all(model, tokenizer, inputs, SCHEMAS[name], profiles)
        searches, proved = searches + checked[0], proved + checked[1]
    assert searches >= 2 * 500 and searches / 2 < proved < searches


def check_against_all(model, tokenizer, inputs, schema, profiles) -> tuple[int, int]:
    """How many searches there were, with a near bound and without one, and how many were proved."""
    scores = teacher_forced(model, tokenizer, inputs, [schema.render(profile) for profile in profiles])
    searches = proved = 0
    for limits in (near_bound(schema, tokenizer), PROVED):
        bounded = model.generate_profiles(**inputs, tokenizer=tokenizer, **limits)
        for user, found in zip(range(USERS), bounded, strict=True):
            score = scores[user, profiles.index(found.profile)].item()
            assert found.log_probability == pytest.approx(score, abs=1e-4)
            assert found.exact or limits is not PROVED
            assert not found.exact or score >= scores[user].max().item() - 1e-4
            searches, proved = searches + 1, proved + found.exact
    return searches, proved


@pytest.mark.slow
def test_a_trained_model_is_proved_right_and_never_below_constrained_beam_search():
    model, tokenizer = trained_model()
    for seed in range(20):
        inputs = inputs_for(tokenizer, seed)
        check_against_all(model, tokenizer, inputs, SCHEMAS["alike"], all_profiles(SCHEMAS["alike"]))
        assert_not_below_beam_search(model, tokenizer, inputs, SCHEMAS["alike"])


def test_a_trained_model_needs_few_tokens_for_the_proof():
    model, tokenizer = trained_model()
    schema, inputs = SCHEMAS["alike"], inputs_for(tokenizer)
    profiles = all_profiles(schema)
    scores = teacher_forced(model, tokenizer, inputs, [schema.render(profile) for profile in profiles])
    found = model.generate_profiles(**inputs, tokenizer=tokenizer, num_return_profiles=1, expand_per_call=2)
    assert all(prediction.exact for prediction in found)
    assert [p.profile for p in found] == [profiles[best] for best in scores.argmax(dim=1)]
    assert [p.log_probability for p in found] == pytest.approx(scores.amax(dim=1).tolist(), abs=1e-4)
    assert found[0].profile == profiles[5]  # the only one shown
    everything = model.generate_profiles(**inputs, tokenizer=tokenizer, **EVERYTHING)
    assert found[0].decoder_tokens < everything[0].decoder_tokens / 2


@pytest.mark.parametrize("kind", ["unigram", "bytes"])
@pytest.mark.parametrize("name", SCHEMAS)
def test_the_whole_schema_explored_gives_the_exact_marginals(name, kind):
    tokenizer, schema = TOKENIZERS[kind](), SCHEMAS[name]
    model, inputs = model_for(tokenizer, name, 3.0), inputs_for(tokenizer)
    profiles = all_profiles(schema)
    texts = [schema.render(profile) for profile in profiles]
    weights = teacher_forced(model, tokenizer, inputs, texts).softmax(dim=1)
    explored = model.generate_profiles(**inputs, tokenizer=tokenizer, **EVERYTHING)
    for user, found in zip(range(USERS), explored, strict=True):
        assert found.coverage == pytest.approx(1)
        for attribute in schema.attributes:
            for value in attribute.values:
                holds = [value in (p[attribute.key] if attribute.count > 1 else [p[attribute.key]]) for p in profiles]
                expected = weights[user, torch.tensor(holds)].sum().item()
                assert found.probabilities[attribute.key][value] == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kind", ["unigram", "bytes"])
@pytest.mark.parametrize("name", ["several", "alike"])
def test_no_profile_scores_below_constrained_beam_search(name, kind, seed):
    tokenizer = TOKENIZERS[kind]()
    model, inputs = model_for(tokenizer, name, 2.0, seed=seed), inputs_for(tokenizer, seed)
    assert_not_below_beam_search(model, tokenizer, inputs, SCHEMAS[name])


def assert_not_below_beam_search(model, tokenizer, inputs, schema):
    beams = model.generate(
        **inputs,
        num_beams=5,
        max_new_tokens=80,
        length_penalty=0.0,
        prefix_allowed_tokens_fn=allowed_tokens(profile_trie(schema, tokenizer)),
        return_dict_in_generate=True,
        output_scores=True,
    )
    for limits in (near_bound(schema, tokenizer), {}, PROVED):
        found = model.generate_profiles(**inputs, tokenizer=tokenizer, **limits)
        assert found
        for prediction, score in zip(found, beams.sequences_scores.tolist(), strict=True):
            assert prediction.log_probability >= score - 1e-4


@pytest.mark.parametrize("min_coverage", [0.0, 0.5, 1.0])
def test_the_default_bound_is_the_tokens_of_64_profiles(min_coverage):
    tokenizer, schema = word_tokenizer(ProfileSchema()), ProfileSchema()
    model, inputs = model_for(tokenizer, sharpness=0.3), inputs_for(tokenizer, users=1)
    longest = profile_trie(schema, tokenizer).longest
    (found,) = model.generate_profiles(
        **inputs, tokenizer=tokenizer, schema=schema, min_coverage=min_coverage, num_return_profiles=1
    )
    assert not found.exact and 62 * longest < found.decoder_tokens <= 64 * longest


def test_what_takes_more_than_a_few_profiles_is_proved_by_default():
    tokenizer = unigram_tokenizer()
    model, inputs = model_for(tokenizer, "several"), inputs_for(tokenizer)
    bounded = model.generate_profiles(**inputs, tokenizer=tokenizer, **near_bound(SCHEMAS["several"], tokenizer))
    assert [found.exact for found in bounded] == [False] * USERS
    assert [found.exact for found in model.generate_profiles(**inputs, tokenizer=tokenizer)] == [True] * USERS


@pytest.mark.slow
@pytest.mark.parametrize("sharpness", [1.0, 4.0])
def test_the_papers_schema_is_decoded_exactly(sharpness):
    tokenizer, schema = word_tokenizer(ProfileSchema()), ProfileSchema()
    model, inputs = model_for(tokenizer, sharpness=sharpness), inputs_for(tokenizer, users=1)
    profiles = all_profiles(schema)
    scores = teacher_forced(model, tokenizer, inputs, [schema.render(profile) for profile in profiles])[0]
    (found,) = model.generate_profiles(**inputs, tokenizer=tokenizer, schema=schema, **PROVED)
    assert found.exact and found.profile == profiles[scores.argmax()]
    assert found.log_probability == pytest.approx(scores.max().item(), abs=1e-4)


@pytest.mark.parametrize("limits", [{}, {"max_calls": 1}, {"max_calls": 4}, {"max_decoder_tokens": 120}])
def test_random_weights_and_garbage_give_valid_profiles(limits):
    tokenizer, schema = blind_tokenizer(), ProfileSchema()
    model = model_for(tokenizer)
    garbage = torch.tensor([[2, 2, 2, 2, 2], [0, 0, 0, 0, 0], [1, 3, 1, 3, 5]])
    answers = model.generate_profiles(garbage, tokenizer=tokenizer, schema=schema, **limits)
    for _, found in zip(range(3), answers, strict=True):
        assert schema.parse(found.text) == found.profile == schema.validate(found.profile)
        assert found.log_probability <= 0 <= found.coverage <= 1
        assert found.decoder_calls <= limits.get("max_calls", math.inf)
        assert found.decoder_tokens <= limits.get("max_decoder_tokens", math.inf)


@pytest.mark.parametrize("limits", [{"max_calls": 2}, {"max_decoder_tokens": 70}])
def test_a_bound_leaves_an_honest_beam(limits):
    tokenizer = unigram_tokenizer()
    model, proofs = model_for(tokenizer, "several"), []
    for seed in range(5):
        inputs = inputs_for(tokenizer, seed)
        bounded = model.generate_profiles(**inputs, tokenizer=tokenizer, expand_per_call=4, **limits)
        proved = model.generate_profiles(**inputs, tokenizer=tokenizer, **PROVED)
        for _, found, best in zip(range(USERS), bounded, proved, strict=True):
            (score,) = teacher_forced(model, tokenizer, inputs, [found.text])[len(proofs) % USERS].tolist()
            assert found.log_probability == pytest.approx(score, abs=1e-4)
            assert found.log_probability <= best.log_probability + 1e-4
            assert best.exact and (not found.exact or found.profile == best.profile)
            proofs.append(found.exact)
    assert False in proofs
