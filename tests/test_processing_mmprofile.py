"""What `MMProfileProcessor` makes of texts and profiles, token by token."""

import pytest
import torch
from tokenizers.processors import TemplateProcessing

from mmprofile.presets import tiny_processor
from mmprofile.processing_mmprofile import MMProfileProcessor
from tests.toy_processor import MASK, PROFILE, SCHEMA, WORDS, toy_image_processor, toy_processor, toy_tokenizer


@pytest.fixture(scope="module")
def processor() -> MMProfileProcessor:
    return toy_processor()


def test_profile_reviews_and_captions_are_segments_in_this_order(processor):
    ids = processor.encode_text(["a b", "c"], ["d", None, " "], PROFILE)
    profile = [5, 6, 8, 9, 18, 21, 20]  # Profile: Size: large | Colours: red, green
    assert ids == profile + [3, 10, 11] + [3, 12] + [4, 13] + [1]


def test_masked_values_are_the_first_sentinel(processor):
    assert processor.mask_token == "<extra_id_0>"
    assert processor.encode_text(profile=PROFILE, masked=["colours"]) == [5, 6, 8, 9, 18, MASK, 1]
    assert processor.encode_text(profile=PROFILE, masked={"size", "colours"}) == [5, 6, MASK, 9, 18, MASK, 1]


def test_blanks_in_reviews_do_not_matter_and_half_an_emoji_is_an_unknown_word(processor):
    assert processor.encode_text([" a\n\n b\t\u00a0c \r"]) == processor.encode_text(["a b c"])
    assert processor.encode_text(["a \ud83d b"]) == [3, 10, 2, 11, 1]


def test_special_tokens_spelled_by_users_are_left_out_and_the_mask_stays_in_captions(processor):
    assert processor.encode_text(["a </s> b <pad> <extra_id_0> c"]) == [3, 10, 11, 12, 1]
    assert processor.encode_text(["a"], ["b <extra_id_0> </s> c"]) == [3, 10, 4, 11, MASK, 12, 1]


@pytest.mark.parametrize("text", ["x</s>", "<pad>", "<extra_id_0>", "<extra_id_<extra_id_7>>", "</S>", "</s></s> ok"])
def test_no_review_makes_a_special_token_of_a_t5_tokenizer(text):
    tokenizer = (processor := tiny_processor(["some words"], SCHEMA)).tokenizer
    *ids, end = processor.encode_text([f"good {text} food"])
    assert end == tokenizer.eos_token_id
    assert not set(ids) & set(tokenizer.all_special_ids)


@pytest.mark.parametrize(
    ("limit", "expected"),
    [
        (100, [3, 10, 3, 10, 11, 12, 13, 3, 11, 12, 13, 14, 15, 16, 4, 17, 1]),
        (17, [3, 10, 3, 10, 11, 12, 13, 3, 11, 12, 13, 14, 15, 16, 4, 17, 1]),
        (16, [3, 10, 3, 10, 11, 12, 13, 3, 11, 12, 13, 14, 15, 4, 17, 1]),
        (14, [3, 10, 3, 10, 11, 12, 3, 11, 12, 13, 4, 17, 1]),  # one token is over: too few for both
        (9, [3, 10, 3, 10, 3, 11, 4, 17, 1]),
        (3, [4, 17, 1]),
        (2, [4, 1]),
        (1, [1]),
    ],
)
def test_over_long_reviews_are_cut_to_one_length_and_short_ones_and_captions_stay_whole(processor, limit, expected):
    assert processor.encode_text(["a", "a b c d", "b c d e f g"], ["h"], max_text_tokens=limit) == expected


def test_captions_are_cut_evenly_when_they_alone_are_too_long_and_the_profile_never(processor):
    profile = [5, 6, 8, 9, 18, 21, 20]
    arguments = {"reviews": ["a"], "captions": ["b", "c d e", "c d e f"], "profile": PROFILE}
    assert processor.encode_text(**arguments, max_text_tokens=16) == profile + [4, 11, 4, 12, 13, 4, 12, 13, 1]
    assert processor.encode_text(**arguments, max_text_tokens=8) == profile + [1]
    with pytest.raises(ValueError, match="a profile of 8 tokens does not fit in max_text_tokens=7"):
        processor.encode_text(**arguments, max_text_tokens=7)


def test_the_processors_own_limit_holds_unless_a_call_gives_another():
    processor = toy_processor(max_text_tokens=3)
    assert processor(["a b c"]).input_ids.tolist() == [[3, 10, 1]]
    assert processor(["a b c"], max_text_tokens=4).input_ids.tolist() == [[3, 10, 11, 1]]


def test_labels_are_the_tokenizers_own_ids_of_the_profile_padded_with_minus_100(processor):
    small = {"size": "small", "colours": ["green", "red"]}
    assert processor.encode_targets([PROFILE, small]).tolist() == [
        [6, 8, 9, 18, 21, 20, 1],
        [6, 7, 9, 18, 21, 20, 1],
    ]
    assert processor.encode_targets([small])[0].tolist() == processor.tokenizer(SCHEMA.render(small)).input_ids


def test_generated_tokens_are_read_as_profiles(processor):
    ids = [[0, 6, 8, 9, 18, 21, 20, 1, 0], [6, 8, 9, 18, 21, 20, 1, -100, -100]]
    assert processor.decode_profiles(torch.tensor(ids), strict=True) == [PROFILE, PROFILE]
    assert processor.decode_profiles([[0, 6, 7, 9, 18, 2, 1], []]) == [
        {"size": "small", "colours": None},
        {"size": None, "colours": None},
    ]
    assert processor.batch_decode([[6, 8, 1, 0]], skip_special_tokens=True) == ["Size: large"]
    assert processor.decode([6, 8, 1], skip_special_tokens=True) == "Size: large"
    with pytest.raises(ValueError, match="not a profile of .* 'Size: small'"):
        processor.decode_profiles([[6, 7, 1]], strict=True)
    with pytest.raises(ValueError, match=r"shape \(batch, seq\), got \[6, 7\]"):
        processor.decode_profiles([6, 7])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"reviews": [None]}, "a review is a text, got NoneType: None"),
        ({"reviews": ["a", 7]}, "a review is a text, got int: 7"),
        ({"reviews": "a b"}, "a user's reviews are a list of texts, got str: 'a b'"),
        ({"captions": [3]}, "a caption is a text, got int: 3"),
        ({"captions": "a"}, "a user's captions are a list of texts, got str: 'a'"),
        ({"profile": {"size": "huge"}}, r"a profile has the attributes .* got \['size'\]"),
        ({"profile": PROFILE, "masked": ["age"]}, r"can be masked, got \['age'\]"),
        ({"masked": ["size"]}, r"masked=\['size'\] needs a profile, got None"),
        ({"reviews": ["a"], "max_text_tokens": 0}, "max_text_tokens is a positive integer, got 0"),
    ],
)
def test_what_is_no_text_or_profile_is_refused_with_what_was_given(processor, arguments, message):
    with pytest.raises(ValueError, match=message):
        processor.encode_text(**arguments)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tokenizer": toy_tokenizer(sentinels=())}, "needs T5's sentinel <extra_id_0>"),
        ({"tokenizer": toy_tokenizer(WORDS.replace(" large", ""))}, "'Size: large' of the schema back as 'Size:'"),
        ({"profile_schema": []}, r"at least one attribute and different keys, got \[\]"),
        ({"max_text_tokens": 0}, "max_text_tokens is a positive integer, got 0"),
        ({"max_images": 1.5}, "max_images is a positive integer, got 1.5"),
        ({"max_image_pixels": None}, "max_image_pixels is a positive integer, got None"),
    ],
)
def test_a_processor_that_could_not_work_is_refused(options, message):
    parts = {"image_processor": toy_image_processor(), "tokenizer": toy_tokenizer(), "profile_schema": SCHEMA}
    with pytest.raises(ValueError, match=message):
        MMProfileProcessor(**parts | options)


def test_a_tokenizer_that_ends_no_text_is_refused():
    tokenizer = toy_tokenizer()
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single="$A", special_tokens=[])
    with pytest.raises(ValueError, match="must have a padding token and append </s>"):
        MMProfileProcessor(toy_image_processor(), tokenizer, SCHEMA)
