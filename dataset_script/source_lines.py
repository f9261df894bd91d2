"""Another platform's records brought to the fields of the four-file form, by the `sources` of a schema.

DuckDB does it for every engine, so that all have the same rows: for itself by views of the raw lines, for another by a
copy, whose fields stand where Yelp's do.
"""

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import ibis
from ibis import _
from ibis.backends import BaseBackend
from ibis.backends.duckdb import Backend as DuckDB

from .derivation import NO_MOMENT, PLAIN_NUMBER
from .engines import ANYTHING, ATTRIBUTES, TEXT, read_lines
from .raw_files import BEGINNING, Ledger
from .remote_path import AnyPath
from .sources import DATE_UNITS, REQUIRED, Field, Hash, Members, Place, RoleSource, Sources, Value

# Seconds of the years that are written with four digits.
FIRST_MOMENT, LAST_MOMENT = -30_610_224_000, 253_402_300_799
# So many records are looked at first for a field; all of them only where none of these has it.
LOOKED_AT = 10_000


def source_records(
    ducks: BaseBackend,
    plain: AnyPath,
    file: str,
    role: str,
    sources: Sources,
    fields: Mapping[str, str],
    ledger: Ledger,
) -> ibis.Table:
    """The records of a role, with the fields of the four-file form; a line that is no record is a row of nulls.

    Args:
        ducks: DuckDB.
        plain: JSON lines.
        file: the name of what they were made of.
        fields: as `read_lines` takes them.

    Raises:
        ValueError: if no record has a field that is needed, or two keys are too much alike for DuckDB.
    """
    source = sources[role]
    holder = sources.get(source.listed_in, RoleSource(source.listed_in)) if source.listed_in else source
    places = {name: source.field(name) for name in fields}
    if source.listed_in:
        # The photos belong to the record that lists them: its own id, as its own role has it.
        owner = f"{source.listed_in}_id"
        places = dict.fromkeys(fields) | {"photo_id": places["photo_id"], owner: holder.field(owner)}
    columns = _columns(places, fields, is_listed=source.listed_in is not None)
    lines = read_lines(ducks, plain, columns, role).get_name()
    read = {name: _expression(name, place, columns, fields[name]) for name, place in places.items()}
    if source.listed_in:
        lines = _listed(ducks, lines, places["photo_id"], columns, is_text=holder.form == "csv")
        read["photo_id"] = "_listed ->> '$'"
    if role == "photos":
        read["photo_id"] = _file_name(read["photo_id"], source.extension)
    table = _view(ducks, f"{role}_records", f"SELECT {_aliased(read)} FROM {_name(lines)}")
    _check_fields(table, plain, file, source, places, ledger)
    if isinstance(made := places.get("review_id"), Hash) and role == "review":
        _note(ledger, f"A review's id is a hash of its {', '.join('.'.join(keys) for keys in made.places)}.")
    if isinstance(date := places.get("date"), Value) and DATE_UNITS[date.unit]:
        _check_moments(table, date.unit, ledger)
    return table


def copy_records(ducks: BaseBackend, records: ibis.Table, lines: Path) -> None:
    """Writes them as JSON lines, with the fields where the four-file form has them."""
    _run(ducks, f"COPY (SELECT * FROM {_name(records.get_name())}) TO {_text(str(lines))} (FORMAT json, ARRAY false)")


def _columns(places: Mapping[str, Field], fields: Mapping[str, str], is_listed: bool) -> dict[str, str]:
    """The keys of a record that are read, and as what."""
    columns: dict[str, str] = {}
    for name, place in places.items():
        for keys in _places(place):
            is_object = fields[name] == ATTRIBUTES and isinstance(place, Value)
            kind = ATTRIBUTES if is_object else TEXT
            kind = ANYTHING if keys[1:] or (is_listed and name == "photo_id") else kind
            columns[keys[0]] = kind if columns.get(keys[0], kind) == kind else ANYTHING
    by_letters = {key.lower(): key for key in columns}
    if alike := [key for key in columns if by_letters[key.lower()] != key]:
        both = f"{alike[0]} and {by_letters[alike[0].lower()]}"
        raise ValueError(f"`sources` names {both}: two keys of a record must differ by more than capitals")
    return columns


def _places(place: Field) -> tuple[Place, ...]:
    match place:
        case Value(keys):
            return (keys,)
        case Hash(several):
            return several
        case Members(named):
            return tuple(named.values())
    return ()


def _expression(name: str, place: Field, columns: Mapping[str, str], kind: str) -> str:
    """A field in SQL."""
    match place:
        case Value(keys, unit):
            if kind == ATTRIBUTES:
                return _object(keys, columns)
            return _moment(_value(keys, columns), DATE_UNITS[unit]) if name == "date" else _value(keys, columns)
        case Hash(several):
            # Hashes of hashes, so that no two values run into one another; of a null it is null.
            return f"md5({' || '.join(f'md5({_value(keys, columns)})' for keys in several)})"
        case Members(named):
            names = ", ".join(map(_text, named))
            return f"map([{names}], [{', '.join(_value(keys, columns) for keys in named.values())}])"
    return "CAST(NULL AS MAP(VARCHAR, VARCHAR))" if kind == ATTRIBUTES else "CAST(NULL AS VARCHAR)"


def _value(keys: Place, columns: Mapping[str, str]) -> str:
    """The text of what stands at a place."""
    column = _name(keys[0])
    if columns[keys[0]] == TEXT:
        return column
    return f"json_extract_string({column}, {_pointer(keys[1:])})"


def _object(keys: Place, columns: Mapping[str, str]) -> str:
    column, kind = _name(keys[0]), columns[keys[0]]
    if kind == ATTRIBUTES:
        return column
    value = f"json_extract({column}, {_pointer(keys[1:])})"
    return f"TRY_CAST({value} AS MAP(VARCHAR, VARCHAR))"


def _moment(text: str, per_second: int | None) -> str:
    """A date as `YYYY-MM-DD HH:MM:SS`, in UTC, of a number since 1970; as it stands without a unit."""
    if per_second is None:
        return text
    seconds = f"floor(TRY_CAST(trim({text}) AS DOUBLE) / {per_second})"
    is_moment = f"regexp_matches({text}, {_text(PLAIN_NUMBER)}) AND {seconds} BETWEEN {FIRST_MOMENT} AND {LAST_MOMENT}"
    moment = f"strftime(make_timestamp(CAST({seconds} AS BIGINT) * 1000000), '%Y-%m-%d %H:%M:%S')"
    return f"CASE WHEN {text} IS NULL THEN NULL WHEN {is_moment} THEN {moment} ELSE {_text(NO_MOMENT)} END"


def _listed(ducks: BaseBackend, lines: str, place: Field, columns: Mapping[str, str], is_text: bool) -> str:
    """A view of the lines with `_listed`, one row a photo that a record lists; and each line that is no record.

    On its way a place goes through lists: `pics.url` is the url, or the urls, of each of the pics.
    """
    assert isinstance(place, Value)
    top, *keys = place.place
    # A list in a CSV is JSON within a value; what is none is one name.
    value = f"COALESCE(TRY_CAST({_name(top)} ->> '$' AS JSON), {_name(top)})" if is_text else _name(top)
    query = f"SELECT *, {_each(value)} AS _listed FROM {_name(lines)}"
    for key in keys:
        step = f"json_extract(_listed, {_pointer((key,))})"
        query = f"SELECT * EXCLUDE (_listed), {_each(step)} AS _listed FROM ({query})"
    is_none = " AND ".join(f"{_name(column)} IS NULL" for column in columns)
    is_photo = "COALESCE(json_type(_listed), 'NULL') != 'NULL'"
    return _view(ducks, "listed_photos", f"SELECT * FROM ({query}) WHERE {is_photo} OR ({is_none})").get_name()


def _each(value: str) -> str:
    return f"unnest(CASE json_type({value}) WHEN 'ARRAY' THEN json_extract({value}, '$[*]') ELSE [{value}] END)"


def _file_name(text: str, extension: str) -> str:
    """The last part of a path or an address, without the extension; of an address nothing behind `?`, `#` or `=`."""
    path = f"CASE WHEN contains({text}, '://') THEN regexp_replace({text}, '(?s)[?#=].*', '') ELSE {text} END"
    name = rf"regexp_extract({path}, '[^/\\]*\z')"
    ending = extension.replace(".", r"\.")
    return rf"regexp_replace({name}, '{ending}\z', '')" if extension else name


def _check_fields(
    table: ibis.Table, plain: AnyPath, file: str, source: RoleSource, places: Mapping[str, Field], ledger: Ledger
) -> None:
    """Raises `ValueError` where no record has what is needed; notes what else of the `sources` no record has."""
    needed = REQUIRED[source.role]
    looked_for = [name for name in places if name in needed or (places[name] and name in source.fields)]
    counts = [_[name].count().name(name) for name in looked_for]
    (found,) = table.limit(LOOKED_AT).aggregate(counts).to_pyarrow().to_pylist()
    if all(found.values()):
        return
    (found,) = table.aggregate(counts).to_pyarrow().to_pylist()
    for name in (name for name in looked_for if not found[name]):
        where = " or ".join(".".join(keys) for keys in _places(places[name])) or "null"
        said = f"No record of {file} has {where}, which `sources` has for {name} of {source.role}"
        if name in needed:
            raise ValueError(f"{said}. The first record has {', '.join(_first_keys(plain)) or 'nothing'}")
        _note(ledger, f"{said}.")


def _check_moments(table: ibis.Table, unit: str, ledger: Ledger) -> None:
    """Seconds that are said to be milliseconds are all of January 1970."""
    moments = table.filter(_.date != NO_MOMENT).limit(LOOKED_AT)
    (found,) = moments.aggregate(first=moments.date.min(), last=moments.date.max()).to_pyarrow().to_pylist()
    if found["last"] and found["first"] >= "1970" and found["last"] < "1971":
        _note(ledger, f"Warning: dates of review are all of 1970, as {unit}; is another unit theirs?")


def _note(ledger: Ledger, said: str) -> None:
    """Once, also where a file is read again."""
    if said not in ledger.notes:
        ledger.notes.append(said)


def _first_keys(plain: AnyPath) -> list[str]:
    with plain.open("rb") as file:
        for line in file.read(BEGINNING).splitlines():
            with suppress(ValueError, RecursionError):
                if isinstance(record := json.loads(line), dict):
                    return list(record)
    return []


def _view(ducks: BaseBackend, name: str, query: str) -> ibis.Table:
    _run(ducks, f"CREATE OR REPLACE VIEW {_name(name)} AS {query}")
    return ducks.table(name)


def _run(ducks: BaseBackend, command: str) -> None:
    """Only DuckDB's own backend runs SQL without looking at it."""
    assert isinstance(ducks, DuckDB)
    ducks.raw_sql(command)


def _aliased(read: Mapping[str, str]) -> str:
    return ", ".join(f"{expression} AS {_name(name)}" for name, expression in read.items())


def _name(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _text(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _pointer(keys: Place) -> str:
    return _text("".join("/" + key.replace("~", "~0").replace("/", "~1") for key in keys) or "$")
