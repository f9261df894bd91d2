"""The engines that run the derivation: DuckDB inside the process, or Spark, each behind one Ibis backend.

What only an engine can do stands here: to connect within a limit of memory, to read JSON lines, to name its failures.
"""

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb
import ibis
import ibis.backends.duckdb
import pyarrow as pa
from ibis.backends import BaseBackend

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

SPARK = r"spark|yarn|local|local(-cluster)?\[[\d*, ]+\]|(spark|k8s|mesos)://.+"

# A line this long is no record.
MAX_LINE_BYTES = 16 * 2**20

TEXT = "string"
ATTRIBUTES = "map<string, string>"


@contextmanager
def connect(engine: str, memory_limit: str, threads: int, scratch: Path) -> Iterator[BaseBackend]:
    """An Ibis backend, until the context ends.

    Args:
        engine: `duckdb`; `spark`, the session that is there or a local one; or a Spark master, e.g. `local[2]`.
        memory_limit: for DuckDB, e.g. `3GB`; what does not fit is written to `scratch`.
        threads: for DuckDB; 0 is one a core.
        scratch: a folder for what does not fit in memory.

    Raises:
        ValueError: for an engine, or a limit, that is none, and for what the engine cannot do on the way.
    """
    if engine != "duckdb":
        yield from _spark(engine, threads, scratch)
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
        raise ValueError(f"DuckDB cannot go on: {error}") from None


def _spark(engine: str, threads: int, scratch: Path) -> Iterator[BaseBackend]:
    if not re.fullmatch(SPARK, engine):
        raise ValueError(f"engine must be duckdb, spark, or a Spark master like local[2], got {engine!r}")
    try:
        from py4j.protocol import Py4JJavaError
        from pyspark.errors import PySparkException
        from pyspark.sql import SparkSession
    except ImportError:
        raise ValueError(f"engine {engine!r} needs PySpark: pip install -r requirements-spark.txt") from None
    present = SparkSession.getActiveSession()
    try:
        session = present or _new_session(SparkSession.builder.appName("mmprofile"), engine, threads, scratch)
        yield ibis.pyspark.connect(session)
    except PySparkException as error:
        raise ValueError(f"Spark cannot go on: {error}") from None
    except Py4JJavaError as error:  # what PySpark does not translate, such as a session that cannot be made
        raise ValueError(f"Spark cannot go on: {error.java_exception.toString()}") from None
    finally:
        if present is None and SparkSession.getActiveSession() is not None:
            SparkSession.getActiveSession().stop()


def _new_session(builder: "SparkSession.Builder", engine: str, threads: int, scratch: Path) -> "SparkSession":
    if engine == "spark" or engine.startswith("local"):
        cores = threads or os.cpu_count() or 1
        builder = builder.master(f"local[{cores}]" if engine == "spark" else engine)
        # On one machine as many partitions as a cluster has cost minutes and give nothing.
        builder = builder.config("spark.sql.shuffle.partitions", 2 * cores).config("spark.local.dir", str(scratch))
        builder = builder.config("spark.ui.enabled", False)
    else:
        builder = builder.master(engine)
    return builder.getOrCreate()


def read_lines(backend: BaseBackend, path: Path, fields: Mapping[str, str]) -> ibis.Table:
    """The file's JSON lines as a table; a line that is no JSON object is a row of nulls.

    Args:
        fields: name -> `TEXT` or `ATTRIBUTES`. A value of another type is its JSON text, or null for `ATTRIBUTES`.
    """
    name = f"lines_{path.name.partition('.')[0]}"
    if backend.name == "duckdb":
        types = {TEXT: "VARCHAR", ATTRIBUTES: "MAP(VARCHAR, VARCHAR)"}
        return backend.read_json(
            str(path),
            table_name=name,
            columns={field: types[kind] for field, kind in fields.items()},
            format="newline_delimited",
            ignore_errors=True,
            compression="uncompressed",
            maximum_object_size=MAX_LINE_BYTES,
        )
    schema = ", ".join(f"`{field}` {kind}" for field, kind in fields.items())
    backend._session.read.schema(schema).json(str(path), allowSingleQuotes=False).createOrReplaceTempView(name)
    return backend.table(name)


def keep(backend: BaseBackend, table: ibis.Table) -> ibis.Table:
    """The table computed once, for the steps after it; it lives as long as the connection."""
    if backend.name == "duckdb":
        return backend.create_table(ibis.util.gen_name("kept"), table, temp=True)
    return table.cache()


def add_rows(backend: BaseBackend, rows: pa.Table) -> ibis.Table:
    """A few rows of Python's as a table of the engine, for it to join."""
    name = ibis.util.gen_name("rows")
    if backend.name == "duckdb":
        return backend.create_table(name, rows, temp=True)
    # Ibis gives an in-memory table to Spark when a query is fetched, but not when it is cached.
    backend._session.createDataFrame(rows).createOrReplaceTempView(name)
    return backend.table(name)
