"""score.py: stored predictions against the truth and an earlier run, without the model; what cannot be is refused."""

import json
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset
from PIL import Image

import score
from mmprofile.configuration_mmprofile import ProfileSchema
from prediction.store import PredictionFolder
from prediction.stored import StoredPredictions, shard_paths
from scoring.drift import drift
from scoring.evaluation import profile_f1
from scoring.predictions import score_rows
from tests.prediction.test_predict import corpus, model, run, whole  # noqa: F401
from tests.tiny_corpus import SCHEMA as YELP
from tests.tiny_corpus import features, user
from tests.tiny_folder import SCHEMA

MOODS, FOODS = (list(attribute.values) for attribute in SCHEMA.attributes)
USERS = 60


def profile_of(number: int) -> dict:
    rng = np.random.default_rng(number)
    left_out = FOODS[rng.integers(3)]
    return {"mood": MOODS[rng.integers(3)], "favorite_food": [food for food in FOODS if food != left_out]}


def row(number: int, seed: int) -> dict:
    """Of each ten users one has no prediction."""
    if number % 10 == 9:
        return {"problems": ["no review"]}
    rng = np.random.default_rng([seed, number])
    profile = profile_of(number if rng.random() < 0.6 else number + 1000)
    mood, food = rng.dirichlet([1, 1, 1]), rng.dirichlet([1, 1, 1])
    probabilities = {
        "mood": dict(zip(MOODS, mood.tolist(), strict=True)),
        "favorite_food": dict(zip(FOODS, (1 - food).tolist(), strict=True)),
    }
    return {"profile": profile, "text": SCHEMA.render(profile), "probabilities": probabilities}


def write(path, seed: int = 0, users=range(USERS), truths: bool = False, schema=SCHEMA) -> PredictionFolder:
    folder = PredictionFolder(path, schema, [f"u{number}" for number in users], 25)
    folder.begin({"model's model.safetensors": "12ab"})
    folder.notes = {"model": "m", "revision": "12ab", "profile_schema": schema.to_list()}
    for shard, places in enumerate(folder.shards):
        rows = {place: row(users[place], seed) for place in places}
        if truths:
            rows = {place: found | {"truth": profile_of(users[place])} for place, found in rows.items()}
        folder.write(shard, rows)
    return folder


def write_truths(path, users, **others) -> list[str]:
    lines = [{"user_id": f"u{number}", "profile": profile_of(number), "reviews": ["x"]} for number in users]
    path.write_text("\n".join(map(json.dumps, [*lines, *others.get("more", [])])) + "\n\n")
    return ["--truth", str(path)]


def main(folder, *flags) -> dict:
    path = folder.folder if isinstance(folder, PredictionFolder) else folder
    return score.main(["--predictions", str(path), "--resamples", "200", *map(str, flags)])


def test_users_that_both_have_are_scored_and_the_others_counted(tmp_path):
    folder = write(tmp_path / "out")
    unknown = [
        {"user_id": "later", "profile": None},
        {"user_id": "u3", "profile": {"mood": None, "favorite_food": []}},
    ]
    found = main(folder, *write_truths(tmp_path / "truth.jsonl", range(20, 90), more=unknown))
    assert found["coverage"] == {
        "true_users": 70,
        "rows": 60,
        "scored": 40,
        "scored_with_prediction": 36,
        "share_of_true_users": 40 / 70,
        "share_of_rows": 40 / 60,
    }
    rows = [r for r in folder.read(["user_id", "profile", "probabilities"]) if int(r["user_id"][1:]) >= 20]
    nothing = {"mood": None, "favorite_food": None}
    truths = [profile_of(number) for number in range(20, 60)]
    assert found["f1"] == profile_f1([r["profile"] or nothing for r in rows], truths, SCHEMA)
    low, high = found["f1_intervals"]["average"]
    assert low < found["f1"]["average"] < high and found["resamples"] == 200


def test_the_calibration_error_is_that_of_a_reckoning_of_its_own(tmp_path):
    folder = write(tmp_path / "out", truths=True)
    found = main(folder)["calibration"]["favorite_food"]["expected_error"]
    pairs = [
        (r["probabilities"]["favorite_food"][food], food in r["truth"]["favorite_food"])
        for r in folder.read()
        if r["profile"]
        for food in r["profile"]["favorite_food"]
    ]
    p, right = np.array(pairs, float).T
    bins = np.digitize(p, np.linspace(0.1, 0.9, 9))
    expected = sum(abs(p[bins == b].mean() - right[bins == b].mean()) * (bins == b).mean() for b in set(bins))
    assert len(pairs) == 108 and found == pytest.approx(expected) and found > 0.05


def test_predict_and_score_tell_the_same_of_one_folder(whole, tmp_path):  # noqa: F811
    found = score.main(["--predictions", str(whole[0]), "--output", str(tmp_path / "scores")])
    names = ("f1", "f1_intervals", "resamples", "calibration")
    assert [found[name] for name in names] == [whole[1][name] for name in names]
    for name in ("confusion.png", "calibration.png"):
        with Image.open(tmp_path / "scores" / name) as one, Image.open(whole[0] / name) as other:
            assert one.size == other.size


def test_a_corpus_and_files_of_its_profiles_are_the_same_truth(whole, corpus, tmp_path):  # noqa: F811
    own = score.main(["--predictions", str(whole[0])])
    rows = [user(200 + number, photos=3) for number in range(10)]
    labels = Dataset.from_list(rows, features=features()).select_columns(["profile", "user_id"])
    labels.to_parquet(tmp_path / "labels.parquet")
    profiles = [YELP.profile_from_labels(each["profile"]) for each in rows]
    ids = [each["user_id"] for each in rows]
    nobody = [None, dict.fromkeys(YELP.keys)]
    texts = pa.table({"user_id": [*ids, "x", "y"], "profile": [*profiles, *nobody]})
    pq.write_table(texts, tmp_path / "texts.parquet")
    found = {}
    for truth in (
        corpus,
        corpus / "test-00000-of-00001.parquet",
        tmp_path / "labels.parquet",
        tmp_path / "texts.parquet",
    ):
        found[truth] = score.main(["--predictions", str(whole[0]), "--truth", str(truth)])
    assert len(found) == 4 and all(each == own for each in found.values())


def test_two_runs_are_compared_with_and_without_a_truth(tmp_path, capsys):
    now, earlier = write(tmp_path / "now", seed=1), write(tmp_path / "earlier", users=range(30, 80))
    found = main(now, "--against", earlier.folder, "--output", tmp_path / "scores")
    assert set(found) == {"predictions", "against", "drift"}
    runs = [{r["user_id"]: r["profile"] for r in folder.read()} for folder in (now, earlier)]
    assert found["drift"] == drift(*runs, SCHEMA)
    assert found["drift"]["users_in_both"] == 27 and 0 < found["drift"]["attributes"]["mood"]["changed"] < 1
    assert [path.name for path in (tmp_path / "scores").iterdir()] == ["scores.json"]
    assert "54 users now, 45 earlier, 27 in both" in capsys.readouterr().out
    both = main(now, "--against", earlier.folder, *write_truths(tmp_path / "truth.jsonl", range(10)))
    assert both["drift"] == found["drift"] and "f1" in both


def test_what_is_told_is_written_with_figures_model_and_time(tmp_path, capsys):
    folder = write(tmp_path / "out", truths=True)
    found = main(folder, "--output", tmp_path / "scores")
    assert json.loads((tmp_path / "scores" / "scores.json").read_text()) == found
    notes = found["predictions"]
    assert (notes["model"], notes["revision"], notes["folder"]) == ("m", "12ab", str(folder.folder))
    assert notes["predicted_at"] == sorted(notes["predicted_at"]) and len(notes["predicted_at"]) == 2
    names = sorted(path.name for path in (tmp_path / "scores").iterdir())
    assert names == ["calibration.png", "confusion.png", "scores.json"]
    said = capsys.readouterr().out
    assert "60 users scored, 54 of them with a prediction: 100.0% of 60 true ones" in said
    assert "| 95 % interval |" in said and "Expected calibration error: Mood 0." in said


def test_no_resamples_give_no_intervals_and_very_many_users_fewer(tmp_path, monkeypatch, capsys):
    folder = write(tmp_path / "out", truths=True)
    found = score.main(["--predictions", str(folder.folder), "--resamples", "0"])
    assert found["f1_intervals"] is None and "interval" not in capsys.readouterr().out
    monkeypatch.setattr("scoring.predictions.DRAWN", 60 * 300)
    assert score.main(["--predictions", str(folder.folder)])["resamples"] == 300


def test_a_folder_of_older_code_is_scored_too(tmp_path):
    folder = write(tmp_path / "out", truths=True)
    expected = main(folder)
    for path in shard_paths(folder.folder):
        pq.write_table(pq.read_table(path).replace_schema_metadata(None), path)
    assert StoredPredictions(folder.folder).schema == SCHEMA
    found = main(folder)
    assert found.pop("predictions") == {"folder": str(folder.folder)}
    assert expected | found == expected and found["f1"]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["{"], "line 1 of '.*' is not JSON"),
        (["[1]"], "line 1 of '.*' needs an object with user_id and profile"),
        (['{"user_id": "u1"}'], "line 1 of '.*' needs an object with user_id and profile"),
        (['{"user_id": 1, "profile": null}'], "a user_id is a text, got 1"),
        (['{"user_id": "u1", "profile": null}'] * 2, "line 2 of '.*': user_id 'u1' occurs twice"),
        (['{"user_id": "u1", "profile": null}'], "has no true profile"),
        (['{"user_id": "u1", "profile": {"mood": "Glad", "favorite_food": ["Soup", "Cake"]}}'], "user 'u1': .*Glad"),
        (['{"user_id": "u1", "profile": {"mood": "Calm"}}'], "user 'u1': a profile has the attributes"),
        (['{"user_id": "u1", "profile": 3}'], "line 1 of '.*', user 'u1': "),
        (
            [json.dumps({"user_id": "U1", "profile": profile_of(1)})],
            "no user_id of '.*out', as 'u0', is one of the 1 true profiles, as 'U1'",
        ),
    ],
)
def test_a_truth_that_does_not_fit_is_refused_in_a_sentence(tmp_path, lines, message):
    folder = write(tmp_path / "out")
    (tmp_path / "truth.jsonl").write_text("\n".join(lines))
    with pytest.raises(ValueError, match=message):
        main(folder, "--truth", tmp_path / "truth.jsonl", "--output", tmp_path / "scores")
    assert not (tmp_path / "scores").exists()


def test_a_truth_of_another_schema_or_split_is_refused(tmp_path, whole, corpus):  # noqa: F811
    folder = write(tmp_path / "out")
    with pytest.raises(ValueError, match="the predictions are of .*'Mood'.* has .*'Stars'"):
        main(folder, "--truth", corpus)
    with pytest.raises(ValueError, match=r"has the splits \['train', 'validation', 'test'\], not 'dev'"):
        main(whole[0], "--truth", corpus, "--split", "dev")
    with pytest.raises(ValueError, match="there is no corpus '.*nowhere'"):
        main(folder, "--truth", tmp_path / "nowhere")
    with pytest.raises(ValueError, match="of a corpus that --truth names, which is missing"):
        main(folder, "--truth_config", "full")


def test_folders_that_are_none_or_not_finished_are_refused(tmp_path):
    folder = write(tmp_path / "out")
    with pytest.raises(ValueError, match="'.*out' holds no true profiles; name them by --truth"):
        main(folder)
    with pytest.raises(ValueError, match="'.*nowhere' is no output folder of predict.py"):
        main(tmp_path / "nowhere")
    shutil.copytree(folder.folder, tmp_path / "part")
    (tmp_path / "part" / "predictions" / "part-00001-of-00003.parquet").unlink()
    with pytest.raises(ValueError, match="'.*part' is unfinished, 2 of 3 shards are there; start predict.py again"):
        main(folder, "--against", tmp_path / "part")
    (tmp_path / "part" / "predictions" / "part-00000-of-00001.parquet").write_bytes(b"")
    with pytest.raises(ValueError, match="holds shards of 1 and of 3, of more than one run"):
        main(tmp_path / "part")
    folder.path(0).write_bytes(b"PAR1")
    with pytest.raises(ValueError, match="part-00000-of-00003.parquet' is not a whole Parquet file"):
        main(folder)
    pq.write_table(pa.table({"user_id": ["a"]}), folder.path(0))
    with pytest.raises(ValueError, match="is no shard of predict.py, profile and probabilities and truth missing"):
        main(folder)


def test_runs_of_other_schemas_are_not_compared(tmp_path):
    other = ProfileSchema([{"name": "Mood", "values": MOODS}, {"name": "Favorite Food", "values": [*FOODS, "Tea"]}])
    folder, earlier = write(tmp_path / "out"), PredictionFolder(tmp_path / "other", other, ["a"], 1)
    earlier.begin({})
    earlier.write(0, {0: {}})
    with pytest.raises(ValueError, match="'.*out' has profiles of .*, '.*other' of .*'Tea'"):
        main(folder, "--against", earlier.folder)


def test_of_no_rows_there_is_nothing_to_score():
    with pytest.raises(ValueError, match="there is no user to score"):
        score_rows([], SCHEMA)
