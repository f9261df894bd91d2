"""What `forward`, `encode`, `generate` and `generate_profiles` take, and what they refuse rather than pass over."""

import pytest
import torch
from transformers import Seq2SeqTrainer, Seq2SeqTrainingArguments
from transformers.modeling_outputs import BaseModelOutput

from tests.profile_models import inputs_for, model_for
from tests.tiny_models import random_batch, tiny_model
from tests.toy_processor import toy_processor
from tests.toy_schemas import SCHEMAS, unigram_tokenizer

TOKENIZER = unigram_tokenizer()


@pytest.mark.parametrize("name", ["image_maskk", "decoder_inputs", "num_photos"])
def test_an_argument_that_nothing_knows_is_refused_by_name(name):
    model, batch = tiny_model(), random_batch()
    encoded = model.encode(batch["input_ids"], batch["attention_mask"])
    for call, given in (
        (model, batch),
        (model, {"encoder_outputs": encoded, "labels": batch["labels"]}),
        (model.encode, {"input_ids": batch["input_ids"]}),
        (model.text_features, {"input_ids": batch["input_ids"]}),
    ):
        call(**given)
        with pytest.raises(TypeError, match=f"unexpected keyword arguments: {name}"):
            call(**given, **{name: None})


def test_generate_and_the_processor_refuse_it_too():
    model, batch, processor = tiny_model(), random_batch(), toy_processor()
    with pytest.raises(TypeError, match="image_maskk"):
        model.get_encoder()(batch["input_ids"], image_maskk=batch["image_mask"])
    with pytest.raises(ValueError, match="image_maskk"):
        model.generate(input_ids=batch["input_ids"], image_maskk=batch["image_mask"])
    with pytest.raises(TypeError, match="num_profiles"):
        model.generate_profiles(batch["input_ids"], tokenizer=TOKENIZER, num_profiles=2)
    with pytest.raises(TypeError, match="caption"):
        processor(reviews=["small"], caption=["large"])


def test_generate_takes_views_of_users_joined_by_encode_alone():
    model, batch = tiny_model(combination="states"), random_batch()
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    views = torch.tensor([len(inputs["input_ids"]) - 1, 1])
    with pytest.raises(ValueError, match=r"generate takes users' views joined, encoder_outputs=model.encode\(.*views"):
        model.generate(**inputs, views=views)
    encoded = model.encode(**inputs, views=views)
    written = model.generate(encoder_outputs=encoded, attention_mask=encoded.attention_mask, max_new_tokens=4)
    assert len(written) == 2


def test_generate_takes_a_whole_batch_and_what_else_transformers_gives():
    model, batch = tiny_model(), random_batch()
    options = {"num_beams": 2, "max_new_tokens": 4, "do_sample": False}
    expected = model.generate(**{name: tensor for name, tensor in batch.items() if name != "labels"}, **options)
    output = model.generate(
        **batch,
        **options,
        output_hidden_states=True,
        output_fusion=True,
        return_dict_in_generate=True,
    )
    assert torch.equal(output.sequences, expected)
    assert len(output.encoder_hidden_states) == 3


def test_what_transformers_own_programs_pass_is_taken(tmp_path):
    model, batch = tiny_model(), random_batch(users=2)
    output = model(
        **batch,
        output_attentions=True,
        output_hidden_states=True,
        num_items_in_batch=torch.tensor(4),
        use_cache=True,
        return_dict=True,
    )
    assert len(output.decoder_hidden_states) == 3
    arguments = {"output_dir": tmp_path, "max_steps": 1, "report_to": [], "save_strategy": "no", "use_cpu": True}
    rows = [{name: tensor[user] for name, tensor in batch.items()} for user in range(2)]
    trainer = Seq2SeqTrainer(model, Seq2SeqTrainingArguments(**arguments), train_dataset=rows)
    assert trainer.train().training_loss > 0


@pytest.mark.parametrize("fusion", ["gated", "concat"])
def test_encoder_outputs_may_be_a_tuple(fusion):
    model, inputs = model_for(TOKENIZER, "several", 3.0, fusion=fusion), inputs_for(TOKENIZER)
    encoded = model.encode(**inputs)
    expected, state = model.generate_profiles(encoder_outputs=encoded, tokenizer=TOKENIZER), encoded.last_hidden_state
    for outputs in ((state,), [state], BaseModelOutput(state)):
        found = model.generate_profiles(
            encoder_outputs=outputs, attention_mask=inputs["attention_mask"], tokenizer=TOKENIZER
        )
        assert found == expected


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ((), r"\(\)"),
        ((None,), r"\(None,\)"),
        (torch.zeros(2, 3, 32), "<Tensor>"),
        ({"last_hidden_state": torch.zeros(2, 3, 32)}, "{'last_hidden_state': <Tensor>}"),
        (BaseModelOutput(), "<BaseModelOutput>"),
        ((torch.zeros(3, 32),), r"a state \(3, 32\)"),
        (BaseModelOutput(torch.zeros(2, 3, 8)), r"a state \(2, 3, 8\)"),
    ],
)
def test_encoder_outputs_without_a_state_are_refused_with_what_fits(given, message):
    model = model_for(TOKENIZER)
    fits = r"a tuple that begins with the state \(batch, seq, d_model=32\)"
    for call in (
        lambda: model.generate_profiles(encoder_outputs=given, tokenizer=TOKENIZER),
        lambda: model(encoder_outputs=given, labels=torch.tensor([[3], [4]])),
    ):
        with pytest.raises(ValueError, match=f"{fits}, got {message}$"):
            call()


def test_a_mask_of_another_shape_than_the_states_is_refused():
    model, inputs = model_for(TOKENIZER), inputs_for(TOKENIZER)
    state = model.encode(**inputs).last_hidden_state
    with pytest.raises(ValueError, match=r"\(3, 12\), the mask of \(3, 11\)"):
        model.generate_profiles(
            encoder_outputs=(state,), attention_mask=inputs["attention_mask"][:, 1:], tokenizer=TOKENIZER
        )


def test_a_schema_may_be_a_list():
    model, inputs, schema = model_for(TOKENIZER, "several"), inputs_for(TOKENIZER), SCHEMAS["alike"]
    found = model.generate_profiles(**inputs, tokenizer=TOKENIZER, schema=schema.to_list())
    assert found == model.generate_profiles(**inputs, tokenizer=TOKENIZER, schema=schema)
    assert found[0].profile == schema.parse(found[0].text)
    with pytest.raises(ValueError, match="at least one attribute"):
        model.generate_profiles(**inputs, tokenizer=TOKENIZER, schema=[])


def test_no_users_have_no_profiles():
    model, inputs = model_for(TOKENIZER), inputs_for(TOKENIZER)
    none = {name: tensor[:0] for name, tensor in inputs.items()}
    assert model.generate_profiles(**none, tokenizer=TOKENIZER, output_fusion=True) == []
    encoded = BaseModelOutput(model.encode(**inputs).last_hidden_state[:0])
    assert model.generate_profiles(encoder_outputs=encoded, tokenizer=TOKENIZER) == []
