"""Whole calls of `MMProfileProcessor`, for one user and for batches, and what it keeps when it is saved."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import BatchFeature, CLIPImageProcessorPil

from mmprofile.processing_mmprofile import MMProfileProcessor, join_padded
from tests.toy_processor import CAPTION_MARK as C
from tests.toy_processor import PROFILE, SCHEMA, toy_image_processor, toy_processor, toy_tokenizer
from tests.toy_processor import PROFILE_MARK as P
from tests.toy_processor import REVIEW_MARK as R

WHITE = Image.new("RGB", (2, 2), "white")
RED = Image.new("RGB", (2, 2), (255, 0, 0))
SMALL = {"size": "small", "colours": ["red", "green"]}


@pytest.fixture(scope="module")
def processor() -> MMProfileProcessor:
    return toy_processor()


def test_one_user_becomes_a_batch_of_one(processor):
    batch = processor(reviews=["a", "b c"], images=[RED, WHITE], captions=[None, "d"], targets=PROFILE)
    assert isinstance(batch, BatchFeature)
    assert batch.input_ids.tolist() == [[R, 10, R, 11, 12, C, 13, 1]]
    assert batch.attention_mask.tolist() == [[1] * 8]
    assert batch.labels.tolist() == [[6, 8, 9, 18, 21, 20, 1]]
    assert batch.image_mask.tolist() == [[True, True]]
    red, white = [[[1.0] * 2] * 2, [[-1.0] * 2] * 2, [[-1.0] * 2] * 2], [[[1.0] * 2] * 2] * 3
    assert batch.pixel_values.tolist() == [[red, white]]
    assert {name: batch[name].dtype for name in batch} == {
        "input_ids": torch.int64,
        "attention_mask": torch.int64,
        "pixel_values": torch.float32,
        "image_mask": torch.bool,
        "labels": torch.int64,
    }


def test_a_batch_pads_texts_labels_and_photos_of_users_who_have_fewer(processor):
    batch = processor(
        reviews=[["a"], ["a b c", "d"], ["e"]],
        images=[[WHITE], None, [WHITE, RED]],
        captions=[None, ["f"], []],
        targets=[PROFILE, SMALL, PROFILE],
    )
    assert batch.input_ids.tolist() == [
        [R, 10, 1, 0, 0, 0, 0, 0, 0],
        [R, 10, 11, 12, R, 13, C, 15, 1],
        [R, 14, 1, 0, 0, 0, 0, 0, 0],
    ]
    assert batch.attention_mask.tolist() == [[1, 1, 1, 0, 0, 0, 0, 0, 0], [1] * 9, [1, 1, 1, 0, 0, 0, 0, 0, 0]]
    assert batch.image_mask.tolist() == [[True, False], [False, False], [True, True]]
    assert batch.pixel_values.shape == (3, 2, 3, 2, 2)
    # The first channel's first pixel of each photo; zeros where there is none.
    assert batch.pixel_values[:, :, 0, 0, 0].tolist() == [[1, 0], [0, 0], [1, 1]]
    assert batch.pixel_values[:, :, 1, 0, 0].tolist() == [[1, 0], [0, 0], [1, -1]]
    assert batch.labels[:, 1].tolist() == [8, 7, 8]


def test_profiles_stand_in_for_reviews(processor):
    batch = processor(profiles=[PROFILE, SMALL], masked=[["size"], ()], captions=[["a"], None])
    assert batch.input_ids.tolist() == [[P, 6, 23, 9, 18, 21, 20, C, 10, 1], [P, 6, 7, 9, 18, 21, 20, 1, 0, 0]]
    assert processor(reviews=[], profiles=PROFILE, masked={"colours"}).input_ids.tolist() == [[P, 6, 8, 9, 18, 23, 1]]
    mixed = processor(reviews=[None, ["a"]], profiles=[PROFILE, None])
    assert mixed.input_ids.tolist() == [[P, 6, 8, 9, 18, 21, 20, 1], [R, 10, 1, 0, 0, 0, 0, 0]]


@pytest.mark.parametrize("images", [None, [], [[], None]])
def test_without_any_photo_there_are_no_photo_keys(processor, images):
    reviews = [["a"], ["b"]] if images else ["a"]
    assert set(processor(reviews=reviews, images=images)) == {"input_ids", "attention_mask"}
    assert processor.encode_images([[], []]) == {}


def test_tensors_come_as_numpy_where_asked_for(processor):
    batch = processor(reviews=["a"], images=[WHITE], return_tensors="np")
    assert all(isinstance(value, np.ndarray) for value in batch.values())
    assert batch["input_ids"].tolist() == [[R, 10, 1]]


def test_black_is_what_the_image_processor_makes_of_a_black_pixel():
    def black(**options):
        return MMProfileProcessor(toy_image_processor(**options), toy_tokenizer(), SCHEMA).black

    assert black().tolist() == [-1, -1, -1]
    assert black(do_normalize=False).tolist() == [0, 0, 0]
    assert black(image_mean=[0.5, 0.25, 0.0], image_std=[0.5, 0.5, 0.25]).tolist() == [-1, -0.5, 0]


def test_another_models_image_processor_serves_as_well():
    image_processor = CLIPImageProcessorPil(size={"shortest_edge": 8}, crop_size={"height": 4, "width": 4})
    processor = MMProfileProcessor(image_processor, toy_tokenizer(), SCHEMA)
    batch = processor(reviews=["a"], images=[Image.new("RGB", (9, 3)), Image.new("L", (3, 30))])
    assert batch.pixel_values.shape == (1, 2, 3, 4, 4)
    assert torch.equal(batch.pixel_values, processor.black[:, None, None].expand(1, 2, 3, 4, 4))


def test_names_of_model_inputs_are_those_that_a_call_returns(processor):
    assert list(processor(reviews=["a"], images=[WHITE])) == processor.model_input_names


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "reviews, text or profiles are needed, got none and profiles=None"),
        ({"reviews": []}, r"user 0 needs a review with words, or a profile, got \[\]"),
        ({"reviews": [" \n"]}, r"user 0 needs a review with words, or a profile, got \[' \\n'\]"),
        ({"reviews": [["a"], []]}, r"user 1 needs a review with words, or a profile, got \[\]"),
        ({"reviews": [], "profiles": []}, "a batch has at least one user"),
        ({"reviews": "a"}, "reviews are a list of texts, or of such lists, got str: 'a'"),
        ({"reviews": ["a", None]}, "a review is a text, got NoneType: None"),
        ({"reviews": [["a"], "b"]}, "a user's reviews are a list of texts, got str: 'b'"),
        ({"reviews": [["a"], ["b"]], "images": [WHITE]}, "images must be a list .* each of 2 users, got 1"),
        ({"reviews": [["a"], ["b"]], "captions": "no"}, "captions must be .* each of 2 users, got str"),
        ({"reviews": ["a"], "images": WHITE}, "user 0's photos must be a list, got Image"),
        ({"reviews": ["a"], "images": [WHITE] * 4}, "user 0 has 4 photos, more than max_images=3"),
        ({"reviews": ["a"], "images": [None]}, "there is no photo, but null"),
        ({"reviews": ["a"], "targets": {"size": "small"}}, r"a profile has the attributes .* got \['size'\]"),
        ({"reviews": ["a"], "targets": SMALL | {"size": "huge"}}, "Size takes 1 of .* got 'huge'"),
        ({"reviews": ["a"], "return_tensors": "tf"}, "tf is not a valid TensorType"),
    ],
)
def test_bad_input_is_refused_with_what_was_given(arguments, message):
    with pytest.raises(ValueError, match=message):
        toy_processor(max_images=3)(**arguments)


LOAD_AND_SAVE = """
import sys
from transformers import AutoProcessor
for old, new in (("first", "second"), ("second", "third")):
    processor = AutoProcessor.from_pretrained(old, trust_remote_code=True)
    print(type(processor).__name__, processor(reviews=["a b"]).input_ids.tolist())
    processor.save_pretrained(new)
assert "mmprofile" not in sys.modules
"""


def test_a_saved_processor_loads_without_the_checkout_and_saves_the_same_again(tmp_path):
    toy_processor(max_text_tokens=50, max_images=4, max_image_pixels=99).save_pretrained(tmp_path / "first")
    command = [sys.executable, "-c", LOAD_AND_SAVE]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert run.stdout == "MMProfileProcessor [[26, 10, 11, 1]]\n" * 2, run.stderr
    names = {path.name for path in (tmp_path / "first").iterdir()}
    assert names == {path.name for path in (tmp_path / "third").iterdir()}
    assert {"processing_mmprofile.py", "configuration_mmprofile.py", "images_mmprofile.py"} <= names
    for name in names - {"tokenizer_config.json"}:  # where transformers notes where it loaded the tokenizer from
        assert (tmp_path / "third" / name).read_bytes() == (tmp_path / "first" / name).read_bytes(), name
    loaded = MMProfileProcessor.from_pretrained(tmp_path / "third")
    assert loaded.profile_schema == SCHEMA
    assert (loaded.max_text_tokens, loaded.max_images, loaded.max_image_pixels) == (50, 4, 99)


def test_batches_are_joined_and_padded_on_the_right_up_to_the_longest():
    short, long = torch.tensor([[[1], [2]]]), torch.tensor([[[3], [4], [5]], [[6], [7], [8]]])
    assert join_padded([short, long], 9).tolist() == [[[1], [2], [9]], [[3], [4], [5]], [[6], [7], [8]]]
    assert join_padded([short[:, :0], short], length=3).tolist() == [[[0], [0], [0]], [[1], [2], [0]]]
    weights = long.float().requires_grad_()
    join_padded([weights, weights * 2], length=5).sum().backward()
    assert weights.grad.unique().tolist() == [3]
