"""Macro-F1 of generated user profiles, per attribute and on average: the measure of the paper (section 6.1).

A profile is a dict, attribute key -> value (a string) or values (a list of strings). Any keys will do: users define
their own attributes. `evaluate` copies this file elsewhere before it runs it, so it imports nothing beside it.
"""

from typing import Any, NamedTuple

import datasets
import evaluate
from sklearn.metrics import f1_score

_DESCRIPTION = """
Macro-F1 of user profiles: for each attribute the mean F1 over its values, and the unweighted mean over attributes.
A value that is missing or invalid is a wrong prediction, never skipped.
"""

_KWARGS_DESCRIPTION = """
Args:
    predictions (list of dict): profiles, attribute key -> string | list of strings | None. Whatever is no valid value
        (None, an absent key, a value outside the schema, too few values, a value twice) counts as wrong.
    references (list of dict): the true profiles, in the same order; each has a valid value for every attribute.
    schema (list of dict, optional): the attributes, `{"name": "Stars", "values": ["1", "2"], "count": 1}`, as in the
        model's config.json. An attribute's key is its name in lower case, with underscores for spaces. Without it the
        attributes are the first reference's keys, and their values are those that occur.
Returns:
    dict: the Macro-F1 (0 to 1) of each attribute by its key, then `average`.
Examples:
    >>> metric = evaluate.load("metrics/profile_f1")
    >>> references = [{"stars": "4", "meal": "Lunch"}, {"stars": "5", "meal": "Dinner"}]
    >>> predictions = [{"stars": "4", "meal": "Lunch"}, {"stars": "5", "meal": None}]
    >>> metric.compute(predictions=predictions, references=references)
    {'stars': 1.0, 'meal': 0.5, 'average': 0.75}
"""

_CITATION = """
@unpublished{multimodal_user_profiling,
    title={Exploring Unified Training Framework for Multimodal User Profiling},
    note={Anonymous ACL submission}
}
"""


class Attribute(NamedTuple):
    """An attribute takes `count` of `values`; None where no schema tells (`count`: one or more)."""

    key: str
    values: list[str] | None
    count: int | None

    def named_by(self, profile: dict[str, Any]) -> list[str]:
        """The values that the profile names; none of them where what it says is not valid as a whole."""
        value = profile.get(self.key)
        names = [value] if isinstance(value, str) else value
        if (
            isinstance(names, list)
            and all(isinstance(name, str) for name in names)
            and len(set(names)) == len(names)
            and self.count in (None, len(names))
            and (self.values is None or set(names) <= set(self.values))
        ):
            return names
        return []

    def __str__(self) -> str:
        if self.values is not None:
            return f"{self.count} of {self.values}"
        return "one string" if self.count == 1 else "a list of different strings"


def attributes_of_schema(schema: list[dict[str, Any]]) -> list[Attribute]:
    """The attributes that the schema lists; ValueError if an entry is malformed or a key is taken."""
    if not isinstance(schema, list) or not all(isinstance(entry, dict) for entry in schema):
        raise ValueError(f"a schema is a list of dicts with 'name', 'values' and 'count', got {schema!r}")
    attributes: dict[str, Attribute] = {}
    for entry in schema:
        name, values, count = entry.get("name"), entry.get("values"), entry.get("count", 1)
        if not isinstance(values, list) or not isinstance(name, str) or not all(isinstance(v, str) for v in values):
            raise ValueError(f"an attribute has a 'name', a string, and 'values', a list of strings, got {entry!r}")
        if len(set(values)) < len(values) or count not in range(1, len(values) + 1):
            raise ValueError(f"{name!r} must take from 1 to all of different values, got {count!r} of {values}")
        key = name.lower().replace(" ", "_")
        if key in attributes or key == "average":
            raise ValueError(f"the key {key!r} of {name!r} is taken already, by one of {[*attributes, 'average']}")
        attributes[key] = Attribute(key, values, count)
    return list(attributes.values())


def attributes_of_profile(profile: dict[str, Any]) -> list[Attribute]:
    """The attributes that a reference shows: a list stands for several values; ValueError if it is no profile."""
    if not isinstance(profile, dict) or "average" in profile:
        raise ValueError(f"references[0] must be a dict of attributes, none with the key 'average', got {profile!r}")
    return [Attribute(key, None, None if isinstance(value, list) else 1) for key, value in profile.items()]


def check_profiles(name: str, profiles: list[Any], keys: list[str]) -> None:
    """ValueError if a row is no dict or has an unknown key. `name` is what the caller called the rows."""
    for row, profile in enumerate(profiles):
        if not isinstance(profile, dict) or not set(profile) <= set(keys):
            raise ValueError(f"{name}[{row}] must be a dict with the keys {keys}, got {profile!r}")


def attribute_f1(attribute: Attribute, predictions: list[dict], references: list[dict]) -> float:
    """Macro-F1 (0 to 1) of one attribute; ValueError if a reference has no valid value for it."""
    predicted = [attribute.named_by(profile) for profile in predictions]
    true = [attribute.named_by(profile) for profile in references]
    if [] in true:
        row = true.index([])
        given = references[row].get(attribute.key)
        raise ValueError(f"references[{row}][{attribute.key!r}] must be {attribute}, got {given!r}")
    if attribute.count == 1 or attribute.values is None:
        values = sorted({value for named in predicted + true for value in named})
    else:
        values = attribute.values
    # A column a value, because an invalid prediction names no class: it costs the true class recall, adds none. One
    # column more, which nobody has, since scikit-learn takes a single one for two classes.
    columns = [[[v in named for v in values] + [False] for named in rows] for rows in (true, predicted)]
    # scikit-learn declares no types, and the checker takes the default, a text, for one.
    scores: Any = f1_score(*columns, average=None, zero_division=0)  # pyright: ignore[reportArgumentType]
    return float(sum(scores[:-1]) / len(values))


@evaluate.utils.file_utils.add_start_docstrings(_DESCRIPTION, _KWARGS_DESCRIPTION)
class ProfileF1(evaluate.Metric):
    def _info(self) -> evaluate.MetricInfo:
        # Json, since the keys are the user's: no feature of fixed fields could hold them.
        features = datasets.Features({"predictions": datasets.Json(), "references": datasets.Json()})
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_KWARGS_DESCRIPTION,
            features=features,
        )

    def add_batch(self, *, predictions=None, references=None, **kwargs) -> None:
        """Add profiles to the stack; ValueError if either is no list, which `evaluate` itself does not check."""
        for name, rows in {"predictions": predictions, "references": references}.items():
            if isinstance(rows, dict | str) or not hasattr(rows, "__len__"):
                raise ValueError(f"{name} must be a list of profiles, got {rows!r}")
        super().add_batch(predictions=predictions, references=references, **kwargs)

    def _compute(self, predictions, references, schema=None) -> dict[str, float]:
        if not references:
            raise ValueError(f"at least one row is needed, got predictions={predictions}, references={references}")
        attributes = attributes_of_profile(references[0]) if schema is None else attributes_of_schema(schema)
        if not attributes:
            raise ValueError(f"no attribute to score: schema={schema!r}, references[0]={references[0]!r}")
        keys = [attribute.key for attribute in attributes]
        check_profiles("references", references, keys)
        check_profiles("predictions", predictions, keys)
        scores = {attribute.key: attribute_f1(attribute, predictions, references) for attribute in attributes}
        return {**scores, "average": sum(scores.values()) / len(scores)}
