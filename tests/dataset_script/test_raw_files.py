"""Bad input: what a raw folder can hold wrongly is dropped and counted by its reason, or refused by name."""

import gzip
import os
import struct
import zlib

import pytest

from dataset_script.engines import MAX_LINE_BYTES
from dataset_script.raw_files import find_raw_files
from tests.raw_corpus import PROFILES, hand_written, jpeg, plan, review


def profiles(corpus):
    return {row.user_id: row.profile for rows in corpus.splits.values() for row in rows}


def bomb(width: int, height: int) -> bytes:
    """A PNG of some kilobytes that claims a size, and would fill the memory with it."""
    chunks = (b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0), b"IDAT" + zlib.compress(b"\0" * 2**20))
    packed = (struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk)) for chunk in chunks)
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


GOOD = review("ann", 31, "pizzeria", 4)
MALFORMED = "malformed JSON, or user_id is missing, null or empty"
NO_DATE = "date is not as in 2023-12-31 or 2023-12-31 23:59:59 (ISO 8601)"
A_NUMBER = "date is a number, such as milliseconds"
BAD_REVIEWS = [
    ('{"review_id": "x", "text": "cut o', MALFORMED),
    ("[1, 2]", MALFORMED),
    (GOOD | {"text": None}, "text is missing or null"),
    (GOOD | {"text": ["a b c", "d e f"]}, "text is not a string"),
    (GOOD | {"text": {"a": "b c d e f"}}, "text is not a string"),
    (GOOD | {"text": 7}, "fewer than 5 words"),
    (GOOD | {"text": "half a pair \ud800 of four words"}, MALFORMED),
    (GOOD | {"user_id": 7}, "of a user with fewer than 30 lines"),
    (GOOD | {"user_id": ""}, MALFORMED),
    (GOOD | {"review_id": ""}, "review_id is missing, null or empty"),
    (GOOD | {"business_id": None}, "business_id is missing, null or empty"),
    (GOOD | {"date": None}, "date is missing or null"),
    (GOOD | {"date": "last May"}, NO_DATE),
    (GOOD | {"date": "2021-02-30 10:00:00"}, NO_DATE),
    (GOOD | {"date": "0000-01-01 10:00:00"}, NO_DATE),
    (GOOD | {"date": "21-02-03"}, NO_DATE),
    (GOOD | {"date": 1612011200000}, A_NUMBER),
    (GOOD | {"date": "1612011200000"}, A_NUMBER),
    (GOOD | {"date": 1612011200.5}, A_NUMBER),
    (GOOD | {"date": -1}, A_NUMBER),
    (GOOD | {"stars": "four"}, "stars is missing, null or not a number"),
    (GOOD | {"stars": True}, "stars is missing, null or not a number"),
    (GOOD | {"stars": 0}, "stars is outside 1 to 5"),
    (GOOD | {"stars": 5.5}, "stars is outside 1 to 5"),
    (GOOD | {"stars": float("nan")}, "stars is missing, null or not a number"),
    (GOOD | {"review_id": "ann-00"}, "duplicate review_id"),
]


@pytest.mark.parametrize(("line", "reason"), BAD_REVIEWS)
def test_a_bad_review_is_dropped_and_counted(tmp_path, line, reason):
    raw = hand_written()
    raw.reviews.append(line)
    corpus = plan(raw.write(tmp_path / "raw"))
    assert corpus.ledger.dropped["review", reason] == 1 + (reason == "fewer than 5 words")  # fay's
    assert profiles(corpus).keys() == PROFILES.keys()


BAD_PHOTOS = [
    ({"photo_id": "../photos/bistro-0"}, "photo_id is no plain name"),
    ({"photo_id": ".hidden"}, "photo_id is no plain name"),
    ({"photo_id": "a/b"}, "photo_id is no plain name"),
    ({"photo_id": "nul\0"}, "photo_id is no plain name"),
    ({"photo_id": None}, "photo_id is missing, null or empty"),
    ({"photo_id": "p", "business_id": None}, "business_id is missing, null or empty"),
    ({"photo_id": "bistro-0"}, "duplicate photo_id"),
    ({"photo_id": "nowhere"}, "photo has no file"),
]


@pytest.mark.parametrize(("change", "reason"), BAD_PHOTOS)
def test_a_bad_photo_line_is_dropped_and_counted(tmp_path, change, reason):
    raw = hand_written()
    raw.photos.append({"business_id": "bistro", "caption": ""} | change)
    corpus = plan(raw.write(tmp_path / "raw"))
    assert corpus.ledger.dropped["photos", reason] == 1
    assert profiles(corpus) == PROFILES


@pytest.mark.parametrize("packed", [False, True])
def test_a_mark_of_utf_8_costs_no_line(tmp_path, packed):
    folder = hand_written().write(tmp_path / "raw")
    for name in ("business", "review", "photos"):
        path = folder / f"yelp_{name}.json"
        content = b"\xef\xbb\xbf" + path.read_bytes()
        path.write_bytes(content)
        if packed:
            path.with_suffix(".json.gz").write_bytes(gzip.compress(content))
            path.unlink()
    corpus = plan(folder)
    assert profiles(corpus) == PROFILES
    assert not any("malformed" in reason for _, reason in corpus.ledger.dropped)


BAD_FILES = [
    (b"<html><body>404 Not Found</body></html>", "photo does not decode"),
    (b"", "photo does not decode"),
    (jpeg(size=(64, 64))[:300], "photo does not decode"),
    (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "photo does not decode"),
    (bomb(60_000, 60_000), "photo has too many pixels"),
    (bomb(8_000, 8_000), "photo has too many pixels"),
    (jpeg() + b"\0" * 2**16, "photo file has too many bytes"),
]


@pytest.mark.parametrize(("content", "reason"), BAD_FILES)
def test_a_bad_photo_file_is_dropped_and_counted(tmp_path, content, reason):
    raw = hand_written()
    raw.files["pizzeria-0"] = content
    corpus = plan(raw.write(tmp_path / "raw"), max_photo_bytes=2**16)
    assert corpus.ledger.dropped["photos", reason] == 1
    shown = {
        photo.photo_id for rows in corpus.splits.values() for row in rows for r in row.reviews for photo in r.photos
    }
    assert "pizzeria-0" not in shown and "pizzeria-1" in shown


def test_no_file_outside_the_folder_is_opened(tmp_path):
    (tmp_path / "secret.jpg").write_bytes(jpeg())
    raw = hand_written()
    del raw.files["pizzeria-0"], raw.files["pizzeria-1"]
    folder = raw.write(tmp_path / "raw")
    (folder / "photos" / "pizzeria-0.jpg").symlink_to(tmp_path / "secret.jpg")
    (folder / "photos" / "pizzeria-1.jpg").symlink_to("pizzeria-1.jpg")
    os.mkfifo(folder / "photos" / "pizzeria-9.jpg")
    corpus = plan(folder)
    assert corpus.ledger.dropped["photos", "photo leads outside the raw folder; --allow_links follows it"] == 1
    assert corpus.ledger.dropped["photos", "photo cannot be read"] == 1


@pytest.mark.parametrize("linked", ["yelp_review.json", "photos"])
def test_a_required_file_that_leads_outside_is_refused(tmp_path, linked):
    folder = hand_written().write(tmp_path / "raw")
    (folder / linked).rename(tmp_path / linked)
    (folder / linked).symlink_to(tmp_path / linked)
    with pytest.raises(ValueError, match=f"{linked} leads to .* outside the raw folder"):
        find_raw_files(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda folder: (folder / "yelp_review.json").unlink(), r"\*review.json.gz or \*review.parquet, found none"),
        (lambda folder: (folder / "review.json.gz").touch(), "found review.json.gz, yelp_review.json"),
        (lambda folder: (folder / "photos").rename(folder / "pictures"), "holds no folder 'photos'"),
    ],
)
def test_a_missing_or_ambiguous_file_is_refused_by_name(tmp_path, change, message):
    folder = hand_written().write(tmp_path / "raw")
    change(folder)
    with pytest.raises(ValueError, match=message):
        find_raw_files(folder)


def test_a_folder_that_is_empty_or_none_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"\*business.json"):
        find_raw_files(tmp_path)
    with pytest.raises(ValueError, match="data_dir must be a folder"):
        find_raw_files(tmp_path / "nowhere")


def test_a_truncated_gz_file_keeps_what_was_read(tmp_path):
    folder = hand_written().write(tmp_path / "raw", gz=True)
    path = folder / "yelp_photos.json.gz"
    path.write_bytes(path.read_bytes()[:-12])
    corpus = plan(folder)
    assert corpus.ledger.dropped["yelp_photos.json.gz", "compressed file is cut short or broken from here on"] == 1


def test_a_line_without_end_is_skipped(tmp_path):
    folder = hand_written().write(tmp_path / "raw", gz=True)
    path = folder / "yelp_business.json.gz"
    long_line = b'{"business_id": "' + b"x" * (2 * MAX_LINE_BYTES) + b'"}\n'
    path.write_bytes(gzip.compress(long_line, 1) + path.read_bytes())
    corpus = plan(folder)
    assert corpus.ledger.dropped["yelp_business.json.gz", "line is too long"] == 1
    assert profiles(corpus) == PROFILES


def test_too_few_users_say_where_the_others_went(tmp_path):
    with pytest.raises(ValueError, match=r"leaves 0\. Left: .*fewer than 31 reviews of a fitting length \(12\)"):
        plan(hand_written().write(tmp_path / "raw"), min_reviews=31)


def test_a_line_without_end_in_a_plain_file_is_refused(tmp_path):
    folder = hand_written().write(tmp_path / "raw")
    with (folder / "yelp_business.json").open("ab") as file:
        file.write(b'{"business_id": "' + b"x" * (3 * MAX_LINE_BYTES) + b'"}\n')
    with pytest.raises(
        ValueError, match=f"^yelp_business.json has a line of more than {MAX_LINE_BYTES} bytes; an obj"
    ):
        plan(folder)
