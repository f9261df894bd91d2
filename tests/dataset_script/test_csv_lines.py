"""A CSV's rows: over several lines, with any line ends, packed or not; broken ones are counted, and cost no other."""

import csv
import gzip
import io
import json
import random

import pytest

from dataset_script.csv_lines import NO_ROW, columns_of, csv_lines
from dataset_script.engines import MAX_LINE_BYTES
from dataset_script.raw_files import Ledger

HEADER = b"id,text,last\n"


def rows(folder, content, name="some.csv", delimiter=","):
    path = folder / name
    path.write_bytes(content)
    ledger = Ledger()
    lines = csv_lines(path, delimiter, folder, MAX_LINE_BYTES, ledger).read_bytes().splitlines()
    return [tuple(json.loads(line).values()) for line in lines], dict(ledger.dropped)


ROWS = {
    b'1,"two\nlines, and a ""quote""",x\n': ("1", 'two\nlines, and a "quote"', "x"),
    b'1,"a\r\nb",x\r\n': ("1", "a\r\nb", "x"),
    b'1,,""\n': ("1", None, None),
    b"1, blank ,x": ("1", " blank ", "x"),
    b'1,a "b" c,x\n': ("1", 'a "b" c', "x"),
    "1,naïve \u2028 \U0001f355,x\n".encode(): ("1", "naïve \u2028 \U0001f355", "x"),
    b"1,a\0b\\n,x\n": ("1", "a\0b\\n", "x"),
}
BROKEN = {
    b"2,few\n": NO_ROW,
    b"2,too,many,values\n": NO_ROW,
    b'2,"closed"early,x\n': NO_ROW,
    b"2,caf\xe9,x\n": "row of the CSV is no UTF-8",
    b'2,"' + b"x" * 2**18 + b'",x\n': NO_ROW,
}
GOOD = b"0,good,x\n"


@pytest.mark.parametrize("row", ROWS)
def test_a_row_is_read_as_it_was_written(tmp_path, row):
    found, dropped = rows(tmp_path, HEADER + GOOD + b"\n\r\n" + row)
    assert (found, dropped) == ([("0", "good", "x"), ROWS[row]], {})


@pytest.mark.parametrize("row", BROKEN)
def test_a_row_that_is_none_is_counted_and_costs_no_other(tmp_path, row):
    found, dropped = rows(tmp_path, HEADER + GOOD + row + GOOD)
    assert found == 2 * [("0", "good", "x")]
    assert dropped == {("some.csv", BROKEN[row]): 1}


def test_a_quote_that_is_never_closed_is_counted(tmp_path):
    found, dropped = rows(tmp_path, HEADER + GOOD + b'2,"never closed\n' + GOOD)
    assert found == [("0", "good", "x")] and dropped == {("some.csv", NO_ROW): 1}
    found, dropped = rows(tmp_path, HEADER + b'2,"never closed\n' + 30_000 * GOOD)
    assert len(found) > 10_000 and set(found) == {("0", "good", "x")} and sum(dropped.values()) == 1


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_what_a_program_writes_is_read_in_any_form(tmp_path, end, delimiter, packed, mark):
    rng = random.Random(0)
    written = [tuple("".join(rng.choices('a ,;\t"\n\r\\é', k=9)) for _ in range(3)) for _ in range(200)]
    file = io.StringIO(newline="")
    # Where lines end by LF alone, the writer leaves a CR without quotes.
    quoting = csv.QUOTE_MINIMAL if end == "\r\n" else csv.QUOTE_ALL
    writer = csv.writer(file, delimiter=delimiter, lineterminator=end, quoting=quoting)
    writer.writerows([("id", "text", "last"), *written])
    content = mark + file.getvalue().encode()
    name = "some.csv.gz" if packed else "some.csv"
    found, dropped = rows(tmp_path, gzip.compress(content) if packed else content, name, delimiter)
    assert (found, dropped) == (written, {})


def test_a_gz_that_is_cut_short_gives_the_rows_before_the_cut(tmp_path):
    rng = random.Random(0)
    content = HEADER + b"".join(b"%d,%d,x\n" % (n, rng.randrange(10**9)) for n in range(5000))
    found, dropped = rows(tmp_path, gzip.compress(content)[:-9000], "some.csv.gz")
    assert 100 < len(found) < 5000 and found[99][0] == "99"
    assert dropped["some.csv.gz", "compressed file is cut short or broken from here on"] == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"must begin with the different names of its columns, got \[\]"),
        (b"\n", r"must begin with the different names of its columns, got \[\]"),
        (b"id,text,id\n", r"must begin with the different names of its columns, got \['id', 'text', 'id'\]"),
        (b'"id,text\n', r"must begin with the different names of its columns, got \[\]"),
        (HEADER.decode().encode("utf-16"), "is UTF-16; lines in UTF-8 are needed"),
        (b"PK\3\4", "is packed by zip"),
    ],
)
def test_a_file_without_a_header_is_refused(tmp_path, content, message):
    (tmp_path / "some.csv").write_bytes(content)
    with pytest.raises(ValueError, match=f"^some.csv {message}"):
        columns_of(tmp_path / "some.csv", ",")


def test_a_scratch_that_is_full_is_told(tmp_path):
    (tmp_path / "some.csv").write_bytes(HEADER + GOOD)
    with pytest.raises(ValueError, match="some.csv cannot be written as JSON lines into"):
        csv_lines(tmp_path / "some.csv", ",", tmp_path / "nowhere", MAX_LINE_BYTES, Ledger())
