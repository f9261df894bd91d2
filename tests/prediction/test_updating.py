"""Predictions kept up to date: the rows of a run from scratch, computed for those alone whose input changed."""

# ruff: noqa: F811 - fixtures are imported

import json
import os
from collections import Counter
from datetime import UTC, datetime

import pyarrow.parquet as pq
import pytest
from datasets import load_dataset

import predict
from prediction import updating
from tests.prediction.test_predict import model, rows_of, run, without_time  # noqa: F401
from tests.tiny_corpus import SCHEMA, png, tiny_dataset
from tests.tiny_folder import save_tiny_folder

PROFILE = SCHEMA.profile_from_labels(tiny_dataset(1)[0]["profile"])
ALONE = {"batch_size": 1, "shard_users": 3}  # the numbers of a user do not depend on who is in the batch


def line(number: int, **fields) -> dict:
    return {"user_id": f"u{number}", "reviews": [f"review of {number}", "a place"]} | fields


@pytest.fixture
def lines(tmp_path):
    """Writes an input of these lines; returns its path."""

    def write(*users: dict):
        (tmp_path / "users.jsonl").write_text("".join(json.dumps(user) + "\n" for user in users))
        return tmp_path / "users.jsonl"

    return write


@pytest.fixture
def computed(monkeypatch) -> list[str]:
    """Whose profiles were searched."""
    found, columns_of = [], predict.columns_of
    monkeypatch.setattr(
        predict, "columns_of", lambda user, answer: found.append(user.index) or columns_of(user, answer)
    )
    return found


def of_input(output) -> list[dict]:
    return [row for row in rows_of(output) if row["gone_since"] is None]


def from_scratch(model, path, tmp_path) -> list[dict]:
    run(model, path, tmp_path / "scratch", overwrite_output=True, **ALONE)
    return rows_of(tmp_path / "scratch")


def test_what_changed_is_computed_and_all_is_as_of_a_run_from_scratch(model, lines, computed, tmp_path):
    run(model, lines(*map(line, range(8))), tmp_path / "out", **ALONE)
    path = lines(line(9), line(0), line(3), line(2, reviews=["other words"]), *map(line, (4, 5, 7)))
    computed.clear()
    results = run(model, path, tmp_path / "out", update=True, **ALONE)
    assert sorted(computed) == [0, 3]
    assert (results["users"], results["users_this_time"], results["kept"], results["gone"]) == (7, 2, 5, 2)
    assert of_input(tmp_path / "out") == from_scratch(model, path, tmp_path)
    names = {file.name for file in (tmp_path / "out").rglob("*")}
    assert names == {
        *("predictions", "run.json", "results.json", "gone.parquet"),
        *(f"part-0000{number}-of-00003.parquet" for number in range(3)),
    }
    run(model, path, tmp_path / "out", **ALONE)  # the folder is that input's now
    loaded = load_dataset(str(tmp_path / "out" / "predictions"), cache_dir=tmp_path / "cache")
    assert len(loaded["train"]) == 9


def test_in_larger_batches_the_numbers_are_near(model, lines, tmp_path):
    run(model, lines(*map(line, range(8))), tmp_path / "out")
    path = lines(*map(line, (7, 1, 2, 3)), line(4, reviews=["other words"]))
    run(model, path, tmp_path / "out", update=True, gone="remove")
    run(model, path, tmp_path / "scratch")
    pairs = list(zip(rows_of(tmp_path / "out"), rows_of(tmp_path / "scratch"), strict=True))
    assert len(pairs) == 5
    for row, scratch in pairs:
        assert (row["user_id"], row["text"], row["digest"]) == tuple(scratch[k] for k in ("user_id", "text", "digest"))
        assert row["log_probability"] == pytest.approx(scratch["log_probability"], abs=1e-4)


def test_the_first_update_is_a_run(model, lines, tmp_path):
    path = lines(line(1), line(2))
    results = run(model, path, tmp_path / "out", update=True, **ALONE)
    assert results["users_this_time"] == 2 and "kept" not in results
    assert rows_of(tmp_path / "out") == from_scratch(model, path, tmp_path)


def test_users_that_are_gone_keep_their_row_with_the_time_and_may_come_back(model, lines, computed, tmp_path):
    run(model, lines(line(1), line(2), line(3)), tmp_path / "out", **ALONE)
    before = {row["user_id"]: row for row in rows_of(tmp_path / "out")}
    started = datetime.now(UTC)
    run(model, lines(line(1), line(3)), tmp_path / "out", update=True, **ALONE)
    since = {row["user_id"]: row["gone_since"] for row in rows_of(tmp_path / "out")}
    assert since["u1"] is since["u3"] is None and started <= since["u2"] <= datetime.now(UTC)
    run(model, lines(line(1)), tmp_path / "out", update=True, **ALONE)
    later = {row["user_id"]: row["gone_since"] for row in rows_of(tmp_path / "out")}
    assert later["u2"] == since["u2"] < later["u3"]
    computed.clear()
    run(model, lines(line(2), line(1)), tmp_path / "out", update=True, gone="remove", **ALONE)
    assert (computed, rows_of(tmp_path / "out")) == ([], [before["u2"], before["u1"]])


def test_another_true_profile_is_written_and_nothing_computed(model, lines, computed, tmp_path):
    run(model, lines(line(1), line(2)), tmp_path / "out", **ALONE)
    computed.clear()
    results = run(model, lines(line(1, profile=PROFILE), line(2, profile=PROFILE)), tmp_path / "out", update=True,
                  evaluate=True, **ALONE)  # fmt: skip
    assert computed == [] and "f1" in results
    assert [row["truth"] for row in rows_of(tmp_path / "out")] == [PROFILE] * 2


def test_files_in_which_nothing_changed_are_not_written_again(model, lines, tmp_path):
    run(model, lines(*map(line, range(9))), tmp_path / "out", **ALONE)
    files = sorted((tmp_path / "out" / "predictions").iterdir())
    before = [file.stat().st_ino for file in files]
    run(model, lines(*map(line, range(4)), line(4, reviews=["x"]), *map(line, range(5, 9))), tmp_path / "out",
        update=True, **ALONE)  # fmt: skip
    assert [file.stat().st_ino == old for file, old in zip(files, before, strict=True)] == [True, False, True]


def test_however_the_input_is_ordered_a_file_is_read_twice_at_most(model, lines, tmp_path, monkeypatch):
    users = [line(number) for number in range(24)]
    run(model, lines(*users), tmp_path / "out", **ALONE)
    monkeypatch.setattr(updating, "TABLES", 2)
    reads, read_table = [], updating.pq.read_table

    def counted(path, columns=None):
        reads.extend([path] * (columns is None))
        return read_table(path, columns=columns)

    monkeypatch.setattr(updating.pq, "read_table", counted)
    path = lines(*(users[7 * number % 23] for number in range(23)), line(30))  # the neighbours of each are of others
    run(model, path, tmp_path / "out", update=True, **ALONE)
    monkeypatch.undo()
    counts = Counter(reads)
    assert len(counts) == 9 and max(counts.values()) == 2
    assert of_input(tmp_path / "out") == from_scratch(model, path, tmp_path)
    assert [row["user_id"] for row in rows_of(tmp_path / "out")][0] == "u23"
    assert not (tmp_path / "out" / "update").exists()


@pytest.mark.parametrize("change", ["model", "max_calls", "shard_users"])
def test_what_holds_for_all_users_must_be_the_same(model, lines, tmp_path, change):
    path = lines(line(1), line(2))
    run(model, path, tmp_path / "out", **ALONE)
    flags, other = dict(ALONE), model
    if change == "model":
        save_tiny_folder(other := tmp_path / "other", SCHEMA, seed=1)
    else:
        flags[change] = 7
    with pytest.raises(ValueError, match=f"holds predictions with .*{change}.*, not .*; choose .*--overwrite_output"):
        run(other, lines(line(1), line(3)), tmp_path / "out", update=True, **flags)
    assert [row["user_id"] for row in rows_of(tmp_path / "out")] == ["u1", "u2"]


@pytest.mark.parametrize("step", ["write", "exchange", "write_json", "rmtree"])
def test_an_update_that_was_stopped_goes_on_with_what_it_has(model, lines, computed, tmp_path, monkeypatch, step):
    run(model, lines(*map(line, range(6))), tmp_path / "out", **ALONE)
    old = rows_of(tmp_path / "out")
    path = lines(*map(line, range(3)), *(line(number, reviews=["other", "words"]) for number in (3, 4, 5, 6)))
    whole = from_scratch(model, path, tmp_path)
    calls = []

    def stop(*args, **kwargs):
        calls.append(args)
        if len(calls) == {"write": 2, "rmtree": 4}.get(step, 1):
            raise KeyboardInterrupt
        return original(*args, **kwargs)

    place = {"write": updating.NewRows, "rmtree": updating.shutil}.get(step, updating)
    original = getattr(place, step)
    monkeypatch.setattr(place, step, stop)
    with pytest.raises(KeyboardInterrupt):
        run(model, path, tmp_path / "out", update=True, gone="remove", **ALONE)
    monkeypatch.setattr(place, step, original)
    assert rows_of(tmp_path / "out") == (old if step in ("write", "exchange") else whole)
    if step == "write":
        with pytest.raises(ValueError, match="the input has other users, .*; --update true, "):
            run(model, path, tmp_path / "out", **ALONE)
    computed.clear()
    run(model, path, tmp_path / "out", update=True, gone="remove", **ALONE)
    assert len(computed) == (1 if step == "write" else 0)
    assert rows_of(tmp_path / "out") == whole
    assert not (tmp_path / "out" / "update").exists()


def test_what_was_computed_for_an_input_that_changed_again_is_taken_where_it_fits(model, lines, tmp_path, monkeypatch):
    run(model, lines(line(1), line(2)), tmp_path / "out", **ALONE)
    monkeypatch.setattr(updating.Update, "finish", lambda *args: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run(model, lines(line(1, reviews=["new"]), line(2, reviews=["new"])), tmp_path / "out", update=True, **ALONE)
    monkeypatch.undo()
    path = lines(line(1, reviews=["new"]), line(2, reviews=["newer"]))
    results = run(model, path, tmp_path / "out", update=True, **ALONE)
    assert results["users_this_time"] == 1
    assert rows_of(tmp_path / "out") == from_scratch(model, path, tmp_path)


def test_predictions_of_other_columns_are_refused(model, lines, tmp_path):
    run(model, lines(line(1)), tmp_path / "out", **ALONE)
    (file,) = (tmp_path / "out" / "predictions").iterdir()
    pq.write_table(pq.read_table(file).drop_columns("digest"), file)
    for update in (True, False):
        with pytest.raises(ValueError, match="part-00000.*has the columns .*--overwrite_output true"):
            run(model, lines(line(1)), tmp_path / "out", update=update, **ALONE)


def test_a_stored_row_of_other_reviews_is_no_answer(model, lines, tmp_path):
    """As after a kill between the predictions and `run.json`, when the old input is back."""
    path = lines(line(1))
    run(model, path, tmp_path / "out", **ALONE)
    run_file = (tmp_path / "out" / "run.json").read_text()
    run(model, lines(line(1, reviews=["x"])), tmp_path / "out", update=True, **ALONE)
    (tmp_path / "out" / "run.json").write_text(run_file)
    with pytest.raises(ValueError, match="part-00000.* is of other reviews, photos or captions; --update true"):
        run(model, lines(line(1)), tmp_path / "out", **ALONE)
    run(model, path, tmp_path / "out", update=True, **ALONE)
    assert rows_of(tmp_path / "out") == from_scratch(model, path, tmp_path)


@pytest.mark.parametrize(
    "flags", [{"update": True, "overwrite_output": True}, {"update": True, "output": None, "show": 1}]
)
def test_an_update_needs_a_folder_to_be_updated(model, lines, tmp_path, flags):
    with pytest.raises(ValueError, match="--update is of an --output, and goes without --overwrite_output"):
        run(model, lines(line(1)), **{"output": tmp_path / "out"} | flags)


def test_that_users_who_are_gone_are_removed_is_of_an_update(model, lines, tmp_path):
    path = lines(line(1))
    with pytest.raises(ValueError, match="--gone remove is of --update true"):
        run(model, path, tmp_path / "out", gone="remove", **ALONE)
    assert not (tmp_path / "out").exists()


def test_a_photo_that_changed_on_the_disk_is_another_input(model, lines, computed, tmp_path):
    for name in "ab":
        (tmp_path / f"{name}.png").write_bytes(png(3)["bytes"])
    path = lines(line(1, images=["a.png"]), line(2, images=["b.png"]))
    run(model, path, tmp_path / "out", **ALONE)
    (tmp_path / "b.png").write_bytes(png(200)["bytes"])
    os.utime(tmp_path / "b.png", (1, 1))
    computed.clear()
    run(model, path, tmp_path / "out", update=True, **ALONE)
    assert computed == [1]
    assert rows_of(tmp_path / "out") == from_scratch(model, path, tmp_path)


def test_results_tell_the_same_as_of_a_run_from_scratch(model, lines, tmp_path):
    run(model, lines(line(1), line(2)), tmp_path / "out", **ALONE)
    path = lines(line(1), line(3, reviews=[]))
    results = without_time(run(model, path, tmp_path / "out", update=True, **ALONE))
    assert (results.pop("kept"), results.pop("gone")) == (1, 1)
    assert results == without_time(run(model, path, tmp_path / "scratch", **ALONE))
