"""What is told of the test split: figures that name it, and an example of typical accuracy."""

import re

import pytest

import train
from tests.tiny_corpus import SCHEMA, tiny_dataset
from tests.training.test_train import corpus, run  # noqa: F401
from training.arguments import JointTrainingArguments
from training.batching import undecoded
from training.results import example_of_use, typical_user

DRAWS_FIGURES = True


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


def test_the_example_is_the_typical_user_with_his_reviews_as_the_model_read_them():
    found, split = rows(6, 1, 4, 5), undecoded(tiny_dataset(4))
    arguments = JointTrainingArguments(dataset="x", output_dir="y", num_reviews=2)
    assert example_of_use(found, split, SCHEMA, arguments) == {
        "reviews": [review["text"] for review in split[2]["reviews"][:2]],
        "profile": SCHEMA.render(found[2]["profile"]),
        "truth": SCHEMA.render(found[2]["truth"]),
        "right": 4,
    }


def test_figures_are_of_the_development_split_while_training_and_in_the_end_of_the_test_split(
    corpus,  # noqa: F811
    tmp_path,
    monkeypatch,
):
    drawn = []
    for name in ("plot_confusion", "plot_calibration"):
        draw = getattr(train, name)
        monkeypatch.setattr(train, name, lambda *args, draw=draw: (drawn.append(args[2:]), draw(*args)))
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
