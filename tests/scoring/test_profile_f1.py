"""The `profile_f1` metric against scikit-learn, hand-worked cases and `evaluate`'s ways of calling it."""

import doctest
import json
import os
import random
import re
import subprocess
import sys

import evaluate
import pytest
from sklearn.metrics import f1_score
from sklearn.preprocessing import MultiLabelBinarizer

from mmprofile.configuration_mmprofile import ProfileSchema
from tests import ROOT

FOLDER = ROOT / "metrics" / "profile_f1"
STARS, TASTES = ["1", "2", "3", "4", "5"], ["Pizza", "Shopping", "Beauty & Spas", "Automotive"]
SCHEMA = [
    {"name": "Stars", "values": STARS, "count": 1},
    {"name": "Favorite Category", "values": TASTES, "count": 2},
]


@pytest.fixture(scope="module")
def metric(tmp_path_factory):
    return evaluate.load(str(FOLDER), cache_dir=str(tmp_path_factory.mktemp("metric")), keep_in_memory=True)


def profile(stars, *tastes):
    return {"stars": stars, "favorite_category": list(tastes)}


def random_profiles(rng, rows):
    return [profile(rng.choice(STARS), *rng.sample(TASTES, 2)) for _ in range(rows)]


@pytest.mark.parametrize("source", ["README.md", "profile_f1.py"])
def test_the_documented_examples_run(source, monkeypatch):
    monkeypatch.chdir(ROOT)
    text = re.search(r">>>.*?(?=```|\"\"\")", (FOLDER / source).read_text(encoding="utf-8"), re.S).group()
    example = doctest.DocTestParser().get_doctest(text, {"evaluate": evaluate}, source, source, 0)
    result = doctest.DocTestRunner().run(example)
    assert result.failed == 0 and result.attempted >= 4


def test_hand_worked_single_valued_attributes_the_majority_class_among_them(metric):
    references = [{"meal": value, "offer": "True"} for value in ["Lunch", "Lunch", "Dinner"]]
    predictions = [{"meal": "Lunch", "offer": offer} for offer in ["True", "False", "True"]]
    scores = metric.compute(predictions=predictions, references=references)
    # Always Lunch, the majority: 2 right, 1 false alarm, F1 4/5; Dinner 0. True: 2 right, 1 missed, 4/5; False 0.
    assert scores == {"meal": 0.4, "offer": 0.4, "average": 0.4}


def test_hand_worked_multi_label_attribute_counts_every_value_of_the_schema(metric):
    references = [profile("1", "Pizza", "Shopping"), profile("1", "Pizza", "Automotive")]
    predictions = [profile("1", "Shopping", "Pizza"), profile("1", "Shopping", "Automotive")]
    # Pizza: 1 right, 1 missed, 2/3; Shopping: 1 right, 1 false, 2/3; Automotive 1; Beauty & Spas occurs nowhere, 0.
    scores = metric.compute(predictions=predictions, references=references, schema=SCHEMA)
    assert scores == pytest.approx({"stars": 1.0, "favorite_category": 7 / 12, "average": 19 / 24})
    scores = metric.compute(predictions=predictions, references=references)
    assert scores == pytest.approx({"stars": 1.0, "favorite_category": 7 / 9, "average": 8 / 9})


@pytest.mark.parametrize("rows", [3, 10, 50, 200])
def test_random_profiles_score_as_in_scikit_learn(metric, rows):
    rng = random.Random(rows)
    references, predictions = random_profiles(rng, rows), random_profiles(rng, rows)
    for row in rng.sample(range(rows), rows // 3):
        predictions[row] = {"stars": rng.choice([None, "0", "11"]), "favorite_category": None}
    scores = metric.compute(predictions=predictions, references=references, schema=SCHEMA)

    true, predicted = ([str(p["stars"]) for p in profiles] for profiles in (references, predictions))
    labels = sorted({*true, *predicted} & {*STARS})
    stars = f1_score(true, predicted, labels=labels, average="macro", zero_division=0)
    indicator = MultiLabelBinarizer(classes=TASTES).fit([]).transform
    true, predicted = (indicator([p["favorite_category"] or [] for p in ps]) for ps in (references, predictions))
    tastes = f1_score(true, predicted, average="macro", zero_division=0)
    assert scores == pytest.approx({"stars": stars, "favorite_category": tastes, "average": (stars + tastes) / 2})


@pytest.mark.parametrize("invalid", [None, "6", "", 4, True, ["4", "5"], ["4", "4"], [], {"is": "4"}])
def test_an_invalid_value_costs_recall_and_adds_no_class(metric, invalid):
    references = [profile(stars, "Pizza", "Shopping") for stars in "4455"]
    predictions = [{"stars": invalid}, *references[1:3], {"stars": "5"}]
    # Four stars: 1 right, 1 missed, no false alarm, F1 2/3; five stars 1. A third class would make it 5/9.
    scores = metric.compute(predictions=predictions, references=references, schema=SCHEMA)
    assert scores["stars"] == pytest.approx(5 / 6)
    assert metric.compute(predictions=[{}, *predictions[1:]], references=references, schema=SCHEMA) == scores


@pytest.mark.parametrize("second", [[], ["Pizza"], ["Sushi"], [None], [4], [["Shopping"]], ["Shopping", "Automotive"]])
def test_an_invalid_list_names_none_of_its_values(metric, second):
    references = [profile("4", "Pizza", "Shopping")] * 2 + [profile("4", "Beauty & Spas", "Automotive")]
    predictions = [{"stars": "4", "favorite_category": ["Pizza", *second]}, *references[1:]]
    # Pizza and Shopping: 1 right, 1 missed, 2/3 each; the others 1.
    scores = metric.compute(predictions=predictions, references=references, schema=SCHEMA)
    assert scores["favorite_category"] == pytest.approx(5 / 6)


def test_without_a_schema_an_invented_value_is_a_class(metric):
    scores = metric.compute(predictions=[{"a": "x"}, {"a": "z"}], references=[{"a": "x"}, {"a": "y"}])
    assert scores["a"] == pytest.approx(1 / 3)


def test_perfect_predictions_score_one_and_hopeless_ones_zero(metric):
    references = random_profiles(random.Random(0), 50)
    for predictions, score in [(references, 1.0), ([{}] * 50, 0.0)]:
        scores = metric.compute(predictions=predictions, references=references, schema=SCHEMA)
        assert scores == {"stars": score, "favorite_category": score, "average": score}


def test_order_of_rows_keys_and_values_does_not_matter(metric):
    rng = random.Random(1)
    references, predictions = random_profiles(rng, 30), random_profiles(rng, 30)
    scores = metric.compute(predictions=predictions, references=references, schema=SCHEMA)
    order = rng.sample(range(30), 30)
    turned = [{"favorite_category": p["favorite_category"][::-1], "stars": p["stars"]} for p in predictions]
    predictions, references = [turned[i] for i in order], [references[i] for i in order]
    again = metric.compute(predictions=predictions, references=references, schema=SCHEMA)
    assert again == scores and list(again) == list(scores)


def test_the_model_schema_is_taken_as_its_config_writes_it(metric):
    schema = ProfileSchema()
    true = {a.key: list(a.values[: a.count]) if a.count > 1 else a.values[0] for a in schema.attributes}
    predicted = schema.parse("Stars: 9 | Preferred Meal: Lunch", strict=False)
    scores = metric.compute(predictions=[true, predicted], references=[true, true], schema=schema.to_list())
    assert list(scores) == [*schema.keys, "average"]
    assert scores["stars"] == pytest.approx(2 / 3) and scores["preferred_meal"] == 1.0
    assert scores["favorite_category"] == pytest.approx(2 * 2 / 3 / 10)  # two of the ten at F1 2/3


A = [{"a": "x"}]


@pytest.mark.parametrize(
    ("predictions", "references", "schema", "message"),
    [
        (A * 2, A, None, r"predictions \(2\) and references \(1\)"),
        ([], [], None, "at least one row"),
        (A, None, None, "references must be a list of profiles, got None"),
        (A[0], A, None, "predictions must be a list of profiles, got {'a': 'x'}"),
        (["A: x"], A, None, r"predictions\[0\] must be a dict with the keys \['a'\], got 'A: x'"),
        (A, ["A: x"], None, r"references\[0\] must be a dict .* got 'A: x'"),
        ([{"b": "x"}], A, None, r"the keys \['a'\], got {'b': 'x'}"),
        (A * 2, [*A, {"a": None}], None, r"references\[1\]\['a'\] must be one string, got None"),
        (A, [{"a": ["x", "x"]}], None, r"different strings, got \['x', 'x'\]"),
        ([{}], [{}], None, r"no attribute to score: .*references\[0\]={}"),
        (A, [{"average": "x"}], None, "none with the key 'average', got"),
        (A, A, [{"name": "A", "values": ["y", "z"]}], r"references\[0\]\['a'\] must be 1 of \['y', 'z'\], got 'x'"),
        (A, A, SCHEMA, r"the keys \['stars', 'favorite_category'\], got {'a': 'x'}"),
        (A, A, {"a": ["x"]}, r"a schema is a list of dicts .* got {'a': \['x'\]}"),
        (A, A, [{"name": "A", "values": "xy"}], "'values', a list of strings, got"),
        (A, A, [{"name": "A", "values": ["x", "x"]}], r"different values, got 1 of \['x', 'x'\]"),
        (A, A, [{"name": "A", "values": ["x"], "count": 2}], r"different values, got 2 of \['x'\]"),
        (A, A, [{"name": name, "values": ["x"]} for name in "aA"], r"'a' of 'A' is taken .* \['a', 'average'\]"),
        (A, A, [{"name": "Average", "values": ["x"]}], r"'average' of 'Average' is taken .* \['average'\]"),
    ],
)
def test_bad_input_is_a_value_error_with_what_was_given_and_what_fits(
    metric, predictions, references, schema, message
):
    with pytest.raises(ValueError, match=message):
        metric.compute(predictions=predictions, references=references, schema=schema)


@pytest.mark.parametrize("keep_in_memory", [False, True])
def test_rows_added_in_batches_score_as_all_at_once_even_after_an_error(metric, keep_in_memory, tmp_path):
    references, predictions = (random_profiles(random.Random(seed), 9) for seed in (2, 3))
    stacked = evaluate.load(str(FOLDER), cache_dir=str(tmp_path), keep_in_memory=keep_in_memory)
    with pytest.raises(ValueError, match="references"):
        stacked.compute(predictions=predictions, references=[None] * 9)
    stacked.add(prediction=predictions[0], reference=references[0])
    stacked.add_batch(predictions=predictions[1:], references=references[1:])
    scores = stacked.compute(schema=SCHEMA)
    assert scores == metric.compute(predictions=predictions, references=references, schema=SCHEMA)


WORKER = """
import json, sys, evaluate
rank = int(sys.argv[1])
rows = {"predictions": [{"a": "x"}], "references": [{"a": "xy"[rank]}]}
alone = evaluate.load("metrics/profile_f1", experiment_id=f"worker-{rank}").compute(**rows)
pooled = evaluate.load("metrics/profile_f1", experiment_id="both", process_id=rank, num_process=2)
print(json.dumps([alone, pooled.compute(**rows)]))
"""


@pytest.mark.slow
def test_processes_compute_apart_and_together_offline_with_an_empty_cache(tmp_path):
    settings = {"cwd": ROOT, "env": {**os.environ, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"}}
    commands = [[sys.executable, "-c", WORKER, rank] for rank in "01"]
    workers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, **settings) for command in commands]
    first, second = (json.loads(worker.communicate(timeout=600)[0]) for worker in workers)
    assert first == [{"a": 1.0, "average": 1.0}, {"a": 1 / 3, "average": 1 / 3}]  # x: 1 right, 1 false; y: 0
    assert second == [{"a": 0.0, "average": 0.0}, None]
