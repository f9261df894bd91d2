"""The `user-profiling` pipeline: in a process that knows the saved folder alone, in batches, and as a stream."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoModelForSeq2SeqLM, AutoProcessor, pipeline

from mmprofile.configuration_mmprofile import Sees
from mmprofile.pipeline_mmprofile import UserProfilingPipeline
from tests.tiny_folder import SCHEMA, save_tiny_folder
from training.batching import EvaluationCollator, Example

STRANGER = """
import json, sys
from transformers import pipeline
profiler = pipeline("user-profiling", model=sys.argv[1], trust_remote_code=True)
inferred = pipeline(model=sys.argv[1], trust_remote_code=True)
user = {"reviews": ["kind staff"], "images": [sys.argv[2]]}
print(json.dumps({
    "answer": profiler(user),
    "class": type(inferred).__name__,
    "checkout": [name for name in sys.modules if name.split(".")[0] == "mmprofile"],
}))
"""
RED, GREEN = (np.full((6, 6, 3), color, np.uint8) for color in ((200, 0, 0), (0, 200, 0)))
USERS = [
    {"reviews": ["The pizza was great .", "Loud music"], "images": [RED, GREEN, RED // 2], "captions": ["a cake"]},
    {"reviews": ["cold soup , never again , the staff was loud and the pizza was cold"]},
    {"reviews": ["kind staff"], "images": [GREEN]},
]
PROFILE = {"mood": "Shy", "favorite_food": ["Pizza", "Soup"]}
ANSWER = {"profile", "text", "log_probability", "exact", "probabilities", "coverage", "runners_up", "image_weights"}


def with_model(profiler, **fields):
    """The pipeline on a model with another configuration."""
    model = AutoModelForSeq2SeqLM.from_pretrained(profiler.model.name_or_path, trust_remote_code=True, **fields)
    return UserProfilingPipeline(model=model, processor=profiler.processor)


def assert_same(answers, others):
    assert answers
    for answer, other in zip(answers, others, strict=True):
        assert answer["text"] == other["text"]
        for name in ("log_probability", "image_weights", "gate"):
            assert answer[name] == pytest.approx(other[name], abs=1e-4)


def in_fresh_process(folder, photo) -> dict:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment["HF_MODULES_CACHE"] = str(folder.parent / "modules")
    command = [sys.executable, "-c", STRANGER, str(folder), str(photo)]
    result = subprocess.run(command, env=environment, cwd=folder.parent, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


@pytest.mark.slow
def test_a_fresh_process_finds_the_pipeline_in_what_the_pipeline_saved(profiler, tmp_path):
    Image.fromarray(RED).save(tmp_path / "red.png")
    profiler.save_pretrained(tmp_path / "saved")
    found = in_fresh_process(tmp_path / "saved", tmp_path / "red.png")
    assert found["class"] == "UserProfilingPipeline"
    assert found["checkout"] == []
    assert_same([found["answer"]], [profiler({"reviews": ["kind staff"], "images": [RED]})])


def test_a_text_that_is_too_long_is_shortened_and_the_answer_says_so(profiler):
    short, long = profiler(
        [{"reviews": ["kind staff"]}, {"reviews": [f"kind staff {number}" for number in range(30)]}],
        max_text_tokens=20,
    )
    assert (short["tokens_left_out"], short["problems"]) == (0, [])
    assert long["tokens_left_out"] > 0 and "shortened to max_text_tokens=20" in long["problems"][0]


def test_an_answer_is_a_profile_with_probabilities_that_json_takes(profiler):
    answer = json.loads(json.dumps(profiler(USERS[0], min_coverage=1)))
    assert set(answer) == ANSWER | {"gate", "views", "tokens_left_out", "problems"}
    assert SCHEMA.render(answer["profile"]) == answer["text"]
    assert answer["exact"] is True and answer["coverage"] == 1
    assert sum(answer["probabilities"]["mood"].values()) == pytest.approx(1)
    assert sum(answer["probabilities"]["favorite_food"].values()) == pytest.approx(2)
    assert list(answer["probabilities"]["mood"]) == ["Calm", "Loud", "Shy"]
    second = answer["runners_up"][0]
    assert SCHEMA.render(second["profile"]) == second["text"] != answer["text"]
    assert second["log_probability"] <= answer["log_probability"] < 0


def test_many_users_are_answered_as_each_alone(profiler):
    alone = [profiler(user) for user in USERS]
    assert len({answer["log_probability"] for answer in alone}) == 3
    assert_same(profiler(USERS, batch_size=2), alone)
    assert_same(profiler(tuple(USERS), batch_size=3, num_workers=1), alone)
    assert_same(profiler((user for user in USERS), batch_size=2), alone)
    assert profiler([]) == []


def test_photo_weights_are_the_attention_averaged_over_the_text(profiler):
    answer = profiler(USERS, batch_size=3)[0]
    batch = profiler.processor(reviews=USERS[0]["reviews"], images=USERS[0]["images"], captions=["a cake"])
    with torch.no_grad():
        encoded = profiler.model.encode(**batch, output_fusion=True)
    assert answer["image_weights"] == pytest.approx(encoded.image_attentions[0].mean(dim=0).tolist(), abs=1e-5)
    assert sum(answer["image_weights"]) == pytest.approx(1)
    assert answer["gate"] == pytest.approx(encoded.gate.mean().item(), abs=1e-5)


def test_photos_that_a_model_does_not_look_at_have_no_weight(profiler):
    without = profiler(USERS[1])
    assert (without["image_weights"], without["gate"]) == ([], None)
    for trained in ({"paradigm": "unimodal"}, {"objectives": ["text"]}):
        blind = with_model(profiler, **trained)(USERS[0])
        assert (blind["image_weights"], blind["gate"]) == ([0.0, 0.0, 0.0], None)


def test_a_model_of_the_text_objective_alone_answers_as_if_there_were_reviews_alone(profiler):
    of_text = with_model(profiler, objectives=["text"])
    assert_same([of_text(USERS[0])], [profiler({"reviews": USERS[0]["reviews"]}) | {"image_weights": [0.0] * 3}])


def test_a_model_with_temperatures_and_thresholds_answers_by_them(profiler):
    fit = {"temperatures": {"mood": 2.0}, "precision_thresholds": {"mood": {"0.8": 0.0}}}
    by_fit = with_model(profiler, calibrations={"product": {"1": fit}})
    plain, answer = profiler(USERS), by_fit(USERS, min_precision=0.8)
    roots = [np.sqrt(list(one["probabilities"]["mood"].values())) for one in plain]
    shares = [list(one["probabilities"]["mood"].values()) for one in answer]
    assert np.array(shares) == pytest.approx(np.array([of_user / of_user.sum() for of_user in roots]))
    assert len(answer) == 3
    assert [one["decided"] for one in answer] == [{**one["profile"], "favorite_food": None} for one in plain]
    with pytest.raises(ValueError, match="needs thresholds fitted"):
        profiler(USERS[0], min_precision=0.8)


def test_a_model_that_concatenates_has_no_photo_weights(tmp_path):
    save_tiny_folder(tmp_path / "concat", fusion="concat")
    answers = pipeline("user-profiling", model=str(tmp_path / "concat"), trust_remote_code=True)(USERS, batch_size=3)
    assert [answer["image_weights"] for answer in answers] == [None, None, None]
    assert SCHEMA.parse(answers[0]["text"]) == answers[0]["profile"]


def test_parameters_reach_the_search_and_the_text(profiler):
    assert len(profiler(USERS[0], num_return_profiles=2)["runners_up"]) == 1
    assert profiler(USERS[0], max_calls=1)["exact"] is False
    short = profiler(USERS[1], max_text_tokens=4)
    assert short["log_probability"] != profiler(USERS[1])["log_probability"]
    model, processor = profiler.model, profiler.processor
    once = UserProfilingPipeline(model=model, processor=processor, max_text_tokens=4, num_return_profiles=1)
    assert once(USERS[1])["log_probability"] == pytest.approx(short["log_probability"], abs=1e-5)
    assert once(USERS[1])["runners_up"] == []


@pytest.mark.parametrize(
    ("user", "message"),
    [
        ({"images": [RED]}, r"reviews.*got \['images'\]"),
        ({"reviews": ["good"], "image": [RED]}, r"got \['image', 'reviews'\]"),
        ({"reviews": None}, "reviews are a list, got NoneType"),
        ({"reviews": "good"}, "reviews are a list, got str"),
        ({"reviews": [" ", ""]}, "a review with words"),
        ({"reviews": [3]}, "a review is a text, got int"),
        ({"reviews": ["good"], "images": RED}, "images are a list, got ndarray"),
        ({"reviews": ["good"], "images": ["https://example.com/a.jpg"]}, "no address is fetched"),
        ({"reviews": ["good"], "images": [RED] * 5}, "5 photos, more than max_images=4"),
        ("good", "a user is a dict"),
    ],
)
def test_what_is_no_user_is_refused_and_its_place_named(profiler, user, message):
    with pytest.raises(ValueError, match=message):
        profiler(user)
    with pytest.raises(ValueError, match=f"user 1: .*{message}"):
        profiler([USERS[0], user])


@pytest.mark.parametrize("sees", [Sees(i, c) for i in (True, False) for c in (True, False)])
def test_a_model_sees_what_evaluation_shows_it(profiler, sees):
    examples = [
        Example("u", user["reviews"], user.get("images", []), user.get("captions", []), PROFILE) for user in USERS
    ]
    expected = EvaluationCollator(profiler.processor, sees)(examples)
    del expected["labels"]
    encoded = [profiler.processor.encode_user(sees, **user) for user in USERS]
    batch = profiler.processor.pad_users(encoded)
    assert set(batch) == set(expected)
    assert all(torch.equal(batch[name], expected[name]) for name in batch)


def test_the_processor_is_loaded_through_the_auto_class(profiler, folder):
    assert type(profiler.processor) is type(AutoProcessor.from_pretrained(folder, trust_remote_code=True))
    assert profiler.tokenizer is profiler.processor.tokenizer
