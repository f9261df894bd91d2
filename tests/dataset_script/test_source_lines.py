"""Records of another form give the rows of Yelp's, wherever fields stand and photos are listed; or are told."""

from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import yaml

from dataset_script import source_lines
from dataset_script.corpus import plan_corpus
from dataset_script.derivation import NO_MOMENT
from dataset_script.engines import MAX_LINE_BYTES, TEXT, connect
from dataset_script.raw_files import Ledger, find_raw_files
from dataset_script.raw_records import RawRecords
from dataset_script.sources import PHOTO_FIELDS, REVIEW_FIELDS, read_sources
from tests.dataset_script.test_engines import HASH, fingerprint
from tests.dataset_script.test_raw_forms import CUT_LINES, put_cut_lines
from tests.raw_corpus import PROFILES, RULES, config, hand_written

AS_THEY_ARE = {"business": {}, "review": None, "photos": {}}


def planned(folder, sources, rules=RULES, **options):
    schema = folder.parent / "schema.yaml"
    schema.write_text(yaml.safe_dump({"sources": sources}), encoding="utf-8")
    return plan_corpus(find_raw_files(folder, read_sources(schema, rules)), config(threads=1, **options), rules)


def profiles(corpus):
    return {row.user_id: row.profile for rows in corpus.splits.values() for row in rows}


@pytest.mark.parametrize("packed", [False, True])
def test_sources_that_change_nothing_give_the_same_rows(tmp_path, packed):
    folder = hand_written().write(tmp_path / "raw", gz=packed)
    assert fingerprint(planned(folder, AS_THEY_ARE)) == HASH


# Objects in objects, keys that SQL and paths would take for something else, and an epoch.
NESTED = {
    "business": {"fields": {"business_id": "its 'id\".a/b~c", "categories": "x.y.z", "attributes": "told.all of it"}},
    "review": {
        "fields": {
            "review_id": "ids.review",
            "user_id": "ids.user",
            "stars": "rating",
            "date": {"path": "when.at", "unit": "epoch_seconds"},
        }
    },
    "photos": {"fields": {"photo_id": "file", "caption": "words.caption"}},
}


def nested():
    raw = hand_written()
    for business in raw.businesses:
        business["its 'id\""] = {"a/b~c": business.pop("business_id")}
        business["x"] = {"y": {"z": business.pop("categories")}}
        business["told"] = {"all of it": business.pop("attributes")}
    for review in raw.reviews:
        review["ids"] = {"review": review.pop("review_id"), "user": review.pop("user_id")}
        review["rating"] = review.pop("stars")
        review["when"] = {"at": datetime.fromisoformat(review.pop("date")).replace(tzinfo=UTC).timestamp()}
    for n, photo in enumerate(raw.photos):
        beginning = ["", "photos/", "https://x.org/p.jpg?of=/", "C:\\photos\\"][n % 4]
        name = f"{photo.pop('photo_id')}.jpg"
        photo["file"] = f"https://x.org/a/{name}?w=1/2#x" if n % 4 == 2 else beginning + name
        photo["words"] = {"caption": photo.pop("caption")}
    return raw


def test_fields_stand_anywhere(tmp_path):
    assert fingerprint(planned(nested().write(tmp_path / "raw"), NESTED)) == HASH


@pytest.mark.slow
@pytest.mark.usefixtures("spark")
def test_spark_finds_fields_anywhere(tmp_path):
    raw = nested()
    raw.reviews += ["garbage", '{"text":', raw.reviews[0] | {"rating": "1d"}]
    folder = raw.write(tmp_path / "raw")
    ducks, sparks = planned(folder, NESTED), planned(folder, NESTED, engine="local[1]")
    assert fingerprint(sparks) == HASH
    assert ducks.ledger == sparks.ledger and ducks.lines == sparks.lines


def test_attributes_are_gathered_from_anywhere(tmp_path):
    raw = hand_written()
    for business in raw.businesses:
        told = business["attributes"] = dict(business["attributes"] or {})
        business["price"] = {"range": told.pop("RestaurantsPriceRange2", None)}
        business["happy"] = told.pop("HappyHour", None)
    names = {"RestaurantsPriceRange2": "price.range", "HappyHour": "happy"}
    names |= {name: f"attributes.{name}" for name in ("GoodForMeal", "RestaurantsTakeOut", "Caters")}
    sources = {"business": {"fields": {"attributes": names}}}
    assert fingerprint(planned(raw.write(tmp_path / "raw"), sources)) == HASH


@pytest.mark.parametrize("form", ["plain", "packed", "marked"])
def test_a_line_that_is_cut_costs_no_line_behind_it(tmp_path, form):
    folder = hand_written().write(tmp_path / "raw")
    put_cut_lines(folder, form)
    corpus = planned(folder, AS_THEY_ARE)
    assert profiles(corpus) == PROFILES
    malformed = {where: count for (where, why), count in corpus.ledger.dropped.items() if "missing, null or" in why}
    assert malformed == dict.fromkeys(("business", "review", "photos"), len(CUT_LINES) + 1)


def test_photos_that_businesses_list_are_the_rows_photos(tmp_path):
    raw = hand_written()
    for business in raw.businesses:
        own = [photo["photo_id"] for photo in raw.photos if photo["business_id"] == business["business_id"]]
        business["media"] = {"all": own, "count": len(own)}
    raw.businesses.append("{")
    folder = raw.write(tmp_path / "raw")
    (folder / "yelp_photos.json").unlink()
    photos = {"listed_in": "business", "fields": {"photo_id": "media.all"}}
    corpus = planned(folder, {"photos": photos})
    assert profiles(corpus) == PROFILES
    assert corpus.lines == {"photos": 9, "review": len(raw.reviews), "business": 8}  # a broken line may list photos
    assert corpus.ledger.notes[0] == "Photos belong by their lines' ids: 8 to a business."
    known = {photo["photo_id"] for photo in raw.photos if photo["business_id"] != "unlisted"}
    shown = {p.photo_id for rows in corpus.splits.values() for row in rows for _, own in row.reviews for p in own}
    assert shown and shown <= known


def records(folder, sources, role, names):
    """The rows of a role, as an engine gets them."""
    schema = folder.parent / "schema.yaml"
    schema.write_text(yaml.safe_dump({"sources": sources}), encoding="utf-8")
    raw = find_raw_files(folder, read_sources(schema, RULES))
    with TemporaryDirectory() as scratch, connect("duckdb", "1GB", 1, Path(scratch)) as backend:
        reader = RawRecords(raw, backend, "1GB", 1, Path(scratch), Ledger())
        return reader.read(role, dict.fromkeys(names, TEXT), False).to_pyarrow().to_pylist()


LISTS = [
    ("pics.url", {"pics": [{"url": ["a.jpg", "b.jpg"]}, {"url": "c.jpg"}, {"other": 1}, None, {"url": None}]}),
    ("pics.url", {"pics": {"url": ["a.jpg", "b.jpg", "c.jpg"]}}),
    ("pics", {"pics": ["a.jpg", "b.jpg", "c.jpg", None]}),
    ("pics", {"pics": ["https://x/a.jpg=w150-h150", "https://x/y/b.jpg?c=d/e.jpg#f", "/y=z/c.jpg"]}),
    ("a.b.c", {"a": [{"b": [{"c": "x/a.jpg"}, {"c": ["b.jpg"]}]}, {"b": {"c": "c.jpg"}}]}),
]


@pytest.mark.parametrize(("place", "listed"), LISTS)
def test_a_place_leads_through_lists(tmp_path, place, listed):
    raw = hand_written()
    raw.reviews[5] |= listed
    folder = raw.write(tmp_path / "raw")
    sources = {"photos": {"listed_in": "review", "fields": {"photo_id": place}}}
    rows = records(folder, sources, "photos", PHOTO_FIELDS)
    nothing = {"user_id": None, "business_id": None, "caption": None}
    owner = raw.reviews[5]["review_id"]
    assert sorted(rows, key=str) == [{"photo_id": name, "review_id": owner} | nothing for name in "abc"]


NAMES = {
    "p1": "p1",
    "p1.jpg": "p1",
    "p1.jpg.jpg": "p1.jpg",
    "p1.JPG": "p1.JPG",
    "../../etc/p1.jpg": "p1",
    "a=b.jpg": "a=b",
    "https://x.org/p/AF1Qip=w150-h150-k-no-p": "AF1Qip",
    "https://x.org/p1.jpg?size=1/2": "p1",
    "https://x.org/p1.jpg#top/x": "p1",
    "https://x.org/p/": "",
    "": "",
}


@pytest.mark.parametrize(("extension", "cut"), [(".jpg", True), ("", False), (".png", False)])
def test_a_photo_is_named_by_the_last_part_of_a_path_or_address(tmp_path, extension, cut):
    raw = hand_written()
    raw.photos = [{"at": name} for name in NAMES]
    sources = {"photos": {"fields": {"photo_id": "at"}, "extension": extension}}
    found = [row["photo_id"] for row in records(raw.write(tmp_path / "raw"), sources, "photos", PHOTO_FIELDS)]
    whole = [name + ".jpg" * (".jpg" in at) for at, name in NAMES.items()]
    assert sorted(found) == sorted(NAMES.values() if cut else whole)


def test_the_extension_is_the_files(tmp_path):
    folder = hand_written().write(tmp_path / "raw")
    for path in list((folder / "photos").iterdir()):
        path.rename(path.with_suffix(".webp"))
    assert planned(folder, {"photos": {"extension": ".webp"}}).album.usable
    with pytest.raises(ValueError, match="photo has no file"):
        planned(folder, {"photos": {"extension": ".png"}})


def test_an_id_made_of_fields_is_theirs_alone(tmp_path):
    raw = hand_written()
    pairs = [("a", "bc"), ("ab", "c"), ("abc", ""), ("", "abc"), ("a", None), (None, None), ("a", 1), ("a", "1")]
    raw.reviews = [{"user_id": "u", "x": x, "y": {"z": y}} for x, y in pairs]
    folder = raw.write(tmp_path / "raw")
    sources = {"review": {"fields": {"review_id": ["x", "y.z"]}}}
    with pytest.raises(ValueError, match="No record of yelp_review.json has business_id"):
        records(folder, sources, "review", REVIEW_FIELDS)
    sources["review"]["fields"] |= dict.fromkeys(("business_id", "text", "stars", "date"), "x")
    rows = records(folder, sources, "review", REVIEW_FIELDS)
    ids = [row["review_id"] for row in rows]
    assert [made is None for made in ids] == [None in pair for pair in pairs]
    assert len(set(ids[:4])) == 4 and ids[6] == ids[7]  # a number is its text


MOMENTS = {
    1612011200: "2021-01-30 12:53:20",
    "1612011200": "2021-01-30 12:53:20",
    1612011200.9: "2021-01-30 12:53:20",
    "1.6120112e9": "2021-01-30 12:53:20",
    0: "1970-01-01 00:00:00",
    -1: "1969-12-31 23:59:59",
    -0.5: "1969-12-31 23:59:59",
    253402300799: "9999-12-31 23:59:59",
    253402300800: NO_MOMENT,
    -30610224001: NO_MOMENT,
    1e300: NO_MOMENT,
    "1e999": NO_MOMENT,
    float("nan"): NO_MOMENT,
    "2021-01-30 12:53:20": NO_MOMENT,
    "0x10": NO_MOMENT,
    "1_0": NO_MOMENT,
    "": NO_MOMENT,
    True: NO_MOMENT,
    None: None,
}


@pytest.mark.parametrize(("unit", "factor"), [("epoch_seconds", 1), ("epoch_milliseconds", 1000)])
def test_a_date_is_a_number_of_the_unit_that_is_declared(tmp_path, monkeypatch, unit, factor):
    monkeypatch.setenv("TZ", "America/New_York")
    raw = hand_written()

    texts = {"1612011200": f"{1612011200 * factor}", "1.6120112e9": f"{1.6120112e9 * factor:.9e}"}

    def scaled(value):
        return texts.get(value, value) if isinstance(value, str | None | bool) else value * factor

    raw.reviews = [raw.reviews[0] | {"review_id": str(n), "date": scaled(date)} for n, date in enumerate(MOMENTS)]
    sources = {"review": {"fields": {"date": {"unit": unit}}}}
    rows = records(raw.write(tmp_path / "raw"), sources, "review", REVIEW_FIELDS)
    found = {int(row["review_id"]): row["date"] for row in rows}
    assert found == dict(enumerate(MOMENTS.values()))


def test_a_date_that_is_no_number_of_its_unit_is_dropped_and_counted(tmp_path):
    raw = hand_written()
    for review in raw.reviews:
        review["date"] = datetime.fromisoformat(review["date"]).replace(tzinfo=UTC).timestamp() * 1000
    raw.reviews += [raw.reviews[0] | {"review_id": f"x{n}", "date": "2021-01-30"} for n in range(3)]
    folder = raw.write(tmp_path / "raw")
    corpus = planned(folder, {"review": {"fields": {"date": {"unit": "epoch_milliseconds"}}}})
    reason = "date is no number of its unit in `sources`, of a year from 1000 to 9999"
    assert fingerprint(corpus) == HASH and corpus.ledger.dropped["review", reason] == 3
    with pytest.raises(ValueError, match=rf"review: {reason} \({len(raw.reviews)}\)"):
        planned(folder, {"review": {"fields": {"date": {"unit": "epoch_seconds"}}}})


def test_dates_that_their_unit_makes_a_day_of_1970_are_told(tmp_path):
    raw = hand_written()
    for review in raw.reviews:
        review["date"] = datetime.fromisoformat(review["date"]).replace(tzinfo=UTC).timestamp()
    folder = raw.write(tmp_path / "raw")
    corpora = [
        planned(folder, {"review": {"fields": {"date": {"unit": unit}}}})
        for unit in ("epoch_seconds", "epoch_milliseconds")
    ]
    told = [[note for note in corpus.ledger.notes if "Warning: dates" in note] for corpus in corpora]
    assert told == [[], ["Warning: dates of review are all of 1970, as epoch_milliseconds; is another unit theirs?"]]


ABSENT = [
    (
        {"review": {"fields": {"stars": "rating"}}},
        "yelp_review.json has rating, .* for stars of review. The first",
    ),
    (
        {"review": {"fields": {"review_id": ["user_id", "time"]}}},
        "has user_id or time, .* for review_id of review",
    ),
    ({"review": {"fields": {"text": None}}}, "has null, which `sources` has for text of review"),
    ({"business": {"fields": {"business_id": "attributes.id"}}}, "has attributes.id, .* has business_id, name, categ"),
    ({"photos": {"fields": {"photo_id": "caption.x"}}}, "has caption.x, which `sources` has for photo_id of photos"),
    (
        {"photos": {"listed_in": "review", "fields": {"photo_id": "pics.url"}}},
        "No record of yelp_review.json has pics.url, which `sources` has for photo_id of photos. The first record ha",
    ),
]


@pytest.mark.parametrize(("sources", "message"), ABSENT)
def test_a_place_that_no_record_has_is_refused_where_it_is_needed(tmp_path, sources, message):
    with pytest.raises(ValueError, match=message):
        planned(hand_written().write(tmp_path / "raw"), sources)


def test_keys_that_differ_by_capitals_alone_are_refused(tmp_path):
    folder = hand_written().write(tmp_path / "raw")
    with pytest.raises(
        ValueError, match="`sources` names USER_ID and user_id: two keys of a record must differ by mo"
    ):
        planned(folder, {"review": {"fields": {"review_id": ["USER_ID", "date"]}}})


def test_any_other_place_that_no_record_has_is_told(tmp_path):
    folder = hand_written().write(tmp_path / "raw")
    sources = {"photos": {"fields": {"caption": "title", "user_id": None}}}
    other = {"business": {"fields": {"categories": "x"}}}
    with pytest.raises(ValueError, match="No record of yelp_business.json has x, which `sources` has for categories"):
        planned(folder, other)
    corpus = planned(folder, sources)
    told = [note for note in corpus.ledger.notes if "No record" in note]
    assert told == ["No record of yelp_photos.json has title, which `sources` has for caption of photos."]


def test_a_place_that_few_records_have_is_none_that_no_record_has(tmp_path, monkeypatch):
    monkeypatch.setattr(source_lines, "LOOKED_AT", 2)
    raw = hand_written()
    raw.photos = [photo | {"title": photo["caption"] or None} for photo in raw.photos]
    raw.photos[0]["title"] = raw.photos[1]["title"] = None
    corpus = planned(raw.write(tmp_path / "raw"), {"photos": {"fields": {"caption": "title"}}})
    assert not [note for note in corpus.ledger.notes if "No record" in note]


def test_a_line_without_end_is_refused(tmp_path):
    folder = hand_written().write(tmp_path / "raw")
    with (folder / "yelp_business.json").open("ab") as file:
        file.write(b'{"business_id": "' + b"x" * (3 * MAX_LINE_BYTES) + b'"}\n')
    with pytest.raises(ValueError, match=f"^yelp_business.json has a line of more than {MAX_LINE_BYTES} bytes"):
        planned(folder, AS_THEY_ARE)
