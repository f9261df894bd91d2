"""BART that reads photos and text as one sequence: what holds for VLP-MABSA, and for AoM, which is made of it."""

import json

import pytest
import torch
from transformers import BartForConditionalGeneration, T5Config, T5ForConditionalGeneration, ViTConfig, ViTModel

from baselines.aom import AOM
from baselines.bart import BART, tiny_bart_config
from baselines.vlp_mabsa import VLP_MABSA
from mmprofile import ProfileSchema
from systems.presets import tiny_vision_config
from tests.baselines.photo_users import PHOTO, photo_model, photo_processor, text_alone, users

SYSTEMS = pytest.mark.parametrize("system", [VLP_MABSA, AOM], ids=lambda system: system.name)


@pytest.fixture(scope="module")
def processor():
    return photo_processor()


@pytest.fixture(scope="module")
def towers(tmp_path_factory, processor):
    """Folders of a BART, whose settings are for summaries as bart-base's, of a ViT and of a T5."""
    folder = tmp_path_factory.mktemp("towers")
    torch.manual_seed(5)  # no test begins so
    bart = BartForConditionalGeneration(tiny_bart_config(processor))
    bart.generation_config.update(forced_bos_token_id=0, no_repeat_ngram_size=3, num_beams=4)
    bart.save_pretrained(folder / "bart")
    config = json.loads((folder / "bart" / "config.json").read_text())
    (folder / "bart" / "config.json").write_text(json.dumps(config | {"no_repeat_ngram_size": 3, "num_beams": 4}))
    ViTModel(tiny_vision_config(PHOTO)).save_pretrained(folder / "vit")
    T5ForConditionalGeneration(T5Config(vocab_size=50, d_model=8, d_kv=4, d_ff=8, num_heads=2)).save_pretrained(
        folder / "t5"
    )
    return folder


@pytest.mark.parametrize("system", [BART, VLP_MABSA], ids=lambda system: system.name)
def test_texts_that_need_more_positions_than_bart_has_are_refused(system, processor):
    model = system.tiny(processor)
    with pytest.raises(ValueError, match="^max_text_tokens=2000 need as many positions, BART has max_position_emb"):
        model.prepare(photo_processor(max_text_tokens=2000))


def test_a_user_without_photos_has_the_losses_of_bart(processor):
    model = photo_model(VLP_MABSA, processor)
    inputs, targets = users(processor)
    bart = BART.tiny(processor).eval()
    bart.load_state_dict(model.text_model.state_dict())
    expected = bart.target_losses(text_alone(inputs), targets)
    torch.testing.assert_close(model.target_losses(text_alone(inputs), targets), expected, atol=0, rtol=1e-6)
    beside_photos = model.target_losses(inputs, targets)
    torch.testing.assert_close(beside_photos[1], expected[1], atol=0, rtol=1e-6)
    assert abs(beside_photos[0] - expected[0]) > 0.1


@SYSTEMS
def test_neither_the_order_of_photos_nor_padding_nor_other_users_change_a_loss(system, processor):
    model = photo_model(system, processor)
    inputs, targets = users(processor)
    expected = model.target_losses(inputs, targets)
    turned = inputs | {name: inputs[name].flip(1) for name in ("pixel_values", "image_mask")}
    torch.testing.assert_close(model.target_losses(turned, targets), expected, atol=1e-4, rtol=1e-6)
    alone, length = {name: value[:1] for name, value in inputs.items()}, int(inputs["attention_mask"][0].sum())
    alone |= {name: alone[name][:, :length] for name in ("input_ids", "attention_mask")}
    alone |= {name: alone[name][:, [0, 2]] for name in ("pixel_values", "image_mask")}
    assert length < inputs["input_ids"].shape[1]
    one = model.target_losses(alone, {"labels": targets["labels"][:1]})
    torch.testing.assert_close(one, expected[:1], atol=1e-4, rtol=1e-6)
    nobody = inputs | {"image_mask": torch.zeros(2, 3, dtype=torch.bool)}
    without = model.target_losses(text_alone(inputs), targets)
    torch.testing.assert_close(model.target_losses(nobody, targets), without, atol=1e-4, rtol=1e-6)
    assert abs(without[0] - expected[0]) > 0.005


@SYSTEMS
def test_the_vision_tower_runs_on_photos_alone(system, processor):
    model = photo_model(system, processor)
    seen = []
    model.vision_model.register_forward_pre_hook(lambda module, given: seen.append(len(given[0])))
    inputs, targets = users(processor)
    model.target_losses(inputs, targets)
    model.target_losses(text_alone(inputs), targets)
    assert seen == [2]


@SYSTEMS
def test_beams_within_the_schema_score_profiles_as_the_losses_do(system, processor):
    model = photo_model(system, processor)
    inputs, _ = users(processor)
    answers = model.profile_users(inputs, processor.tokenizer, num_return_profiles=3)
    for number in range(3):
        best = [[answer, *answer["runners_up"]][number] for answer in answers]
        targets = {"labels": processor.encode_targets([one["profile"] for one in best])}
        scores = torch.tensor([one["log_probability"] for one in best])
        torch.testing.assert_close(model.target_losses(inputs, targets), -scores, atol=1e-3, rtol=1e-5)
    with_photos, alone = answers[0], model.profile_users(text_alone(inputs), processor.tokenizer)[0]
    assert abs(with_photos["log_probability"] - alone["log_probability"]) > 0.005


@SYSTEMS
def test_what_is_encoded_once_serves_both_methods(system, processor):
    model = photo_model(system, processor)
    inputs, targets = users(processor)
    encoded = model.encode(**inputs)
    once = {"encoder_outputs": encoded, "attention_mask": encoded.attention_mask}
    assert torch.equal(model.target_losses(once, targets), model.target_losses(inputs, targets))
    written = model.write_profiles(inputs, processor, num_beams=3, constrained=True)
    assert model.write_profiles(once, processor, num_beams=3, constrained=True) == written
    assert written and all(None not in profile.values() for profile in written)


@SYSTEMS
def test_a_saved_model_answers_as_before(system, processor, tmp_path):
    model = photo_model(system, processor)
    inputs, targets = users(processor)
    model.save_pretrained(tmp_path)
    again = system.model_class.from_pretrained(tmp_path).eval()
    assert torch.equal(again.target_losses(inputs, targets), model.target_losses(inputs, targets))
    assert again.profile_users(inputs, processor.tokenizer) == model.profile_users(inputs, processor.tokenizer)
    assert (again.config.system, again.config.objectives) == (system.name, ["fusion"])
    assert ProfileSchema(again.config.profile_schema) == processor.profile_schema


@SYSTEMS
def test_every_parameter_learns_and_checkpointed_gradients_are_the_same(system, processor):
    model = photo_model(system, processor)
    inputs, targets = users(processor)
    model.target_losses(inputs, targets).sum().backward()
    plain = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    assert [name for name, gradient in plain.items() if not gradient.any()] == []
    calls = []
    model.text_model.model.encoder.layers[0].fc1.register_forward_pre_hook(lambda *_: calls.append(1))
    model.zero_grad()
    model.train()
    model.activation_checkpointing_enable()
    model.target_losses(inputs, targets).sum().backward()
    assert len(calls) == 2  # once more in the backward pass
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, plain[name], atol=1e-4, rtol=1e-4)


@SYSTEMS
def test_more_tokens_are_more_rows_of_the_one_matrix_of_embeddings_and_head(system, processor):
    model = photo_model(system, processor)
    inputs, targets = users(processor)
    size = len(processor.tokenizer) + 7
    model.resize_token_embeddings(size)
    embeddings = model.get_input_embeddings().weight
    assert len(embeddings) == size == model.config.get_text_config().vocab_size
    assert model.get_output_embeddings().weight is embeddings is model.text_model.model.encoder.embed_tokens.weight
    inputs["input_ids"][:, 1] = size - 1
    assert model.target_losses(inputs, targets).isfinite().all()


@SYSTEMS
def test_towers_of_folders_keep_their_weights_and_write_without_settings_for_summaries(system, processor, towers):
    model = system.pretrained(str(towers / "bart"), str(towers / "vit"))
    model.prepare(processor)
    for name, tower in (("text_model", BartForConditionalGeneration), ("vision_model", ViTModel)):
        options = {} if name == "text_model" else {"add_pooling_layer": False}
        saved = tower.from_pretrained(towers / {"text_model": "bart", "vision_model": "vit"}[name], **options)
        weights = getattr(model, name).state_dict()
        assert weights and all(torch.equal(value, saved.state_dict()[key]) for key, value in weights.items())
    settings = model.generation_config
    assert (settings.num_beams, settings.no_repeat_ngram_size, settings.forced_bos_token_id) == (None, None, None)
    model.config.profile_schema = processor.profile_schema.to_list()
    written = model.eval().write_profiles(users(processor)[0], processor, num_beams=2, constrained=True)
    assert written and all(None not in profile.values() for profile in written)


@SYSTEMS
def test_a_checkpoint_of_another_kind_or_without_weights_is_refused_by_name(system, towers, tmp_path):
    with pytest.raises(ValueError, match="t5' must be of the type 'bart', it is 't5'"):
        system.pretrained(str(towers / "t5"), str(towers / "vit"))
    with pytest.raises(ValueError, match="bart' must be of the type 'vit', it is 'bart'"):
        system.pretrained(str(towers / "bart"), str(towers / "bart"))
    shallow = ViTModel(tiny_vision_config(PHOTO, layers=1), add_pooling_layer=False)
    shallow.save_pretrained(tmp_path)
    config = ViTConfig.from_pretrained(tmp_path)
    config.num_hidden_layers = 2
    config.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"lacks 16 weights of ViTModel, e\.g\. "):
        system.pretrained(str(towers / "bart"), str(tmp_path))
