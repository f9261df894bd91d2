"""The profile's attributes as data: a YAML of values and rules, what a business tells by a rule, and a user's label.

`yelp_schema.yaml` explains the rules and holds the paper's six (section 3, appendix A). Numbers that are summed up are
whole thousandths, so that a sum is the same in whatever order an engine adds.
"""

import ast
import dataclasses
import json
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from string import capwords

import yaml

KINDS = ("mean_rating", "top", "majority", "above_median")
SCALE = 1000
UNKNOWN_IS_NO = "no"

# Yelp's longest attribute value has some 200 characters. The bound keeps a hostile one from the parser.
MAX_LITERAL_CHARACTERS = 2000

# A value in a larger share of the profiles is told of: a model that always says it is hardly ever wrong.
MAX_SHARE = 0.95

Profile = dict[str, str | list[str]]


def parse_literal(text: str | None) -> object:
    """The value of a Python literal (`u'no'`, `{'lunch': True}`) or of JSON (`true`); None where it is neither.

    Never evaluates code and never raises.
    """
    if text is None or len(text) > MAX_LITERAL_CHARACTERS:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an invalid escape in a literal is the data's matter
        try:
            return ast.literal_eval(text)
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            pass
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


@dataclass(frozen=True)
class Rule:
    """One attribute of the profile and how it is derived; see `yelp_schema.yaml`.

    Raises:
        ValueError: if the rule is none, or lacks what its kind needs.
    """

    name: str
    values: tuple[str, ...]
    kind: str
    count: int = 1
    of: tuple[str, ...] = ()
    against: str | None = None
    yes: str | None = None
    between: tuple[float, float] | None = None
    unknown: str | None = None

    def __post_init__(self) -> None:
        where = f"attribute {self.name!r}"
        self._check_texts(where)
        if self.kind not in KINDS:
            raise ValueError(f"rule of {where} must be one of {', '.join(KINDS)}, got {self.kind!r}")
        if len(set(self.values)) < len(self.values):
            raise ValueError(f"{where} needs different values, got {self.values}")
        if self.kind == "mean_rating" and self.values != tuple(map(str, self.rating_range)):
            raise ValueError(f"values of {where} must be ratings like '1', '2', '3', got {self.values}")
        if type(self.count) is not int:
            raise ValueError(f"count of {where} must be a whole number, got {self.count!r}")
        if self.kind == "top" and not (0 < self.count <= len(self.values) and len(self.of) == 1):
            raise ValueError(f"{where} needs one field `of` and a count of 1 to {len(self.values)}, got {self.count}")
        if self.kind != "top" and self.count != 1:
            raise ValueError(f"{where} takes one value, got count {self.count}")
        if self.is_share and not (len(self.values) == 2 and self.yes in self.values and self.of):
            raise ValueError(f"{where} needs an attribute `of`, two values, and `yes`, one of them, got {self.yes!r}")
        if self.against is not None and (self.kind != "majority" or len(self.of) != 1):
            raise ValueError(f"`against` fits a majority of one attribute, got it for {where}")
        if self.kind == "above_median" and len(self.of) != 1:
            raise ValueError(f"{where} needs one attribute `of`, got {self.of}")
        if self.between is not None and not _is_interval(self.between):
            raise ValueError(f"between of {where} must be two numbers, the lower first, got {self.between}")
        self._check_unknown(where)

    def _check_unknown(self, where: str) -> None:
        if self.unknown is None:
            return
        if self.unknown != UNKNOWN_IS_NO:
            hint = " (YAML reads a bare no as false)" if self.unknown is False else ""
            raise ValueError(f'unknown of {where} may be "{UNKNOWN_IS_NO}", in quotes, got {self.unknown!r}{hint}')
        if self.kind != "majority" or self.against is not None:
            raise ValueError(f"`unknown` fits a majority without `against`, got it for {where}")

    def _check_texts(self, where: str) -> None:
        """A name and values as `ProfileSchema` takes them, which a loading script cannot import; `of` as texts."""
        if not self.values or not all(isinstance(value, str) and value for value in self.values):
            raise ValueError(f"{where} needs values, each a text (in quotes where YAML sees none), got {self.values}")
        if not isinstance(self.name, str) or not self.name:
            raise ValueError(f"{where} needs a name that is a text (in quotes where YAML sees none)")
        # Underscores of a column become blanks again, when a schema is read from a dataset.
        for word in (self.name.replace("_", " "), *self.values):
            if " ".join(word.split()) != word or set(word) & set("<|:"):
                fitting = "words with single blanks (or `_`) between them and no '<', '|' or ':'"
                raise ValueError(f"name and values of {where} must be {fitting}, got {word!r}")
        if (self.kind == "top" or self.count != 1) and any("," in value for value in self.values):
            raise ValueError(f"values of {where}, which stand between commas, must have no ',', got {self.values}")
        sources = self.of if self.against is None else (*self.of, self.against)
        if not all(isinstance(path, str) and path for path in sources):
            raise ValueError(f"`of` and `against` of {where} must be texts, got {sources}")

    @cached_property
    def key(self) -> str:
        """The column in the dataset and the key in a profile."""
        return self.name.lower().replace(" ", "_")

    @cached_property
    def schema_name(self) -> str:
        """What a model calls it: a dataset knows the column alone, and `ProfileSchema` makes the name of it."""
        return capwords(self.key.replace("_", " "))

    @cached_property
    def is_share(self) -> bool:
        """Whether a business tells one number, of which a user has a sum and a count."""
        return self.kind in ("majority", "above_median")

    @property
    def counts_unknown(self) -> bool:
        """Whether a business that tells nothing counts as one that says no."""
        return self.unknown == UNKNOWN_IS_NO

    @property
    def sources(self) -> tuple[str, ...]:
        """The business attributes that the number comes from."""
        paths = (*self.of, self.against) if self.against else self.of
        return tuple(dict.fromkeys(path.partition(".")[0] for path in paths))

    @property
    def rating_range(self) -> range:
        numbers = [int(value) for value in self.values if value.isdecimal()]
        return range(numbers[0], numbers[-1] + 1) if numbers else range(0)

    def evidence(self, texts: Sequence[str | None]) -> int | None:
        """What a business tells, in thousandths, by the texts of its attributes `sources`; None is unknown."""
        literals = dict(zip(self.sources, map(parse_literal, texts), strict=True))
        if self.kind == "above_median":
            return _number(_at(literals, self.of[0]), self.between)
        if self.against is not None:
            # A business good for both, or for neither, tells nothing of the one against the other.
            known = [_at(literals, path) is True for path in (*self.of, self.against)]
            return SCALE * known[0] if known[0] != known[1] else None
        known = [value for value in (_at(literals, path) for path in self.of) if isinstance(value, bool)]
        return SCALE * any(known) if known else None

    def has_evidence(self, sums: Sequence[int]) -> bool:
        """Whether a user's sums, those of `sum_columns`, decide a value: whether the label would not be None."""
        if self.kind == "top":
            return sum(map(bool, sums)) >= self.count
        return not self.is_share or sums[1] > 0

    def share_label(self, total: int, count: int, median: float | None = None) -> str | None:
        """A user's value from the sum of what `count` businesses told; exactly half, or the median, is not above.

        Args:
            median: of all users' means `total / count`, for a rule `above_median`.
        """
        if not count:
            return None
        is_above = 2 * total > SCALE * count if median is None else total / (SCALE * count) > median
        return next(value for value in self.values if (value == self.yes) == is_above)

    def rating_label(self, total: int, count: int) -> str:
        """The mean of ratings in thousandths, rounded to the nearest integer, a half upwards."""
        return str((2 * total + SCALE * count) // (2 * SCALE * count))

    def top_label(self, counts: Sequence[int]) -> str | list[str] | None:
        """The most frequent values, ties and result in the order of `values`; None for fewer than `count`."""
        # `sorted` is stable, so among equals the order of the values decides.
        ranked = sorted((n for n, times in enumerate(counts) if times), key=lambda n: -counts[n])
        if len(ranked) < self.count:
            return None
        top = [self.values[n] for n in sorted(ranked[: self.count])]
        return top if self.count > 1 else top[0]


def _at(literals: Mapping[str, object], path: str) -> object:
    name, dot, key = path.partition(".")
    value = literals[name]
    if not dot:
        return value
    return value.get(key) if isinstance(value, dict) else None


def _is_interval(between: Sequence[object]) -> bool:
    numbers = [limit for limit in between if isinstance(limit, int | float) and not isinstance(limit, bool)]
    return len(numbers) == len(between) == 2 and numbers[0] <= numbers[1]


def _number(value: object, between: tuple[float, float] | None) -> int | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    low, high = between or (-1e12, 1e12)  # beyond, and at infinity and NaN, it is no measure of a business
    return round(value * SCALE) if low <= value <= high else None


def where_no_yaml(error: Exception) -> str:
    """What is wrong with a file, told without a word of it: it may be any file."""
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        return f"line {error.problem_mark.line + 1}, column {error.problem_mark.column + 1} is no YAML"
    if isinstance(error, yaml.reader.ReaderError):
        return f"the character at {error.position} has no place in YAML"
    if isinstance(error, UnicodeDecodeError):
        return f"the byte at {error.start} is no UTF-8"
    return str(error) if isinstance(error, OSError) else "it has none"


def read_rules(path: str | Path) -> tuple[Rule, ...]:
    """The rules of a YAML like `yelp_schema.yaml`.

    Raises:
        ValueError: if the file is none, or a rule does not fit.
    """
    try:
        entries = yaml.safe_load(Path(path).read_text(encoding="utf-8"))["attributes"]
    except (OSError, ValueError, TypeError, KeyError, yaml.YAMLError) as error:
        wrong = where_no_yaml(error)
        raise ValueError(f"schema must be a YAML file with a list `attributes`, got {str(path)!r}: {wrong}") from None
    rules = tuple(_rule(entry) for entry in entries) if isinstance(entries, list) else ()
    keys = [rule.key for rule in rules]
    if not rules or len(set(keys)) < len(keys) or sum(rule.kind == "mean_rating" for rule in rules) > 1:
        raise ValueError(f"a schema has attributes, of different names, and one mean_rating at most, got {keys}")
    return rules


def _rule(entry: object) -> Rule:
    if not isinstance(entry, dict) or not {"name", "values", "rule"} <= entry.keys():
        raise ValueError(f"an attribute has a name, values and a rule, got {entry!r}")
    fields = {**entry, "kind": entry["rule"], "values": _several(entry["values"]), "of": _several(entry.get("of", ()))}
    fields.pop("rule")
    if unknown := set(fields) - {field.name for field in dataclasses.fields(Rule)}:
        known = [field.name for field in dataclasses.fields(Rule) if field.name != "kind"]
        hint = " (YAML reads yes as true: write it in quotes)" if True in unknown else ""
        raise ValueError(f"attribute {entry['name']!r} has no {[*unknown]}{hint}; it may have {['rule', *known]}")
    if fields.get("between") is not None:
        fields["between"] = _several(fields["between"])
    try:
        return Rule(**fields)
    except TypeError as error:
        raise ValueError(f"attribute {entry['name']!r}: {error}") from None


def _several(value: object) -> tuple:
    return tuple(value) if isinstance(value, list | tuple) else (value,)


def sum_columns(rules: Sequence[Rule]) -> list[tuple[str, ...]]:
    """For each rule the columns of a user's sums, in `derivation.user_totals`.

    They are called by the rule's place, because an attribute may have the name of any other column.
    """
    columns = []
    for n, rule in enumerate(rules):
        if rule.kind == "mean_rating":
            columns.append(("ratings", "reviews"))
        elif rule.kind == "top":
            columns.append(tuple(f"top_{n}_{value}" for value in range(len(rule.values))))
        else:
            columns.append((f"sum_{n}", f"count_{n}"))
    return columns


def decide(
    rules: Sequence[Rule], totals: Mapping[str, int], medians: Mapping[str, float]
) -> dict[str, str | list[str] | None]:
    """A user's profile from the user's sums, by `sum_columns`; None without evidence."""
    profile = {}
    for rule, columns in zip(rules, sum_columns(rules), strict=True):
        sums = [totals[column] for column in columns]
        if rule.kind == "mean_rating":
            profile[rule.key] = rule.rating_label(*sums)
        elif rule.kind == "top":
            profile[rule.key] = rule.top_label(sums)
        else:
            total, count = sums
            profile[rule.key] = rule.share_label(total, count, medians.get(rule.key))
    return profile


def warn_of_constants(rules: Sequence[Rule], values: Mapping[str, Counter[str]], users: int) -> list[str]:
    """A sentence for each attribute of which a value is in over `MAX_SHARE` of the profiles: what to change.

    Args:
        values: by attribute, how often each value occurs.
    """
    sentences = []
    for rule in rules:
        value, count = values[rule.key].most_common(1)[0]
        if count > MAX_SHARE * users:
            share = f"{100 * count / users:.1f} %"
            sentences.append(f"Warning: {rule.name} is {value} for {share} of the users. {_remedy(rule)}")
    return sentences


def _remedy(rule: Rule) -> str:
    """What to change in the schema where one value is too frequent."""
    if rule.kind == "top":
        change = (
            "give other `values`"
            if rule.count == 1
            else f"give a smaller `count` than {rule.count}, or other `values`"
        )
    elif rule.kind == "mean_rating":
        return "Mean ratings are alike here; leave the attribute out of the schema."
    elif rule.kind == "majority" and rule.against is None and not rule.counts_unknown:
        change = 'add `unknown: "no"`, which counts the businesses that tell nothing, or take another `of`'
    else:
        change = "take another `of`"
    return f"In the schema {change}, or leave the attribute out."
