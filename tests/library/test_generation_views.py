"""`generate_profiles` over several views of a user: against exhaustive scoring under their mixture and product, and by
a decoder that attends to all of them."""

import math
from itertools import product

import numpy as np
import pytest
import torch
from transformers.modeling_outputs import BaseModelOutput

from mmprofile.configuration_mmprofile import COMBINATIONS
from mmprofile.fusion_mmprofile import join_views
from mmprofile.user_views_mmprofile import UserViews
from tests.profile_models import inputs_for, label, model_for, teacher_forced
from tests.toy_schemas import SCHEMAS, TOKENIZERS, all_profiles, unigram_tokenizer

PROVED = {"max_decoder_tokens": math.inf}
EVERYTHING = {"min_coverage": 1.0, **PROVED}
VIEWS = (3, 1, 2)


def combined(scores: torch.Tensor, combination: str) -> torch.Tensor:
    """(texts,), of a user's views (views, texts)."""
    if combination == "product":
        return scores.mean(dim=0)
    return scores.logsumexp(dim=0) - math.log(len(scores))


def users_of(inputs, views) -> list[dict]:
    parts = {name: tensor.split(list(views)) for name, tensor in inputs.items()}
    return [{name: of_users[user] for name, of_users in parts.items()} for user in range(len(views))]


def states_scores(model, tokenizer, inputs: dict, texts: list[str]) -> torch.Tensor:
    """(texts,), of one user, each of whose views is encoded by itself, without padding."""
    states = []
    for ids, mask in zip(inputs["input_ids"], inputs["attention_mask"], strict=True):
        states.append(model.encode(input_ids=ids[mask.bool()][None]).last_hidden_state)
    return teacher_forced(model, tokenizer, {}, texts, BaseModelOutput(last_hidden_state=torch.cat(states, dim=1)))[0]


def exhaustive(model, tokenizer, inputs, profiles, views, combination) -> list[torch.Tensor]:
    """Of each user the score of every profile."""
    schema = model.config.profile_schema
    texts = [schema.render(profile) for profile in profiles]
    if combination == "states":
        return [states_scores(model, tokenizer, of_user, texts) for of_user in users_of(inputs, views)]
    scores = teacher_forced(model, tokenizer, inputs, texts)
    return [combined(of_user, combination) for of_user in scores.split(list(views))]


def check(name, kind, sharpness, seed, views, combination) -> None:
    tokenizer, profiles = TOKENIZERS[kind](), all_profiles(SCHEMAS[name])
    model, inputs = model_for(tokenizer, name, sharpness, seed=seed), inputs_for(tokenizer, seed, sum(views))
    expected = exhaustive(model, tokenizer, inputs, profiles, views, combination)
    options = {"tokenizer": tokenizer, "views": views, "combination": combination}
    found = model.generate_profiles(**inputs, **options, **PROVED)
    assert len(found) == len(expected) > 0
    for prediction, scores in zip(found, expected, strict=True):
        assert prediction.exact
        assert prediction.log_probability == pytest.approx(scores.max().item(), abs=1e-4)
        assert scores[profiles.index(prediction.profile)].item() == pytest.approx(scores.max().item(), abs=1e-4)
        for profile, score in prediction.runners_up:
            assert score == pytest.approx(scores[profiles.index(profile)].item(), abs=1e-4)


@pytest.mark.parametrize("combination", COMBINATIONS)
@pytest.mark.parametrize("name", SCHEMAS)
def test_the_profile_is_the_arg_max_of_exhaustive_scoring(name, combination):
    check(name, "unigram", 3.0, 0, VIEWS, combination)


@pytest.mark.slow
def test_no_profile_of_hundreds_is_another_than_the_best():
    cases = list(product(SCHEMAS, TOKENIZERS, (0.3, 3.0), range(4), ((3, 1, 2), (5, 2)), COMBINATIONS))
    assert len(cases) >= 300
    for name, kind, sharpness, seed, views, combination in cases:
        check(name, kind, sharpness, seed, views, combination)


@pytest.mark.parametrize("combination", COMBINATIONS)
def test_all_explored_gives_the_exact_marginals(combination):
    tokenizer, schema = unigram_tokenizer(), SCHEMAS["alike"]
    model, inputs, profiles = model_for(tokenizer, "alike", 3.0), inputs_for(tokenizer, 0, 6), all_profiles(schema)
    expected = exhaustive(model, tokenizer, inputs, profiles, VIEWS, combination)
    options = {"views": VIEWS, "combination": combination}
    found = model.generate_profiles(**inputs, tokenizer=tokenizer, **options, **EVERYTHING)
    assert len(found) == len(VIEWS)
    for prediction, scores in zip(found, expected, strict=True):
        assert prediction.coverage == pytest.approx(1)
        weights = scores.softmax(dim=0)
        for attribute in schema.attributes:
            for value in attribute.values:
                holds = [value in (p[attribute.key] if attribute.count > 1 else [p[attribute.key]]) for p in profiles]
                expected_one = weights[torch.tensor(holds)].sum().item()
                assert prediction.probabilities[attribute.key][value] == pytest.approx(expected_one, abs=1e-4)


@pytest.mark.parametrize("combination", ["product", "mixture"])
def test_a_view_given_twice_or_alone_is_that_view(combination):
    tokenizer = unigram_tokenizer()
    model, inputs = model_for(tokenizer, "alike", 3.0), inputs_for(tokenizer)
    alone = model.generate_profiles(**inputs, tokenizer=tokenizer, **EVERYTHING)
    twice = {name: tensor.repeat_interleave(2, dim=0) for name, tensor in inputs.items()}
    again = model.generate_profiles(
        **twice, tokenizer=tokenizer, views=[2, 2, 2], combination=combination, **EVERYTHING
    )
    assert [p.profile for p in again] == [p.profile for p in alone]
    for one, other in zip(alone, again, strict=True):
        assert other.log_probability == pytest.approx(one.log_probability, abs=1e-5)
    single = model.generate_profiles(**inputs, tokenizer=tokenizer, views=[1, 1, 1], **EVERYTHING)
    assert single == alone


@pytest.mark.parametrize("combination", COMBINATIONS)
def test_the_order_of_views_and_of_users_changes_nothing(combination):
    tokenizer = unigram_tokenizer()
    model, inputs = model_for(tokenizer, "alike", 3.0), inputs_for(tokenizer, 0, 6)
    options = {"tokenizer": tokenizer, "combination": combination, **PROVED}
    found = model.generate_profiles(**inputs, views=VIEWS, **options)
    order = torch.tensor([5, 4, 3, 1, 2, 0])
    other = model.generate_profiles(**{n: t[order] for n, t in inputs.items()}, views=VIEWS[::-1], **options)
    assert len(found) == len(VIEWS)
    for one, same in zip(found, other[::-1], strict=True):
        assert same.profile == one.profile
        assert same.log_probability == pytest.approx(one.log_probability, abs=1e-5)


def test_views_that_are_not_the_rows_are_refused():
    tokenizer = unigram_tokenizer()
    model, inputs = model_for(tokenizer), inputs_for(tokenizer)
    with pytest.raises(ValueError, match=r"views are each user's number of rows, 3 together, got \[2, 2\]"):
        model.generate_profiles(**inputs, tokenizer=tokenizer, views=[2, 2])
    with pytest.raises(ValueError, match=r"a user has at least one view, got \[0, 3\]"):
        model.generate_profiles(**inputs, tokenizer=tokenizer, views=[0, 3])
    with pytest.raises(ValueError, match=r"combined as one of \['product', 'mixture', 'states'\], got 'sum'"):
        model.generate_profiles(**inputs, tokenizer=tokenizer, combination="sum")


def test_views_may_be_an_array():
    tokenizer = unigram_tokenizer()
    model, inputs = model_for(tokenizer, "alike", 3.0), inputs_for(tokenizer, 0, 6)
    found, same = (
        model.generate_profiles(**inputs, tokenizer=tokenizer, views=views, **PROVED)
        for views in (VIEWS, np.array(VIEWS))
    )
    assert found == same


def test_a_mixture_is_at_most_its_highest_view():
    views = UserViews([2, 3], "mixture")
    scores = torch.tensor([[-1.0, -1.0, math.nan], [-1.0, -2.0, -3.0]]).numpy()
    values = views.combined(torch.tensor([0, 1]).numpy(), scores)
    assert values[0] == -1.0
    assert values[1] == pytest.approx(math.log((math.exp(-1) + math.exp(-2) + math.exp(-3)) / 3), abs=1e-6)


def test_joined_states_are_those_of_the_rows_without_padding_and_keep_gradients():
    state = torch.arange(24.0).reshape(4, 3, 2).requires_grad_()
    mask = torch.tensor([[1, 1, 0], [1, 0, 0], [1, 1, 1], [1, 1, 0]])
    joined, joined_mask = join_views(state, mask, torch.tensor([3, 1]))
    rows = state.detach()
    first = torch.cat([rows[0, :2], rows[1, :1], rows[2]])
    assert torch.equal(joined[0], first)
    assert torch.equal(joined[1, :2], rows[3, :2])
    assert not joined[1, 2:].any()
    assert joined_mask.tolist() == [[1] * 6, [1, 1, 0, 0, 0, 0]]
    joined.sum().backward()
    assert state.grad is not None
    assert torch.equal(state.grad[:, :, 0], mask.float())
    alone, same = join_views(state, mask, torch.tensor([1, 1, 1, 1]))
    assert alone is state
    assert torch.equal(same, mask)


def test_losses_and_profiles_of_joined_views_are_those_of_their_states_encoded_apart():
    tokenizer, views = unigram_tokenizer(), torch.tensor(VIEWS)
    model, inputs = model_for(tokenizer, "alike", 3.0, combination="states"), inputs_for(tokenizer, 0, 6)
    text = model.config.profile_schema.render(all_profiles(SCHEMAS["alike"])[7])
    labels = torch.tensor([label(tokenizer, text)] * len(VIEWS))
    losses = model.target_losses({**inputs, "views": views}, {"labels": labels})
    expected = exhaustive(model, tokenizer, inputs, [all_profiles(SCHEMAS["alike"])[7]], VIEWS, "states")
    assert losses.tolist() == pytest.approx([-scores.item() for scores in expected], abs=1e-4)
    found = model.generate_profiles(**inputs, tokenizer=tokenizer, views=VIEWS, **PROVED)
    asked = model.generate_profiles(**inputs, tokenizer=tokenizer, views=VIEWS, combination="states", **PROVED)
    assert found == asked
    with pytest.raises(ValueError, match=r"views are each user's number of rows, 6 together, got \[3, 2\]"):
        model(**inputs, views=torch.tensor([3, 2]), labels=labels[:2])
