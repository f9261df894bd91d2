"""The profile's attributes as data: a YAML of values and rules, what a business tells by a rule, and a user's label.

`yelp_schema.yaml` explains the rules and holds the paper's six (section 3, appendix A). Numbers that are summed up are
whole thousandths, so that a sum is the same in whatever order an engine adds; means and their cuts are exact.
"""

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from fractions import Fraction
from functools import cached_property
from math import ceil, floor
from pathlib import Path
from string import capwords

import yaml

from .literals import LARGEST, SCALE, one_text, parse_literal, parse_text, several_texts, spelling, value_at
from .schema_rule import INSIDE, UNKNOWN_IS_NO, SchemaRule

HALF = Fraction(1, 2)

# A value in a larger share of the profiles is told of: a model that always says it is hardly ever wrong.
MAX_SHARE = 0.95

Profile = dict[str, str | list[str]]


class Rule(SchemaRule):
    """One attribute of the profile and how it is derived; see `yelp_schema.yaml`."""

    @cached_property
    def key(self) -> str:
        """The column in the dataset and the key in a profile."""
        return self.name.lower().replace(" ", "_")

    @cached_property
    def schema_name(self) -> str:
        """What a model calls it: a dataset knows the column alone, and `ProfileSchema` makes the name of it."""
        return capwords(self.key.replace("_", " "))

    @property
    def counts_unknown(self) -> bool:
        """Whether a business that tells nothing counts as one that says no."""
        return self.kind == "majority" and self.unknown == UNKNOWN_IS_NO

    @property
    def paths(self) -> tuple[str, ...]:
        """`of` inside the business' attributes."""
        return tuple(path.removeprefix(INSIDE) for path in self.of) if self.kind == "top" else self.of

    @property
    def sources(self) -> tuple[str, ...]:
        """The business attributes that the evidence comes from."""
        paths = (*self.paths, self.against) if self.against else self.paths
        return tuple(dict.fromkeys(path.partition(".")[0] for path in paths))

    @cached_property
    def spellings(self) -> dict[str, str]:
        """By `spelling`, the value that a text tells."""
        told = {**{value: value for value in self.values}, **self.texts}
        return {spelling(text): value for text, value in told.items()}

    @cached_property
    def rising(self) -> tuple[str, ...]:
        """A share's values, that of the lowest numbers first."""
        return tuple(sorted(self.values, key=lambda value: value == self.yes))

    @cached_property
    def cuts(self) -> tuple[Fraction, ...]:
        """The means between one and the next of `rising`; none where the users' means tell them, by `levels`."""
        return (HALF,) if self.kind == "majority" else tuple(map(_exact, self.bounds))

    @cached_property
    def levels(self) -> tuple[Fraction, ...]:
        """Which quantiles of all users' means stand between one and the next of `rising`."""
        if self.kind == "above_median":
            return (HALF,)
        if isinstance(self.quantiles, tuple):
            return tuple(map(_exact, self.quantiles))
        count = len(self.values)
        return tuple(Fraction(n, count) for n in range(1, count)) if self.quantiles else ()

    def ranks(self, users: int) -> list[int]:
        """Which of so many users, by their means, stand around its quantiles: one or two users for each, from 0."""
        places = self._places(users)
        return sorted({*map(floor, places), *map(ceil, places)})

    def quantile_cuts(self, users: int, sums: Mapping[int, tuple[int, int]]) -> tuple[Fraction, ...]:
        """The cuts of a rule with `levels`: these quantiles of the users' means.

        Between two means a quantile is as far as its level is between their places (Hyndman & Fan's 7th, 1996), so
        that the one of a half is the median.

        Args:
            sums: the sum and the count of each user at one of `ranks`, by rank.
        """
        means = {rank: Fraction(total, SCALE * count) for rank, (total, count) in sums.items()}
        around = [(place, means[floor(place)], means[ceil(place)]) for place in self._places(users)]
        return tuple(below + place % 1 * (above - below) for place, below, above in around)

    def _places(self, users: int) -> list[Fraction]:
        return [level * (users - 1) for level in self.levels]

    def told(self, texts: Sequence[str | None]) -> tuple[int | None, ...]:
        """What a business tells, by the texts of its attributes `sources`: the numbers of `told_columns`."""
        if self.is_share:
            return (self.evidence(texts),)
        told = self.told_values(texts)
        return tuple(int(value in told) if told else None for value in self.values)

    def told_values(self, texts: Sequence[str | None]) -> set[str]:
        """Those of the values that a business tells; none is unknown."""
        value = value_at(dict(zip(self.sources, map(parse_text, texts), strict=True)), self.paths[0])
        said = one_text(value) if self.kind == "mode" else several_texts(value)
        return {self.spellings[text] for text in map(spelling, said) if text in self.spellings}

    def evidence(self, texts: Sequence[str | None]) -> int | None:
        """The number that a business tells, in thousandths; None is unknown."""
        literals = dict(zip(self.sources, map(parse_literal, texts), strict=True))
        if self.kind != "majority":
            return _number(value_at(literals, self.of[0]), self.between)
        if self.against is not None:
            # A business good for both, or for neither, tells nothing of the one against the other.
            known = [value_at(literals, path) is True for path in (*self.of, self.against)]
            return SCALE * known[0] if known[0] != known[1] else None
        known = [value for value in (value_at(literals, path) for path in self.of) if isinstance(value, bool)]
        return SCALE * any(known) if known else None

    def has_evidence(self, sums: Sequence[int]) -> bool:
        """Whether a user's sums, those of `sum_columns`, decide a value: whether the label would not be None."""
        if self.counts_values:
            return sum(map(bool, sums)) >= self.count
        return not self.is_share or sums[1] > 0

    def share_label(self, total: int, count: int, cuts: Sequence[Fraction | float] | None = None) -> str | None:
        """A user's value from the sum of what `count` businesses told; a mean at a cut, as exactly half, is below it.

        Args:
            cuts: `quantile_cuts`, for a rule with `levels`.
        """
        if not count:
            return None
        mean = Fraction(total, SCALE * count)
        return self.rising[sum(mean > cut for cut in (self.cuts if cuts is None else cuts))]

    def rating_label(self, total: int, count: int) -> str:
        """The value nearest to the mean of ratings in thousandths; halfway between two, the higher."""
        lowest, step = self.grid.start, self.grid.step
        return self.values[(2 * (total - lowest * count) + step * count) // (2 * step * count)]

    def top_label(self, counts: Sequence[int]) -> str | list[str] | None:
        """The most frequent values, ties and result in the order of `values`; None for fewer than `count`."""
        # `sorted` is stable, so among equals the order of the values decides.
        ranked = sorted((n for n, times in enumerate(counts) if times), key=lambda n: -counts[n])
        if len(ranked) < self.count:
            return None
        top = [self.values[n] for n in sorted(ranked[: self.count])]
        return top if self.count > 1 else top[0]


def _exact(number: float) -> Fraction:
    """The decimal number that was written."""
    return Fraction(str(number))


def _number(value: object, between: tuple[float, float] | None) -> int | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    low, high = between or (-LARGEST, LARGEST)
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
    for several in ("between", "bounds", "quantiles"):
        if fields.get(several) is not None and not (several == "quantiles" and isinstance(fields[several], bool)):
            fields[several] = _several(fields[several])
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
        elif rule.counts_values:
            columns.append(tuple(f"top_{n}_{value}" for value in range(len(rule.values))))
        else:
            columns.append((f"sum_{n}", f"count_{n}"))
    return columns


def told_columns(rules: Sequence[Rule]) -> dict[str, tuple[str, ...]]:
    """By the key of each rule whose evidence Python finds, those of `sum_columns` that a business has."""
    return {
        rule.key: columns[:1] if rule.is_share else columns
        for rule, columns in zip(rules, sum_columns(rules), strict=True)
        if rule.is_share or rule.reads_texts
    }


def decide(
    rules: Sequence[Rule], totals: Mapping[str, int], cuts: Mapping[str, Sequence[Fraction]]
) -> dict[str, str | list[str] | None]:
    """A user's profile from the user's sums, by `sum_columns`; None without evidence.

    Args:
        cuts: by the key of each rule with `levels`, its `quantile_cuts`.
    """
    profile = {}
    for rule, columns in zip(rules, sum_columns(rules), strict=True):
        sums = [totals[column] for column in columns]
        if rule.kind == "mean_rating":
            profile[rule.key] = rule.rating_label(*sums)
        elif rule.counts_values:
            profile[rule.key] = rule.top_label(sums)
        else:
            total, count = sums
            profile[rule.key] = rule.share_label(total, count, cuts.get(rule.key))
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
    elif rule.kind == "mode" and rule.unknown is None:
        change = "add `unknown`, the value of the businesses that tell nothing, or take another `of`"
    elif rule.kind == "majority" and rule.against is None and not rule.counts_unknown:
        change = 'add `unknown: "no"`, which counts the businesses that tell nothing, or take another `of`'
    elif rule.bounds:
        change = "give other `bounds`, or `quantiles: true` in their place"
    else:
        change = "take another `of`"
    return f"In the schema {change}, or leave the attribute out."
