"""`generate_profiles` over batches, photos, precisions and wrong input."""

from math import inf

import pytest
import torch
from transformers.cache_utils import DynamicCache
from transformers.modeling_outputs import BaseModelOutput

import mmprofile.generation_mmprofile as generation
from mmprofile.generation_mmprofile import EXPAND_ON_CPU, EXPAND_ON_GPU, WIDER_WITH_A_PROFILE, _expansions
from mmprofile.tree_decoder_mmprofile import Memory
from mmprofile.user_views_mmprofile import UserViews
from tests.profile_models import USERS, inputs_for, model_for, teacher_forced, trained_model
from tests.tiny_models import IMAGE_SIZE, random_photos, tiny_model
from tests.toy_schemas import SCHEMAS, unigram_tokenizer

TOKENIZER = unigram_tokenizer()


def predictions(model, inputs, **options):
    return model.generate_profiles(**inputs, tokenizer=TOKENIZER, **options)


def one_user(inputs: dict, user: int) -> dict:
    return {name: tensor[user : user + 1] for name, tensor in inputs.items()}


def assert_same(one, other, tolerance: float = 1e-4):
    assert (one.profile, one.text, one.exact) == (other.profile, other.text, other.exact)
    assert one.log_probability == pytest.approx(other.log_probability, abs=tolerance)
    assert [profile for profile, _ in one.runners_up] == [profile for profile, _ in other.runners_up]
    assert one.coverage == pytest.approx(other.coverage, abs=tolerance)
    assert (one.decoder_calls, one.decoder_tokens) == (other.decoder_calls, other.decoder_tokens)


def assert_all_same(predictions, others):
    assert predictions
    for one, other in zip(predictions, others, strict=True):
        assert_same(one, other)


@pytest.mark.parametrize("fusion", ["gated", "concat"])
def test_a_batch_gives_what_its_users_give_one_by_one(fusion):
    model = model_for(TOKENIZER, "several", 3.0, fusion=fusion)
    inputs = inputs_for(TOKENIZER) | random_photos()
    together = predictions(model, inputs)
    assert len({round(found.log_probability) for found in together}) == USERS
    for user in range(USERS):
        (alone,) = predictions(model, one_user(inputs, user))
        assert_same(together[user], alone)
        score = teacher_forced(model, TOKENIZER, one_user(inputs, user), [alone.text]).item()
        assert alone.log_probability == pytest.approx(score, abs=1e-4)


@pytest.mark.parametrize("views", [None, [2, 1]])
def test_how_many_search_at_once_on_a_cpu_changes_nothing(monkeypatch, views):
    model, inputs = model_for(TOKENIZER, "several", 3.0), inputs_for(TOKENIZER)
    users, found = USERS if views is None else len(views), []
    for width in (1, 2 * model.config.text_config.d_ff, 10**9):
        monkeypatch.setattr(generation, "CACHED_WIDTH", width)
        found.append(predictions(model, inputs, views=views))
    assert [len(each) for each in found] == [users] * 3
    assert_all_same(found[0], found[2])
    assert_all_same(found[1], found[2])


def test_users_are_taken_so_many_at_a_time_that_their_rows_fit():
    views = UserViews([2, 1, 1, 5, 1])
    assert [part.tolist() for part in views.parts(3)] == [[0, 1], [2], [3], [4]]
    assert [part.tolist() for part in views.parts(None)] == [[0, 1, 2, 3, 4]]
    assert [part.tolist() for part in views.parts(1)] == [[0], [1], [2], [3], [4]]
    assert list(UserViews([]).parts(4)) == []


def test_padding_changes_nothing():
    model, inputs = model_for(TOKENIZER, "several", 3.0), inputs_for(TOKENIZER)
    padded = {name: torch.nn.functional.pad(tensor, (0, 5)) for name, tensor in inputs.items()}
    assert_all_same(predictions(model, padded), predictions(model, inputs))


def test_no_token_of_a_call_sees_nothing_padding_neither():
    model, inputs, seen = model_for(TOKENIZER, "several", 3.0), inputs_for(TOKENIZER), []

    def see(_, args, arguments):
        bias = arguments["position_bias"]
        seen.append(bias > torch.finfo(bias.dtype).min)

    model.text_model.decoder.block[0].register_forward_pre_hook(see, with_kwargs=True)
    predictions(model, inputs, max_decoder_tokens=inf)
    assert seen and all(visible.any(dim=-1).all() for visible in seen)


def test_the_memory_keeps_what_it_was_given_in_little_more_space():
    memory, written, sizes = Memory(torch.device("cpu")), [], set()
    for step in range(1, 60):
        cache, states = DynamicCache(), torch.randn(2, 2, 3, 2, 4)  # layers, keys and values, rows, heads, d_kv
        for layer, (keys, values) in enumerate(states.unsqueeze(4)):
            cache.update(keys, values, layer)
        assert memory.write(cache, 0) == len(written)
        written += states.unbind(dim=2)
        assert memory.used == 3 * step <= memory.states.shape[3] <= 1.25 * memory.used
        sizes.add(memory.states.shape[3])
    assert len(sizes) < 30
    kept = memory.read(torch.arange(len(written))[:, None])
    for layer in range(2):
        expected = torch.stack([states[layer] for states in written])  # (columns, keys and values, heads, d_kv)
        assert torch.equal(kept.layers[layer].keys[:, :, 0], expected[:, 0])
        assert torch.equal(kept.layers[layer].values[:, :, 0], expected[:, 1])


def test_the_heads_positions_go_through_in_parts(monkeypatch):
    model, inputs = model_for(TOKENIZER, "several", 3.0), inputs_for(TOKENIZER)
    expected, heads = predictions(model, inputs), []
    model.text_model.lm_head.register_forward_hook(lambda _, args, output: heads.append(len(output)))
    monkeypatch.setattr("mmprofile.tree_decoder_mmprofile.HEAD_ROWS", 7)
    assert_all_same(predictions(model, inputs), expected)
    assert set(heads) <= set(range(1, 8)) and 7 in heads


def test_the_photos_count():
    model, inputs = model_for(TOKENIZER, "several", 3.0), inputs_for(TOKENIZER)
    with_photos = predictions(model, inputs | random_photos())
    changed = [
        abs(one.log_probability - other.log_probability) > 1e-3
        for one, other in zip(with_photos, predictions(model, inputs), strict=True)
    ]
    assert changed == [True, True, False]  # the third user has no photo


@pytest.mark.parametrize("fusion", ["gated", "concat"])
def test_encoder_outputs_stand_for_the_inputs(fusion):
    model = model_for(TOKENIZER, "several", 3.0, fusion=fusion)
    inputs = inputs_for(TOKENIZER) | random_photos()
    encoded = model.encode(**inputs)
    assert_all_same(predictions(model, {"encoder_outputs": encoded}), predictions(model, inputs))


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_scores_are_teacher_forced_ones_whatever_the_attention_and_the_head(attention, tied):
    model, inputs = model_for(TOKENIZER, "several", 3.0, tied=tied), inputs_for(TOKENIZER)
    model.set_attn_implementation(attention)
    for user, found in zip(range(USERS), predictions(model, inputs), strict=True):
        score = teacher_forced(model, TOKENIZER, inputs, [found.text])[user].item()
        assert found.log_probability == pytest.approx(score, abs=1e-4)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_other_precisions_give_scores_near_those_of_float32(dtype):
    model, inputs = model_for(TOKENIZER, "alike"), inputs_for(TOKENIZER)
    expected = [found.log_probability for found in predictions(model, inputs)]
    found = predictions(model.to(dtype), inputs)
    assert all(prediction.exact for prediction in found)
    assert [p.log_probability for p in found] == pytest.approx(expected, rel=0.02)


def test_logits_that_are_no_numbers_are_refused():
    model = model_for(TOKENIZER)
    model.text_model.lm_head.weight.data.fill_(float("nan"))
    with pytest.raises(ValueError, match="not finite in torch.float32"):
        predictions(model, inputs_for(TOKENIZER))


def test_the_encoders_keys_and_values_are_computed_once_a_user():
    model, users = model_for(TOKENIZER, "several"), []
    for block in model.text_model.decoder.block:
        block.layer[1].EncDecAttention.k.register_forward_hook(lambda _, args, output: users.append(len(output)))
    assert max(found.decoder_calls for found in predictions(model, inputs_for(TOKENIZER))) > 1
    assert users == [USERS, USERS]  # two layers


def test_finished_users_leave_the_batch_and_the_others_keep_their_masks():
    (model, tokenizer), rows = trained_model(), []
    inputs = inputs_for(tokenizer)
    state = model.encode(**inputs).last_hidden_state
    state[inputs["attention_mask"] == 0] = 9.0  # which no one may see

    def decode(state, mask):
        options = {"tokenizer": tokenizer, "num_return_profiles": 1, "expand_per_call": 4}
        outputs = BaseModelOutput(last_hidden_state=state)
        return model.generate_profiles(encoder_outputs=outputs, attention_mask=mask, **options)

    hook = model.text_model.decoder.block[0].register_forward_hook(lambda _, args, output: rows.append(len(args[0])))
    found = decode(state, inputs["attention_mask"])
    hook.remove()
    calls = sorted(prediction.decoder_calls for prediction in found)
    assert calls[0] < calls[-1]
    assert rows == [sum(number > call for number in calls) for call in range(calls[-1])]
    for user, length in zip(range(len(calls)), inputs["attention_mask"].sum(dim=1), strict=True):
        (alone,) = decode(state[user : user + 1, :length], None)
        assert_same(found[user], alone)


@pytest.mark.parametrize("device", ["cpu", "disk"])
def test_what_a_device_map_leaves_on_disk_changes_nothing(tmp_path, device):
    model, inputs = model_for(TOKENIZER, "several", 3.0), inputs_for(TOKENIZER) | random_photos()
    model.save_pretrained(tmp_path / "model")
    decoder = {"embed_tokens": device, "block.0": "disk", "block.1": device, "final_layer_norm": "disk"}
    device_map = {f"text_model.decoder.{part}": place for part, place in decoder.items()}
    others = ("vision_model", "visual_projection", "fusion", "text_model.shared", "text_model.encoder")
    device_map |= dict.fromkeys((*others, "text_model.lm_head"), device)
    placed = type(model).from_pretrained(tmp_path / "model", device_map=device_map, offload_folder=tmp_path / "disk")
    assert {weight.device.type for weight in placed.text_model.decoder.block[0].parameters()} == {"meta"}
    # What is read from a disk for each call is worth wide ones, as on a GPU: to the proof, the answers are the same.
    answers = [predictions(which, inputs, max_decoder_tokens=inf) for which in (placed, model)]
    for _, found, expected in zip(range(USERS), *answers, strict=True):
        assert found.exact and found.text == expected.text
        assert found.log_probability == pytest.approx(expected.log_probability, abs=1e-4)


def test_the_same_call_gives_the_same_predictions():
    model, inputs = model_for(TOKENIZER, "several"), inputs_for(TOKENIZER)
    assert predictions(model, inputs) == predictions(model, inputs)


def test_a_cpu_expands_few_prefixes_a_call_unless_told_otherwise():
    model, inputs = model_for(TOKENIZER, "several"), inputs_for(TOKENIZER)
    few, many = (
        predictions(model, inputs, expand_per_call=EXPAND_ON_CPU),
        predictions(model, inputs, expand_per_call=64),
    )
    assert predictions(model, inputs) == few
    assert many[0].decoder_calls < few[0].decoder_calls
    assert many[0].profile == few[0].profile


def test_a_gpu_expands_more_and_widens_once_there_is_a_profile():
    assert _expansions(torch.device("cuda", 1), None) == (EXPAND_ON_GPU, WIDER_WITH_A_PROFILE * EXPAND_ON_GPU)
    assert _expansions(torch.device("cuda"), 5) == (5, WIDER_WITH_A_PROFILE * 5)
    assert _expansions(torch.device("cpu"), None) == (EXPAND_ON_CPU, EXPAND_ON_CPU)
    assert EXPAND_ON_CPU < EXPAND_ON_GPU


def test_photo_weights_and_gate_are_told_on_request():
    model, inputs = model_for(TOKENIZER, "alike"), inputs_for(TOKENIZER, users=3)
    text_alone = predictions(model, inputs, output_fusion=True)
    assert [(found.image_weights, found.gate) for found in text_alone] == [([], None)] * 3
    inputs |= {"pixel_values": torch.randn(3, 2, 3, IMAGE_SIZE, IMAGE_SIZE)}
    inputs |= {"image_mask": torch.tensor([[True, True], [True, False], [False, False]])}
    unasked, asked = predictions(model, inputs), predictions(model, inputs, output_fusion=True)
    assert [(found.image_weights, found.gate) for found in unasked] == [(None, None)] * 3
    encoded = model.encode(**inputs, output_fusion=True)
    length = int(inputs["attention_mask"][1].sum())
    assert asked[1].image_weights == pytest.approx([1.0])
    assert asked[1].gate == pytest.approx(encoded.gate[1, :length].mean().item(), abs=1e-5)
    assert asked[0].image_weights == pytest.approx(encoded.image_attentions[0].mean(dim=0).tolist(), abs=1e-5)
    assert (asked[2].image_weights, asked[2].gate) == ([], None)
    again = predictions(model, {}, encoder_outputs=encoded, output_fusion=True, **masks(inputs))
    for found, before in zip(again, asked, strict=True):
        assert found.image_weights == pytest.approx(before.image_weights, abs=1e-6)
    # The masks may be left out: that of the text is in the encoder's output, a user without photos has no weights.
    without = predictions(model, {}, encoder_outputs=encoded, output_fusion=True)
    assert [found.gate for found in without] == pytest.approx([found.gate for found in asked], abs=1e-6)
    assert without[1].image_weights == pytest.approx([1.0, 0.0]) and without[2].image_weights == []
    gap = inputs | {"image_mask": torch.tensor([[False, True], [True, True], [True, True]])}
    assert predictions(model, gap, output_fusion=True)[0].image_weights == pytest.approx([1.0])
    concatenated = model_for(TOKENIZER, "alike", fusion="concat")
    assert [found.image_weights for found in predictions(concatenated, inputs, output_fusion=True)] == [None] * 3


def masks(inputs: dict) -> dict:
    return {name: inputs[name] for name in ("attention_mask", "image_mask")}


def test_another_schema_than_the_models_is_taken():
    model, inputs = model_for(TOKENIZER, "several"), inputs_for(TOKENIZER)
    for _, found in zip(range(USERS), predictions(model, inputs, schema=SCHEMAS["alike"]), strict=True):
        assert found.profile == SCHEMAS["alike"].parse(found.text)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_return_profiles": 0}, "num_return_profiles must be at least 1"),
        ({"max_decoder_tokens": 3}, "max_decoder_tokens must be at least"),
        ({"max_decoder_tokens": float("nan")}, "max_decoder_tokens must be at least"),
        ({"min_coverage": 2}, "min_coverage must be from 0 to 1, got 2"),
    ],
)
def test_a_number_out_of_range_is_named(options, message):
    with pytest.raises(ValueError, match=message):
        predictions(model_for(TOKENIZER), inputs_for(TOKENIZER), **options)


def test_a_call_without_input_is_refused():
    with pytest.raises(ValueError, match="input_ids or encoder_outputs"):
        model_for(TOKENIZER).generate_profiles(tokenizer=TOKENIZER)


def test_a_tokenizer_larger_than_the_models_vocabulary_is_refused():
    model = tiny_model(text={"vocab_size": 20}, profile_schema=SCHEMAS["alike"])
    with pytest.raises(ValueError, match="the model's vocabulary has 20"):
        predictions(model, {"input_ids": torch.tensor([[3, 4]])})
