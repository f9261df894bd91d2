"""A user of whom the model computes what is not finite is that user's problem, in each way to an answer."""

import json
import math

import pytest
import torch
from transformers import AutoModelForSeq2SeqLM, AutoProcessor

import predict
from mmprofile import profile_users
from mmprofile.fusion_mmprofile import TGA
from mmprofile.generation_mmprofile import ProfileGenerationMixin
from mmprofile.pipeline_mmprofile import UserProfilingPipeline
from mmprofile.tree_decoder_mmprofile import NotFiniteError
from tests.prediction.test_predict import rows_of, run
from tests.profile_models import USERS, inputs_for, model_for
from tests.served_model import served
from tests.tiny_folder import save_tiny_folder
from tests.tiny_models import random_photos
from tests.toy_schemas import unigram_tokenizer

TOKENIZER = unigram_tokenizer()
SENTENCE = "what the model computes of this user is not finite in torch.float32"
GOOD, BROKEN = {"reviews": ["The pizza was great"]}, {"reviews": ["never again"]}


def break_users(model, token: int):
    """The state of a text with this token is nan."""

    def broken(module, args, kwargs, output):
        output.last_hidden_state[(kwargs["input_ids"] == token).any(dim=1)] = math.nan
        return output

    model.text_model.encoder.register_forward_hook(broken, with_kwargs=True)
    return model


def broken_model(folder):
    """Its states of the text of BROKEN are nan, those of GOOD are not."""
    processor = AutoProcessor.from_pretrained(folder, trust_remote_code=True)
    model = AutoModelForSeq2SeqLM.from_pretrained(folder, trust_remote_code=True)
    broken, good = (set(processor.encode_text(user["reviews"])) for user in (BROKEN, GOOD))
    return break_users(model, min(broken - good)), processor


def same(found, other) -> bool:
    return found.text == other.text and found.log_probability == pytest.approx(other.log_probability, abs=1e-4)


@pytest.mark.parametrize("broken", [[0], [1], [0, 2]])
def test_the_error_names_the_users_and_has_the_others_answers(broken):
    model, inputs = model_for(TOKENIZER, "several"), inputs_for(TOKENIZER) | random_photos()
    expected = model.generate_profiles(**inputs, tokenizer=TOKENIZER, output_fusion=True)
    encoded = model.encode(**inputs, output_fusion=True)
    encoded.last_hidden_state[broken] = math.nan
    photos = {"image_mask": inputs["image_mask"], "output_fusion": True}
    with pytest.raises(NotFiniteError, match=rf"^users \[{broken[0]}.*: {SENTENCE}$") as caught:
        model.generate_profiles(encoder_outputs=encoded, tokenizer=TOKENIZER, **photos)
    assert caught.value.users == broken
    found = caught.value.predictions
    assert [user for user in range(USERS) if found[user] is None] == broken
    assert (whole := [user for user in range(USERS) if user not in broken])
    assert all(same(found[user], expected[user]) for user in whole)
    user = whole[0]
    assert found[user].image_weights == pytest.approx(expected[user].image_weights, abs=1e-5)


def test_a_view_that_is_not_finite_is_the_problem_of_its_user_alone():
    model, inputs, views = model_for(TOKENIZER, "several"), inputs_for(TOKENIZER, 0, 6), [2, 1, 3]
    expected = model.generate_profiles(**inputs, tokenizer=TOKENIZER, views=views)
    encoded = model.encode(**inputs)
    encoded.last_hidden_state[1] = math.nan
    mask = {"attention_mask": inputs["attention_mask"]}
    with pytest.raises(NotFiniteError, match=rf"^users \[0\].*: {SENTENCE}$") as caught:
        model.generate_profiles(encoder_outputs=encoded, tokenizer=TOKENIZER, views=views, **mask)
    none, *others = caught.value.predictions
    assert none is None and len(others) == 2
    assert all(map(same, others, expected[1:]))


def test_a_user_who_fails_late_is_left_out_as_well():
    """The second decoder call is the first to see what is not finite."""
    model, inputs, calls = model_for(TOKENIZER, "several"), inputs_for(TOKENIZER), []

    def broken(module, args, output):
        calls.append(len(output))
        if len(calls) == 2:
            output[0] = math.nan
        return output

    expected = model.generate_profiles(**inputs, tokenizer=TOKENIZER)
    model.text_model.lm_head.register_forward_hook(broken)
    with pytest.raises(NotFiniteError) as caught:
        model.generate_profiles(**inputs, tokenizer=TOKENIZER)
    assert caught.value.users == [0] and caught.value.predictions[0] is None
    assert all(same(*pair) for pair in zip(caught.value.predictions[1:], expected[1:], strict=True))


def test_sixteen_bits_are_told_what_holds_more():
    assert "bfloat16 or torch.float32" in str(NotFiniteError([0], torch.float16))
    assert "bfloat16" not in str(NotFiniteError([0], torch.float32))


def test_other_errors_of_a_search_stay_errors(monkeypatch):
    def refuse(self, **inputs):
        raise ValueError("something else")

    monkeypatch.setattr(ProfileGenerationMixin, "generate_profiles", refuse)
    with pytest.raises(ValueError, match="something else"):
        profile_users(model_for(TOKENIZER), TOKENIZER, inputs_for(TOKENIZER))


def test_the_pipeline_answers_the_others_and_refuses_a_single_one(tmp_path):
    save_tiny_folder(tmp_path)
    model, processor = broken_model(tmp_path)
    profiler = UserProfilingPipeline(model=model, processor=processor)
    first, second, third = profiler([GOOD, BROKEN, GOOD], batch_size=2)
    assert (second["error"], "profile" in second) == (SENTENCE, False)
    assert first["text"] == third["text"] == profiler(GOOD)["text"]
    with pytest.raises(ValueError, match=f"^{SENTENCE}$"):
        profiler(BROKEN)


def test_the_handler_answers_the_others_and_refuses_a_single_one(tmp_path):
    handler = served(tmp_path)
    handler.model, _ = broken_model(tmp_path)
    first, second = json.loads(json.dumps(handler({"inputs": [GOOD, BROKEN]}), allow_nan=False))
    assert second["error"] == SENTENCE and first["text"] == handler({"inputs": GOOD})["text"]
    with pytest.raises(ValueError, match=f"^inputs: {SENTENCE}$"):
        handler({"inputs": BROKEN})


def test_predict_notes_it_as_the_users_problem_and_goes_on(tmp_path, monkeypatch):
    save_tiny_folder(tmp_path / "model")
    monkeypatch.setattr(predict, "load_model", lambda *args, **kwargs: broken_model(tmp_path / "model")[0])
    users = [user | {"user_id": name} for name, user in zip("abc", (GOOD, BROKEN, GOOD), strict=True)]
    (tmp_path / "users.jsonl").write_text("\n".join(map(json.dumps, users)))
    results = run(tmp_path / "model", tmp_path / "users.jsonl", tmp_path / "out")
    assert (results["predicted"], results["not_predicted"]) == (2, 1)
    rows = rows_of(tmp_path / "out")
    assert [row["problems"] for row in rows] == [[], [SENTENCE], []]
    assert rows[1]["profile"] is None and rows[0]["text"] == rows[2]["text"] is not None


def test_sixteen_bits_hold_the_scores_of_large_queries():
    """Their plain products with the keys are 16 times as large as the scores, over 65,504."""
    attention = TGA(256).requires_grad_(False)
    for layer in (attention.query, attention.key, attention.value, attention.output):
        layer.weight.copy_(torch.eye(256))
    text, visual = torch.full((1, 2, 256), 20.0), torch.full((1, 3, 256), 20.0)
    visual[:, 1:] = torch.tensor([19.5, 10.0])[:, None]
    mask = torch.ones(1, 3, dtype=torch.bool)
    expected, weights = attention(text, visual, mask)
    found, half = attention.half()(text.half(), visual.half(), mask)
    assert (text @ visual.transpose(1, 2)).max() > torch.finfo(torch.float16).max
    assert half.isfinite().all() and torch.equal(half.float(), weights)
    assert torch.equal(found.float(), expected)
