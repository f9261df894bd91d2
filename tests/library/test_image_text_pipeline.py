"""transformers' own `image-text-to-text` pipeline, which the cards name, runs with a saved folder."""

import re
from functools import partial

import pytest
import yaml
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor, pipeline

from tests import ROOT

TASK = "image-text-to-text"
RED, GREEN = (Image.new("RGB", (8, 8), color) for color in ("red", "green"))
TEXTS = ["The pizza was great", "kind staff , never again"]


@pytest.fixture(scope="module")
def writer(folder):
    """The beginnings of what it writes, an untrained model writes 256 tokens."""
    return partial(pipeline(TASK, model=str(folder), trust_remote_code=True), max_new_tokens=24)


@pytest.fixture(scope="module")
def expected(folder):
    """What `generate` writes for a text and photos."""
    model = AutoModelForImageTextToText.from_pretrained(folder, trust_remote_code=True)
    processor = AutoProcessor.from_pretrained(folder, trust_remote_code=True)

    def written(text: str, *photos, max_new_tokens: int = 24) -> str:
        tokens = model.generate(**processor(reviews=[text], images=list(photos)), max_new_tokens=max_new_tokens)
        return processor.tokenizer.batch_decode(tokens, skip_special_tokens=True)[0]

    return written


def test_the_cards_name_the_pipeline_that_runs():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert yaml.safe_load(readme.split("---")[1])["pipeline_tag"] == TASK
    tags = re.findall(r'pipeline_tag="([^"]*)"', (ROOT / "training" / "model_card.py").read_text(encoding="utf-8"))
    assert tags == [TASK]


@pytest.mark.parametrize("form", ["text and images", "images first", "dict", "one of a stream", "list of photos"])
def test_a_text_with_a_photo_is_answered_as_by_generate(writer, expected, form, tmp_path):
    RED.save(tmp_path / "red.png")
    calls = {
        "text and images": lambda: writer(text=TEXTS[0], images=RED, return_full_text=False),
        "images first": lambda: writer(str(tmp_path / "red.png"), text=TEXTS[0], return_full_text=False),
        "dict": lambda: writer({"images": RED, "text": TEXTS[0]}, return_full_text=False),
        "one of a stream": lambda: list(
            writer(({"images": photo, "text": TEXTS[0]} for photo in (RED, GREEN)), return_full_text=False)
        )[0],
        "list of photos": lambda: writer(text=TEXTS[0], images=[RED], return_full_text=False),
    }
    (answer,) = calls[form]()
    assert answer == {"input_text": TEXTS[0], "generated_text": expected(TEXTS[0], RED)}
    assert answer["generated_text"] != expected(TEXTS[0])


def test_a_text_alone_and_several_photos_are_taken(writer, expected):
    (alone,) = writer.func(text=TEXTS[0], return_full_text=False)
    assert alone["generated_text"] == expected(TEXTS[0], max_new_tokens=256)
    (several,) = writer(text=TEXTS[0], images=[RED, GREEN], return_full_text=False)
    assert several["generated_text"] == expected(TEXTS[0], RED, GREEN)


def test_several_texts_are_several_users(writer, expected):
    answers = writer(text=TEXTS, images=[[RED], [GREEN]], return_full_text=False)
    assert [answer["generated_text"] for answer in answers] == [expected(TEXTS[0], RED), expected(TEXTS[1], GREEN)]


def test_without_a_task_the_profiles_pipeline_is_found(folder):
    assert type(pipeline(model=str(folder), trust_remote_code=True)).__name__ == "UserProfilingPipeline"


def test_text_is_another_name_of_reviews_for_the_processor(folder):
    processor = AutoProcessor.from_pretrained(folder, trust_remote_code=True)
    for text, images, reviews, photos in (
        (TEXTS[0], RED, [TEXTS[0]], [RED]),
        (TEXTS[0], [[RED, GREEN]], [TEXTS[0]], [RED, GREEN]),
        (TEXTS, [RED, None], [[TEXTS[0]], [TEXTS[1]]], [[RED], None]),
        (TEXTS, None, [[TEXTS[0]], [TEXTS[1]]], None),
    ):
        given, named = processor(text=text, images=images), processor(reviews=reviews, images=photos)
        assert given.keys() == named.keys()
        assert all((given[name] == named[name]).all() for name in named)
    with pytest.raises(ValueError, match="text stands in place of reviews"):
        processor(reviews=TEXTS, text=TEXTS)
    with pytest.raises(ValueError, match="text is a text, .* got int"):
        processor(text=3)
    with pytest.raises(ValueError, match="one entry for each of 2 users"):
        processor(text=TEXTS, images=RED)
