"""predict.py --calibrate fits a folder's temperatures and thresholds, and --min_precision decides by them."""

# ruff: noqa: F811 - fixtures are imported

import json
import shutil

import pyarrow.parquet as pq
import pytest

import predict
from files.checkpoint_code import load_model
from mmprofile import DECISIONS, calibrated, marginal_profile
from prediction import arguments
from scoring.temperature import fit_by_views
from tests.prediction.test_predict import corpus, model, rows_of, run, whole  # noqa: F401
from tests.tiny_corpus import SCHEMA, tiny_dataset


@pytest.fixture
def own(model, tmp_path):
    shutil.copytree(model, tmp_path / "model")
    return tmp_path / "model"


def test_what_was_fitted_on_a_split_is_stored_with_the_model_and_used(own, corpus, whole, tmp_path, capsys):
    results = run(own, corpus, tmp_path / "fitting", calibrate=True)
    expected = {"product": fit_by_views([{**row, "views": 1} for row in rows_of(whole[0])], SCHEMA)}
    assert results["fitted"] == expected == json.loads((tmp_path / "fitting" / "results.json").read_text())["fitted"]
    fit = load_model(str(own), None).config.calibrations["product"]["1"]
    assert expected == {"product": {"1": fit}}
    assert fit["temperatures"] != dict.fromkeys(SCHEMA.keys, 1.0)
    shown = capsys.readouterr().out
    assert "Fitted on 10 users" in shown and shown.count("%") >= len(SCHEMA.keys)
    run(own, corpus, tmp_path / "after")
    plain, after = ([row["probabilities"] for row in rows_of(folder)] for folder in (whole[0], tmp_path / "after"))
    assert after == calibrated(SCHEMA, plain, [fit] * 10)


def test_a_model_that_was_fitted_before_is_fitted_again_to_the_same(own, corpus, tmp_path):
    once = run(own, corpus, tmp_path / "once", calibrate=True)["fitted"]
    assert run(own, corpus, tmp_path / "twice", calibrate=True)["fitted"] == once
    plain, again = ([row["probabilities"] for row in rows_of(tmp_path / name)] for name in ("once", "twice"))
    assert plain == again  # the model's own, whatever it was fitted to before
    assert max(once["product"]["1"]["temperatures"].values()) > 1.5


@pytest.mark.parametrize("combination", ["product", "mixture"])
def test_a_combination_and_a_number_of_views_have_their_own(own, corpus, tmp_path, combination):
    run(own, corpus, tmp_path / "one", calibrate=True)
    flags = {"views": "all", "combination": combination}
    plain = run(own, corpus, tmp_path / "plain", **flags | {"combination": "states"}, evaluate=True)["calibration"]
    fitted = run(own, corpus, tmp_path / "fitting", **flags, calibrate=True)["fitted"]
    calibrations = load_model(str(own), None).config.calibrations
    assert list(fitted) == [combination] and calibrations[combination]["2"] == fitted[combination]["2"]
    assert "1" in calibrations["product"]
    after = run(own, corpus, tmp_path / "after", **flags, evaluate=True)["calibration"]
    assert after["favorite_category"]["expected_error"] < plain["favorite_category"]["expected_error"]
    with pytest.raises(ValueError, match="this model has none for views' states"):
        run(own, corpus, tmp_path / "other", views="all", combination="states", min_precision=0.5)


@pytest.mark.parametrize("combination", ["product", "mixture"])
def test_a_user_weighs_by_the_views_that_were_answered_for(own, tmp_path, monkeypatch, combination):
    """Of the second user's two views one has no word; the third has none at all."""
    profile = SCHEMA.profile_from_labels(tiny_dataset(1)[0]["profile"])
    texts = {"a": ["good", "fine", "bad"], "b": [" ", "good", "bad"], "c": [""]}
    users = [{"user_id": name, "reviews": reviews, "profile": profile} for name, reviews in texts.items()]
    (tmp_path / "users.jsonl").write_text("\n".join(map(json.dumps, users)))
    given = []

    def fit(rows, schema):
        given.extend(rows)
        return fit_by_views(rows, schema)

    monkeypatch.setattr(predict, "fit_by_views", fit)
    flags = {"views": "all", "num_reviews": 2, "combination": combination}
    run(own, tmp_path / "users.jsonl", tmp_path / "out", **flags, calibrate=True, flat=True)
    assert [row["views"] for row in rows_of(tmp_path / "out")] == [2, 1, None]
    assert [row["views"] for row in given] == [2, 1, None]
    table = pq.read_table(tmp_path / "out" / "table" / "part-00000-of-00001.parquet")
    assert table["views"].to_pylist() == [2, 1, None]


def test_profiles_are_decided_by_marginals_where_that_is_asked_for(model, corpus, whole, tmp_path, capsys):
    run(model, corpus, tmp_path / "out", decision="marginal", show=10)
    rows, joint = rows_of(tmp_path / "out"), rows_of(whole[0])
    likely = [marginal_profile(SCHEMA, row["probabilities"]) for row in joint]
    assert [row["profile"] for row in rows] == likely != [row["profile"] for row in joint]
    shown = capsys.readouterr().out
    assert shown.count("log-probability not computed") == [row["log_probability"] for row in rows].count(None) > 0


def test_decisions_are_the_librarys():
    assert tuple(arguments.DECISIONS) == tuple(DECISIONS)


def test_a_wanted_precision_fills_a_column(own, corpus, whole, tmp_path, capsys):
    settings = json.loads((own / "config.json").read_text())
    fit = {"precision_thresholds": {"stars": {"0.9": 0.0}, "budget_range": {"0.9": 1.0}}}
    settings["calibrations"] = {"product": {"1": fit}}
    (own / "config.json").write_text(json.dumps(settings))
    run(own, corpus, tmp_path / "out", min_precision=0.85, show=1)
    rows = rows_of(tmp_path / "out")
    assert len(rows) == 10
    nothing = dict.fromkeys(SCHEMA.keys)
    assert [row["decided"] for row in rows] == [nothing | {"stars": row["profile"]["stars"]} for row in rows]
    assert [row["decided"] for row in rows_of(whole[0])] == [None] * 10
    assert "  sure of    Stars\n" in capsys.readouterr().out
    with pytest.raises(ValueError, match="'min_precision': 0.85"):
        run(own, corpus, tmp_path / "out")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"min_precision": 0.9}, "needs thresholds fitted .* --calibrate true"),
        ({"decision": "vote"}, r"decision must be one of .*, got 'vote'"),
        ({"min_precision": 1.0}, "min_precision is above 0 and below 1, got 1.0"),
        (
            {"calibrate": True, "model": "org/model"},
            "--calibrate writes to the model's folder, and 'org/model' is none",
        ),
        ({"calibrate": True, "min_precision": 0.9}, "--calibrate fits what .'min_precision': 0.9. needs"),
        ({"decision": "weighted"}, "decision='weighted' needs weights fitted"),
        ({"calibrate": True, "output": None, "show": 1}, "--output is needed"),
        ({"calibrate": True, "views": "all", "draws": 3}, "without --draws 3"),
    ],
)
def test_what_cannot_be_fitted_or_decided_is_said_before_anything_is_written(model, corpus, tmp_path, flags, message):
    with pytest.raises(ValueError, match=message):
        run(flags.pop("model", model), corpus, **{"output": tmp_path / "out"} | flags)
    assert not (tmp_path / "out").exists()


def test_users_without_true_profiles_fit_nothing(model, tmp_path):
    (tmp_path / "users.jsonl").write_text(json.dumps({"user_id": "a", "reviews": ["good"]}))
    with pytest.raises(ValueError, match="--calibrate needs the true profile of every user"):
        run(model, tmp_path / "users.jsonl", tmp_path / "out", calibrate=True)


def test_a_model_of_other_code_is_refused(model, corpus, tmp_path, monkeypatch):
    load = predict.load_model

    def without_the_field(*arguments):
        network = load(*arguments)
        network.config = type("Config", (), {"profile_schema": SCHEMA, "sees": network.config.sees})()
        return network

    monkeypatch.setattr(predict, "load_model", without_the_field)
    with pytest.raises(ValueError, match="for mmprofile's own models"):
        run(model, corpus, tmp_path / "out", calibrate=True)
