"""The engines that run the derivation: DuckDB inside the process, or Spark, each behind one Ibis backend.

What only an engine can do stands here: to connect within a limit of memory, to read JSON lines, to name its failures.

A line is what stands between two line feeds; one of nothing but blanks (tab to carriage return, space) is none, and
blanks around the record are no part of it. It is a record if it is UTF-8 and one JSON object, with nothing before or
after it, a mark of order neither. JSON is that of RFC 8259, and three things beside, which programs write: a comma
behind the last value of an object or list; NaN, Inf and Infinity, with a minus or without, in small letters or
capitals; and a key given twice, of which the first counts. Half a surrogate pair or a plain control character makes a
string none. A line that is no record is a row of nulls, which a build counts as malformed; a line of more than
`MAX_LINE_BYTES` ends the build, if it was not left out where a .gz was unpacked. Numbers keep their value, not always
their spelling: 4.10 may be 4.1.

That is how DuckDB reads; Spark, laxer here and stricter there, is brought to it in `_spark_rows`. But for this: Spark
takes a line for none that nests 1,000 deep or has a key of 50,000 characters; DuckDB may take one of up to twice
`MAX_LINE_BYTES`, by where it stands, and one behind a line that ends where a value is to come for none, if
`raw_files.plain_lines` does not change that.
"""

# PySpark is there where somebody asks for it.
# pyright: reportMissingImports=false

import re
import secrets
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, cast

import duckdb
import ibis
import ibis.backends.duckdb
import pyarrow as pa
import pyarrow.parquet as pq
from ibis.backends import BaseBackend

from .remote_path import AnyPath
from .spark_session import spark_path, spark_session

if TYPE_CHECKING:
    from ibis.backends.pyspark import Backend as SparkBackend
    from pyspark.sql import Column, DataFrame, SparkSession

# A line this long is no record.
MAX_LINE_BYTES = 16 * 2**20
TOO_LONG = f"{{}} has a line of more than {MAX_LINE_BYTES} bytes; an object a line is needed"
LONG_LINE = re.compile(r'"maximum_object_size" of .* reading file "(.*?)"')  # DuckDB's words for it

# Rows that pass between engine and Python at once.
STREAMED_ROWS = 10_000

TEXT = "string"
ATTRIBUTES = "map<string, string>"
ANYTHING = "json"


@contextmanager
def connect(engine: str, memory_limit: str, threads: int, scratch: Path) -> Iterator[BaseBackend]:
    """An Ibis backend, until the context ends.

    Args:
        engine: `duckdb`; or as `spark_session` takes it.
        memory_limit: for DuckDB, e.g. `3GB`; what does not fit is written to `scratch`.
        threads: for DuckDB; 0 is one a core.
        scratch: a folder for what does not fit in memory.

    Raises:
        ValueError: for an engine, or a limit, that is none, and for what the engine cannot do on the way.
    """
    if engine != "duckdb":
        with spark_session(engine, threads, scratch) as session:
            yield ibis.pyspark.connect(session)
        return
    limits = {"memory_limit": memory_limit, "temp_directory": str(scratch), "preserve_insertion_order": False}
    try:
        # A database of its own, so that two builds in one process do not meet.
        backend = ibis.duckdb.connect(
            str(scratch / "engine.duckdb"), **limits | ({"threads": threads} if threads else {})
        )
        backend.raw_sql("SET enable_progress_bar = false")
        # DuckDB takes a JSON file for some rows, and would gather it all in memory to look the few users up in it. The
        # derivation's joins have their small table on the right, where it belongs.
        backend.raw_sql("SET disabled_optimizers = 'join_order,build_side_probe_side'")
        try:
            yield backend
        finally:
            backend.disconnect()
    except duckdb.Error as error:
        if found := LONG_LINE.search(str(error)):
            raise ValueError(TOO_LONG.format(Path(found[1]).name)) from None
        raise ValueError(f"DuckDB cannot go on: {error}") from None


def read_lines(backend: BaseBackend, path: AnyPath, fields: Mapping[str, str], role: str = "") -> ibis.Table:
    """The file's JSON lines as a table; a line that is no record is a row of nulls.

    Args:
        path: of this machine, for DuckDB.
        fields: name -> `TEXT` or `ATTRIBUTES`. A value of another type is its JSON text, or null for `ATTRIBUTES`.
            DuckDB has `ANYTHING` as well, the value as it is.
        role: names the table, which replaces one of its name; without it the file's name does.
    """
    name = f"lines_{role or path.name.partition('.')[0]}"
    if backend.name == "duckdb":
        types = {TEXT: "VARCHAR", ATTRIBUTES: "MAP(VARCHAR, VARCHAR)", ANYTHING: "JSON"}
        return backend.read_json(
            str(path),
            table_name=name,
            columns={field: types[kind] for field, kind in fields.items()},
            format="newline_delimited",
            ignore_errors=True,
            compression="uncompressed",
            maximum_object_size=MAX_LINE_BYTES,
        )
    session = session_of(backend)
    rows = _spark_rows(session, spark_path(session, path), path.name, fields)
    rows.createOrReplaceTempView(name)
    return backend.table(name)


# ---------------------------------------------------------------------------------------------------------------------
# Spark reads a line as DuckDB does. None of its patterns repeats a group, which would take Java's stack.

BLANKS_AROUND = r"^[\t-\r ]+|[\t-\r ]+\z"
A_SURROGATE = r"\\u[dD][89a-fA-F]"
A_PAIR = r"\\u[dD][89abAB]..\\u[dD][c-fC-F].."
LAST_COMMA = r",(?=[\t\r ]*[}\]])"
JSON = {"allowSingleQuotes": "false", "allowNonNumericNumbers": "false", "maxNumLen": str(MAX_LINE_BYTES)}
# What is text to Spark as well, once it stands in quotes; the last is no number of 64 bits.
NO_NUMBER = r"(?<![\w.+-])(?:-?(?:(?i:inf(?:inity)?|nan))|-?[0-9.]+[eE]\+?[0-9]{3,})(?=[\t\r ]*[,}\]])"


def _spark_rows(session: "SparkSession", path: str, label: str, fields: Mapping[str, str]) -> "DataFrame":
    from pyspark.sql import functions as F

    lines = session.read.text(path, lineSep="\n")
    too_long = F.raise_error(F.lit(TOO_LONG.format(label)))
    line = F.when(F.octet_length("value") > MAX_LINE_BYTES, too_long).otherwise(F.col("value"))
    lines = lines.select(
        F.is_valid_utf8("value").alias("valid"), F.regexp_replace(line, BLANKS_AROUND, "").alias("line")
    )
    lines = lines.filter("line != ''")
    line = F.col("line")
    lines = lines.select(F.when(F.col("valid") & _has_whole_pairs(line), _plain_json(line)).alias("line"))
    lines = with_objects(lines, "line", "record")
    columns = []
    for name, kind in fields.items():
        value = F.col("record")[name]
        if kind == ATTRIBUTES:
            # Only beside the type does Spark tell an object from a text that looks like one; of two it takes the last.
            several = F.size(F.array_remove(F.map_keys("record"), name)) < F.size("record") - 1
            whole = F.from_json("line", f"`{name}` map<string,string>", JSON)[name]
            first = F.from_json(value, "map<string,string>", JSON)
            value = F.when(several, first).when(value.isNotNull(), whole)
        columns.append(value.alias(name))
    return lines.select(*columns)


def with_objects(rows: "DataFrame", text: str, name: str) -> "DataFrame":
    """The rows with the objects, as maps, that the texts of a column are; null where one is none.

    Spark reads the first value of a text and does not look what comes after. Here that is a list, which ends with a
    mark that the text cannot know: if the mark comes second, the text was one value. As a map it keeps double keys.
    """
    from pyspark.sql import functions as F

    mark, values = secrets.token_hex(8), ibis.util.gen_name("values")
    listed = F.concat(F.lit("["), F.col(text), F.lit(f',{{"":"{mark}"}}]'))
    rows = rows.withColumn(values, F.from_json(listed, "array<map<string,string>>", JSON))
    record = F.when(F.get(values, F.lit(1))[""] == mark, F.get(values, F.lit(0)))
    return rows.withColumn(name, record).drop(values)


def session_of(backend: BaseBackend) -> "SparkSession":
    """Spark's own, for which Ibis has no public name."""
    return cast("SparkBackend", backend)._session


def _has_whole_pairs(line: "Column") -> "Column":
    """Whether no escape is half a surrogate pair."""
    from pyspark.sql import functions as F

    escapes = F.regexp_replace(F.regexp_replace(line, r"\\\\", "_"), A_PAIR, "_")
    return F.when(line.rlike(A_SURROGATE), ~escapes.rlike(A_SURROGATE)).otherwise(True)


def _plain_json(line: "Column") -> "Column":
    """Without a comma behind a last value, and `NO_NUMBER` in quotes; outside of strings alone, and where need be."""
    from pyspark.sql import functions as F

    # Escapes of quotes and of themselves give way to characters that JSON does not have, so that quotes are strings'.
    hidden = F.replace(F.replace(line, F.lit("\\\\"), F.lit("\1")), F.lit('\\"'), F.lit("\2"))

    def outside(part: "Column") -> "Column":
        part = F.regexp_replace(part, rf"(?<![\[{{,:][\t\r ]{{0,99}}){LAST_COMMA}", "")
        return F.regexp_replace(part, NO_NUMBER, '"$0"')

    parts = F.transform(F.split(hidden, '"'), lambda part, n: F.when(n % 2 == 0, outside(part)).otherwise(part))
    mended = F.array_join(parts, '"')
    mended = F.replace(F.replace(mended, F.lit("\2"), F.lit('\\"')), F.lit("\1"), F.lit("\\\\"))
    needed = (line.rlike(LAST_COMMA) | line.rlike(NO_NUMBER)) & ~line.rlike(r"[\x01\x02]")
    return F.when(needed, mended).otherwise(line)


def keep(backend: BaseBackend, table: ibis.Table) -> ibis.Table:
    """The table computed once, for the steps after it; it lives as long as the connection."""
    if backend.name == "duckdb":
        return backend.create_table(ibis.util.gen_name("kept"), table, temp=True)
    return table.cache()


def stream(backend: BaseBackend, table: ibis.Table) -> Iterator[pa.RecordBatch]:
    """The table's rows, in its order, `STREAMED_ROWS` at a time; the engine runs no other query meanwhile."""
    if backend.name == "duckdb":
        yield from table.to_pyarrow_batches(chunk_size=STREAMED_ROWS)
        return
    # Ibis would gather Spark's table whole.
    schema = table.schema().to_pyarrow()
    rows = session_of(backend).sql(ibis.to_sql(table, dialect="pyspark")).toLocalIterator()
    while some := [row.asDict(recursive=True) for row in islice(rows, STREAMED_ROWS)]:
        yield pa.RecordBatch.from_pylist(some, schema)


def add_stream(
    backend: BaseBackend, batches: Iterable[pa.RecordBatch], schema: pa.Schema, scratch: Path
) -> ibis.Table:
    """Any number of rows of Python's as a table of the engine: a file in `scratch`, written batch by batch."""
    name = ibis.util.gen_name("rows")
    path = scratch / f"{name}.parquet"
    with pq.ParquetWriter(path, schema) as file:
        for batch in batches:
            file.write_batch(batch)
    if backend.name == "duckdb":
        return backend.read_parquet(str(path), table_name=name)
    session = session_of(backend)
    session.read.parquet(spark_path(session, path)).createOrReplaceTempView(name)
    return backend.table(name)
