"""What `MMProfileProcessor` makes of texts and profiles, token by token."""

import json

import pytest
import torch
from tokenizers.processors import TemplateProcessing

from mmprofile.processing_mmprofile import MMProfileProcessor
from mmprofile.sections_mmprofile import share_tokens
from systems.presets import tiny_processor
from tests.toy_processor import (
    CAPTION_MARK,
    MASK,
    PROFILE,
    PROFILE_MARK,
    REVIEW_MARK,
    SCHEMA,
    SENTINELS,
    WORDS,
    toy_image_processor,
    toy_processor,
    toy_tokenizer,
)

R, C, P = REVIEW_MARK, CAPTION_MARK, PROFILE_MARK


@pytest.fixture(scope="module")
def processor() -> MMProfileProcessor:
    return toy_processor()


def test_profile_reviews_and_captions_are_segments_in_this_order(processor):
    ids = processor.encode_text(["a b", "c"], ["d", None, " "], PROFILE)
    profile = [P, 6, 8, 9, 18, 21, 20]  # Profile: Size: large | Colours: red, green
    assert ids == profile + [R, 10, 11] + [R, 12] + [C, 13] + [1]


def test_masked_values_are_the_first_sentinel(processor):
    assert processor.mask_token == "<extra_id_0>"
    assert processor.encode_text(profile=PROFILE, masked=["colours"]) == [P, 6, 8, 9, 18, MASK, 1]
    assert processor.encode_text(profile=PROFILE, masked={"size", "colours"}) == [P, 6, MASK, 9, 18, MASK, 1]


def test_blanks_in_reviews_do_not_matter_and_half_an_emoji_is_an_unknown_word(processor):
    assert processor.encode_text([" a\n\n b\t\u00a0c \r"]) == processor.encode_text(["a b c"])
    assert processor.encode_text(["a \ud83d b"]) == [R, 10, 2, 11, 1]


def test_special_tokens_spelled_by_users_are_left_out_and_the_mask_stays_in_masked_captions(processor):
    assert processor.encode_text(["a </s> b <pad> <extra_id_0> c"]) == [R, 10, 11, 12, 1]
    assert processor.encode_text(["a"], ["b <extra_id_0> </s> c"]) == [R, 10, C, 11, 12, 1]
    masked = processor.encode_text(["a"], ["b <extra_id_0> </s> c", "<extra_id_0>"], keep_masks=True)
    assert masked == [R, 10, C, 11, MASK, 12, C, MASK, 1]


@pytest.mark.parametrize("text", ["Photo: b", "Review: b", "Profile: Size: large | Colours: red, green", "a Photo: b"])
@pytest.mark.parametrize("spelled", ["", "<extra_id_98> ", "<extra_id_97>", "<extra_id_99> "])
def test_no_review_or_caption_can_spell_the_mark_of_a_section(processor, text, spelled):
    marks = {R, C, P}
    ids = processor.encode_text([spelled + text], [text + " " + spelled])
    assert [token for token in ids if token in marks] == [R, C]
    assert processor.encode_text(["a Photo: b"]) != processor.encode_text(["a"], ["b"])


def test_settings_that_name_no_marks_keep_the_words_that_their_model_was_trained_with(processor, tmp_path):
    processor.save_pretrained(tmp_path)
    assert MMProfileProcessor.from_pretrained(tmp_path).encode_text(["a"], ["b"]) == [R, 10, C, 11, 1]
    settings = json.loads((tmp_path / "processor_config.json").read_text())
    assert settings.pop("section_marks") == "sentinels"
    (tmp_path / "processor_config.json").write_text(json.dumps(settings))
    old = MMProfileProcessor.from_pretrained(tmp_path)
    assert old.encode_text(["a"], ["b"], PROFILE) == [
        5,
        6,
        8,
        9,
        18,
        21,
        20,
        3,
        10,
        4,
        11,
        1,
    ]
    old.save_pretrained(tmp_path / "again")
    assert MMProfileProcessor.from_pretrained(tmp_path / "again").section_marks == "words"


@pytest.mark.parametrize(
    "nothing",
    ["", " \n", "</s>", "</s> <pad>", "\u200b", "\u2060\ufeff", "\u3164", "\u0301", "\x00", "\uff1c/s\uff1e"],
)
def test_a_text_that_shows_nothing_is_none(processor, nothing):
    assert not processor.has_words([nothing, None])
    assert processor.has_words([nothing + "a"])
    assert processor.encode_text([nothing, "a"], [nothing]) == [R, 10, 1]
    with pytest.raises(ValueError, match="user 0 needs a review with words, or a profile"):
        processor(reviews=[nothing])


@pytest.mark.parametrize("text", ["x</s>", "<pad>", "<extra_id_0>", "<extra_id_<extra_id_7>>", "</S>", "</s></s> ok"])
def test_no_review_makes_a_special_token_of_a_t5_tokenizer(text):
    tokenizer = (processor := tiny_processor(["some words"], SCHEMA)).tokenizer
    *ids, end = processor.encode_text([f"good {text} food"])
    assert end == tokenizer.eos_token_id
    assert tokenizer.convert_ids_to_tokens(ids[0]) == "<extra_id_99>"
    assert not set(ids[1:]) & set(tokenizer.all_special_ids)


def test_a_special_token_that_is_added_later_is_left_out_of_texts_too():
    tokenizer = (processor := tiny_processor(["some words"], SCHEMA)).tokenizer
    plain = processor.encode_text(["good food"])
    assert processor.encode_text(["good <end> food"]) != plain and processor.has_words(["<end>"])
    tokenizer.add_tokens(["<end>"], special_tokens=True)
    assert tokenizer.convert_tokens_to_ids("<end>") not in processor.encode_text(["good <end> food"], ["<end>"])
    assert processor.encode_text(["good food", "<end>"]) == plain and not processor.has_words(["<end>"])


@pytest.mark.parametrize(
    ("limit", "expected"),
    [
        (100, [R, 10, R, 10, 11, 12, 13, R, 11, 12, 13, 14, 15, 16, C, 17, 1]),
        (17, [R, 10, R, 10, 11, 12, 13, R, 11, 12, 13, 14, 15, 16, C, 17, 1]),
        (16, [R, 10, R, 10, 11, 12, 13, R, 11, 12, 13, 14, 15, C, 17, 1]),
        (14, [R, 10, R, 10, 11, 12, 13, R, 11, 12, 13, C, 17, 1]),  # no text is cut short for another
        (9, [R, 10, R, 10, 11, 12, C, 17, 1]),
        (6, [R, 10, R, 10, 11, 1]),  # a mark alone is none
        (2, [1]),
        (1, [1]),
    ],
)
def test_over_long_reviews_are_cut_to_one_length_and_short_ones_and_captions_stay_whole(processor, limit, expected):
    assert processor.encode_text(["a", "a b c d", "b c d e f g"], ["h"], max_text_tokens=limit) == expected


def tokens(*ids: int, times: int = 1) -> list[list[int]]:
    return [list(ids) for _ in range(times)]


def test_captions_have_a_quarter_of_the_budget_and_what_the_reviews_leave():
    long, short = tokens(*range(100), times=3), tokens(*range(20), times=3)

    def kept(reviews, captions, budget):
        return [[len(segment) for segment in kind] for kind in share_tokens(reviews, captions, budget)]

    assert kept(long, short, 360) == [[100] * 3, [20] * 3]
    assert kept(long, short, 270) == [[70] * 3, [20] * 3]  # these captions need less than a quarter
    assert kept(long, long, 400) == [[100] * 3, [33] * 3]
    assert kept(long * 5, short * 5, 400) == [[64] * 4 + [44], [8] * 12 + [4]]
    assert kept(short, long * 5, 200) == [[20] * 3, [9] * 15]  # these reviews need less than three quarters
    assert kept(short, long * 5, 80) == [[20] * 3, [8] * 2 + [4]]
    assert kept(tokens(1, 2, times=300), [], 40) == [[2] * 20, []]


def test_a_text_that_is_said_again_counts_once_and_masked_captions_as_often_as_they_are(processor):
    once = processor.encode_text(["a b", "c"], ["d", "e"])
    assert processor.encode_text(["a b", "c", " a  b", "c"], ["d", "e", "d"]) == once
    masked = processor.encode_text([], ["<extra_id_0>", "<extra_id_0>"], PROFILE, keep_masks=True)
    assert masked.count(MASK) == 2


def test_a_shortened_text_says_what_was_read_of_it(processor):
    whole = processor.encode_sections(["a b", "c"], ["d"])
    assert (whole.reviews, whole.captions) == ((5, 5), (2, 2))
    assert whole.shortening == {"tokens_left_out": 0, "problems": []}
    cut = processor.encode_sections(["a b c d e f g h", "c"], ["d"], max_text_tokens=12)
    assert cut.ids == [R, 10, 11, 12, 13, 14, 15, 16, 17, C, 13, 1]
    problem = (
        "the text was shortened to max_text_tokens=12: 9 of the 11 tokens of the reviews and 2 of the 2 tokens of the"
        " captions were read"
    )
    assert cut.shortening == {"tokens_left_out": 2, "problems": [problem]}


def test_a_profile_is_never_shortened(processor):
    profile = [P, 6, 8, 9, 18, 21, 20]
    arguments = {"reviews": ["a"], "captions": ["b", "c d e", "c d e f"], "profile": PROFILE}
    assert processor.encode_text(**arguments, max_text_tokens=8) == profile + [1]
    with pytest.raises(ValueError, match="a profile of 8 tokens does not fit in max_text_tokens=7"):
        processor.encode_text(**arguments, max_text_tokens=7)


def test_the_processors_own_limit_holds_unless_a_call_gives_another():
    processor = toy_processor(max_text_tokens=3)
    assert processor(reviews=["a b c"]).input_ids.tolist() == [[R, 10, 1]]
    assert processor(reviews=["a b c"], max_length=4).input_ids.tolist() == [[R, 10, 11, 1]]


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
        ({"tokenizer": toy_tokenizer(sentinels=SENTINELS[:3])}, "needs T5's sentinel <extra_id_99>"),
        ({"section_marks": "tags"}, r"section_marks must be one of \['sentinels', 'words'\], got 'tags'"),
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
