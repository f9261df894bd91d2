"""The `sources` of a schema: what they may say, and in which sentence anything else is refused."""

import pytest
import yaml

from dataset_script.raw_files import find_raw_files
from dataset_script.sources import Hash, Members, Value, read_sources
from tests.raw_corpus import RULES, hand_written


def read(tmp_path, **sources):
    path = tmp_path / "schema.yaml"
    path.write_text(yaml.safe_dump({"attributes": [], "sources": sources}), encoding="utf-8")
    return read_sources(path, RULES)


def test_a_schema_without_sources_has_none(tmp_path):
    (tmp_path / "schema.yaml").write_text("attributes: []")
    assert read_sources(tmp_path / "schema.yaml", RULES) == {}


def test_a_field_is_a_place_a_hash_or_an_object(tmp_path):
    fields = {"review_id": ["a", "b.c"], "date": {"path": "d.e", "unit": "epoch_seconds"}, "text": None}
    sources = read(tmp_path, review={"fields": fields}, business={"fields": {"attributes": {"price": "x.y"}}})
    assert sources["review"].field("review_id") == Hash((("a",), ("b", "c")))
    assert sources["review"].field("date") == Value(("d", "e"), "epoch_seconds")
    assert sources["review"].field("text") is None
    assert sources["review"].field("user_id") == Value(("user_id",))
    assert sources["business"].field("attributes") == Members({"price": ("x", "y")})


def test_a_column_has_any_name_and_a_date_its_own_by_default(tmp_path):
    fields = {"user_id": "U.S. user", "date": {"unit": "epoch_seconds"}}
    source = read(tmp_path, review={"form": "csv", "fields": fields})["review"]
    assert source.field("user_id") == Value(("U.S. user",))
    assert source.field("date") == Value(("date",), "epoch_seconds")


INSIDE = "must be a name inside the raw folder, without '..', got"
REFUSED = [
    ({"reviews": {}}, "sources: unknown roles reviews; there are business, review, photos"),
    (
        {"review": {"fields": {"rating": "stars"}}},
        "review: fields: unknown fields rating; there are review_id",
    ),
    ({"review": {"path": "x"}}, "sources: review: unknown keys path; there are file, form, delimiter, fields"),
    ({"review": {"folder": "x"}}, "unknown keys folder"),
    (
        {"business": {"fields": {"genres": "x"}}},
        "unknown fields genres; there are business_id, attributes",
    ),
    ({"review": ["x"]}, r"sources: review must have keys like file, form, delimiter, fields, got \['x'\]"),
    ({"review": {"fields": "x"}}, "sources: review: fields must have fields like review_id, .*, got 'x'"),
    ({"review": {"form": "orc"}}, "sources: review: form must be one of jsonl, csv, parquet, got 'orc'"),
    ({"review": {"delimiter": "||"}}, r"delimiter must be one character, got '\|\|'"),
    ({"review": {"fields": {"text": ["a", "b"]}}}, r"sources: review: text must be a name, or several with dots"),
    ({"review": {"fields": {"text": 7}}}, "in quotes where YAML sees no text, got 7"),
    ({"review": {"fields": {"text": "a..b"}}}, "must be a name, or several with dots between"),
    ({"review": {"fields": {"review_id": []}}}, "sources: review: review_id needs a field to be made of"),
    ({"review": {"fields": {"user_id": ["a"]}}}, r"must be a name.*got \['a'\]"),
    (
        {"review": {"fields": {"date": {"unit": "days"}}}},
        "unit must be one of iso, epoch_seconds, epoch_milli",
    ),
    ({"review": {"fields": {"date": {"of": "t"}}}}, "sources: review: date: unknown keys of; there are path, unit"),
    ({"business": {"fields": {"attributes": {1: "a"}}}}, "names must be texts"),
    ({"review": {"file": "../review.json"}}, rf"sources: review: file {INSIDE} '../review.json'"),
    ({"review": {"file": "/etc/passwd"}}, f"file {INSIDE} '/etc/passwd'"),
    ({"review": {"file": "a/../../b"}}, f"file {INSIDE}"),
    ({"review": {"file": r"..\b"}}, f"file {INSIDE}"),
    ({"review": {"file": 7}}, f"file {INSIDE} 7"),
    ({"photos": {"folder": "../photos"}}, f"sources: photos: folder {INSIDE} '../photos'"),
    ({"photos": {"folder": "/photos"}}, f"folder {INSIDE} '/photos'"),
    ({"photos": {"folder": "."}}, f"folder {INSIDE} '.'"),
    ({"photos": {"extension": "/../x"}}, 'extension must be like ".jpg", or "", got'),
    ({"photos": {"listed_in": "user", "fields": {"photo_id": "x"}}}, "listed_in must be one of review, business, got"),
    ({"photos": {"listed_in": "review"}}, r"listed photos have one field, photo_id, got \[\]"),
    ({"photos": {"listed_in": "review", "file": "x", "fields": {"photo_id": "x"}}}, "have no file and no form"),
]


@pytest.mark.parametrize(("sources", "message"), REFUSED)
def test_what_is_unknown_or_does_not_fit_is_refused_by_name(tmp_path, sources, message):
    with pytest.raises(ValueError, match=message):
        read(tmp_path, **sources)


@pytest.mark.parametrize("content", ["a: [", "\ud800"])
def test_a_schema_that_is_no_yaml_is_refused(tmp_path, content):
    (tmp_path / "schema.yaml").write_bytes(content.encode(errors="surrogatepass"))
    with pytest.raises(ValueError, match="schema must be a YAML file, got"):
        read_sources(tmp_path / "schema.yaml", RULES)


def test_sources_name_files_and_folders(tmp_path):
    folder = hand_written().write(tmp_path / "raw")
    tables = folder / "tables"
    tables.mkdir()
    (folder / "yelp_review.json").rename(tables / "written [1].jsonl")
    (folder / "yelp_photos.json").rename(tables / "pictures.jsonl")
    (folder / "photos").rename(tables / "images")
    (folder / "decoy_review.json").touch()
    photos = {"file": "pictures.jsonl", "folder": "tables/images", "extension": ".png"}
    sources = read(tmp_path, review={"file": "tables/written*.jsonl"}, photos=photos)
    raw = find_raw_files(folder, sources)
    assert (raw.review, raw.photos) == (tables / "written [1].jsonl", tables / "pictures.jsonl")
    assert (raw.photo_folder, raw.extension) == (tables / "images", ".png")
    with pytest.raises(ValueError, match="exactly one file named nothing.jsonl or nothing.jsonl.gz, found none"):
        find_raw_files(folder, read(tmp_path, review={"file": "nothing.jsonl"}))
    with pytest.raises(ValueError, match="holds no folder 'pictures' with <photo_id>.png files"):
        find_raw_files(folder, sources | read(tmp_path, photos=photos | {"folder": "pictures"}))


def test_a_declared_file_behind_a_link_is_refused_without_the_flag(tmp_path):
    folder = hand_written().write(tmp_path / "raw")
    (tmp_path / "disk").mkdir()
    (folder / "yelp_review.json").rename(tmp_path / "disk" / "r.jsonl")
    (folder / "tables").symlink_to(tmp_path / "disk")
    sources = read(tmp_path, review={"file": "tables/r.jsonl"})
    with pytest.raises(ValueError, match="tables leads to .*, outside the raw folder .*; --allow_links follows it"):
        find_raw_files(folder, sources)
    assert find_raw_files(folder, sources, allow_links=True).review == folder / "tables" / "r.jsonl"
