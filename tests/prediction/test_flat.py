"""The flat table: the predictions' content without nested columns, made of finished shards at any time."""

import json
from datetime import UTC, datetime

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from files.output_files import UNFINISHED
from mmprofile.configuration_mmprofile import ProfileSchema
from prediction import flat
from prediction.flat import column_names, write_table
from prediction.notes import notes_of
from prediction.store import GONE_FILE, PredictionFolder, write_parquet
from tests.prediction.test_store import IDS, ROW, begun
from tests.tiny_folder import SCHEMA

NOTHING = {"problems": ["no review"], "photos_left_out": 0, "tokens_left_out": 0}
OTHER = ROW | {"profile": {"mood": "Calm", "favorite_food": ["Soup", "Cake"]}, "truth": None, "exact": False}
ROWS = {0: ROW, 1: NOTHING, 2: OTHER, 3: ROW, 4: NOTHING | {"truth": ROW["truth"]}}


def finished(path) -> PredictionFolder:
    folder = begun(path)
    for shard, rows in enumerate(folder.shards):
        folder.write(shard, {row: ROWS[row] for row in rows})
    return folder


def tables(folder: PredictionFolder) -> dict[str, tuple[int, bytes]]:
    """Of each file of the table its place on the disk and its bytes."""
    paths = sorted((folder.folder / "table").iterdir())
    return {path.name: (path.stat().st_ino, path.read_bytes()) for path in paths}


def rows_of(folder: PredictionFolder) -> list[dict]:
    paths = sorted((folder.folder / "table").iterdir())
    return [row for path in paths for row in pq.read_table(path).to_pylist()]


def nested(row: dict) -> dict:
    """A flat row as the predictions have it."""
    food = SCHEMA.attributes[1].values

    def profile(of: str) -> dict | None:
        named = [row[f"{of}.favorite_food.{value}"] for value in food]
        foods = None if None in named else [value for value, one in zip(food, named, strict=True) if one]
        assert foods is not None or named == [None] * 3
        return None if row[f"{of}.mood"] is foods is None else {"mood": row[f"{of}.mood"], "favorite_food": foods}

    probabilities = {a.key: {v: row[f"probability.{a.key}.{v}"] for v in a.values} for a in SCHEMA.attributes}
    lists = {name: json.loads(row[name] or "null") for name in ("runners_up", "image_weights", "problems")}
    known = row["probability.mood.Calm"] is not None
    same = {name: value for name, value in row.items() if "." not in name}
    of = {name: profile(name) for name in ("profile", "decided", "truth")}
    return same | lists | of | {"probabilities": probabilities if known else None}


def test_the_table_has_the_content_of_the_nested_rows(tmp_path):
    folder = finished(tmp_path)
    assert write_table(folder.folder) == 3
    assert [nested(row) for row in rows_of(folder)] == list(folder.read())
    schema = pq.read_schema(folder.folder / "table" / "part-00000-of-00003.parquet")
    assert len(schema.types) > 20
    assert not any(map(pa.types.is_nested, schema.types))
    assert [name for name in schema.names if not name.startswith("decided.")][:6] == [
        "user_id",
        "profile.mood",
        *(f"profile.favorite_food.{v}" for v in ("Pizza", "Soup")),
    ] + [
        "profile.favorite_food.Cake",
        "text",
    ]


def test_who_has_no_prediction_has_nulls_and_a_value_not_chosen_0(tmp_path):
    folder = finished(tmp_path)
    write_table(folder.folder)
    rows = rows_of(folder)
    assert [row["profile.favorite_food.Pizza"] for row in rows] == [1, None, 0, 1, None]
    assert [row["truth.favorite_food.Soup"] for row in rows] == [0, None, None, 0, 0]
    assert [row["probability.mood.Loud"] for row in rows] == [0.0, None, 0.0, 0.0, None]
    assert [row["problems"] for row in rows[:2]] == ['["photo 0: broken"]', '["no review"]']


def test_pandas_and_sql_read_it_as_it_lies(tmp_path):
    folder = finished(tmp_path)
    write_table(folder.folder)
    frame = pd.read_parquet(folder.folder / "table")
    assert frame["profile.favorite_food.Pizza"].sum() == 2
    assert frame["user_id"].tolist() == IDS
    files = folder.folder / "table" / "*.parquet"
    query = f"select mood.user_id from '{files}' mood where \"probability.mood.Shy\" > 0.5 order by 1"
    assert duckdb.sql(query).fetchall() == [("a",), ("c",), ("d",)]


def test_only_what_changed_since_is_written_again_and_what_is_gone_is_removed(tmp_path):
    folder = finished(tmp_path)
    write_table(folder.folder)
    before = tables(folder)
    assert write_table(folder.folder) == 0 and tables(folder) == before
    folder.write(1, {2: ROW, 3: ROW})
    folder.path(2).unlink()
    (folder.folder / "table" / "notes.txt").write_text("mine")
    assert write_table(folder.folder) == 1
    after = tables(folder)
    assert after.pop("notes.txt")[1] == b"mine"
    assert list(after) == ["part-00000-of-00003.parquet", "part-00001-of-00003.parquet"]
    assert [after[name] == before[name] for name in after] == [True, False]


def test_users_who_are_gone_stand_in_it_as_long_as_in_the_predictions(tmp_path):
    folder = finished(tmp_path)
    gone = folder.folder / "predictions" / GONE_FILE
    missed = [{"user_id": "x", "gone_since": datetime(2026, 1, 2, tzinfo=UTC), **ROW}]
    write_parquet(gone, pa.Table.from_pylist(missed, schema=folder.schema))
    assert write_table(folder.folder) == 4
    rows = {row["user_id"]: row for row in rows_of(folder)}
    assert set(rows) == {*IDS, "x"} and nested(rows["x"]) == missed[0] | {"digest": None}
    files = folder.folder / "table" / "*.parquet"
    assert duckdb.sql(f"select user_id from '{files}' where gone_since is not null").fetchall() == [("x",)]
    assert write_table(folder.folder) == 0
    gone.unlink()
    assert write_table(folder.folder) == 0
    assert [row["user_id"] for row in rows_of(folder)] == IDS


def test_a_table_that_was_stopped_has_whole_files_and_is_completed(tmp_path, monkeypatch):
    folder = finished(tmp_path)
    make, made = flat.flat_table, []

    def stop_at_second(table):
        made.append(table)
        if len(made) == 2:
            raise KeyboardInterrupt
        return make(table)

    monkeypatch.setattr(flat, "flat_table", stop_at_second)
    with pytest.raises(KeyboardInterrupt):
        write_table(folder.folder)
    monkeypatch.undo()
    assert list(tables(folder)) == ["part-00000-of-00003.parquet"]
    (folder.folder / "table" / f"{UNFINISHED}-1a2b-part-00001-of-00003.parquet").write_bytes(b"half")
    (folder.folder / "table" / "part-00002-of-00003.parquet").write_bytes(b"of a broken disk")
    assert write_table(folder.folder) == 2
    assert [nested(row) for row in rows_of(folder)] == list(folder.read())
    assert len(tables(folder)) == 3


def test_names_are_parted_by_dots_and_differ_where_upper_and_lower_case_are_one():
    paths = [
        ("profile", "u.s._state"),
        ("profile", "u", "s_", "state"),
        ("p", "x", "St. Mary (old)"),
        ("p", "x", "a b"),
    ]
    paths += [("p", "x", "A_b"), ("p", "x", "a_b_2"), ("p", "x", "a,b"), ("p", "x", "café & más")]
    names = ["profile.u_s__state", "profile.u.s_.state", "p.x.St__Mary__old_", "p.x.a_b"]
    assert column_names(paths) == [*names, "p.x.A_b_2", "p.x.a_b_2_2", "p.x.a_b_3", "p.x.café_&_más"]


def test_a_column_tells_its_attribute_and_value_as_they_are_and_the_file_its_model(tmp_path):
    schema = ProfileSchema([{"name": "Way St.", "values": ["St. Mary", "st_ Mary"]}])
    folder = PredictionFolder(tmp_path / "out", schema, ["a"], 1)
    folder.begin({})
    folder.notes = {"model": "m", "revision": "12ab"}
    folder.write(0, {0: {"probabilities": {"way_st.": {"St. Mary": 0.25, "st_ Mary": 0.75}}}})
    write_table(folder.folder)
    found = pq.read_table(folder.folder / "table" / "part-00000-of-00001.parquet")
    assert found["probability.way_st_.St__Mary"].to_pylist() == [0.25]
    assert found["probability.way_st_.st__Mary_2"].to_pylist() == [0.75]
    field = found.schema.field("probability.way_st_.st__Mary_2")
    assert field.metadata == {b"attribute": b"way_st.", b"value": b"st_ Mary"}
    notes = notes_of(found.schema)
    assert (notes["model"], notes["revision"]) == ("m", "12ab") and notes["predicted_at"].endswith("+00:00")


def test_the_command_makes_the_table_of_a_folder_without_its_model(tmp_path, capsys):
    folder = finished(tmp_path)
    flat.main([str(folder.folder)])
    assert capsys.readouterr().out.startswith("3 of 3 files written, the others were there. The table is ")
    assert len(rows_of(folder)) == 5
    with pytest.raises(
        ValueError, match="'.*nowhere' is no output folder of predict.py: it holds no predictions/part"
    ):
        flat.main([str(tmp_path / "nowhere")])
    assert not (tmp_path / "nowhere").exists()
