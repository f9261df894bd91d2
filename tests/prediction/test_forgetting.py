"""Users forgotten: in no byte of the folder, whatever was under way in it, and whenever it was stopped."""

# ruff: noqa: F811 - fixtures are imported

import json
import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import predict
from files.output_files import read_json, write_json
from prediction import forgetting, updating
from prediction.encodings import encodings_path
from tests.files.test_output_files import held
from tests.prediction.test_predict import model, rows_of, run  # noqa: F401
from tests.prediction.test_updating import ALONE, PROFILE, computed, line, lines  # noqa: F401


def forget(output, *ids: str) -> dict:
    return predict.main(["--output", str(output), "--forget", *ids])


def ids_of(output) -> list[str]:
    return [row["user_id"] for row in rows_of(output)]


def holds(folder, text: str) -> list[str]:
    """The files with these letters, in the values of a Parquet file; figures may have them by chance."""
    found = []
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix != ".png"):
        packed = path.suffix == ".parquet" and not path.name.startswith(".")
        content = str(pq.read_table(path).to_pylist()).encode() if packed else path.read_bytes()
        if text.encode() in content or text in path.name:
            found.append(path.name)
    return found


@pytest.fixture(scope="module")
def first(model, tmp_path_factory):
    """A folder with nine users, of whom number 8 is gone, and its input."""
    folder = tmp_path_factory.mktemp("forgetting")
    for users in (9, 8):
        written = [json.dumps(line(number, profile=PROFILE)) for number in range(users)]
        (folder / "users.jsonl").write_text("\n".join(written))
        run(model, folder / "users.jsonl", folder / "out", update=True, evaluate=True, **ALONE)
    assert sorted(ids_of(folder / "out")) == [f"u{number}" for number in range(9)]
    return folder


@pytest.fixture
def output(first, tmp_path):
    return shutil.copytree(first / "out", tmp_path / "out")


def test_forgotten_users_are_in_no_file_and_the_others_rows_are_as_they_were(output):
    before = {row["user_id"]: row for row in rows_of(output)}
    pq.write_table(pa.table({"user_id": ["u3", "u4"], "probability.stars.4": [0.5, 0.25]}), output / "flat.parquet")
    (output / "predictions" / ".unfinished-12ab-part-00000-of-00003.parquet").write_bytes(b"half of u3")
    (output / "update" / "computed").mkdir(parents=True)
    shutil.copy(output / "predictions" / "part-00001-of-00003.parquet", output / "update" / "computed")
    (output / "update" / ".unfinished-tables").mkdir()
    (output / "update" / ".unfinished-tables" / "0.arrow").write_bytes(b"u3 among others")
    assert len(holds(output, "u3")) == 5 and holds(output, "u8") == ["gone.parquet"]
    forget(output, "u3", "u8")
    assert holds(output, "u3") == holds(output, "u8") == []
    left = [f"u{number}" for number in (0, 1, 2, 4, 5, 6, 7)]
    assert rows_of(output) == [before[user_id] for user_id in left]
    assert len(holds(output, "u4")) == 3  # with what an update has computed, and another table


def test_what_is_told_of_all_is_told_of_those_who_are_left(output):
    assert (output / "confusion.png").exists() and "f1" in json.loads((output / "results.json").read_text())
    rows = rows_of(output)
    results = forget(output, "u3", "u4", "u5")
    assert results == json.loads((output / "results.json").read_text())
    coverage = [row["coverage"] for row in rows if row["user_id"] in ("u0", "u1", "u2", "u6", "u7")]
    assert (results["users"], results["predicted"]) == (5, 5)
    assert results["mean_coverage"] == pytest.approx(sum(coverage) / 5)
    assert not list(output.glob("*.png"))


def test_no_other_number_of_all_users_together_is_left(output):
    """`fitted` is what --calibrate writes, as `test_what_was_fitted_on_a_split_is_stored_with_the_model` has it."""
    path = output / "results.json"
    write_json(path, read_json(path) | {"fitted": {"temperatures": {"stars": 2.0}}})
    assert {"f1", "f1_intervals", "resamples", "calibration", "fitted", "gone", "kept"} <= set(read_json(path))
    assert set(forget(output, "u3")) == {
        *("model", "revision", "device", "num_processes", "seconds", "input_wait_share"),
        *("users_this_time", "users_per_second"),
        *("users", "predicted", "not_predicted", "photos_left_out", "texts_shortened", "exact_share", "mean_coverage"),
    }


def test_an_id_that_is_not_there_is_named_and_nothing_changed(output):
    before = {path: path.read_bytes() for path in output.rglob("*") if path.is_file()}
    with pytest.raises(ValueError, match="out holds nothing of the users 'nobody'; nothing was removed"):
        forget(output, "u3", "nobody")
    assert {path: path.read_bytes() for path in output.rglob("*") if path.is_file()} == before


def test_a_folder_without_predictions_or_at_work_is_refused(output, tmp_path):
    with pytest.raises(ValueError, match="nowhere holds no predictions of predict.py"):
        forget(tmp_path / "nowhere", "u1")
    assert not (tmp_path / "nowhere").exists()
    with held(output), pytest.raises(ValueError, match="another run is at work"):
        forget(output, "u1")
    with pytest.raises(ValueError, match="--forget goes without --update and --evaluate"):
        run("", "", output, forget="u1", update=True, evaluate=True)
    for name in ("flat", "vectors", "calibrate", "keep_encodings", "overwrite_output"):
        with pytest.raises(ValueError, match=f"--forget goes without --{name}$"):
            run("", "", output, forget="u1", **{name: True})
    with pytest.raises(ValueError, match="--forget goes without --show and --gone$"):
        run("", "", output, forget="u1", show=1, gone="remove")
    with pytest.raises(ValueError, match="--output is needed"):
        predict.main(["--forget", "u1"])
    assert "u1" in ids_of(output)


@pytest.mark.parametrize("stopped_at", range(1, 7))
def test_what_was_stopped_is_ended_by_the_same_command(output, monkeypatch, stopped_at):
    calls = []

    def stopping(name):
        original = getattr(forgetting, name)

        def call(*args, **kwargs):
            calls.append(name)
            if len(calls) == stopped_at:
                raise KeyboardInterrupt
            return original(*args, **kwargs)

        monkeypatch.setattr(forgetting, name, call)

    for name in ("write_parquet", "write_json", "_count_again"):
        stopping(name)
    with pytest.raises(KeyboardInterrupt):
        forget(output, "u0", "u3")
    monkeypatch.undo()
    forget(output, "u0", "u3")
    assert ids_of(output) == ["u8", *(f"u{number}" for number in (1, 2, 4, 5, 6, 7))]
    assert holds(output, "u3") == [] and json.loads((output / "results.json").read_text())["users"] == 6


def test_any_other_run_ends_it_too_and_a_user_in_the_input_is_predicted_again(
    model, output, first, computed, monkeypatch
):
    with monkeypatch.context() as patched, pytest.raises(ZeroDivisionError):
        patched.setattr(forgetting, "_count_again", lambda folder: 1 / 0)
        forget(output, "u3")
    assert holds(output, "u3") == ["forgetting.json"]
    with pytest.raises(ValueError, match="holds predictions with {'users': None}, not .*--update true"):
        run(model, first / "users.jsonl", output, **ALONE)
    assert holds(output, "u3") == []
    results = run(model, first / "users.jsonl", output, update=True, **ALONE)
    assert computed == [3] and (results["kept"], results["users"]) == (7, 8)


def test_encodings_that_are_kept_are_forgotten(model, lines, tmp_path):
    run(model, lines(line(1), line(2)), tmp_path / "out", keep_encodings=True, **ALONE)
    kept = {user_id: encodings_path(tmp_path / "out", user_id) for user_id in ("u1", "u2")}
    assert all(path.exists() for path in kept.values())
    forget(tmp_path / "out", "u1")
    assert [path for path in (tmp_path / "out" / "encodings").glob("*/*")] == [kept["u2"]]


def test_an_update_after_forgetting_is_the_run_from_scratch(model, output, lines, tmp_path):
    forget(output, "u3", "u8")
    path = lines(*(line(number) for number in (0, 1, 2, 4, 5, 6, 7)))
    assert run(model, path, output, update=True, **ALONE)["users_this_time"] == 0
    run(model, path, tmp_path / "scratch", **ALONE)
    assert rows_of(output) == rows_of(tmp_path / "scratch")


def test_an_update_that_was_stopped_forgets_too(model, output, lines, monkeypatch):
    path = lines(*(line(number, reviews=["new"]) for number in range(4)))
    monkeypatch.setattr(updating, "exchange", lambda one, other: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run(model, path, output, update=True, **ALONE)
    monkeypatch.undo()
    assert len(holds(output / "update", "u3")) > 1
    forget(output, "u3")
    assert holds(output, "u3") == []
    results = run(model, lines(*(line(n, reviews=["new"]) for n in range(3))), output, update=True, **ALONE)
    assert results["users_this_time"] == 0


@pytest.mark.parametrize("user_id", ["--65q", "-0abc", "123", "null", "[a]", "two words", "é"])
def test_ids_are_taken_as_they_are_written(model, lines, tmp_path, user_id):
    path = lines(line(1), line(2) | {"user_id": user_id})
    run(model, path, tmp_path / "out", **ALONE)
    predict.main(["--output", str(tmp_path / "out"), f"--forget={user_id}"])
    assert ids_of(tmp_path / "out") == ["u1"]


def test_a_file_of_ids_is_a_recipe(output, tmp_path):
    (tmp_path / "recipe.yaml").write_text("forget: [u1, u2]\n")
    predict.main([str(tmp_path / "recipe.yaml"), "--output", str(output)])
    assert not {"u1", "u2"} & set(ids_of(output)) and len(ids_of(output)) == 7
