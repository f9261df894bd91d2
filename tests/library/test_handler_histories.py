"""`handler.py` on whole histories: views, reviews with photos of their own, and what each of them did."""

import json
import random
import sys

import pytest

from tests.library.test_handler import close, error_of
from tests.malformed_requests import base64_photo
from tests.served_model import served

TEXTS = ["great pizza", "cold soup", "the staff was kind", "loud music , never again"]
PHOTOS = [base64_photo(random.Random(number)) for number in range(4)]
OWN = [
    {"text": TEXTS[0], "images": PHOTOS[:1], "captions": ["a cake"]},
    TEXTS[1],
    {"text": TEXTS[2], "images": PHOTOS[1:3]},
    {"text": TEXTS[3], "images": None},
]


@pytest.fixture(scope="module")
def handler(tmp_path_factory):
    return served(tmp_path_factory.mktemp("hub"))


@pytest.fixture
def limits(handler, monkeypatch):
    """Sets bounds of the handler's file."""
    module = sys.modules[type(handler).__module__]
    return lambda **bounds: [monkeypatch.setattr(module, name, bound) for name, bound in bounds.items()]


@pytest.fixture(scope="module")
def profiler(handler):
    """The pipeline on the same model."""
    from mmprofile.pipeline_mmprofile import UserProfilingPipeline

    return UserProfilingPipeline(model=handler.model, processor=handler.processor)


def decoded(handler, user: dict) -> dict:
    """The user with photos as the pipeline takes them."""

    def opened(item):
        if not isinstance(item, dict):
            return item
        images = [handler.processor.load_image(read(image)) for image in item.get("images") or []]
        return item | {"images": images}

    read = sys.modules[type(handler).__module__].read_photo
    return opened(user) | {"reviews": [opened(review) for review in user["reviews"]]}


@pytest.mark.parametrize("user", [{"reviews": OWN}, {"reviews": TEXTS, "images": PHOTOS, "captions": ["a cake"]}])
def test_a_history_is_answered_as_the_pipeline_does(handler, profiler, user):
    answer, expected = handler({"inputs": user}), profiler(decoded(handler, user), max_calls=100)
    assert close(answer, expected)
    assert answer["image_weights"] == pytest.approx(expected["image_weights"], abs=1e-4)
    assert len(answer["image_weights"]) in (3, 4)
    assert answer["views"] == expected["views"] == 2
    newest = handler({"inputs": user, "parameters": {"views": 1}})
    assert newest["views"] == 1
    assert close(newest, profiler(decoded(handler, user), max_calls=100, views=1))
    assert not close(newest, answer)


def test_effects_are_those_of_the_pipeline(handler, profiler):
    from mmprofile import pipeline_mmprofile

    assert sys.modules[type(handler).__module__].MAX_EFFECTS == pipeline_mmprofile.MAX_EFFECTS
    user = {"reviews": OWN}
    answer = json.loads(json.dumps(handler({"inputs": user, "parameters": {"explain": True}}), allow_nan=False))
    expected = profiler(decoded(handler, user), max_calls=100, explain=True)
    assert [len(answer[name]) for name in ("review_effects", "photo_effects")] == [4, 3]
    for name in ("review_effects", "photo_effects"):
        found, others = ([effect["log_probability"] for effect in a[name]] for a in (answer, expected))
        assert found == pytest.approx(others, abs=1e-4) and any(found)
    assert close(answer, handler({"inputs": user}))
    assert "review_effects" not in handler({"inputs": user})


def test_a_photo_that_is_left_out_is_no_photo_and_its_caption_no_caption(handler):
    user = {"reviews": TEXTS[:1], "images": PHOTOS[:2], "captions": ["a cake", "a plate"]}
    answer = handler({"inputs": user, "parameters": {"explain": True}})
    without = handler({"inputs": user | {"images": PHOTOS[1:2], "captions": ["a plate"]}})
    effect = answer["photo_effects"][0]
    assert answer["review_effects"] == [{"error": "nothing is left to read without it"}]
    assert effect["changed"] == {
        key: value for key, value in without["profile"].items() if value != answer["profile"][key]
    }
    mood = answer["profile"]["mood"]
    assert effect["probabilities"]["mood"][mood] == pytest.approx(
        answer["probabilities"]["mood"][mood] - without["probabilities"]["mood"][mood], abs=1e-4
    )


def test_a_user_without_a_review_is_explained_too(handler):
    user = {"images": PHOTOS[:2]}
    answer = handler({"inputs": user, "parameters": {"explain": True}})
    assert answer["review_effects"] == [] and len(answer["photo_effects"]) == 2
    alone = handler({"inputs": {"images": PHOTOS[:1]}, "parameters": {"explain": True}})
    assert alone["photo_effects"] == [{"error": "nothing is left to read without it"}]


def test_without_words_photos_of_all_views_are_read_once(handler):
    blank = {"reviews": [{"text": " ", "images": [image]} for image in PHOTOS]}
    answer = handler({"inputs": blank})
    assert close(answer, handler({"inputs": {"images": PHOTOS}})) and len(answer["image_weights"]) == 4


def test_beyond_so_many_views_the_oldest_reviews_are_left_out_and_the_answer_says_so(handler, limits):
    limits(MAX_VIEWS=2)
    long = {"reviews": [f"cold soup {number}" for number in range(9)]}
    answer = handler({"inputs": long})
    assert answer["problems"] == ["the 3 oldest reviews were not read: a user has up to 2 views of 3"]
    assert close(answer, handler({"inputs": {"reviews": long["reviews"][:6]}}))
    assert handler({"inputs": long, "parameters": {"views": 2}})["problems"] == []  # as asked
    own = {"reviews": [{"text": text, "images": PHOTOS[:1]} for text in ["good", "bad", "so", *TEXTS]]}
    handler.processor.max_images = 7
    (problem,) = handler({"inputs": own})["problems"]
    handler.processor.max_images = 4
    assert problem == "the 3 oldest reviews were not read, with their photos: a user has up to 2 views of 3"


def test_photos_of_reviews_that_are_not_read_are_not_decoded(handler):
    broken = [*OWN[:3], {"text": TEXTS[3], "images": ["/9j/AAAA"]}]
    answer = handler({"inputs": {"reviews": broken}, "parameters": {"views": 1}})
    assert answer["image_weights"][3] == 0
    message = error_of(handler, {"inputs": {"reviews": broken}})
    assert message.startswith("inputs.reviews[3].images[0]: the image of 6 bytes is ")


def test_users_and_views_together_are_bounded(handler, limits):
    limits(MAX_VIEWS_TOGETHER=3, VIEWS_AT_A_TIME=2)
    users = [{"reviews": TEXTS}, "good"]
    answers = handler({"inputs": users})
    assert [close(a, handler({"inputs": user})) for a, user in zip(answers, users, strict=True)] == [True, True]
    assert error_of(handler, {"inputs": [*users, "good"]}) == (
        "inputs: the users' reviews are 4 views, a request has up to 3; send fewer users or reviews, or ask for fewer"
        " views"
    )
    assert len(handler({"inputs": [*users, "good"], "parameters": {"views": 1}})) == 3


def test_effects_are_bounded_and_of_a_single_user(handler, limits):
    limits(MAX_EFFECTS=5)
    user = {"reviews": OWN}
    answer = handler({"inputs": user, "parameters": {"explain": True}})
    assert [effect is None for effect in answer["review_effects"]] == [False, False, False, True]
    assert [effect is None for effect in answer["photo_effects"]] == [False, False, True]
    assert answer["problems"] == ["effects are told of 5 of 7 reviews and photos, the first of each"]
    assert len(handler({"inputs": [user], "parameters": {"explain": True}})[0]["review_effects"]) == 4
    assert error_of(handler, {"inputs": [user, user], "parameters": {"explain": True}}) == (
        "parameters: explain is for one user, inputs have 2"
    )


@pytest.mark.parametrize("name", ["view_reviews", "combination"])
def test_a_model_of_older_settings_reads_histories_too(tmp_path, handler, name):
    old = served(tmp_path)
    settings = json.loads((tmp_path / "config.json").read_text())
    assert settings.pop(name) in (3, "product")
    (tmp_path / "config.json").write_text(json.dumps(settings))
    old = type(old)(str(tmp_path))
    assert close(old({"inputs": {"reviews": TEXTS}}), handler({"inputs": {"reviews": TEXTS}}))


@pytest.mark.parametrize(
    ("reviews", "message"),
    [
        (
            [{"text": 7}],
            "reviews[0]: a review is a text, or an object with a text and perhaps images and captions, got 7",
        ),
        ([{"images": []}], "reviews[0]: a review is a text, or an object with a text"),
        (["good", {"text": "good", "photos": []}], "reviews[1]: a review is a text, or an object with a text"),
        ([{"text": "good"}, 7], "reviews[1]: a text is needed, got 7"),
        ([{"text": "good", "images": "AAAA"}], "reviews[0].images: a list is needed, got 'AAAA'"),
        ([{"text": "good", "captions": ["a cake"]}], "reviews[0]: there are 0 photos and 1 captions"),
        ([{"text": "good", "images": PHOTOS[:1], "captions": [7]}], "reviews[0].captions[0]: a text is needed, got 7"),
        ([{"text": "good", "images": PHOTOS[:1] * 5}], "reviews: a user has up to 4 photos, got 5"),
        ([{"text": "word " * 30_000}], "reviews and captions have up to 100000 characters, got 150000"),
        ([{"text": "good"}] * 201, "reviews: a user has up to 200, got 201"),
    ],
)
def test_a_review_of_another_form_is_refused_where_it_stands(handler, reviews, message):
    said = error_of(handler, {"inputs": {"reviews": reviews}})
    assert said.startswith("inputs") and message in said


def test_photos_are_the_users_or_the_reviews(handler):
    said = error_of(handler, {"inputs": {"reviews": OWN, "images": PHOTOS[:1]}})
    assert said == "inputs: images and captions are the user's or the reviews', not both"


@pytest.mark.parametrize("views", [0, 9, -1, 2.0, "2", None, True, [1], 10**40])
def test_views_are_a_small_number_or_all(handler, views):
    said = error_of(handler, {"inputs": "good", "parameters": {"views": views}})
    assert said.startswith('views are an integer from 1 to 8, or "all", got ')
