"""Parquet files as tables of an engine: columns, whatever their types, as the texts that JSON lines would have.

A file, or a folder of part files, as Spark writes one. A number is its digits; a moment is one of UTC, without
fractions of a second; a list or an object is its JSON. The `attributes` of a business may be a struct, a map or a JSON
text. A row without values is what a line that is no record is.
"""

# PySpark is there where somebody asks for it.
# pyright: reportMissingImports=false

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

import ibis
import ibis.expr.datatypes as dt
import ibis.expr.types as ir
import pyarrow as pa
import pyarrow.parquet as pq
from ibis.backends import BaseBackend
from ibis.backends.duckdb import Backend as DuckDB

from .engines import ATTRIBUTES, session_of, with_objects
from .raw_folder import parts
from .remote_path import AnyPath
from .spark_session import spark_path

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

MOMENT = "%Y-%m-%d %H:%M:%S"
# Spark reads moments in nanoseconds, as pandas 2 writes them, as whole numbers, and only where it is told to.
NANOSECONDS_AS_NUMBERS = "spark.sql.legacy.parquet.nanosAsLong"
MAGIC = b"PAR1"


def read_parquet(
    backend: BaseBackend, path: AnyPath, fields: Mapping[str, str], needed: Sequence[str], role: str
) -> ibis.Table:
    """The rows with the fields alone, as `read_lines` gives those of JSON lines.

    Args:
        path: of a file, or of a folder of part files; of this machine, for DuckDB.
        needed: fields without which no row can be used; a column of any other may be missing.

    Raises:
        ValueError: if it is no Parquet file, lacks a column, or has one of a type that has no text.
    """
    schema = _schema(path)
    if lacks := [name for name in needed if name not in schema.names]:
        raise ValueError(f"{path.name} has no column {', '.join(lacks)}; it has {', '.join(schema.names)}")
    table = _table(backend, path, schema, role, [name for name, kind in fields.items() if kind == ATTRIBUTES])
    columns = {}
    for name, kind in fields.items():
        if name not in schema.names:
            columns[name] = ibis.null("map<string, string>" if kind == ATTRIBUTES else "string")
        else:
            columns[name] = (_object if kind == ATTRIBUTES else _text)(table[name], f"{path.name}: column {name}")
    return table.select(**columns)


def copy_parquet(ducks: BaseBackend, path: AnyPath, lines: Path) -> None:
    """Writes the rows as JSON lines, with all their columns."""
    assert isinstance(ducks, DuckDB)
    table = _table(ducks, path, _schema(path), "copied", [])
    moments = {name: _text(table[name], name) for name, kind in table.schema().items() if kind.is_timestamp()}
    rows = ibis.to_sql(table.mutate(**moments), dialect="duckdb")
    target = str(lines).replace("'", "''")
    ducks.raw_sql(f"COPY ({rows}) TO '{target}' (FORMAT json, ARRAY false)")


def _schema(path: AnyPath) -> pa.Schema:
    """That of all parts, which have one; else an engine would read what the first has."""
    names = {part: path.name if part == path else f"{path.name}/{part.name}" for part in parts(path)}
    (first, schema), *others = ((name, _schema_of_file(part, name)) for part, name in names.items())
    for name, other in others:
        if not other.equals(schema):
            raise ValueError(f"{name} has {_told(other)}; {first} has {_told(schema)}, as all parts must")
    by_letters = {name.lower(): name for name in schema.names}
    if alike := [name for name in schema.names if by_letters[name.lower()] != name]:
        both = f"{alike[0]} and {by_letters[alike[0].lower()]}"
        raise ValueError(f"{path.name} has the columns {both}: they must differ by more than capitals")
    return schema


def _schema_of_file(part: AnyPath, name: str) -> pa.Schema:
    with part.open("rb") as file:
        if file.read(len(MAGIC)) != MAGIC:
            raise ValueError(f"{name} is no Parquet file")
        file.seek(0)
        try:
            return pq.read_schema(file)
        except (pa.ArrowException, OSError) as error:
            raise ValueError(f"{name} is no whole Parquet file: {error}") from None


def _told(schema: pa.Schema) -> str:
    return ", ".join(f"{field.name} ({field.type})" for field in schema)


def _table(backend: BaseBackend, path: AnyPath, schema: pa.Schema, role: str, objects: Sequence[str]) -> ibis.Table:
    name = f"parquet_{role}"
    if isinstance(backend, DuckDB):
        names = [str(part) for part in parts(path)]
        table = backend.read_parquet(names, table_name=name, hive_partitioning=False)
        as_json = {key: table[key].try_cast("json").try_cast("map<string, string>") for key in _texts(schema, objects)}
        return table.mutate(**as_json)
    session = session_of(backend)
    nanoseconds = [field.name for field in schema if pa.types.is_timestamp(field.type) and field.type.unit == "ns"]
    if nanoseconds:
        session.conf.set(NANOSECONDS_AS_NUMBERS, "true")
    rows = session.read.parquet(*(spark_path(session, part) for part in parts(path)))
    _with_moments(rows, nanoseconds, _texts(schema, objects)).createOrReplaceTempView(name)
    return backend.table(name)


def _with_moments(rows: "DataFrame", nanoseconds: Sequence[str], texts: Sequence[str]) -> "DataFrame":
    """Of nanoseconds the moments, of JSON texts the objects."""
    from pyspark.sql import functions as F

    for name in nanoseconds:
        rows = rows.withColumn(name, F.timestamp_micros(F.floor(F.col(f"`{name}`") / 1000)))
    for name in texts:
        rows = with_objects(rows, name, name)
    return rows


def _texts(schema: pa.Schema, names: Sequence[str]) -> list[str]:
    def is_text(kind: pa.DataType) -> bool:
        return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)

    return [name for name in names if name in schema.names and is_text(schema.field(name).type)]


def _text(value: ir.Value, label: str) -> ir.StringValue:
    """What JSON lines would have in the value's place."""
    kind = value.type()
    if kind.is_string():
        return cast(ir.StringValue, value)
    if kind.is_timestamp():
        return cast(ir.TimestampValue, value).strftime(MOMENT)
    if kind.is_array() or kind.is_struct() or kind.is_map():
        return _json(value)
    if kind.is_null() or kind.is_boolean() or kind.is_numeric() or kind.is_date() or kind.is_json():
        return value.cast("string")
    raise ValueError(f"{label} is of type {kind}; texts, numbers, dates, moments, lists or objects are needed")


def _json(value: ir.Value) -> ir.StringValue:
    @ibis.udf.scalar.builtin(name="to_json", signature=((value.type(),), dt.json))
    def to_json(value): ...

    return to_json(value).cast("string")


def _object(value: ir.Value, label: str) -> ir.MapValue:
    kind = value.type()
    if isinstance(value, ir.StructValue):
        texts = [_text(value[name], f"{label}.{name}") for name in value.names]
        made = ibis.map(ibis.array(list(value.names)), ibis.array(texts))
        return cast(ir.MapValue, ibis.ifelse(value.isnull(), ibis.null(made.type()), made))
    if isinstance(value, ir.MapValue) and isinstance(kind, dt.Map) and kind.key_type.is_string():
        texts = value.values().map(lambda each: _text(each, label))
        return cast(ir.MapValue, ibis.map(value.keys(), texts))
    raise ValueError(f"{label} is of type {kind}; a struct, a map of texts or a JSON text is needed")
