"""The `tiny` preset: a T5-like tokenizer that spells every profile, a small configuration and their processor."""

import pytest
from PIL import Image
from transformers import AutoTokenizer, T5Config, ViTConfig

from mmprofile.configuration_mmprofile import ProfileSchema
from systems.presets import tiny_config, tiny_processor, train_tokenizer

TEXTS = [
    f"{subject} {verb} {thing}{end}"
    for subject in ("The waiter", "My friend", "This place", "Our dentist", "A mechanic")
    for verb in ("served", "recommended", "forgot", "charged us for", "loved")
    for thing in ("the pizza", "a cold coffee", "new tyres", "lunch specials", "the repair")
    for end in (".", "!", ", again", " twice", "...")
]
SCHEMA = ProfileSchema()
LINE = (
    "Stars: 4 | Favorite Category: Pizza, Coffee & Tea | Preferred Meal: Dinner | Budget Range: Low"
    " | Discount Preference: True | Service Preference: True"
)


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(TEXTS, SCHEMA, vocab_size=400)


def test_special_tokens_have_t5s_ids(tokenizer):
    assert tokenizer.convert_ids_to_tokens([0, 1, 2]) == ["<pad>", "</s>", "<unk>"]
    assert (tokenizer.pad_token_id, tokenizer.eos_token_id, tokenizer.unk_token_id) == (0, 1, 2)
    size = len(tokenizer)
    sentinels = [f"<extra_id_{index}>" for index in range(100)]
    assert tokenizer.convert_tokens_to_ids(sentinels) == list(range(size - 1, size - 101, -1))
    assert tokenizer("<extra_id_0>").input_ids == [size - 1, 1]
    assert size <= 400


def test_texts_end_with_eos_and_have_no_token_types(tokenizer):
    encoded = tokenizer(["the pizza", ""])
    assert set(encoded) == {"input_ids", "attention_mask"}
    assert [ids[-1] for ids in encoded.input_ids] == [1, 1]
    assert encoded.input_ids[1] == [1]


def test_each_word_of_a_profile_is_one_token(tokenizer):
    ids = tokenizer(LINE).input_ids
    words = LINE.replace(":", " :").replace(",", " ,").split()
    assert len(ids) == len(words) + 1
    assert tokenizer.decode(ids, skip_special_tokens=True) == LINE


def test_corpus_and_ascii_are_covered_and_other_letters_are_unknown(tokenizer):
    text = "My friend forgot the pizza; #1 {ok} ~ 100% <b>"
    ids = tokenizer(text).input_ids
    assert 2 not in ids
    assert tokenizer.decode(ids, skip_special_tokens=True) == text
    assert 2 in tokenizer("\u5bff\u53f8").input_ids
    # Words of the corpus are longer than letters.
    assert len(tokenizer("recommended").input_ids) < len("recommended")


def test_any_schema_is_spelled_letter_by_letter_as_written():
    schema = ProfileSchema(
        [
            {"name": "Caf\u00e9", "values": ["cre\u0300me", "\u2460", "\ufb01ne"]},
            {"name": "Mood", "values": ["\U0001f600", "(x)"]},
        ]
    )
    processor = tiny_processor(TEXTS[:5], schema, vocab_size=250)
    for first in schema.attributes[0].values:
        for second in schema.attributes[1].values:
            profile = {"caf\u00e9": first, "mood": second}
            labels = processor.encode_targets([profile])
            assert processor.tokenizer.unk_token_id not in labels
            assert processor.decode_profiles(labels, strict=True) == [profile]


def test_the_tokenizer_loads_from_its_folder_as_it_was(tokenizer, tmp_path):
    tokenizer.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    assert loaded.get_vocab() == tokenizer.get_vocab()
    assert loaded(TEXTS + [LINE, "<extra_id_0> </s>"]).data == tokenizer(TEXTS + [LINE, "<extra_id_0> </s>"]).data
    assert loaded.all_special_ids == tokenizer.all_special_ids


def test_the_same_texts_give_the_same_tokenizer(tokenizer):
    expected = tokenizer.backend_tokenizer.to_str()
    for _ in range(3):  # the trainer's own pieces differ in order and score each time, also within a process
        assert train_tokenizer(iter(TEXTS), SCHEMA, vocab_size=400).backend_tokenizer.to_str() == expected


@pytest.mark.parametrize("vocab_size", [0, 150, 237])
def test_too_small_a_vocabulary_is_refused_with_what_is_needed(vocab_size):
    with pytest.raises(ValueError, match=f"95 letters, .* need vocab_size=238, got {vocab_size}"):
        train_tokenizer(TEXTS, SCHEMA, vocab_size=vocab_size)
    assert len(train_tokenizer(TEXTS, SCHEMA, vocab_size=238)) <= 241


def test_the_configuration_has_two_small_towers():
    schema = ProfileSchema([{"name": "Pet", "values": ["cat", "dog"]}])
    config = tiny_config(schema, vocab_size=300)
    assert isinstance(config.text_config, T5Config) and isinstance(config.vision_config, ViTConfig)
    text, vision = config.text_config, config.vision_config
    assert (text.vocab_size, text.d_model, text.d_kv, text.num_heads, text.d_ff) == (300, 96, 24, 4, 256)
    assert (text.num_layers, text.num_decoder_layers, text.feed_forward_proj) == (1, 2, "gated-gelu")
    assert (text.dropout_rate, text.decoder_start_token_id) == (0.0, 0)
    assert (vision.hidden_size, vision.num_hidden_layers, vision.num_attention_heads) == (96, 2, 4)
    assert (vision.intermediate_size, vision.patch_size, vision.image_size) == (256, 8, 64)
    assert config.profile_schema == schema


def test_every_option_of_the_configuration_changes_it():
    sizes = {"d_model": 32, "d_kv": 8, "num_heads": 2, "d_ff": 64, "num_layers": 1, "num_decoder_layers": 3}
    text = tiny_config(SCHEMA, 300, **sizes, dropout_rate=0.1).text_config
    assert {name: getattr(text, name) for name in sizes} == sizes
    assert text.dropout_rate == 0.1
    vision = tiny_config(
        SCHEMA,
        300,
        image_size=32,
        vision_hidden_size=48,
        vision_layers=1,
        vision_heads=2,
        vision_intermediate_size=64,
        patch_size=4,
    ).vision_config
    assert (vision.image_size, vision.hidden_size, vision.num_hidden_layers) == (32, 48, 1)
    assert (vision.num_attention_heads, vision.intermediate_size, vision.patch_size) == (2, 64, 4)


def test_the_processor_scales_photos_to_its_size_from_minus_one_to_one():
    processor = tiny_processor(TEXTS[:5], SCHEMA, vocab_size=300, image_size=16, max_images=2)
    batch = processor(reviews=["The waiter"], images=[Image.new("RGB", (40, 3), (255, 0, 0))])
    assert batch.pixel_values.shape == (1, 1, 3, 16, 16)
    assert batch.pixel_values[0, 0, :, 8, 8].tolist() == [1, -1, -1]
    assert processor.black.tolist() == [-1, -1, -1]
    assert processor.max_images == 2
