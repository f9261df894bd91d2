"""What the model of a run is made of."""

import pytest
from transformers import AutoTokenizer

from mmprofile import MASK_TOKEN, SECTION_MARKS, MMProfileProcessor
from tests.tiny_models import VOCAB_SIZE, random_batch, tiny_model
from tests.toy_processor import SCHEMA, SENTINELS, toy_image_processor, toy_tokenizer
from training.model import add_sentinels

NEEDED = [MASK_TOKEN, *SECTION_MARKS["sentinels"].values()]


def test_a_tokenizer_without_sentinels_gets_those_that_the_processor_needs(tmp_path):
    model, tokenizer = tiny_model(), toy_tokenizer(sentinels=())
    with pytest.raises(ValueError, match="needs T5's sentinel"):
        MMProfileProcessor(toy_image_processor(), tokenizer, SCHEMA)
    before, embedded = len(tokenizer), model.get_input_embeddings().weight
    add_sentinels(tokenizer, model)
    assert tokenizer.convert_tokens_to_ids(NEEDED) == [before, before + 1, before + 2, before + 3]
    assert model.get_input_embeddings().weight is embedded  # there was room
    MMProfileProcessor(toy_image_processor(), tokenizer, SCHEMA)
    assert tokenizer.decode(tokenizer.convert_tokens_to_ids(NEEDED), skip_special_tokens=True) == ""
    tokenizer.save_pretrained(tmp_path)
    assert len(AutoTokenizer.from_pretrained(tmp_path)) == before + 4


def test_a_vocabulary_without_room_for_them_grows_and_the_rest_stays():
    words = " ".join(f"w{number}" for number in range(VOCAB_SIZE - 3))
    model, tokenizer = tiny_model(), toy_tokenizer(f"<pad> </s> <unk> {words}", sentinels=())
    before = model(**random_batch()).logits
    add_sentinels(tokenizer, model)
    grown = model(**random_batch()).logits
    assert grown.shape[-1] == len(tokenizer) == VOCAB_SIZE + 4 == model.config.text_config.vocab_size
    assert grown[..., :VOCAB_SIZE].equal(before)


def test_a_tokenizer_that_has_them_stays_as_it_is():
    model, tokenizer = tiny_model(text={"vocab_size": 300}), toy_tokenizer()
    before = tokenizer.get_vocab()
    add_sentinels(tokenizer, model)
    assert tokenizer.get_vocab() == before and set(SENTINELS) <= set(tokenizer.all_special_tokens)
