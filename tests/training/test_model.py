"""What the model of a run is made of."""

import pytest
import torch
from tokenizers import pre_tokenizers
from transformers import AutoTokenizer, BartTokenizer

from mmprofile import MASK_TOKEN, SECTION_MARKS, MMProfileForConditionalGeneration, MMProfileProcessor
from tests.tiny_models import D_MODEL, VOCAB_SIZE, random_batch, tiny_model
from tests.toy_processor import SCHEMA, SENTINELS, toy_image_processor, toy_tokenizer
from training.model import add_sentinels, fitting_tokenizer

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


def test_a_head_of_its_own_as_mt5_has_one_keeps_its_rows_where_the_vocabulary_grows(tmp_path):
    words = " ".join(f"w{number}" for number in range(VOCAB_SIZE - 3))
    model, tokenizer = tiny_model(), toy_tokenizer(f"<pad> </s> <unk> {words}", sentinels=())
    head, generator = torch.nn.Parameter(torch.empty(VOCAB_SIZE, D_MODEL)), torch.Generator().manual_seed(3)
    torch.nn.init.normal_(head, std=0.1, generator=generator)
    model.get_output_embeddings().weight = head
    before, embedded = model(**random_batch()).logits, model.get_input_embeddings().weight.detach().clone()
    add_sentinels(tokenizer, model)
    model.save_pretrained(tmp_path)
    for grown in (model, MMProfileForConditionalGeneration.from_pretrained(tmp_path)):
        rows = grown.get_output_embeddings().weight
        assert rows.requires_grad and rows.shape == (VOCAB_SIZE + 4, D_MODEL)
        assert rows[:VOCAB_SIZE].equal(head) and not rows[VOCAB_SIZE:].equal(grown.get_input_embeddings().weight[-4:])
        assert grown.get_input_embeddings().weight[:VOCAB_SIZE].equal(embedded)
        assert grown(**random_batch()).logits[..., :VOCAB_SIZE].equal(before)


def test_the_rows_of_new_tokens_are_told_apart_as_others_are():
    """LoRA leaves them as they begin."""
    words = " ".join(f"w{number}" for number in range(VOCAB_SIZE - 3))
    model, tokenizer = tiny_model(), toy_tokenizer(f"<pad> </s> <unk> {words}", sentinels=())
    add_sentinels(tokenizer, model)
    rows = model.get_input_embeddings().weight.detach()
    new, old = torch.pdist(rows[VOCAB_SIZE:]), torch.pdist(rows[:VOCAB_SIZE])
    assert new.min() > old.median() / 4


def test_a_tokenizer_that_has_them_stays_as_it_is():
    model, tokenizer = tiny_model(text={"vocab_size": 300}), toy_tokenizer()
    before = tokenizer.get_vocab()
    add_sentinels(tokenizer, model)
    assert tokenizer.get_vocab() == before and set(SENTINELS) <= set(tokenizer.all_special_tokens)


def test_the_tokenizer_of_bart_ends_each_text_and_begins_none_when_it_is_loaded_again_too(tmp_path):
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: number for number, token in enumerate(["<s>", "<pad>", "</s>", "<unk>", "<mask>", *letters])}
    bart = BartTokenizer(vocab=vocabulary, merges=[])
    assert bart("a").input_ids[0] == vocabulary["<s>"]
    bart.save_pretrained(tmp_path / "bart")
    model = tiny_model()
    model.resize_token_embeddings(len(bart))
    fitting = fitting_tokenizer(str(tmp_path / "bart"), model)
    ids = fitting("Pizza, so good").input_ids
    assert ids[-1] == vocabulary["</s>"] and vocabulary["<s>"] not in ids
    assert fitting.decode(ids, skip_special_tokens=True) == "Pizza, so good"
    MMProfileProcessor(toy_image_processor(), fitting, SCHEMA).save_pretrained(tmp_path / "saved")
    again = MMProfileProcessor.from_pretrained(tmp_path / "saved").tokenizer
    assert again("Pizza, so good").input_ids == ids
    assert again.convert_tokens_to_ids(NEEDED) == fitting.convert_tokens_to_ids(NEEDED)
    assert fitting.pad_token_id == again.pad_token_id == vocabulary["<pad>"]
