"""`handler.py` as the server of Inference Endpoints loads and calls it."""

import base64
import io
import json
import random
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from PIL import Image

from tests import ROOT
from tests.malformed_requests import photo
from tests.served_model import USER, served, user_with_photos
from tests.tiny_folder import SCHEMA


@pytest.fixture(scope="module")
def handler(tmp_path_factory):
    return served(tmp_path_factory.mktemp("hub"))


def close(answer: dict, other: dict) -> bool:
    return answer["profile"] == other["profile"] and answer["log_probability"] == pytest.approx(
        other["log_probability"], abs=1e-4
    )


def error_of(handler, request) -> str:
    with pytest.raises(ValueError) as error:
        handler(request)
    return str(error.value)


def test_an_answer_is_json_with_all_that_the_model_says(handler):
    answer = json.loads(json.dumps(handler({"inputs": user_with_photos(3)}), allow_nan=False))
    assert list(answer) == [
        *("profile", "text", "log_probability", "exact", "probabilities", "coverage"),
        *("runners_up", "image_weights", "gate", "views", "tokens_left_out", "problems"),
    ]
    assert SCHEMA.render(answer["profile"]) == answer["text"]
    assert list(answer["probabilities"]) == ["mood", "favorite_food"]
    assert list(answer["probabilities"]["mood"]) == ["Calm", "Loud", "Shy"]
    assert sum(answer["probabilities"]["favorite_food"].values()) == pytest.approx(2)
    assert answer["log_probability"] < 0 and answer["exact"] is True and 0 < answer["coverage"] <= 1
    assert [list(other) for other in answer["runners_up"]] == [["profile", "text", "log_probability"]] * 4
    assert len({answer["text"], *(other["text"] for other in answer["runners_up"])}) == 5
    assert len(answer["image_weights"]) == 3 and sum(answer["image_weights"]) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("form", ["bytes", "base64", "lines", "data URL", "PIL"])
def test_a_photo_may_be_sent_in_any_form(handler, form):
    content = photo(random.Random(1), "PNG")
    text = base64.b64encode(content).decode()
    forms = {
        "bytes": content,
        "base64": text,
        "lines": base64.encodebytes(content).decode(),
        "data URL": "data:image/png;base64," + text,
        "PIL": Image.open(io.BytesIO(content)),
    }
    answer, without = handler({"inputs": USER | {"images": [forms[form]]}}), handler({"inputs": USER})
    assert close(answer, handler({"inputs": USER | {"images": [content]}}))
    assert answer["image_weights"] == [pytest.approx(1)]
    assert not close(answer, without)


def test_an_image_as_the_body_is_a_user_with_one_photo(handler):
    content = photo(random.Random(1), "PNG")
    alone = handler({"inputs": {"images": [content]}})
    assert close(alone, handler({"inputs": Image.open(io.BytesIO(content))}))
    assert close(alone, handler({"inputs": content}))
    assert alone["image_weights"] == [pytest.approx(1)]


def test_a_text_is_a_user_with_one_review(handler):
    assert handler({"inputs": "great pizza"}) == handler({"inputs": {"reviews": ["great pizza"]}})


def test_a_user_without_a_review_is_read_as_a_masked_profile(handler):
    texts, pad = [], handler.processor.pad_users

    def note(rows):
        texts.extend(handler.processor.tokenizer.decode(row["input_ids"]) for row in rows)
        return pad(rows)

    handler.processor.pad_users = note
    handler({"inputs": {"captions": ["great pizza"]}})
    del handler.processor.pad_users
    assert texts == ["<extra_id_97> Mood:<extra_id_0> | Favorite Food:<extra_id_0><extra_id_98> great pizza</s>"]


def test_a_text_that_is_too_long_is_shortened_and_the_answer_says_so(handler):
    user = {"reviews": ["great pizza " * 300, "kind staff " * 300], "captions": ["a cake", "a plate"]}
    answer = handler({"inputs": user})
    assert answer["tokens_left_out"] > 0
    (problem,) = answer["problems"]
    assert problem.startswith("the text was shortened to max_text_tokens=") and "of the captions were read" in problem
    assert handler({"inputs": "great pizza"})["problems"] == []


def test_a_wanted_precision_leaves_open_what_is_not_sure_enough(handler, monkeypatch):
    request = {"inputs": USER, "parameters": {"min_precision": 0.9}}
    assert error_of(handler, request).startswith("min_precision=0.9 needs thresholds fitted on a development split")
    plain = handler({"inputs": USER})
    fit = {"precision_thresholds": {"mood": {"0.9": 0.0}}}
    monkeypatch.setattr(handler.model.config, "calibrations", {"product": {"1": fit}})
    answer = handler(request)
    assert answer.pop("decided") == {"mood": plain["profile"]["mood"], "favorite_food": None}
    assert close(answer, plain) and "decided" not in plain
    for wrong in (0, 1, "0.9", True):
        request["parameters"]["min_precision"] = wrong
        assert error_of(handler, request) == f"min_precision is a number above 0 and below 1, got {wrong!r}"


def test_a_profile_is_decided_as_asked(handler, monkeypatch):
    def answer(inputs: dict, **parameters) -> dict:
        return handler({"inputs": inputs, "parameters": parameters})

    users = [{"reviews": [f"cold soup {number}", "great pizza"], "captions": ["a cake"]} for number in range(12)]
    plain = [answer(user) for user in users]
    assert all(close(answer(user, decision="joint"), one) for user, one in zip(users, plain, strict=True))
    likely = [answer(user, decision="marginal") for user in users]
    for found, one in zip(likely, plain, strict=True):
        shares = found["probabilities"]
        assert found["profile"]["mood"] == max(shares["mood"], key=shares["mood"].get)
        least = sorted(shares["favorite_food"].values())[0]
        assert [value for value, share in shares["favorite_food"].items() if share > least] == sorted(
            found["profile"]["favorite_food"], key=list(shares["favorite_food"]).index
        )
        assert found["exact"] == (found["profile"] == one["profile"])
    request = {"inputs": USER, "parameters": {"decision": "weighted"}}
    assert error_of(handler, request).startswith("decision='weighted' needs weights fitted on a development split")
    fit = {"value_weights": {"mood": {"Shy": 1e9}}}
    monkeypatch.setattr(handler.model.config, "calibrations", {"product": {"1": fit}})
    assert handler(request)["profile"]["mood"] == "Shy"
    explained = answer(USER, decision="weighted", explain=True)
    assert explained["profile"]["mood"] == "Shy" and len(explained["review_effects"]) == 2
    for wrong in ("beam", "Joint", None, 1, True, ["joint"]):
        request["parameters"]["decision"] = wrong
        assert error_of(handler, request) == f"decision is one of joint, marginal, weighted, got {wrong!r}"


@pytest.mark.parametrize("nothing", ["", "\u200b", "</s>", " <extra_id_99> "])
def test_a_review_that_shows_nothing_is_nothing_to_read(handler, nothing):
    assert "there is nothing to read" in error_of(handler, {"inputs": {"reviews": [nothing], "captions": [nothing]}})


def test_many_users_get_the_answers_that_each_gets_alone(handler):
    users = [user_with_photos(), "loud music", USER, {"images": [photo(random.Random(1))]}]
    answers = handler({"inputs": users})
    assert [len(answer["image_weights"]) for answer in answers] == [2, 0, 0, 1]
    assert all(close(answer, handler({"inputs": user})) for answer, user in zip(answers, users, strict=True))


def test_what_is_left_out_counts_as_not_sent(handler):
    user = user_with_photos(2)
    whole = handler({"inputs": user})
    for switch, field in (("without_photos", "images"), ("without_captions", "captions")):
        answer = handler({"inputs": user, "parameters": {switch: True}})
        assert close(answer, handler({"inputs": user | {field: []}})) and not close(answer, whole)
    assert handler({"inputs": user, "parameters": {"without_photos": True}})["image_weights"] == [0.0, 0.0]
    nothing = {"inputs": {"images": user["images"]}, "parameters": {"without_photos": True}}
    assert error_of(handler, nothing).startswith("inputs: there is nothing to read")


def test_the_search_follows_its_parameters(handler):
    assert handler({"inputs": USER, "parameters": {"num_return_profiles": 2}})["runners_up"][1:] == []
    assert len(handler({"inputs": USER, "parameters": {"num_return_profiles": 7}})["runners_up"]) == 6
    assert handler({"inputs": USER, "parameters": {"num_return_profiles": 1, "min_coverage": 1}})["coverage"] == 1
    assert handler({"inputs": USER, "parameters": None}) == handler({"inputs": USER})


@pytest.mark.parametrize("paradigm, unused", [("unimodal", "images"), ("multimodal", "captions")])
def test_a_model_is_given_what_it_was_trained_to_see(tmp_path, paradigm, unused):
    handler, user = served(tmp_path, paradigm=paradigm), user_with_photos(2)
    assert close(handler({"inputs": user}), handler({"inputs": user | {unused: []}}))
    assert error_of(handler, {"inputs": {unused: user[unused]}}).startswith("inputs: there is nothing to read")
    wrong = {"inputs": user | {unused: [7]}}
    assert f"inputs.{unused}[0]: " in error_of(handler, wrong)


def test_without_the_objective_for_it_a_user_without_reviews_is_refused(tmp_path):
    handler = served(tmp_path, objectives=["fusion", "text"])
    message = error_of(handler, {"inputs": {"images": [photo(random.Random(1))], "captions": ["a cake"]}})
    assert message == "inputs: there is nothing to read; this model takes reviews with words"


def test_errors_say_where_and_why_in_a_line(handler):
    assert error_of(handler, {"inputs": [USER, USER | {"images": [photo(random.Random(1)), "http://a.b/c.jpg"]}]}) == (
        "inputs[1].images[1]: a photo is base64, no URL or path, got 16 characters that are not"
    )
    assert error_of(handler, {"inputs": USER, "parameters": {"beams": 3}}) == (
        "parameters: only num_return_profiles, min_coverage, decision, min_precision, without_photos,"
        " without_captions, views, explain are known, got ['beams']"
    )
    assert error_of(handler, {"inputs": {"reviews": ["word " * 30_000]}}) == (
        "inputs: reviews and captions have up to 100000 characters, got 150000"
    )
    assert error_of(handler, {"inputs": user_with_photos(5)}) == "inputs.images: a user has up to 4 photos, got 5"


def test_no_bytes_of_a_file_stand_in_an_error(handler):
    secret = b"root:x:0:0:root"
    for image in (
        secret,
        base64.b64encode(secret).decode(),
        b"\xff\xd8\xff" + secret,
        b"BM" + secret * 9,
        {1: secret},
    ):
        for request in ({"inputs": {"images": [image]}}, {"inputs": image}, {"inputs": {"reviews": [image]}}):
            message = error_of(handler, request) if not isinstance(image, str) or "images" in request["inputs"] else ""
            assert "root" not in message and base64.b64encode(secret).decode()[:12] not in message


def test_no_more_is_decoded_at_a_time_than_fits(handler):
    module, held, most = sys.modules[type(handler).__module__], [0], [0]
    budget, lock = module._Budget(100), threading.Lock()

    def decode(pixels: int):
        with budget.take(pixels):
            with lock:
                held[0] += pixels
                most[0] = max(most[0], held[0])
            time.sleep(0.002)
            with lock:
                held[0] -= pixels

    with ThreadPoolExecutor(16) as threads:
        list(threads.map(decode, [10, 30, 100, 60, 1] * 20))
    assert 60 < most[0] <= 100 and budget.free == 100
    large = Image.new("1", (5_000, 5_001))
    assert error_of(handler, {"inputs": {"images": [large]}}) == (
        "inputs.images[0]: the 1 image has 5000 x 5001 pixels; a photo has up to 25000000, a WebP a third less"
    )


def test_another_version_of_transformers_is_named_at_load(handler, tmp_path, monkeypatch):
    module = sys.modules[type(handler).__module__]
    monkeypatch.setattr("importlib.metadata.version", lambda package: "5.22.0")
    with pytest.raises(ImportError, match=r"transformers>=5.23,<6 is required .* but found transformers==5.22.0"):
        module.EndpointHandler(str(tmp_path))
    assert module.TRANSFORMERS in (ROOT / "requirements-inference.txt").read_text().splitlines()


def test_answers_leave_no_attention_to_cudnn(tmp_path, cudnn_attention):
    assert cudnn_attention()
    served(tmp_path)
    assert not cudnn_attention()
