"""Raw files in another form: refused in a sentence that says what is needed. Dates: forms of ISO 8601, no numbers."""

import gzip
import json
import random

import pytest

from dataset_script.corpus import _plain_date
from dataset_script.engines import MAX_LINE_BYTES
from dataset_script.raw_files import Ledger, plain_lines
from tests.raw_corpus import PROFILES, hand_written, plan

ARRAY = "is one JSON array; an object a line is needed"
SEVERAL = "has JSON objects over several lines; an object a line is needed"
TOGETHER = "has several JSON objects in a line; an object a line is needed"
NONE = "has no JSON object in its first lines; an object a line is needed"


def as_array(lines):
    return b"[\n" + b",\n".join(lines) + b"\n]\n"


def with_indent(lines):
    return "\n".join(json.dumps(json.loads(line), indent=2) for line in lines).encode()


def one_value_a_line(lines):
    return b"\n".join(line.replace(b', "', b',\n"', 1) for line in lines)


def as_array_with_indent(lines):
    return json.dumps([json.loads(line) for line in lines], indent=4).encode()


def as_one_object(lines):
    return json.dumps({"records": [json.loads(line) for line in lines]}, indent=2).encode()


OTHER_FORMS = {
    as_array: ARRAY,
    as_array_with_indent: ARRAY,
    with_indent: SEVERAL,
    one_value_a_line: SEVERAL,
    as_one_object: SEVERAL,
    lambda lines: b"[" + b", ".join(lines) + b"]": ARRAY,
    lambda lines: b'[["r0", "some words"], ["r1", "some words"]]': ARRAY,
    lambda lines: b'{"records": [' + b", ".join(lines) + b"]}": "is one JSON object around a list; an object",
    lambda lines: b"".join(lines): TOGETHER,
    lambda lines: b" ".join(2000 * lines): TOGETHER,
    lambda lines: b", ".join(lines): TOGETHER,
    lambda lines: b"\n".join(2 * [b" ".join(lines)]): TOGETHER,
    lambda lines: b"\r".join(lines): "ends its lines by CR, without LF; an object a line is needed",
    lambda lines: b",\n".join(lines): "has commas behind its JSON objects; an object a line is needed",
    lambda lines: b"review_id,text\nr0,some words\nr1,some words\n": NONE,
    lambda lines: b"<html>\n\n<body>\n</html>": NONE,
    lambda lines: b"\n".join(lines).decode().encode("utf-16-le"): "is UTF-16; lines in UTF-8 are needed",
    lambda lines: b"\n".join(lines).decode().encode("utf-16-be"): "is UTF-16 or no text; lines in UTF-8 are needed",
    lambda lines: b"PK\3\4 review.json": "is packed by zip; lines in UTF-8 are needed",
    lambda lines: b"\n".join(lines).decode().encode("utf-16"): "is UTF-16; lines in UTF-8 are needed",
    lambda lines: gzip.compress(b"\n".join(lines)): "is packed by gzip, once more than its name says",
}


LINES = [json.dumps({"review_id": f"r{n}", "text": "some words"}).encode() for n in range(3)]


@pytest.mark.parametrize("form", OTHER_FORMS)
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_a_file_that_does_not_begin_with_a_line_is_refused(tmp_path, form, packed, mark):
    content = form(LINES)
    content = mark + content if content[:1] in (b"[", b"{") and b"\0" not in content else content
    path = tmp_path / ("review.json.gz" if packed else "review.json")
    path.write_bytes(gzip.compress(content) if packed else content)
    with pytest.raises(ValueError, match=rf"^review\.json\S* {OTHER_FORMS[form]}"):
        plain_lines(path, tmp_path / "scratch", MAX_LINE_BYTES, Ledger())


@pytest.mark.parametrize("name", ["business", "review", "photos"])
def test_each_raw_file_is_looked_at(tmp_path, name):
    folder = hand_written().write(tmp_path / "raw")
    path = folder / f"yelp_{name}.json"
    lines = path.read_bytes().splitlines()
    for form in (with_indent, b"\r".join):
        path.write_bytes(form(lines))
        with pytest.raises(ValueError, match=f"yelp_{name}.json .*; an object a line is needed"):
            plan(folder)


FIRST_LINES = [
    b'{"review_id": "x"}{"review_id": "y"}',
    b'{"review_id": "x", "text": "cut o',
    b'{"review_id": "x",',
    b"{",
    b"",
    b"[1, 2]",
    b"{}",
    b"\xff",
    b"<html>",
]


@pytest.mark.parametrize("first", FIRST_LINES)
def test_a_first_line_that_is_broken_costs_that_line_alone(tmp_path, first):
    folder = hand_written().write(tmp_path / "raw")
    for name in ("business", "review", "photos"):
        path = folder / f"yelp_{name}.json"
        path.write_bytes(first + b"\n" + path.read_bytes())
    corpus = plan(folder)
    assert {row.user_id: row.profile for rows in corpus.splits.values() for row in rows} == PROFILES
    malformed = corpus.ledger.dropped["review", "malformed JSON, or user_id is missing, null or empty"]
    assert malformed == (first != b"")


# Behind each of these DuckDB reads the next line wrongly too.
CUT_LINES = [
    b'{"review_id":',
    b'{"review_id": "x", "text": ',
    b'{"review_id": "x", "list": [1,\r',
    b'{"review_id": "x", "list": [',
    b"[1, ",
    b"NaN",
    b"-Infinity",
    b"1e400",
]


def put_cut_lines(folder, form: str) -> None:
    """Among the lines of each file, and behind the last."""
    for name in ("business", "review", "photos"):
        path = folder / f"yelp_{name}.json"
        lines = path.read_bytes().splitlines()
        for number, cut in enumerate(CUT_LINES):
            lines.insert(2 * number % len(lines), cut)
        content = (b"\xef\xbb\xbf" if form == "marked" else b"") + b"\n".join([*lines, CUT_LINES[0]])
        path.write_bytes(content)
        if form == "packed":
            path.with_suffix(".json.gz").write_bytes(gzip.compress(content))
            path.unlink()


@pytest.mark.parametrize("form", ["plain", "packed", "marked"])
def test_a_line_that_is_cut_costs_no_line_behind_it(tmp_path, form):
    folder = hand_written().write(tmp_path / "raw")
    put_cut_lines(folder, form)
    corpus = plan(folder)
    assert {row.user_id: row.profile for rows in corpus.splits.values() for row in rows} == PROFILES
    malformed = {where: count for (where, why), count in corpus.ledger.dropped.items() if "missing, null or" in why}
    assert malformed == dict.fromkeys(("business", "review", "photos"), len(CUT_LINES) + 1)
    assert corpus.lines["review"] == len(hand_written().reviews) + len(CUT_LINES) + 1


def test_what_macos_leaves_beside_a_raw_file_is_none(tmp_path):
    folder = hand_written().write(tmp_path / "raw")
    for name in ("._yelp_review.json", ".DS_Store", "._photos.json", "photos/._pizzeria-0.jpg"):
        (folder / name).write_bytes(b"\0\5\x16\7\0\2\0\0Mac OS X")
    assert (dropped := plan(folder).ledger.dropped)
    assert not any("malformed" in reason for _, reason in dropped)


def test_dates_are_brought_to_one_form():
    forms = {
        "2020-01-02": "2020-01-02 00:00:00",
        "2020-01-02 03:04:05": "2020-01-02 03:04:05",
        "2020-01-02T03:04": "2020-01-02 03:04:00",
        "2020-01-02T03:04:05.999Z": "2020-01-02 03:04:05",
        "2020-01-02T03:04:05+03:00": "2020-01-02 00:04:05",
        "20200102T030405": "2020-01-02 03:04:05",
        "20200102": "2020-01-02 00:00:00",
        "2020-W01-4": "2020-01-02 00:00:00",
        "9999-12-31 23:59:59": "9999-12-31 23:59:59",
        "9999-12-31T23:59:59-09:00": None,
        "0001-01-01T00:00:00+09:00": None,
        "2020-01-02x03:04:05": None,
        "2020-02-30": None,
        "20-01-02": None,
        "01/02/2020": None,
        " 2020-01-02": None,
        "2020-01-02 ": None,
        "May": None,
        "": None,
    }
    assert {date: _plain_date(date) for date in forms} == forms


def test_no_number_of_seconds_or_milliseconds_is_a_date():
    rng = random.Random(0)
    seconds = [rng.randrange(1_100_000_000, 1_700_000_000) for _ in range(5000)]
    assert not [
        n for n in seconds for text in (f"{n}", f"{n}000", f"{n}.5", f"{n * 1000 + n % 1000}") if _plain_date(text)
    ]


def test_a_row_has_the_plain_form_of_a_date(tmp_path):
    raw = hand_written()
    raw.reviews[0]["date"] = "2022-01-02T03:04:05+03:00"
    rows = {row.user_id: row for rows in plan(raw.write(tmp_path / "raw")).splits.values() for row in rows}
    assert rows["ann"].reviews[0].review.date == "2022-01-02 00:04:05"
