"""A call of `MMProfileProcessor` after transformers' conventions: its order, its options and where they come from."""

import logging

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import ProcessorMixin
from transformers.processing_utils import ProcessingKwargs

from mmprofile.processing_mmprofile import MMProfileProcessor
from tests.toy_processor import PROFILE, SCHEMA, toy_image_processor, toy_processor, toy_tokenizer
from tests.toy_processor import REVIEW_MARK as R

WHITE = Image.new("RGB", (4, 4), "white")


@pytest.fixture(scope="module")
def processor() -> MMProfileProcessor:
    return toy_processor()


def with_tokenizer(**options) -> MMProfileProcessor:
    return MMProfileProcessor(toy_image_processor(), toy_tokenizer(**options), SCHEMA)


def test_photos_and_text_come_first_as_in_any_processor(processor):
    given = processor([WHITE], "a b")
    assert given.input_ids.tolist() == [[R, 10, 11, 1]]
    assert given.image_mask.tolist() == [[True]]
    assert MMProfileProcessor.valid_processor_kwargs is ProcessorMixin.valid_processor_kwargs is ProcessingKwargs
    with pytest.raises(ValueError, match="reviews, text or profiles are needed"):
        processor(["a review in the place of photos"])


@pytest.mark.parametrize(
    "options",
    [
        {"return_tensors": "np"},
        {"text_kwargs": {"return_tensors": "np"}},
        {"common_kwargs": {"return_tensors": "np"}},
        {"text_kwargs": {}, "images_kwargs": {}, "return_tensors": "np"},
    ],
)
def test_tensors_are_of_the_kind_asked_for_wherever_a_call_says_so(processor, options):
    batch = processor([WHITE], "a", targets=PROFILE, **options)
    assert {type(batch[name]) for name in batch} == {np.ndarray}
    assert len(batch) == 5
    assert type(processor(text="a").input_ids) is torch.Tensor


@pytest.mark.parametrize(
    ("options", "ids"),
    [
        ({}, [[R, 10, 11, 12, 1], [R, 13, 1, 0, 0]]),
        ({"padding": "longest"}, [[R, 10, 11, 12, 1], [R, 13, 1, 0, 0]]),
        ({"max_length": 4}, [[R, 10, 11, 1], [R, 13, 1, 0]]),
        ({"text_kwargs": {"max_length": 4, "truncation": True}}, [[R, 10, 11, 1], [R, 13, 1, 0]]),
        ({"padding": "max_length"}, [[R, 10, 11, 12, 1, 0, 0], [R, 13, 1, 0, 0, 0, 0]]),
        ({"padding": "max_length", "max_length": 6}, [[R, 10, 11, 12, 1, 0], [R, 13, 1, 0, 0, 0]]),
        ({"text_kwargs": {"padding": "max_length", "max_length": 3}}, [[R, 10, 1], [R, 13, 1]]),
        ({"pad_to_multiple_of": 3}, [[R, 10, 11, 12, 1, 0], [R, 13, 1, 0, 0, 0]]),
        ({"padding": False, "max_length": 3}, [[R, 10, 1], [R, 13, 1]]),
    ],
)
def test_texts_are_shortened_and_padded_as_a_call_asks(options, ids):
    batch = toy_processor(max_text_tokens=7)(text=["a b c", "d"], **options)
    assert batch.input_ids.tolist() == ids
    assert batch.attention_mask.tolist() == [[int(token != 0) for token in row] for row in ids]


def test_the_tokenizers_own_padding_holds_unless_a_call_gives_another_and_is_saved(tmp_path):
    with_tokenizer(padding="max_length", max_length=6).save_pretrained(tmp_path)
    loaded = MMProfileProcessor.from_pretrained(tmp_path)
    assert loaded(text="a").input_ids.tolist() == [[R, 10, 1, 0, 0, 0]]
    assert loaded(text="a", padding=True).input_ids.tolist() == [[R, 10, 1]]
    assert loaded(text="a", max_length=4).input_ids.tolist() == [[R, 10, 1, 0]]
    # What a text may have is the processor's to say.
    assert loaded(text="a b c d e f g").input_ids.tolist() == [[R, 10, 11, 12, 13, 14, 15, 16, 1]]
    assert with_tokenizer(pad_to_multiple_of=4)(text="a").input_ids.tolist() == [[R, 10, 1, 0]]


def test_the_image_processors_options_hold_for_one_call(processor):
    for options in ({"do_normalize": False}, {"images_kwargs": {"do_normalize": False}}):
        assert processor([WHITE, Image.new("RGB", (4, 4))], "a", **options).pixel_values.unique().tolist() == [0, 1]
    assert processor(WHITE, "a", size={"height": 3, "width": 3}).pixel_values.shape == (1, 1, 3, 3, 3)
    assert processor(WHITE, "a", do_resize=False).pixel_values.shape == (1, 1, 3, 4, 4)
    assert processor([WHITE, Image.new("RGB", (4, 4))], "a").pixel_values.unique().tolist() == [-1, 1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"padding": False}, "texts of 3 to 4 tokens need padding=True"),
        ({"padding": "right"}, "padding is True, 'longest', .* got 'right'"),
        ({"max_length": 0}, "max_length is a positive integer, got 0"),
        ({"pad_to_multiple_of": 1.5}, "pad_to_multiple_of is a positive integer, got 1.5"),
        ({"padding_side": "left"}, "padding_side must be 'right' here, got 'left'"),
        ({"truncation": False}, "truncation must be True or 'longest_first' here, got False"),
        ({"text_kwargs": {"truncation": "only_first"}}, "truncation must be True .* got 'only_first'"),
        ({"add_special_tokens": False}, "add_special_tokens must be True here, got False"),
        (
            {"text_kwargs": {"return_overflowing_tokens": True}},
            "return_overflowing_tokens must be False here, got True",
        ),
        ({"common_kwargs": {"stride": 2}}, "stride must be False here, got 2"),
        ({"data_format": "channels_last"}, "data_format must be 'channels_first' here, got 'channels_last'"),
        ({"return_tensors": "tf"}, "tf is not a valid TensorType"),
        ({"do_resize": "no"}, "do_resize"),
        ({"do_resize": False}, r"all photos of one size, got \[\(2, 5\), \(4, 4\)\]"),
        ({"padding": True, "text_kwargs": {"padding": True}}, "padding was passed two times"),
        ({"text_kwargs": None}, "text_kwargs are options by name, got None"),
        ({"common_kwargs": 3}, "common_kwargs are options by name, got 3"),
        ({"images_kwargs": {"return_tensors": "np"}}, "return_tensors is of a call as a whole"),
    ],
)
def test_an_option_that_contradicts_the_model_is_refused_with_what_was_given(processor, options, message):
    with pytest.raises(ValueError, match=message):
        processor([WHITE, Image.new("RGB", (5, 2))], ["a", "b c"], **options)


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({"caption": ["a"]}, "caption"),
        ({"max_text_tokens": 9, "fps": 3}, "fps, max_text_tokens"),
        ({"text_kwargs": {"do_resize": True}}, "do_resize"),
        ({"images_kwargs": {"padding": True}}, "padding"),
        ({"common_kwargs": {"colour": 1}}, "colour"),
        ({"videos_kwargs": {}}, "videos_kwargs"),
    ],
)
def test_an_option_that_nothing_reads_is_refused_by_name(processor, options, names):
    with pytest.raises(TypeError, match=f"unexpected keyword arguments: {names}$"):
        processor(text="a", **options)


def test_what_is_so_in_any_case_may_be_said(processor, caplog):
    said = {"truncation": True, "padding_side": "right", "add_special_tokens": True, "return_attention_mask": True}
    with caplog.at_level(logging.WARNING, "transformers"):
        given = processor(WHITE, "a", **said, return_token_type_ids=False, stride=None, data_format="channels_first")
    assert given.input_ids.tolist() == processor(WHITE, "a").input_ids.tolist() == [[R, 10, 1]]
    assert caplog.records == []
