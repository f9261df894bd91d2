"""Parquet in place of JSON lines: the same rows, whatever types its columns have, on both engines."""

import json
from datetime import datetime, time

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.dataset_script.test_engines import HASH, fingerprint
from tests.dataset_script.test_source_lines import NESTED, nested, planned, profiles
from tests.raw_corpus import PROFILES, hand_written, plan

TEXTS = pa.map_(pa.string(), pa.string())


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
    return write_records(hand_written(), folder, form, parts)


def write_records(raw, folder, form, parts=1):
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
@pytest.mark.usefixtures("spark")
def test_spark_reads_the_same_of_parquet(tmp_path, form):
    folder = write(tmp_path / "a b #1 100%20 {x,y} [z]*", form, parts=2)
    assert fingerprint(plan(folder, engine="spark")) == HASH


def changed(**columns):
    """The reviews with other columns; None leaves one out."""

    def change(path):
        table = pq.read_table(path)
        for name, values in columns.items():
            table = table.drop([name]) if name in table.column_names else table
            table = table if values is None else table.append_column(name, pa.array([values] * table.num_rows))
        path.unlink()
        pq.write_table(table, path)

    return change


def with_part(named, of=None):
    """The reviews as a folder that holds something beside their file."""

    def change(path):
        content = path.read_bytes()
        path.unlink()
        (path / named if of is None else path).mkdir(parents=True)
        if of is not None:
            (path / "a.parquet").write_bytes(content)
            (path / named).write_bytes(content)
            of(path / named)

    return change


IS = "^yelp_review.parquet"
NEEDED = "texts, numbers, dates, moments, lists or objects are needed$"
REFUSED = [
    (changed(stars=None, date=None), f"{IS} has no column date, stars; it has review_id, user_id, business_id, usef"),
    (lambda path: path.write_text('{"review_id": "r"}'), f"{IS} is no Parquet file$"),
    (lambda path: path.write_bytes(path.read_bytes()[:-12]), f"{IS} is no whole Parquet file: "),
    (with_part("year=2020"), " must hold part files alone, without partitions, found the folder year=2020$"),
    (lambda path: (path.unlink(), path.mkdir()), r" a folder of part files \*.parquet, found none in it$"),
    (with_part("b.parquet", changed(useful=None)), f"{IS}/b.parquet has review_id .*; yelp_review.parquet/a.parq"),
    (with_part("b.parquet", changed(useful="1")), r"useful \(string\); .* useful \(int64\), .*, as all parts must$"),
    (with_part("b.parquet", lambda path: path.write_text("{}")), f"{IS}/b.parquet is no Parquet file$"),
    (changed(text=b"t"), f"{IS}: column text is of type binary; {NEEDED}"),
    (changed(date=time(12)), f"{IS}: column date is of type time; {NEEDED}"),
    (changed(Stars=1), f"{IS} has the columns stars and Stars: they must differ by more than capitals$"),
]


@pytest.mark.parametrize(("change", "message"), REFUSED)
def test_a_file_that_cannot_serve_is_told_with_what_it_has(tmp_path, change, message):
    folder = write(tmp_path / "raw", as_json_has_them)
    change(folder / "yelp_review.parquet")
    with pytest.raises(ValueError, match=message):
        plan(folder)


@pytest.mark.parametrize("attributes", [[1], 1, {"k": b"b"}])
def test_attributes_that_are_no_object_of_texts_are_told(tmp_path, attributes):
    def form(role, records):
        other = {"attributes": attributes} if role == "business" else {}
        return pa.Table.from_pylist([record | other for record in records])

    with pytest.raises(ValueError, match="^yelp_business.parquet: column attributes(.k)? is of type .* needed$"):
        plan(write(tmp_path / "raw", form))


@pytest.mark.parametrize("parts", [1, 3])
def test_sources_say_where_a_column_stands(tmp_path, parts):
    folder = write_records(nested(), tmp_path / "raw", as_json_has_them, parts)
    corpus = planned(folder, NESTED)
    assert fingerprint(corpus) == HASH and not [note for note in corpus.ledger.notes if "No record" in note]
    sources = {"review": NESTED["review"] | {"file": "yelp_review.parquet", "form": "parquet"}}
    assert fingerprint(planned(folder, NESTED | sources)) == HASH
    with pytest.raises(
        ValueError, match="No record of yelp_review.parquet has review_id.* The first record has busin"
    ):
        planned(folder, {name: told for name, told in NESTED.items() if name != "review"} | {"review": {}})


def test_photos_may_be_listed_in_a_column(tmp_path):
    raw = hand_written()
    for business in raw.businesses:
        own = [photo["photo_id"] for photo in raw.photos if photo["business_id"] == business["business_id"]]
        business["media"] = [{"url": f"https://x.org/{name}.jpg"} for name in own]
    folder = write_records(raw, tmp_path / "raw", typed)
    (folder / "yelp_photos.parquet").unlink()
    corpus = planned(folder, {"photos": {"listed_in": "business", "fields": {"photo_id": "media.url"}}})
    assert profiles(corpus) == PROFILES and corpus.lines["photos"] == 8
