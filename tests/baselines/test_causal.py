"""Causal systems: prompts on the left, profiles on the right, and nothing that padding changes."""

from copy import deepcopy

import numpy as np
import pytest
import torch

from baselines.causal import NOTHING, PROMPT_LINE, padded_left
from baselines.table import SYSTEMS
from tests.baselines.causal_users import PROCESSOR, PROFILES, alone, causal_model, described, padded, users
from tests.tiny_folder import SCHEMA

NAMES = ["llama", "chatglm", "llava"]
by_name = pytest.mark.parametrize("name", NAMES)


def losses_of(model, inputs, targets) -> list[float]:
    with torch.no_grad():
        return model.target_losses(inputs, targets).tolist()


def gradients(model, inputs, targets) -> dict[str, torch.Tensor]:
    model.zero_grad()
    model.target_losses(inputs, targets).sum().backward()
    return {name: weight.grad.clone() for name, weight in model.named_parameters() if weight.grad is not None}


def all_profiles() -> list[dict]:
    moods, foods = SCHEMA.attributes
    pairs = [[first, second] for i, first in enumerate(foods.values) for second in foods.values[i + 1 :]]
    return [{"mood": mood, "favorite_food": pair} for mood in moods.values for pair in pairs]


# ---------------------------------------------------------------------------------------------------------------------
# Prompts


def test_padding_moves_to_the_left_and_all_else_keeps_its_order():
    rows = torch.tensor([[7, NOTHING, 5, NOTHING, NOTHING], [1, 2, NOTHING, 3, NOTHING]])
    assert padded_left(rows).tolist() == [[NOTHING, 7, 5], [1, 2, 3]]


@by_name
def test_a_prompt_is_the_text_without_its_end_and_the_line(name):
    inputs, _ = users(name)
    rows = causal_model(name).prompts({key: inputs[key] for key in ("input_ids", "attention_mask")})
    line = PROCESSOR.tokenizer(PROMPT_LINE, add_special_tokens=False).input_ids
    assert len(line) > 1 and len(rows) > 1
    for row, ids, mask in zip(rows, inputs["input_ids"], inputs["attention_mask"], strict=True):
        text = ids[mask.bool()].tolist()
        assert text[-1] == PROCESSOR.tokenizer.eos_token_id
        assert row[row != NOTHING].tolist() == text[:-1] + line
        assert row[-1] != NOTHING


@pytest.mark.parametrize(
    ("name", "added"), [("llama", ["<s>"]), ("chatglm", ["[gMASK]", "<sop>"]), ("llava", ["<s>"])]
)
def test_a_prompt_opens_as_texts_did_in_pre_training(name, added):
    processor = deepcopy(PROCESSOR)
    processor.tokenizer.add_special_tokens({"extra_special_tokens": added}, replace_extra_special_tokens=False)
    processor.tokenizer.bos_token = "<s>" if name != "chatglm" else None
    model, inputs = causal_model(name), users(name)[0]
    model.resize_token_embeddings(len(processor.tokenizer))
    model.prepare(processor)
    rows = model.prompts(inputs)
    opening = processor.tokenizer.convert_tokens_to_ids(added)
    assert len(rows) and all(row[row != NOTHING][: len(opening)].tolist() == opening for row in rows)


@by_name
def test_a_tokens_position_counts_what_is_there_before_it(name):
    model, (inputs, targets) = causal_model(name), users(name)
    seen = []
    rotary = model.get_decoder().rotary_emb
    rotary.register_forward_pre_hook(lambda _, args, given: seen.append(given["position_ids"]), with_kwargs=True)
    model.target_losses(inputs, targets)
    rows = model.prompts(inputs)
    assert len(rows) > 1
    for row, places in zip(rows, seen[0], strict=True):
        start = int((row == NOTHING).sum())
        assert places[start:].tolist() == list(range(len(places) - start))


@by_name
def test_padding_and_the_end_are_the_tokenizers(name):
    model = causal_model(name)
    for config in (model.config, model.config.get_text_config(), model.generation_config):
        config.pad_token_id, config.eos_token_id = None, [5, 6]  # as checkpoints have them
    model.prepare(PROCESSOR)
    found = {(c.pad_token_id, c.eos_token_id) for c in (model.config, model.config.get_text_config())}
    assert found == {(PROCESSOR.tokenizer.pad_token_id, PROCESSOR.tokenizer.eos_token_id)}
    assert (model.generation_config.pad_token_id, model.generation_config.eos_token_id) in found


# ---------------------------------------------------------------------------------------------------------------------
# Losses


@by_name
def test_a_user_has_the_same_loss_alone_as_beside_others(name):
    model, (inputs, targets) = causal_model(name), users(name)
    single = [losses_of(model, alone(inputs, number), alone(targets, number))[0] for number in range(3)]
    assert losses_of(model, inputs, targets) == pytest.approx(single, rel=1e-5)
    assert max(single) - min(single) > 0.1


@by_name
def test_padding_changes_neither_losses_nor_gradients(name):
    model, (inputs, targets) = causal_model(name), users(name)
    more = {"labels": torch.nn.functional.pad(targets["labels"], (0, 3), value=-100)}
    assert losses_of(model, padded(inputs), more) == pytest.approx(losses_of(model, inputs, targets), rel=1e-5)
    found, plain = gradients(model, padded(inputs), more), gradients(model, inputs, targets)
    assert plain
    for key, gradient in plain.items():
        torch.testing.assert_close(found[key], gradient, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", ["llama", "chatglm"])
def test_the_loss_is_the_profiles_in_a_plain_forward_pass_over_prompt_and_profile(name):
    model, (inputs, targets) = causal_model(name), users(name)
    found = losses_of(model, inputs, targets)
    for number in range(3):
        labels = alone(targets, number)["labels"]
        ids = torch.cat([model.prompts(alone(inputs, number)), labels], dim=1)
        logits = model(input_ids=ids).logits[0].detach().double().numpy()
        logs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        start = ids.shape[1] - labels.shape[1]
        by_numpy = -sum(logs[place - 1, ids[0, place]] for place in range(start, ids.shape[1]))
        assert found[number] == pytest.approx(by_numpy, rel=1e-5)


@by_name
def test_no_logit_is_computed_for_a_prompts_token(name):
    model, (inputs, targets) = causal_model(name), users(name)
    asked = []
    model.lm_head.register_forward_pre_hook(lambda module, args: asked.append(args[0].shape[:2]))
    model.target_losses(inputs, targets)
    assert asked == [targets["labels"].shape]


@by_name
def test_every_weight_that_is_trained_has_a_gradient(name):
    model, (inputs, targets) = causal_model(name), users(name)
    found = gradients(model, inputs, targets)
    assert set(found) == {key for key, weight in model.named_parameters() if weight.requires_grad}
    assert all(gradient.isfinite().all() and gradient.abs().max() > 0 for gradient in found.values())


@by_name
def test_gradient_checkpointing_gives_the_same_gradients(name):
    model, (inputs, targets) = causal_model(name).train(), users(name)
    plain = gradients(model, inputs, targets)
    model.activation_checkpointing_enable()
    found = gradients(model, inputs, targets)
    assert found.keys() == plain.keys()
    for key, gradient in plain.items():
        torch.testing.assert_close(found[key], gradient)


@by_name
def test_losses_in_bfloat16_are_near_those_in_float32(name):
    model, (inputs, targets) = causal_model(name), users(name)
    with torch.autocast("cpu", torch.bfloat16):
        found = model.target_losses(inputs, targets)
    assert found.dtype == torch.float32
    assert found.tolist() == pytest.approx(losses_of(model, inputs, targets), rel=0.05)


# ---------------------------------------------------------------------------------------------------------------------
# Profiles


@by_name
@pytest.mark.parametrize("constrained", [False, True])
def test_users_have_the_same_profiles_alone_as_beside_others(name, constrained):
    model, (inputs, _) = causal_model(name), users(name)
    together = model.write_profiles(padded(inputs), PROCESSOR, 3, constrained)
    assert together == [model.write_profiles(alone(inputs, n), PROCESSOR, 3, constrained)[0] for n in range(3)]


@by_name
def test_only_constrained_profiles_are_sure_to_be_valid(name):
    model, (inputs, _) = causal_model(name), users(name)
    free, bound = (model.write_profiles(inputs, PROCESSOR, 2, constrained) for constrained in (False, True))
    assert [SCHEMA.validate(profile) for profile in bound] == bound
    assert free and all(None in profile.values() for profile in free)  # of random weights


@by_name
def test_the_log_probability_of_an_answer_is_that_of_teacher_forcing(name):
    model, (inputs, _) = causal_model(name), users(name)
    answers = model.profile_users(inputs, PROCESSOR.tokenizer, num_return_profiles=3)
    assert [len(answer["runners_up"]) for answer in answers] == [2, 2, 2]
    for place in range(3):
        ranked = [[answer, *answer["runners_up"]][place] for answer in answers]
        targets = {"labels": PROCESSOR.encode_targets([one["profile"] for one in ranked])}
        expected = [-loss for loss in losses_of(model, inputs, targets)]
        assert [one["log_probability"] for one in ranked] == pytest.approx(expected, rel=1e-4)


@by_name
def test_as_many_beams_as_profiles_find_the_most_probable_one(name):
    model, (inputs, _) = causal_model(name), users(name)
    every = all_profiles()
    logs = [[-x for x in losses_of(model, inputs, {"labels": PROCESSOR.encode_targets([p] * 3)})] for p in every]
    best = np.argmax(logs, axis=0)
    answers = model.profile_users(inputs, PROCESSOR.tokenizer, num_return_profiles=len(every))
    assert [answer["profile"] for answer in answers] == [every[place] for place in best]


# ---------------------------------------------------------------------------------------------------------------------
# Checkpoints


@by_name
def test_a_saved_model_gives_the_same_losses_and_answers(name, tmp_path):
    model, (inputs, targets) = causal_model(name), users(name)
    model.save_pretrained(tmp_path)
    loaded = SYSTEMS[name].model_class.from_pretrained(tmp_path).eval()
    assert losses_of(loaded, inputs, targets) == losses_of(model, inputs, targets)
    assert loaded.write_profiles(inputs, PROCESSOR, 3) == model.write_profiles(inputs, PROCESSOR, 3)
    assert loaded.profile_users(inputs, PROCESSOR.tokenizer) == model.profile_users(inputs, PROCESSOR.tokenizer)


@by_name
@pytest.mark.parametrize("tied", [True, False])
def test_a_larger_vocabulary_leaves_known_tokens_alone(name, tied, tmp_path):
    model, (inputs, _) = causal_model(name), users(name)
    if not tied:
        model.config.tie_word_embeddings = model.config.get_text_config().tie_word_embeddings = False
        model.save_pretrained(tmp_path / "untied")
        model = SYSTEMS[name].model_class.from_pretrained(tmp_path / "untied").eval()
        model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.detach().clone())
    before = model.write_profiles(inputs, PROCESSOR, 2, constrained=True)
    model.resize_token_embeddings(len(PROCESSOR.tokenizer) + 5, mean_resizing=False)
    assert model.write_profiles(inputs, PROCESSOR, 2, constrained=True) == before
    model.save_pretrained(tmp_path / "larger")
    loaded = SYSTEMS[name].model_class.from_pretrained(tmp_path / "larger")
    assert loaded.get_output_embeddings().weight.shape[0] == len(PROCESSOR.tokenizer) + 5
    assert (loaded.get_output_embeddings().weight is loaded.get_input_embeddings().weight) == tied


@by_name
def test_pre_trained_weights_come_from_a_checkpoint_of_the_class(name, tmp_path):
    made, (inputs, targets) = causal_model(name), users(name)
    plain = type(made).__bases__[1](made.config)
    plain.load_state_dict(made.state_dict())
    plain.to(torch.float16).save_pretrained(tmp_path)
    model = described(SYSTEMS[name].pretrained(str(tmp_path), None), name)
    assert model.dtype == torch.float32
    model.prepare(PROCESSOR)
    assert losses_of(model, inputs, targets) == pytest.approx(losses_of(made, inputs, targets), rel=1e-2)


@by_name
def test_a_checkpoint_of_another_kind_is_refused_by_both_names(name, tmp_path):
    other = {"llama": "chatglm", "chatglm": "llava", "llava": "llama"}[name]
    model = causal_model(other)
    model.save_pretrained(tmp_path)
    expected = {"llama": "llama", "chatglm": "glm", "llava": "llava"}
    with pytest.raises(ValueError, match=f"must be .* '{expected[name]}', it is '{expected[other]}'"):
        SYSTEMS[name].pretrained(str(tmp_path), None)


def test_users_of_these_tests_differ_in_length():
    inputs, targets = users("llama")
    assert len(set(inputs["attention_mask"].sum(dim=1).tolist())) == 3
    assert len(PROFILES) == len(targets["labels"])
