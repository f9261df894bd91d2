"""Text models of other kinds than T5 v1.0: T5 v1.1, mT5, umT5."""

import json
import math

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSeq2SeqLM, MT5Config, T5Config, UMT5Config, ViTModel

from mmprofile import MMProfileForConditionalGeneration
from tests.profile_models import inputs_for, teacher_forced
from tests.tiny_models import D_MODEL, random_photos, tiny_vit_config
from tests.toy_schemas import SCHEMAS, all_profiles, unigram_tokenizer

SCHEMA = SCHEMAS["alike"]
SIZES = {"d_model": D_MODEL, "d_kv": 8, "num_heads": 4, "d_ff": 64, "num_layers": 2, "decoder_start_token_id": 0}
KINDS = {
    "t5": (T5Config, {"feed_forward_proj": "relu"}),
    "t5 v1.1": (T5Config, {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}),
    "mt5": (MT5Config, {}),
    "umt5": (UMT5Config, {"tie_word_embeddings": False}),
}


def folder_of(kind, folder) -> None:
    """A checkpoint with a head of its own, as all but T5 v1.0 have, and decoders that heed where a token stands."""
    config, fields = KINDS[kind]
    text = AutoModelForSeq2SeqLM.from_config(config(vocab_size=len(unigram_tokenizer()), **SIZES, **fields))
    for name, weight in text.named_parameters():
        if "relative_attention_bias" in name or "EncDecAttention.v" in name:
            torch.nn.init.normal_(weight, std=2.0)
    text.save_pretrained(folder)
    if kind != "t5":
        weights = load_file(folder / "model.safetensors")
        weights["lm_head.weight"] = torch.randn_like(weights["shared.weight"])
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
        written = json.loads((folder / "config.json").read_text())
        written.pop("scale_decoder_outputs", None)  # transformers 4 wrote none
        (folder / "config.json").write_text(json.dumps(written | {"tie_word_embeddings": False}))


@pytest.fixture(scope="module", params=KINDS)
def model_and_folder(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param.replace(" ", ""))
    torch.manual_seed(3)
    folder_of(request.param, folder / "text")
    ViTModel(tiny_vit_config(), add_pooling_layer=False).save_pretrained(folder / "vision")
    build = MMProfileForConditionalGeneration.from_text_vision_pretrained
    return build(folder / "text", folder / "vision", profile_schema=SCHEMA), folder


def test_without_photos_the_model_is_the_text_model_and_a_save_loads_the_same(model_and_folder, tmp_path):
    model, folder = model_and_folder
    inputs = inputs_for(unigram_tokenizer())
    own = AutoModelForSeq2SeqLM.from_pretrained(folder / "text").eval()
    model.save_pretrained(tmp_path)
    loaded = MMProfileForConditionalGeneration.from_pretrained(tmp_path)
    labels = torch.randint(3, len(unigram_tokenizer()), (3, 5))
    expected = own(**inputs, labels=labels)
    for ours in (model, loaded):
        assert type(ours.text_model) is type(own)
        output = ours(**inputs, labels=labels)
        assert torch.equal(output.logits, expected.logits) and torch.equal(output.loss, expected.loss)
    for beams in (1, 3):
        options = {"num_beams": beams, "max_new_tokens": 6, "do_sample": False}
        assert torch.equal(loaded.generate(**inputs, **options), own.generate(**inputs, **options))


@pytest.mark.parametrize("expand", [None, 2])
def test_generate_profiles_finds_the_scores_of_teacher_forcing(model_and_folder, expand):
    (model, _), tokenizer = model_and_folder, unigram_tokenizer()
    inputs = inputs_for(tokenizer) | random_photos()
    profiles = all_profiles(SCHEMA)
    scores = teacher_forced(model, tokenizer, inputs, [SCHEMA.render(profile) for profile in profiles])
    assert scores.std(dim=1).min() > 0.5
    limits = {"max_decoder_tokens": math.inf, "min_coverage": 1.0, "num_return_profiles": len(profiles)}
    found = model.generate_profiles(**inputs, tokenizer=tokenizer, expand_per_call=expand, **limits)
    assert len(found) == 3
    for user, prediction in enumerate(found):
        ranked = [(prediction.profile, prediction.log_probability), *prediction.runners_up]
        assert prediction.exact and len(ranked) > 5
        assert prediction.log_probability == pytest.approx(scores[user].max().item(), abs=1e-4)
        for profile, score in ranked:
            assert score == pytest.approx(scores[user, profiles.index(profile)].item(), abs=1e-4)


def test_all_weights_that_a_text_model_uses_are_trained(model_and_folder):
    model, _ = model_and_folder
    inputs = inputs_for(unigram_tokenizer()) | random_photos()
    model(**inputs, labels=torch.randint(3, 30, (3, 5))).loss.backward()
    untrained = [name for name, weight in model.text_model.named_parameters() if weight.grad is None]
    model.zero_grad()
    assert untrained == []
