"""Another platform's files as data: the `sources` of a schema's YAML, which say where each field of a record stands.

    sources:
      business:
        file: meta-*.json            a name or a pattern, .gz or not; without it the name that Yelp's file has
        form: jsonl                  or csv, with a `delimiter`, "," by default; a .parquet is one without being told
        fields:
          business_id: gmap_id       a field here: where it stands there. One that is not listed has its own name
          attributes: MISC           an object of a record, or several of its values, each by a name: {price: price}
      review:
        fields:
          review_id: [user_id, gmap_id, time]    of a record without an id: a hash of these
          stars: ratings.overall     with dots, inside of objects; of a CSV, the name of a column, whatever it has
          date: {path: time, unit: epoch_milliseconds}    or epoch_seconds; iso is the default, never guessed
          text: null                 is not there
      photos:
        listed_in: review            or business, in place of a file: a record lists its photos,
        fields: {photo_id: pics.url}     by names or addresses, of which the last part is the name of a file
        folder: photos               these are inside the raw folder; nothing is fetched
        extension: .jpg              what the file's name has behind the photo_id; may be ""

A role that is left out is read as Yelp's is.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import yaml

from .profile_rules import Rule, where_no_yaml

# Of a record in the four-file form.
REVIEW_FIELDS = ("review_id", "user_id", "business_id", "date", "stars", "text")
PHOTO_FIELDS = ("photo_id", "review_id", "user_id", "business_id", "caption")
FORMS = ("jsonl", "csv", "parquet")
DATE_UNITS = {"iso": None, "epoch_seconds": 1, "epoch_milliseconds": 1000}
LISTING = ("review", "business")  # whose records may list photos
PHOTO_FOLDER, EXTENSION = "photos", ".jpg"
# What a role's record cannot be used without.
REQUIRED = {"business": ("business_id",), "review": REVIEW_FIELDS, "photos": ("photo_id",)}

Place = tuple[str, ...]  # the keys that lead to a value in a record


class Value(NamedTuple):
    """A field that stands at a place; `unit` is of a date."""

    place: Place
    unit: str = "iso"


class Hash(NamedTuple):
    """An id made of what stands at several places."""

    places: tuple[Place, ...]


class Members(NamedTuple):
    """An object made of what stands at several places, by its names."""

    places: dict[str, Place]


Field = Value | Hash | Members | None


@dataclass(frozen=True)
class RoleSource:
    """Where the records of a role are, and their fields: see above.

    Raises:
        ValueError: if something in it is unknown, or does not fit.
    """

    role: str
    file: str | None = None
    form: str = "jsonl"
    delimiter: str = ","
    fields: Mapping[str, Field] = field(default_factory=dict)
    listed_in: str | None = None
    folder: str = PHOTO_FOLDER
    extension: str = EXTENSION

    def __post_init__(self) -> None:
        where = f"sources: {self.role}"
        for key in ("file", "folder"):
            _check_inside(f"{where}: {key}", vars(self)[key])
        if self.form not in FORMS:
            raise ValueError(f"{where}: form must be one of {', '.join(FORMS)}, got {self.form!r}")
        if not isinstance(self.delimiter, str) or len(self.delimiter) != 1 or self.delimiter in '"\r\n':
            raise ValueError(f"{where}: delimiter must be one character, got {self.delimiter!r}")
        if not isinstance(self.extension, str) or not re.fullmatch(r"(\.[A-Za-z0-9]+)*", self.extension):
            raise ValueError(f'{where}: extension must be like ".jpg", or "", got {self.extension!r}')
        if self.listed_in is not None:
            if self.listed_in not in LISTING:
                raise ValueError(f"{where}: listed_in must be one of {', '.join(LISTING)}, got {self.listed_in!r}")
            if (self.file, self.form, self.delimiter) != (None, "jsonl", ","):
                raise ValueError(f"{where}: photos that are listed in other records have no file and no form")
            if set(self.fields) != {"photo_id"} or not isinstance(self.fields["photo_id"], Value):
                raise ValueError(f"{where}: listed photos have one field, photo_id, got {sorted(self.fields)}")

    def field(self, name: str) -> Field:
        """A field that is not listed has its own name."""
        return self.fields.get(name, Value((name,)))


Sources = Mapping[str, RoleSource]
KEYS = {
    "business": ("file", "form", "delimiter", "fields"),
    "review": ("file", "form", "delimiter", "fields"),
    "photos": ("file", "form", "delimiter", "fields", "listed_in", "folder", "extension"),
}


def read_sources(path: str | Path, rules: Sequence[Rule]) -> Sources:
    """The `sources` of a schema's YAML, by role; of one without them, none.

    Args:
        rules: of the same file; they tell which fields of a business are read.

    Raises:
        ValueError: if the file is no YAML, or names what there is not.
    """
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ValueError(f"schema must be a YAML file, got {str(path)!r}: {where_no_yaml(error)}") from None
    roles = content.get("sources") if isinstance(content, dict) else None
    if roles is None:
        return {}
    _check_names("sources", "roles", roles, KEYS)
    entries = {role: _entry(role, entry) for role, entry in roles.items()}
    known = {"business": business_fields(rules), "review": REVIEW_FIELDS, "photos": PHOTO_FIELDS}
    sources = {}
    for role, entry in entries.items():
        holder = entries.get(entry.get("listed_in", role), {})
        sources[role] = _source(role, entry, known[role], is_table=holder.get("form") == "csv")
    return sources


def _entry(role: str, given: object) -> dict[str, Any]:
    """What is said of a role; null says nothing."""
    entry = _check_names(f"sources: {role}", "keys", {} if given is None else given, KEYS[role])
    return {key: value for key, value in entry.items() if value is not None}


def business_fields(rules: Sequence[Rule]) -> tuple[str, ...]:
    """The fields of a business that a build reads."""
    return tuple(dict.fromkeys(["business_id", "attributes", *(r.of[0] for r in rules if r.is_of_field)]))


def _source(role: str, given: dict[str, Any], known: Collection[str], is_table: bool) -> RoleSource:
    where = f"sources: {role}"
    fields = _check_names(f"{where}: fields", "fields", given.get("fields", {}), known)
    read = {name: _field(f"{where}: {name}", name, told, is_table) for name, told in fields.items()}
    return RoleSource(role, fields=read, **{key: value for key, value in given.items() if key != "fields"})


def _field(where: str, name: str, told: object, is_table: bool) -> Field:
    if told is None:
        return None
    if name == "review_id" and isinstance(told, list):
        if not told:
            raise ValueError(f"{where} needs a field to be made of, got []")
        return Hash(tuple(_place(where, path, is_table) for path in told))
    if name == "attributes" and isinstance(told, dict):
        if not all(isinstance(key, str) and key for key in told):
            raise ValueError(f"{where}: names must be texts (in quotes where YAML sees none), got {[*told]}")
        return Members({key: _place(where, path, is_table) for key, path in told.items()})
    if name == "date" and isinstance(told, dict):
        told = {"unit": "iso"} | _check_names(where, "keys", told, ("path", "unit"))
        if told["unit"] not in DATE_UNITS:
            raise ValueError(f"{where}: unit must be one of {', '.join(DATE_UNITS)}, got {told['unit']!r}")
        return Value(_place(where, told.get("path", "date"), is_table), told["unit"])
    return Value(_place(where, told, is_table))


def _place(where: str, path: object, is_table: bool) -> Place:
    if not isinstance(path, str) or not path or (not is_table and not all(path.split("."))):
        fitting = "the name of a column" if is_table else "a name, or several with dots between"
        raise ValueError(f"{where} must be {fitting}, in quotes where YAML sees no text, got {path!r}")
    return (path,) if is_table else tuple(path.split("."))


def _check_names(where: str, what: str, given: object, known: Collection[str]) -> dict[str, Any]:
    if not isinstance(given, dict):
        raise ValueError(f"{where} must have {what} like {', '.join(known)}, got {given!r}")
    if unknown := [name for name in given if name not in known]:
        raise ValueError(f"{where}: unknown {what} {', '.join(map(str, unknown))}; there are {', '.join(known)}")
    return given


def _check_inside(where: str, name: object) -> None:
    """Refuses what could lead out of the raw folder."""
    if name is None:
        return
    fitting = "a name inside the raw folder, without '..'"
    if not isinstance(name, str) or not name or "\\" in name or "\0" in name:
        raise ValueError(f"{where} must be {fitting}, got {name!r}")
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or path.as_posix() != name or name == ".":
        raise ValueError(f"{where} must be {fitting}, got {name!r}")
