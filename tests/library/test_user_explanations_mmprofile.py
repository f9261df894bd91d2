"""What each review and photo did, against the same found one by one."""

import json
import math

import numpy as np
import pytest
import torch
from transformers import AutoModelForSeq2SeqLM

from mmprofile.pipeline_mmprofile import UserProfilingPipeline
from mmprofile.user_explanations_mmprofile import _in_parts
from tests.tiny_folder import save_tiny_folder

RED, GREEN, BLUE = (np.full((6, 6, 3), color, np.uint8) for color in ((200, 0, 0), (0, 200, 0), (0, 0, 200)))
REVIEWS = ["great pizza", "cold soup", "the staff was kind", "loud music , never again"]
OWN = [
    {"text": REVIEWS[0], "images": [RED], "captions": ["a cake"]},
    REVIEWS[1],
    {"text": REVIEWS[2], "images": [GREEN, BLUE]},
    REVIEWS[3],
]
# Of `OWN`, three reviews a view: without each review and each photo, the views as (reviews, photos, captions).
NEWEST, OLDER = (REVIEWS[:1], [RED], ["a cake"]), (REVIEWS[1:], [GREEN, BLUE], [])
WITHOUT_REVIEW = [
    [OLDER],
    [NEWEST, (REVIEWS[2:], [GREEN, BLUE], [])],
    [NEWEST, ([REVIEWS[1], REVIEWS[3]], [], [])],
    [NEWEST, (REVIEWS[1:3], [GREEN, BLUE], [])],
]
WITHOUT_PHOTO = [
    [(REVIEWS[:1], [], []), OLDER],
    [NEWEST, (REVIEWS[1:], [BLUE], [])],
    [NEWEST, (REVIEWS[1:], [GREEN], [])],
]


def with_model(profiler, **fields) -> UserProfilingPipeline:
    """On a model with another configuration, whose decoder heeds what was read."""
    model = AutoModelForSeq2SeqLM.from_pretrained(profiler.model.name_or_path, trust_remote_code=True, **fields)
    for block in model.text_model.decoder.block:
        block.layer[1].EncDecAttention.v.weight.data.mul_(4)
    return UserProfilingPipeline(model=model, processor=profiler.processor)


def globals_of_explain_user(model) -> dict:
    """Of the copy of the library's file that came with the model."""
    return type(model).explain_user.__globals__["explain_user"].__wrapped__.__globals__


def one_by_one(profiler, views, text: str) -> tuple[dict, float]:
    """What the model says to these views, and the log-probability of a profile under them."""
    processor, model = profiler.processor, profiler.model
    inputs = processor.pad_users([processor.encode_user(model.config.sees, *view) for view in views])
    (answer,) = model.profile_users(inputs, processor.tokenizer, views=[len(views)])
    labels, counts = processor.tokenizer([text], return_tensors="pt").input_ids, torch.tensor([len(views)])
    if model.config.combination == "states":
        return answer, -model.target_losses(inputs | {"views": counts}, {"labels": labels}).item()
    scores = -model.target_losses(inputs, {"labels": labels.expand(len(views), -1)})
    mixture = model.config.combination == "mixture"
    return answer, (scores.logsumexp(0) - math.log(len(views)) if mixture else scores.mean()).item()


@pytest.mark.parametrize("combination", ["product", "mixture", "states"])
def test_effects_are_those_of_searches_made_one_by_one(profiler, combination):
    asked = with_model(profiler, combination=combination)
    answer = asked({"reviews": OWN}, explain=True)
    whole, score = one_by_one(asked, [NEWEST, OLDER], answer["text"])
    assert answer["text"] == whole["text"] and answer["log_probability"] == pytest.approx(score, abs=1e-4)
    effects = answer["review_effects"] + answer["photo_effects"]
    assert len(effects) == 7
    for effect, views in zip(effects, WITHOUT_REVIEW + WITHOUT_PHOTO, strict=True):
        other, without = one_by_one(asked, views, answer["text"])
        assert effect["log_probability"] == pytest.approx(score - without, abs=1e-4)
        for key, values in effect["probabilities"].items():
            chosen = answer["profile"][key]
            assert list(values) == (chosen if isinstance(chosen, list) else [chosen])
            assert list(values.values()) == pytest.approx(
                [answer["probabilities"][key][value] - other["probabilities"][key][value] for value in values],
                abs=1e-4,
            )
        changed = {key: value for key, value in other["profile"].items() if value != answer["profile"][key]}
        assert effect["changed"] == changed
    assert any(effect["changed"] for effect in effects)
    falls = [max(effect["log_probability"], 0) for effect in answer["review_effects"]]
    assert [effect["share"] for effect in answer["review_effects"]] == pytest.approx([f / sum(falls) for f in falls])
    assert any(falls) and 0.0 in falls


def test_the_answer_itself_is_the_same_and_json_takes_it(profiler):
    user = {"reviews": REVIEWS, "images": [RED, GREEN, BLUE], "captions": ["a cake", None, "a plate"]}
    plain, answer = profiler(user), json.loads(json.dumps(profiler(user, explain=True)))
    assert set(answer) == set(plain) | {"review_effects", "photo_effects"}
    assert [answer[name] for name in ("text", "exact", "problems")] == [
        plain[name] for name in ("text", "exact", "problems")
    ]
    assert answer["image_weights"] == pytest.approx(plain["image_weights"], abs=1e-5)
    assert [len(answer[name]) for name in ("review_effects", "photo_effects")] == [4, 3]
    assert list(answer["review_effects"][0]) == ["log_probability", "share", "probabilities", "changed"]


def test_of_several_users_each_is_explained(profiler):
    users = [{"reviews": OWN}, {"reviews": REVIEWS[:1]}]
    answers = profiler(users, explain=True, batch_size=2)
    assert [len(answer["review_effects"]) for answer in answers] == [4, 1]
    assert answers[1]["review_effects"] == [{"error": "nothing is left to read without it"}]
    alone = profiler(users[0], explain=True)
    found, expected = (
        [effect["log_probability"] for effect in answer["review_effects"]] for answer in (answers[0], alone)
    )
    assert found == pytest.approx(expected, abs=1e-5)


def test_so_many_searches_are_made_at_most_and_the_answer_says_of_how_many(profiler):
    answer = profiler({"reviews": OWN}, explain=True, most_effects=4)
    told = [[effect is not None for effect in answer[name]] for name in ("review_effects", "photo_effects")]
    assert told == [[True, True, False, False], [True, True, False]]
    assert answer["problems"] == ["effects are told of 4 of 7 reviews and photos, the first of each"]
    many = {"reviews": [f"cold soup {number}" for number in range(26)], "images": [RED] * 4}
    answer = profiler(many, explain=True)
    assert [answer[name].count(None) for name in ("review_effects", "photo_effects")] == [6, 0]
    for wrong in (0, 2.5, True, "all"):
        with pytest.raises(ValueError, match="most_effects are a number of at least 1"):
            profiler(many, explain=True, most_effects=wrong)


def test_what_is_not_finite_without_a_review_is_an_error_in_its_place(profiler, monkeypatch):
    module = globals_of_explain_user(profiler.model)
    profile_users = module["profile_users"]

    def without_the_second(*args, **options):
        answers = profile_users(*args, **options)
        return [answers[0], {"error": "not finite"}, *answers[2:]]

    monkeypatch.setitem(module, "profile_users", without_the_second)
    first, *others = profiler({"reviews": OWN}, explain=True)["review_effects"]
    assert first == {"error": "not finite"} and sum(effect["share"] for effect in others) == pytest.approx(1)


def test_what_is_not_read_has_no_effect(profiler):
    answer = profiler({"reviews": OWN}, explain=True, views=1)
    effects = answer["review_effects"]
    assert [effect["log_probability"] != 0 for effect in effects] == [True, True, True, False]
    assert effects[3]["changed"] == {} and set(effects[3]["probabilities"]["mood"].values()) == {0.0}
    blind = with_model(profiler, paradigm="unimodal")({"reviews": REVIEWS, "images": [RED]}, explain=True)
    assert blind["photo_effects"][0]["log_probability"] == 0


def test_a_review_less_among_reviews_alike_changes_no_probability(profiler):
    """Each stands alone in its view, so that without it there are three views in place of four."""
    fit = {"temperatures": {"mood": 0.3, "favorite_food": 0.5}, "odds_powers": {"mood": 1.5}}
    asked = with_model(profiler, view_reviews=1, calibrations={"product": {"3": {}, "4": fit}})
    alike = {"reviews": REVIEWS[:1] * 4}
    answer = asked(alike, explain=True)
    assert answer["probabilities"] != asked(alike, views=3)["probabilities"]  # fewer views alone are told as less sure
    for effect in answer["review_effects"]:
        falls = [fall for of_values in effect["probabilities"].values() for fall in of_values.values()]
        assert len(falls) == 3 and falls == pytest.approx([0] * 3, abs=1e-5)


def test_many_rows_are_searched_part_by_part(profiler, monkeypatch):
    module = globals_of_explain_user(profiler.model)
    whole = profiler({"reviews": OWN}, explain=True)
    monkeypatch.setitem(module, "ROWS_AT_A_TIME", 3)
    parts = profiler({"reviews": OWN}, explain=True)
    for name in ("review_effects", "photo_effects"):
        found, expected = ([effect["log_probability"] for effect in answer[name]] for answer in (parts, whole))
        assert found == pytest.approx(expected, abs=1e-5)
    assert list(_in_parts([(0, 1), (0,), (2,) * 40, (1,), (3, 4)])) == [
        [(0, 1), (0,)],
        [(2,) * 40],
        [(1,), (3, 4)],
    ]


def test_a_model_that_concatenates_is_explained_too(tmp_path, profiler):
    save_tiny_folder(tmp_path / "concat", fusion="concat")
    model = AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "concat", trust_remote_code=True)
    answer = UserProfilingPipeline(model=model, processor=profiler.processor)({"reviews": OWN}, explain=True)
    assert answer["image_weights"] is None
    assert all(effect["log_probability"] != 0 for effect in answer["photo_effects"]) and answer["photo_effects"]


def test_explain_is_true_or_false(profiler):
    with pytest.raises(ValueError, match="explain is True or False, got 3"):
        profiler({"reviews": REVIEWS}, explain=3)
