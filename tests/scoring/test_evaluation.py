"""Evaluation by generation."""

import pytest
import torch
from accelerate import Accelerator
from torch.utils.data import DataLoader

from mmprofile import Sees, max_profile_tokens
from mmprofile.configuration_mmprofile import ProfileSchema
from mmprofile.modeling_mmprofile import MMProfileForConditionalGeneration
from scoring.evaluation import (
    Evaluation,
    evaluate_model,
    evaluate_probabilities,
    majority_f1,
    majority_profile,
    profile_f1,
)
from scoring.plots import calibration, confusion
from systems.presets import tiny_config, tiny_processor
from tests.tiny_corpus import SCHEMA, tiny_dataset
from training.batching import EvaluationCollator, UserExamples, undecoded

MEAL = ProfileSchema(
    ({"name": "Meal", "values": ["Lunch", "Dinner"]}, {"name": "Place", "values": list("abc"), "count": 2})
)


@pytest.fixture(scope="module")
def processor():
    return tiny_processor(["user likes a place", "photo of review"], SCHEMA, vocab_size=400, image_size=16)


@pytest.fixture
def model(processor):
    torch.manual_seed(0)
    config = tiny_config(SCHEMA, len(processor.tokenizer), image_size=16, d_model=32)
    return MMProfileForConditionalGeneration(config)


def profile(meal, *places):
    return {"meal": meal, "place": list(places)}


def test_majority_takes_the_most_frequent_values_and_schema_order_on_a_tie():
    profiles = [profile("Dinner", "b", "c"), profile("Lunch", "a", "c"), profile("Dinner", "b", "c")]
    assert majority_profile(profiles, MEAL) == profile("Dinner", "b", "c")
    assert majority_profile(profiles[:2], MEAL) == profile("Lunch", "a", "c")


def test_majority_f1_is_the_metric_of_one_profile_for_all():
    references = [profile("Dinner", "b", "c"), profile("Lunch", "b", "c")]
    scores = majority_f1([references[0]], references, MEAL)
    # Meal: F1 of Dinner is 2/3, of Lunch 0; places: a never occurs, b and c are always right.
    assert scores == pytest.approx({"meal": 100 / 3, "place": 200 / 3, "average": 50})


def test_scores_are_percent_and_a_missing_value_is_wrong():
    references = [profile("Dinner", "a", "b"), profile("Lunch", "b", "c")]
    assert profile_f1(references, references, MEAL)["average"] == pytest.approx(100)
    missing = [profile("Dinner", "a", "b"), {"meal": None, "place": None}]
    assert profile_f1(missing, references, MEAL)["meal"] == pytest.approx(50)


def test_evaluation_scores_each_user_once_and_the_loss_per_token(processor, model):
    examples = UserExamples(undecoded(tiny_dataset(5)), SCHEMA)
    accelerator = Accelerator(cpu=True)
    results = []
    for batch_size in (2, 5):
        loader = DataLoader(
            examples, batch_size, collate_fn=EvaluationCollator(processor, Sees(images=True, captions=True))
        )
        results.append(evaluate_model(model, accelerator.prepare(loader), processor, accelerator, 1, "test"))
    for result in results:
        assert result.references == [example.profile for example in map(examples.__getitem__, range(5))]
        assert len(result.predictions) == 5
        assert set(result.f1) == {*SCHEMA.keys, "average"}
    assert results[0].predictions == results[1].predictions
    losses, tokens = [], []
    for index in range(5):
        batch = EvaluationCollator(processor, Sees(images=True, captions=True))([examples[index]])
        tokens.append(batch["labels"].numel())
        losses.append(model(**batch).loss.item() * tokens[-1])
    assert len(set(tokens)) > 1
    for result in results:  # whoever is in a batch with whom
        assert result.loss == pytest.approx(sum(losses) / sum(tokens), rel=1e-6)


def test_probabilities_are_those_of_each_users_most_probable_profile(processor, model):
    examples, accelerator = UserExamples(undecoded(tiny_dataset(5)), SCHEMA), Accelerator(cpu=True)
    collator = EvaluationCollator(processor, Sees(images=True, captions=True))
    loader = accelerator.prepare(DataLoader(examples, 2, collate_fn=collator))
    rows = evaluate_probabilities(model, loader, processor, accelerator, "test")
    assert [row["truth"] for row in rows] == [examples[index].profile for index in range(5)]
    inputs = collator([examples[4]])
    del inputs["labels"]
    (alone,) = model.generate_profiles(**inputs, tokenizer=processor.tokenizer)
    assert rows[4]["profile"] == alone.profile
    for key, values in alone.probabilities.items():
        assert rows[4]["probabilities"][key] == pytest.approx(values, abs=1e-5)


def test_profiles_are_computed_by_onednn(processor, model, products):
    accelerator, collator = Accelerator(cpu=True), EvaluationCollator(processor, Sees(images=True, captions=True))
    loader = DataLoader(UserExamples(undecoded(tiny_dataset(1)), SCHEMA), 1, collate_fn=collator)
    assert evaluate_probabilities(model, accelerator.prepare(loader), processor, accelerator, "test")
    assert tuple(model.text_model.lm_head.weight.shape) in {weight for _, weight in products}


def test_a_user_whose_values_are_not_finite_counts_as_wrong_and_is_said_in_a_warning(processor, model):
    examples, accelerator = UserExamples(undecoded(tiny_dataset(5)), SCHEMA), Accelerator(cpu=True)
    collator = EvaluationCollator(processor, Sees(images=True, captions=True))
    loader = accelerator.prepare(DataLoader(examples, 2, collate_fn=collator))
    whole = evaluate_probabilities(model, loader, processor, accelerator, "test")
    broken = collator([examples[2]])["input_ids"][0]

    def spoil(module, args, kwargs, output):
        for row, ids in enumerate(kwargs["input_ids"]):
            if torch.equal(ids[: len(broken)], broken):
                output.last_hidden_state[row] = float("nan")
        return output

    model.text_model.encoder.register_forward_hook(spoil, with_kwargs=True)
    with pytest.warns(UserWarning, match="^test: 1 of 5 users count as wrong: .* not finite in torch.float32$"):
        rows = evaluate_probabilities(model, loader, processor, accelerator, "test")
    assert [row["truth"] for row in rows] == [row["truth"] for row in whole]
    assert [row["profile"] for row in rows[:2] + rows[3:]] == [row["profile"] for row in whole[:2] + whole[3:]]
    assert rows[2]["profile"] == {key: [] for key in SCHEMA.keys}
    assert confusion(rows, SCHEMA.attributes[0])[:, -1].sum() == 1  # for none
    assert sum(found["values"] for found in calibration(rows, SCHEMA)["stars"]["bins"]) == 4


def test_a_value_that_was_not_understood_is_taken_for_none_in_the_confusion():
    truth = profile("Dinner", "a", "b")
    found = Evaluation({}, 0.0, [{"meal": "Lunch", "place": None}], [truth]).rows
    assert confusion(found, MEAL.attributes[0]).tolist() == [[0, 0, 0], [1, 0, 0]]
    assert confusion(found, MEAL.attributes[1]).tolist() == [[0, 0, 0, 1], [0, 0, 0, 1], [0, 0, 0, 0]]


def test_the_longest_profile_fits_in_the_tokens_generated():
    processor = tiny_processor(["user likes a place"], SCHEMA, vocab_size=400, image_size=8)
    longest = max(len(ids) for ids in (processor.tokenizer(SCHEMA.render(p)).input_ids for p in all_profiles()))
    assert max_profile_tokens(processor) == longest


def all_profiles():
    """A profile with each pair of categories; the other attributes' values in turn."""
    categories = SCHEMA.attributes[1].values
    for first in range(len(categories)):
        for second in range(first):
            yield {
                a.key: a.values[(first + second) % len(a.values)]
                if a.count == 1
                else [categories[second], categories[first]]
                for a in SCHEMA.attributes
            }
