"""What is told of the test split: figures that name it, and an example of typical accuracy."""

import re

import numpy as np
import pytest
from datasets import DatasetDict

from scoring.evaluation import Evaluation, majority_profile, profile_f1
from systems.presets import tiny_processor
from tests.tiny_corpus import SCHEMA, tiny_dataset
from tests.training.test_train import run
from training import evaluations, results
from training.arguments import JointTrainingArguments
from training.batching import undecoded
from training.results import development_record, example_of_use, summarise_tests, typical_user


def rows(*right: int) -> list[dict]:
    """Of users of whose six attributes so many are right."""
    split = tiny_dataset(len(right))
    truths = [SCHEMA.profile_from_labels(row["profile"]) for row in split]
    return [
        {"truth": truth, "profile": truth | {key: other(truth, key) for key in SCHEMA.keys[number:]}}
        for truth, number in zip(truths, right, strict=True)
    ]


def other(truth: dict, key: str) -> str | list[str]:
    attribute = next(attribute for attribute in SCHEMA.attributes if attribute.key == key)
    if attribute.count == 1:
        return next(value for value in attribute.values if value != truth[key])
    return [truth[key][0], next(value for value in attribute.values if value not in truth[key])]


@pytest.mark.parametrize(
    ("right", "expected"),
    [
        ((0, 4, 6, 4, 5), (1, 4)),
        ((6, 5, 2, 1), (2, 2)),  # of two in the middle the lower
        ((3,), (0, 3)),
        ((0, 0, 6), (0, 0)),
    ],
)
def test_the_typical_user_is_the_first_with_as_many_right_attributes_as_the_median(right, expected):
    assert typical_user(rows(*right)) == expected


@pytest.mark.parametrize(("both_wrong", "expected"), [((0,), 1), ((1, 2), 1), ((0, 1, 2), 0)])
def test_of_users_alike_the_typical_one_has_as_many_values_right_as_their_median(both_wrong, expected):
    found = rows(1, 1, 1, 1)
    categories = next(attribute for attribute in SCHEMA.attributes if attribute.count == 2)
    for index in both_wrong:
        true = found[index]["truth"][categories.key]
        wrong = [value for value in categories.values if value not in true]
        found[index]["profile"] = found[index]["profile"] | {categories.key: wrong[:2]}
    assert typical_user(found) == (expected, 1)


def evaluation(users: int, right: float) -> Evaluation:
    """Of users of whose profiles this share is right."""
    generator = np.random.default_rng(round(100 * right))
    found = rows(*(6 if generator.random() < right else 2 for _ in range(users)))
    predictions, references = [row["profile"] for row in found], [row["truth"] for row in found]
    return Evaluation(profile_f1(predictions, references, SCHEMA), 0.5, predictions, references)


@pytest.fixture
def summary():
    """What is told of 40 users."""
    split = undecoded(tiny_dataset(40))
    tests = dict.fromkeys(results.TEST_CONDITIONS, evaluation(40, 0.5)) | {"mmprofile": evaluation(40, 0.9)}
    processor = tiny_processor(["user likes a place"], SCHEMA, vocab_size=400, image_size=16)
    arguments = JointTrainingArguments(dataset="/data/x", output_dir="y", dataset_config="small")
    splits = DatasetDict({"train": split, "test": split})
    return summarise_tests(tests, [], splits, processor, arguments), tests, splits, processor, arguments


def test_each_figure_of_the_table_has_an_interval_and_each_row_one_of_what_the_model_has_more(summary):
    told, tests, splits, *_ = summary
    assert told["test_intervals"].keys() == told["test_f1"].keys() >= {"reviews alone", "majority class"}
    for row, f1 in told["test_f1"].items():
        assert told["test_intervals"][row].keys() == f1.keys()
        for key, (low, high) in told["test_intervals"][row].items():
            assert low <= f1[key] <= high and (low < high or key != "average")
    majority = majority_profile([SCHEMA.profile_from_labels(labels) for labels in splits["train"]["profile"]], SCHEMA)
    assert told["test_f1"]["majority class"] == profile_f1([majority] * 40, tests["mmprofile"].references, SCHEMA)
    low, high = told["test_differences"]["reviews alone"]["average"]
    assert 0 < low < told["test_f1"]["mmprofile"]["average"] - told["test_f1"]["reviews alone"]["average"] < high
    assert told["test_differences"].keys() == told["test_f1"].keys() - {"mmprofile"}
    ends, resolution = told["test_intervals"]["mmprofile"]["average"], told["test_resolution"]
    assert (resolution["users"], resolution["resamples"]) == (40, 10_000)
    assert resolution["half_width"] == pytest.approx((ends[1] - ends[0]) / 2)
    assert resolution["paired_half_width"] == pytest.approx((high - low) / 2)
    assert told["test_corpus"] == {
        "name": "x",
        "config": "small",
        "dataset": "./x",
        "split": "test",
        "users": 40,
    }


def test_without_training_users_there_is_no_majority_class(summary):
    told, tests, splits, processor, arguments = summary
    del splits["train"]
    without = summarise_tests(tests, [], splits, processor, arguments)
    assert "test_majority_average_f1" not in without
    assert without["test_f1"].keys() == told["test_f1"].keys() - {"majority class"} == without["test_intervals"].keys()
    assert without["test_intervals"]["mmprofile"] == told["test_intervals"]["mmprofile"]


def test_an_epochs_record_has_the_interval_of_its_average():
    found = evaluation(40, 0.9)
    record = development_record(found, SCHEMA)
    assert record["dev_average_low"] < record["dev_f1"]["average"] < record["dev_average_high"]
    assert (record["dev_f1"], record["dev_loss"]) == (found.f1, 0.5)


def test_the_example_is_the_typical_user_with_his_reviews_as_the_model_read_them():
    found, split = rows(6, 1, 4, 5), undecoded(tiny_dataset(4))
    arguments = JointTrainingArguments(dataset="x", output_dir="y", num_reviews=2)
    texts = [review["text"] for review in split[2]["reviews"]]
    assert example_of_use(found, split, SCHEMA, arguments) == {
        "reviews": texts[:2],
        "read": len(texts),
        "profile": SCHEMA.render(found[2]["profile"]),
        "truth": SCHEMA.render(found[2]["truth"]),
        "right": 4,
    }


@pytest.mark.parametrize(
    ("flags", "shown", "read"),
    [
        ({"eval_views": 2, "view_reviews": 1}, 2, 2),
        ({"eval_views": 1, "view_reviews": 1}, 1, 1),
        ({"system": "bart"}, 2, 2),
    ],
)
def test_the_example_says_how_many_reviews_its_profile_is_of(flags, shown, read):
    split = undecoded(tiny_dataset(1))
    arguments = JointTrainingArguments(dataset="x", output_dir="y", num_reviews=2, **flags)
    example = example_of_use(rows(6), split, SCHEMA, arguments)
    assert (len(example["reviews"]), example["read"]) == (shown, read) and len(split[0]["reviews"]) > 2


def test_figures_are_of_the_development_split_while_training_and_in_the_end_of_the_test_split(
    corpus,
    tmp_path,
    monkeypatch,
):
    drawn = []
    for module, name in ((evaluations, "plot_confusion"), (results, "plot_confusion"), (results, "plot_calibration")):
        draw = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *args, draw=draw: (drawn.append(args[2:]), draw(*args)))
    run(corpus, tmp_path / "model", num_epochs=2, publish_example=True)
    confusion, calibration = tmp_path / "model" / "confusion.png", tmp_path / "model" / "calibration.png"
    assert drawn == [
        (confusion, "Development split, 4 users, epoch 1"),
        (confusion, "Development split, 4 users, epoch 2"),
        (confusion, "Test split, 4 users"),
        (calibration, "Test split, 4 users"),
    ]
    assert re.search(
        r"with \d of 6 attributes right, as many as the median", (tmp_path / "model/README.md").read_text()
    )


def test_the_results_by_which_a_run_is_known_to_have_ended_are_written_behind_all_else(summary, tmp_path, monkeypatch):
    def killed(*_):
        raise KeyboardInterrupt

    told, tests, splits, processor, arguments = summary
    arguments.output_dir = str(tmp_path)
    for last in ("plot_confusion", "plot_calibration", "write_model_card"):
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(results, last, killed)
            results.publish_results(told, tests, [], splits, [], processor, arguments)
        assert not (tmp_path / "all_results.json").exists()
