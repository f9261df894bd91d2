"""Intervals over users: each resample scored as the metric scores it, as wide as chance is, paired where two systems
have the same users."""

import numpy as np
import pytest
from sklearn.metrics import f1_score

from mmprofile.configuration_mmprofile import ProfileSchema
from scoring import bootstrap
from scoring.bootstrap import difference_intervals, half_width, interval, intervals, resample_f1
from scoring.evaluation import profile_f1

SCHEMA = ProfileSchema(
    (
        {"name": "Stars", "values": list("12345")},
        {"name": "Place", "values": list("abcd"), "count": 2},
    )
)
ODD = [
    *({"stars": "9", "place": ["a", "a"]}, {"stars": None, "place": None}, {"place": ["a"]}, {"stars": ["1"]}),
    *({"stars": "1", "place": ["a", "b", "a"]}, {"stars": "2", "place": ["a", "b", "z"]}),
]


def profiles(users: int, seed: int) -> list[dict]:
    generator = np.random.default_rng(seed)
    return [
        {"stars": str(generator.integers(1, 5)), "place": sorted(generator.choice(list("abc"), 2, False).tolist())}
        for _ in range(users)
    ]


def test_each_resample_is_scored_as_the_metric_scores_its_users():
    references, predictions = profiles(11, seed=0), [*profiles(5, seed=1), *ODD]
    found = resample_f1({"one": predictions, "true": references}, references, SCHEMA, resamples=30, seed=3)
    draws = np.vstack(list(bootstrap._draws(11, 30, 3))).astype(int)
    assert draws.shape == (30, 11) and (draws.sum(axis=1) == 11).all() and draws.std() > 0.5
    for name, predicted in (("one", predictions), ("true", references)):
        for place, times in enumerate(draws):
            users = np.repeat(np.arange(11), times)
            expected = profile_f1([predicted[u] for u in users], [references[u] for u in users], SCHEMA)
            assert {key: values[place] for key, values in found[name].items()} == pytest.approx(expected, rel=1e-6)


def test_each_resample_is_scored_as_scikit_learn_does():
    references, predictions = profiles(40, seed=0), profiles(40, seed=1)
    found = resample_f1({"one": predictions}, references, SCHEMA, resamples=20, seed=3)["one"]["stars"]
    draws = np.vstack(list(bootstrap._draws(40, 20, 3))).astype(int)
    assert len(draws) == len(found) == 20
    for place, times in enumerate(draws):
        true, predicted = (np.repeat([p["stars"] for p in rows], times) for rows in (references, predictions))
        assert found[place] == pytest.approx(100 * f1_score(true, predicted, average="macro"), rel=1e-6)


def test_a_split_of_many_users_is_drawn_in_parts_that_fit_in_memory(monkeypatch):
    references, predictions = profiles(40, seed=0), profiles(40, seed=1)
    (whole,) = bootstrap._draws(40, 7, 0)
    monkeypatch.setattr(bootstrap, "CELLS", 40 * 3)
    parts = list(bootstrap._draws(40, 7, 0))
    assert [len(part) for part in parts] == [3, 3, 1] and (np.vstack(parts) == whole).all()
    assert len(resample_f1({"one": predictions}, references, SCHEMA, resamples=7)["one"]["average"]) == 7


def guesses(references: list[dict], right: float, generator: np.random.Generator) -> list[dict]:
    return [
        {"stars": r["stars"] if generator.random() < right else "12345"[generator.integers(5)]} for r in references
    ]


def test_the_interval_holds_the_true_figure_95_times_in_100():
    schema, generator = ProfileSchema(SCHEMA.attributes[:1]), np.random.default_rng(0)

    def drawn(users):
        references = [{"stars": str(value)} for value in generator.integers(1, 6, size=users)]
        return guesses(references, 0.6, generator), references

    true = profile_f1(*drawn(40_000), schema)["stars"]
    ends = [
        interval(resample_f1({"one": predictions}, references, schema, 400)["one"]["stars"])
        for predictions, references in (drawn(150) for _ in range(200))
    ]
    assert 0.92 <= np.mean([low <= true <= high for low, high in ends]) <= 0.98


def test_a_difference_of_two_systems_on_the_same_users_is_known_better_than_either():
    schema, generator = ProfileSchema(SCHEMA.attributes[:1]), np.random.default_rng(0)
    references = [{"stars": str(value)} for value in generator.integers(1, 6, size=300)]
    first = guesses(references, 0.6, generator)
    second = [reference if generator.random() < 0.1 else p for p, reference in zip(first, references, strict=True)]
    found = resample_f1({"first": first, "second": second}, references, schema)
    alone, paired = intervals(found["first"])["average"], difference_intervals(found["second"], found["first"])
    low, high = paired["average"]
    gain = profile_f1(second, references, schema)["average"] - profile_f1(first, references, schema)["average"]
    assert 0 < low < gain < high
    assert half_width(paired["average"]) < 0.6 * half_width(alone)
    assert difference_intervals(found["first"], found["first"])["average"] == [0, 0]


def test_a_seed_draws_the_same_users_again_and_another_others():
    references, predictions = profiles(40, seed=0), profiles(40, seed=1)
    one, again, other = (
        resample_f1({"one": predictions}, references, SCHEMA, 50, seed)["one"]["average"] for seed in (0, 0, 1)
    )
    assert (one == again).all() and (one != other).any()


@pytest.mark.parametrize(("users", "predictions", "resamples"), [(0, 0, 9), (3, 2, 9), (3, 3, 0)])
def test_what_cannot_be_resampled_is_refused(users, predictions, resamples):
    with pytest.raises(ValueError, match=f"{resamples} resamples of {users} users .*{predictions}"):
        resample_f1({"one": profiles(predictions, 0)}, profiles(users, 0), SCHEMA, resamples)
