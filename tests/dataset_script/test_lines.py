"""What a line is, the same for both engines: a record, or none.

Each line below has the id "?", which stands for its number in the file, and a text; some tell "k" in their attributes.
"""

from pathlib import Path

import pytest

from dataset_script.engines import ATTRIBUTES, MAX_LINE_BYTES, TEXT, connect, read_lines
from tests.raw_corpus import hand_written, plan

# line -> its text, and its attribute k
RECORDS = {
    b'{"id": "?", "text": "t"}': ("t", None),
    b'\t \x0b{"id": "?", "text": "t"} \x0c\r': ("t", None),
    b'{"id": "?",\r "text": "t"}': ("t", None),
    b'{"id": "?", "text": "\xef\xbb\xbft"}': ("\ufefft", None),
    b'{"id": "?", "text": "a\x7f\xe2\x80\xa8\xc2\x85b"}': ("a\x7f\u2028\x85b", None),
    rb'{"id": "?", "text": "\/ \u0000 \ud83c\udf55 \\ud800"}': ("/ \0 \U0001f355 \\ud800", None),
    rb'{"\u0069d": "?", "te\u0078t": "t"}': ("t", None),
    b'{"id": "?", "text": "t", "ID": "another", "": {"id": "inner"}}': ("t", None),
    # A key given twice.
    b'{"id": "?", "id": "second", "text": "t"}': ("t", None),
    b'{"id": "?", "text": null, "text": "t", "id": null}': (None, None),
    b'{"id": "?", "text": "t", "attributes": {"k": "1", "k": "2"}}': ("t", "1"),
    b'{"id": "?", "text": "t", "attributes": {"k": "1"}, "attributes": {"k": "2"}}': ("t", "1"),
    b'{"id": "?", "text": "t", "attributes": "none", "attributes": {"k": "2"}}': ("t", None),
    # A comma behind the last value.
    b'{"id": "?", "text": "t",}': ("t", None),
    b'{"id": "?", "text": "t", "list": [[1 , ] ,\t], }': ("t", None),
    rb'{"id": "?", "text": "t,} \",] \\\\",}': ('t,} ",] \\\\', None),
    # Numbers that are none, or none of 64 bits.
    b'{"id": "?", "text": NaN, "list": [-nan, INF, infinity]}': ("NaN", None),
    b'{"id": "?", "text": -Infinity, "attributes": {"k": NaN}}': ("-Infinity", "NaN"),
    b'{"id": "?", "text": 1e400, "list": [-1E+999]}': ("1e400", None),
    b'{"id": "?", "text": "inf, nan ,} +inf, 5e123,]"}': ("inf, nan ,} +inf, 5e123,]", None),
    b'{"id": "?", "text": 4.0, "big": 12345678901234567890123}': ("4.0", None),
    # Values of another type.
    b'{"id": "?", "text": ["a b",  1]}': ('["a b",1]', None),
    b'{"id": "?", "text": {"a" :  1}}': ('{"a":1}', None),
    b'{"id": "?", "text": true, "attributes": {"k": {"lunch" : true}}}': ("true", '{"lunch":true}'),
    b'{"id": "?", "text": "t", "attributes": [1]}': ("t", None),
    rb'{"id": "?", "text": "t", "attributes": "{\"k\": \"2\"}"}': ("t", None),
    b'{"id": "?", "text": "t", "attributes": {}}': ("t", None),
}
GOOD = b'{"id": "?", "text": "t"}'
NONE = [
    # Something before or after.
    GOOD + b" garbage",
    GOOD + b"}",
    GOOD + GOOD,
    GOOD + b" " + GOOD,
    GOOD + b'{"id": "y", ',
    GOOD + b",",
    GOOD + b', {"id": "y", "text": "t"',
    GOOD + b'], [{"id": "y"}',
    GOOD + b', {"": ""}]',
    GOOD + b"\r" + GOOD,
    GOOD + b" // comment",
    GOOD + b"\0",
    GOOD + b"\xff",
    GOOD + b"\xef\xbb\xbf",
    b"\xef\xbb\xbf" + GOOD,
    b"\0" + GOOD,
    b"\xc2\xa0" + GOOD,
    b"garbage" + GOOD,
    b"// " + GOOD,
    # No object.
    b"{}",
    b"[]",
    b"[" + GOOD + b"]",
    b"[" + GOOD + b", " + GOOD + b"]",
    b'"text"',
    b"7",
    b"null",
    b"\x1c",
    b"\xe2\x80\xa8",
    # Cut, and spelt otherwise.
    b'{"id": "?", "text": "cut o',
    b'{"id": "?", "text": "t"',
    b"{'id': '?', 'text': 't'}",
    b'{id: "?", "text": "t"}',
    b'{"id": "?", /* comment */ "text": "t"}',
    b'{"id": "?", "text": True}',
    b'{"id": "?", "text": None}',
    b'{"id": "?",, "text": "t"}',
    b'{"id": "?", "text": "t",,}',
    b'{"id": "?", "text":,}',
    b'{"id": "?", "text": "t", "list": [,]}',
    b"{,}",
    b'{"id": "?",\x0c "text": "t"}',
    # Numbers.
    b'{"id": "?", "text": +1}',
    b'{"id": "?", "text": 01}',
    b'{"id": "?", "text": 0x1}',
    b'{"id": "?", "text": .5}',
    b'{"id": "?", "text": 5.}',
    b'{"id": "?", "text": +Infinity}',
    b'{"id": "?", "text": --inf}',
    b'{"id": "?", "text": infx}',
    b'{"id": "?", NaN: 1}',
    # Strings.
    b'{"id": "?", "text": "a\tb"}',
    b'{"id": "?", "text": "a\rb"}',
    b'{"id": "?", "text": "a\x00b"}',
    b'{"id": "?", "text": "a\x01b",}',
    rb'{"id": "?", "text": "a\qb"}',
    rb'{"id": "?", "text": "a\x41b"}',
    rb'{"id": "?", "text": "a\u12g4b"}',
    # Half a surrogate pair.
    rb'{"id": "?", "text": "a \ud800 b"}',
    rb'{"id": "?", "text": "a \udc00\ud800 b"}',
    rb'{"id": "?", "text": "a \uD83C\uD83C\uDF55 b"}',
    rb'{"id": "?", "text": "a \\\ud800 b"}',
    rb'{"id": "?", "text": "a \ud83c\\\udf55 b"}',
    rb'{"id": "?", "text": "t", "other": "a \ud800 b"}',
    # No UTF-8: Latin-1, a surrogate's bytes, an overlong form, beyond Unicode, cut.
    b'{"id": "?", "text": "caf\xe9 t"}',
    b'{"id": "?", "text": "t", "other": "caf\xe9"}',
    b'{"id": "?", "text": "a\xed\xa0\x80b"}',
    b'{"id": "?", "text": "a\xc0\xafb"}',
    b'{"id": "?", "text": "a\xf5\x80\x80\x80b"}',
    b'{"id": "?", "text": "a\xe2\x82"}',
    # Cut where a value is to come, at the end, where what comes next must be read as if they were not there.
    b'{"id": "?", "list": [1,',
    b"NaN",
    b'{"id": "?", "text":',
]
BLANK = [b"", b" \t ", b"\r", b"\x0b\x0c"]
ENGINES = ["duckdb", pytest.param("local[1]", marks=pytest.mark.slow)]
ODD_DATES = [
    1612011200000,
    "1612011200000",
    1612011200.5,
    1.6e12,
    "0000-01-01 00:00:00",
    "2019-W01-4",
    "19-01-02",
    "May",
]
# A name that patterns, addresses and file systems would take for something else.
ODD_NAME = "a b [1] {c,d} 100% ?x* #%20"


@pytest.fixture(autouse=True)
def one_spark(request):
    if "slow" in [mark.name for mark in request.node.iter_markers()]:
        request.getfixturevalue("spark")


def read(engine: str, folder: Path, lines: list[bytes]) -> list[tuple]:
    """The rows of a file of the lines: (id, text, k) each."""
    folder.mkdir()
    (folder / "some_review.json").write_bytes(
        b"".join(line.replace(b"?", b"%d" % n) + b"\n" for n, line in enumerate(lines))
    )
    scratch = folder / "scratch"
    scratch.mkdir()
    with connect(engine, "1GB", 1, scratch) as backend:
        fields = {"id": TEXT, "text": TEXT, "attributes": ATTRIBUTES}
        table = read_lines(backend, folder / "some_review.json", fields)
        rows = table.mutate(attributes=table.attributes.get("k")).to_pyarrow()
    return list(zip(*rows.to_pydict().values(), strict=True))


@pytest.mark.parametrize("engine", ENGINES)
def test_a_line_is_a_record_or_a_row_of_nulls_or_blank(tmp_path, engine):
    rows = read(engine, tmp_path / ODD_NAME, [*RECORDS, *NONE, *BLANK])
    nothing = (None, None, None)
    told = {row[0]: row[1:] for row in rows if row != nothing}
    assert told == {str(n): values for n, values in enumerate(RECORDS.values())}
    assert rows.count(nothing) == len(NONE)


@pytest.mark.slow
def test_the_engines_count_alike_what_is_no_line(tmp_path):
    raw = hand_written()
    raw.reviews += [raw.reviews[0] | {"review_id": f"odd {n}", "date": date} for n, date in enumerate(ODD_DATES)]
    folder = raw.write(tmp_path / "raw")
    for name in ("business", "review", "photos"):
        path = folder / f"yelp_{name}.json"
        path.write_bytes(b"\n".join([*NONE[20:], path.read_bytes(), *NONE[:20], *BLANK]))
    ducks, sparks = plan(folder), plan(folder, engine="local[1]")
    assert ducks.ledger.dropped["review", "malformed JSON, or user_id is missing, null or empty"] == len(NONE)
    assert ducks.ledger.dropped["review", "date is a number, such as milliseconds"] == 4
    for told in ("ledger", "splits", "lines", "dates", "tally", "cuts"):
        assert getattr(ducks, told) == getattr(sparks, told)


@pytest.mark.slow
def test_spark_ends_at_a_line_without_end(tmp_path):
    folder = hand_written().write(tmp_path / "raw")
    with (folder / "yelp_business.json").open("ab") as file:
        file.write(b'{"business_id": "' + b"x" * (2 * MAX_LINE_BYTES) + b'"}\n')
    with pytest.raises(ValueError, match=f"yelp_business.json has a line of more than {MAX_LINE_BYTES} bytes"):
        plan(folder, engine="local[1]")
