"""Parquet in place of JSON lines: the same rows, whatever types its columns have, on both engines."""

import json
from datetime import datetime

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.dataset_script.test_engines import HASH, fingerprint
from tests.raw_corpus import hand_written, plan

TEXTS = pa.map_(pa.string(), pa.string())


@pytest.fixture(scope="module")
def spark():
    sql = pytest.importorskip("pyspark.sql")
    session = sql.SparkSession.builder.master("local[1]").config("spark.ui.enabled", False)
    session = session.config("spark.sql.shuffle.partitions", 1).getOrCreate()
    yield session
    session.stop()


def as_json_has_them(_role, records):
    return pa.Table.from_pylist(records)


def typed(role, records):
    """Moments, whole numbers, lists, maps, and columns without a value."""
    table = pa.Table.from_pylist(records)
    if role == "review":
        moments = [datetime.fromisoformat(record["date"]) for record in records]
        table = table.set_column(table.column_names.index("date"), "date", pa.array(moments, pa.timestamp("us")))
        table = table.set_column(3, "stars", table["stars"].cast(pa.int8()))
    if role == "business":
        attributes = [record["attributes"] and list(record["attributes"].items()) for record in records]
        categories = [record["categories"] and record["categories"].split(", ") for record in records]
        table = table.drop(["attributes", "categories"])
        table = table.append_column("attributes", pa.array(attributes, TEXTS)).append_column(
            "categories", [categories]
        )
    if role == "photos":
        table = table.append_column("user_id", pa.nulls(len(records)))
    return table


def of_pandas_2(role, records):
    """Moments of nanoseconds, with a time zone, and objects as JSON."""
    table = pa.Table.from_pylist(records)
    if role == "review":
        moments = [datetime.fromisoformat(record["date"]) for record in records]
        table = table.set_column(
            table.column_names.index("date"), "date", pa.array(moments, pa.timestamp("ns", "UTC"))
        )
    if role == "business":
        texts = [record["attributes"] and json.dumps(record["attributes"]) for record in records]
        table = table.drop(["attributes"]).append_column("attributes", pa.array(texts, pa.string()))
    return table


def with_objects(role, records):
    """Attributes that are true or false, numbers and objects, as a program makes of Yelp's texts."""
    made = {"True": True, "False": False, "None": None}
    for record in records if role == "business" else ():
        record["attributes"] = record["attributes"] and {
            key: made.get(value, int(value) if value.isdigit() else value)
            for key, value in record["attributes"].items()
            if key in ("HappyHour", "RestaurantsTakeOut", "RestaurantsPriceRange2", "Caters")
        } | {"GoodForMeal": meals(record["attributes"]["GoodForMeal"])}
    kinds = None
    if role == "business":
        meal = pa.struct({"lunch": pa.bool_(), "dinner": pa.bool_()})
        names = {"HappyHour": pa.bool_(), "RestaurantsTakeOut": pa.bool_(), "RestaurantsPriceRange2": pa.int32()}
        attributes = pa.struct(names | {"Caters": pa.bool_(), "GoodForMeal": meal})
        kinds = pa.schema({"business_id": pa.string(), "categories": pa.string(), "attributes": attributes})
        for record in records:
            for key in names if record["attributes"] else ():
                if isinstance(record["attributes"][key], str):
                    record["attributes"][key] = None
            if record["attributes"] and isinstance(record["attributes"]["Caters"], str):
                record["attributes"]["Caters"] = None
    return pa.Table.from_pylist(records, kinds)


def meals(text):
    if not text.endswith("}"):
        return None
    return {meal: f"'{meal}': True" in text for meal in ("lunch", "dinner")}


FORMS = [as_json_has_them, typed, of_pandas_2, with_objects]


def write(folder, form, parts=1):
    """The hand-written corpus in Parquet; of several parts, folders as Spark writes them."""
    raw = hand_written()
    raw.write(folder)
    for role, records in (("business", raw.businesses), ("review", raw.reviews), ("photos", raw.photos)):
        (folder / f"yelp_{role}.json").unlink()
        table = form(role, records)
        path = folder / f"yelp_{role}.parquet"
        if parts == 1:
            pq.write_table(table, path)
            continue
        path.mkdir()
        for n in range(parts):
            pq.write_table(table.slice(n * 7, 7 if n < parts - 1 else None), path / f"part-{n:05}-c000.parquet")
        (path / "_SUCCESS").touch()
        (path / ".left-over.parquet").touch()
    return folder


@pytest.mark.parametrize("parts", [1, 3])
@pytest.mark.parametrize("form", FORMS)
def test_parquet_has_the_rows_of_json(tmp_path, form, parts):
    assert fingerprint(plan(write(tmp_path / "a [1] ?*", form, parts))) == HASH


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
def test_spark_reads_the_same_of_parquet(tmp_path, form, spark):
    folder = write(tmp_path / "a b #1 100%20 {x,y} [z]*", form, parts=2)
    assert fingerprint(plan(folder, engine="spark")) == HASH
