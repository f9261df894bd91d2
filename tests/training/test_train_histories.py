"""Histories in training: examples in views, a decoder that attends to all of them, whole histories in evaluation."""

import numpy as np
import pytest
import torch
from transformers import AutoConfig

import predict
from mmprofile import OBJECTIVES, Sees
from systems.presets import tiny_processor
from tests.tiny_corpus import SCHEMA, tiny_dataset
from tests.tiny_models import tiny_model
from tests.training.test_train import run, same, train_only
from training.arguments import JointTrainingArguments
from training.batching import EvaluationCollator, JointCollator, UserExamples, undecoded
from training.data import evaluation_loader
from training.forged_lines import forge
from training.joint_step import NaiveJointStep, SharedJointStep
from training.objectives import select_views

VIEWS = select_views("combined", OBJECTIVES)


@pytest.fixture(scope="module")
def processor():
    return tiny_processor(["user likes a place", "photo of a review"], SCHEMA, vocab_size=400, image_size=32)


def examples(users: int = 3, reviews: int = 5, **options) -> list:
    data = UserExamples(undecoded(tiny_dataset(users, reviews=reviews)), SCHEMA, num_reviews=5, **options)
    return [data[index] for index in range(users)]


def test_an_example_in_views_has_every_review_once_beside_its_own_photos():
    (example,) = examples(1)
    rows = example.in_views(2)
    assert [row.reviews for row in rows] == [example.reviews[:1], example.reviews[1:3], example.reviews[3:]]
    assert [row.images for row in rows] == [example.images[:1], example.images[1:3], example.images[3:]]
    assert [row.captions for row in rows] == [example.captions[:1], example.captions[1:3], example.captions[3:]]
    assert [len(row.photo_names) for row in rows] == [1, 2, 2]
    assert example.in_views(None) == [example]


def test_forged_reviews_leave_each_photo_with_its_review():
    reviews, captions, moved = [f"review number {n}" + " good" * 20 for n in range(4)], ["a", "b", "c", "d", "e"], 0
    for seed in range(40):
        counts, rng = [2, 0, 1, 2], np.random.default_rng(seed)
        texts, _ = forge(
            SCHEMA, SCHEMA.profile_from_labels(tiny_dataset(1)[0]["profile"]), reviews, captions, rng, counts
        )
        assert len(counts) == len(texts)
        assert sum(counts) == 5
        for text, count in zip(reviews, (2, 0, 1, 2), strict=True):
            if text in texts:
                moved += texts.index(text) != reviews.index(text)
                assert counts[texts.index(text)] == count
    assert moved > 20


def test_a_row_of_a_batch_is_a_view_and_all_rows_of_a_user_mask_the_same_attributes(processor):
    data = examples(seed=0)
    batch = JointCollator(processor, VIEWS, 0.5, 0.5, view_reviews=2)(data)
    assert batch["views"].tolist() == [3, 3, 3]
    assert len(batch["labels"]) == 3
    assert batch["image_mask"].sum(dim=1).tolist() == [1, 2, 2] * 3
    assert all(len(text["input_ids"]) == 9 for text in batch["texts"].values())
    row = data[1].in_views(2)[1]
    ids = processor.encode_text(row.reviews, row.captions)
    assert batch["texts"]["reviews+captions"]["input_ids"][4, : len(ids)].tolist() == ids
    end = processor.tokenizer.convert_tokens_to_ids("<extra_id_98>")  # behind it the captions, which differ
    profiles = [ids[: ids.index(end)] for ids in batch["texts"]["masked_profile+captions"]["input_ids"].tolist()]
    assert len(profiles) == 9
    assert profiles[0] == profiles[1] == profiles[2]
    assert len({tuple(profile) for profile in profiles}) == 3


@pytest.mark.parametrize("paradigm", ["multimodal", "unimodal", "combined"])
def test_the_shared_step_over_views_is_the_naive_one_in_losses_and_gradients(processor, paradigm):
    views = select_views(paradigm, OBJECTIVES)
    model = tiny_model(text={"vocab_size": 400}, combination="states")
    batch = JointCollator(processor, views, 0.5, 0.5, view_reviews=2)(examples(seed=0))
    found = []
    for step in (SharedJointStep, NaiveJointStep):
        model.zero_grad()
        output = step(model, views, processor.black)(batch)
        output.loss.backward()
        found.append((output.losses, {name: p.grad for name, p in model.named_parameters() if p.grad is not None}))
    (shared, gradients), (naive, others) = found
    assert shared.keys() == naive.keys() == views.keys()
    for name, loss in naive.items():
        torch.testing.assert_close(shared[name], loss, rtol=1e-5, atol=1e-5)
    assert gradients.keys() == others.keys()
    assert len(gradients) > 10
    for name, gradient in others.items():
        torch.testing.assert_close(gradients[name], gradient, rtol=1e-3, atol=1e-5)


def test_a_history_is_read_in_views_and_the_recipe_in_one(processor):
    flags = {"dataset": "x", "output_dir": "y", "text_model": "tiny", "vision_model": "tiny", "eval_batch_size": 4}
    split = undecoded(tiny_dataset(3, reviews=7))
    arguments = JointTrainingArguments(**flags)
    assert (arguments.combination, arguments.view_reviews) == ("product", 3)
    (recipe,) = evaluation_loader(split, processor, arguments)
    assert "views" not in recipe
    assert recipe["image_mask"].sum(dim=1).tolist() == [3, 3, 3]
    batches = list(evaluation_loader(split, processor, arguments, history=True))
    assert [batch["views"].tolist() for batch in batches] == [[3], [3], [3]]
    assert batches[0]["image_mask"].sum(dim=1).tolist() == [1, 3, 3]
    arguments = JointTrainingArguments(**flags, eval_views=2)
    batches = list(evaluation_loader(split, processor, arguments, history=True))
    assert [batch["views"].tolist() for batch in batches] == [[2, 2], [2]]
    assert batches[0]["image_mask"].sum(dim=1).tolist() == [1, 3, 1, 3]
    states = JointTrainingArguments(**flags, combination="states", num_reviews=4)
    assert (states.trained_view, arguments.trained_view) == (1, None)
    (joined,) = evaluation_loader(split, processor, states)
    assert joined["views"].tolist() == [4, 4, 4]


def test_a_strangers_photos_are_no_more_than_the_users_reviews(processor):
    rows = [tiny_dataset(1, reviews=3)[0], tiny_dataset(2, reviews=6)[1]]
    split = undecoded(tiny_dataset(2).from_list(rows, features=tiny_dataset(1).features))
    data = UserExamples(split, SCHEMA, num_reviews=10, photos_from="stranger")
    collator = EvaluationCollator(processor, Sees(images=True, captions=True), view_reviews=3)
    batch = collator([data[0], data[1]])
    assert batch["views"].tolist() == [1, 2]
    assert batch["image_mask"].sum(dim=1).tolist() == [3, 3, 0]


def test_the_result_is_the_whole_historys_and_the_papers_recipe_stands_beside_it(corpus, whole_run, tmp_path):
    with whole_run("answers_of"):
        results, _ = run(corpus, tmp_path / "model", num_epochs=2, num_reviews=2)
    assert results["test_f1"]["the paper's recipe"]["average"] == results["test_paper_recipe_average_f1"]
    assert results["test_f1"]["mmprofile"]["average"] == results["test_average_f1"]
    config = AutoConfig.from_pretrained(tmp_path / "model", trust_remote_code=True)
    assert (config.view_reviews, config.combination) == (2, "product")
    argv = ["--model", str(tmp_path / "model"), "--dataset", str(corpus), "--num_workers", "0", "--evaluate", "true"]
    history = predict.main([*argv, "--output", str(tmp_path / "history")])
    assert history["f1"]["average"] == pytest.approx(results["test_average_f1"])
    assert history["f1"] == pytest.approx(results["test_f1"]["mmprofile"])
    all_of_it = predict.main([*argv, "--output", str(tmp_path / "all"), "--views", "all", "--num_reviews", "2"])
    assert all_of_it["f1"] == history["f1"]


def test_a_model_of_joined_states_is_trained_and_evaluated_as_it_predicts(corpus, whole_run, tmp_path):
    with whole_run("answers_of"):
        results, _ = run(corpus, tmp_path / "model", combination="states", num_reviews=3)
    assert "test_paper_recipe_average_f1" not in results
    config = AutoConfig.from_pretrained(tmp_path / "model", trust_remote_code=True)
    assert (config.view_reviews, config.combination) == (1, "states")
    argv = ["--model", str(tmp_path / "model"), "--dataset", str(corpus), "--num_workers", "0", "--evaluate", "true"]
    history = predict.main([*argv, "--output", str(tmp_path / "history")])
    assert history["f1"] == pytest.approx(results["test_f1"]["mmprofile"])


def test_how_views_are_combined_changes_no_training_but_by_states(corpus, tmp_path):
    weights = [train_only(corpus, tmp_path / name, combination=name) for name in ("product", "mixture", "states")]
    assert same(weights[0], weights[1])
    assert not same(weights[0], weights[2])


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"combination": "sum"}, r"combination must be one of .*'product', 'mixture', 'states'"),
        ({"view_reviews": 0}, "view_reviews"),
        ({"eval_views": 0}, "eval_views"),
        (
            {"system": "flan_t5", "combination": "states"},
            "flan_t5 reads a user in one view, got {'combination': 'states'}",
        ),
    ],
)
def test_flags_of_views_that_do_not_fit_are_refused(flags, message):
    with pytest.raises(ValueError, match=message):
        JointTrainingArguments(dataset="x", output_dir="y", **flags)
