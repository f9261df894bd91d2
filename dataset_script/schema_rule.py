"""A rule as a schema file writes it, and what it must have: an error says what was given and what fits."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property

from .literals import LARGEST, SCALE, spelling

# Kind -> what it may have beside a name and values; `yelp_schema.yaml` explains both.
OPTIONS = {
    "mean_rating": (),
    "top": ("count", "of", "texts"),
    "mode": ("of", "texts", "unknown"),
    "majority": ("of", "against", "yes", "unknown"),
    "above_median": ("of", "between", "yes"),
    "mean_cut": ("of", "between", "bounds", "quantiles"),
}
# Between two values, and the kind that does the same for any number of them.
FOR_MORE = {"majority": "mode", "above_median": "mean_cut"}
UNKNOWN_IS_NO = "no"
INSIDE = "attributes."  # how a path into the business' attributes begins where others are fields of the business
RATING = r"-?[0-9]+(\.[0-9]{1,3})?"  # whole thousandths, as ratings are summed up


@dataclass(frozen=True)
class SchemaRule:
    """One attribute of the profile, of which `profile_rules.Rule` knows how it is derived.

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
    texts: Mapping[str, str] = field(default_factory=dict, hash=False)
    bounds: tuple[float, ...] = ()
    quantiles: tuple[float, ...] | bool = False

    def __post_init__(self) -> None:
        _check(self)

    @cached_property
    def is_share(self) -> bool:
        """Whether a business tells one number, of which a user has a sum and a count."""
        return self.kind in ("majority", "above_median", "mean_cut")

    @cached_property
    def counts_values(self) -> bool:
        """Whether a business tells some of the values, of which a user has a count each."""
        return self.kind in ("top", "mode")

    @cached_property
    def is_of_field(self) -> bool:
        """Whether the values stand in a field of the business, where the engine finds them."""
        return self.kind == "top" and not self.of[0].startswith(INSIDE)

    @cached_property
    def reads_texts(self) -> bool:
        """Whether values stand in the business' attributes, where Python finds them."""
        return self.counts_values and not self.is_of_field

    @cached_property
    def grid(self) -> range:
        """The ratings in thousandths; empty if the values are none, equally far apart and the lowest first."""
        if not all(re.fullmatch(RATING, value) for value in self.values):
            return range(0)
        numbers = [int(SCALE * Fraction(value)) for value in self.values]
        step = numbers[1] - numbers[0] if len(numbers) > 1 else SCALE
        are_even = step > 0 and numbers == [numbers[0] + step * n for n in range(len(numbers))]
        return range(numbers[0], numbers[-1] + 1, step) if are_even else range(0)


def _check(rule: SchemaRule) -> None:
    where = f"attribute {rule.name!r}"
    _check_words(rule, where)
    if rule.kind not in OPTIONS:
        raise ValueError(f"rule of {where} must be one of {', '.join(OPTIONS)}, got {rule.kind!r}")
    if len(set(rule.values)) < len(rule.values):
        raise ValueError(f"{where} needs different values, got {rule.values}")
    if rule.kind == "mean_rating" and not rule.grid:
        fitting = "ratings like '1', '2', '3' or '0.5', '1', '1.5', the lowest first and equally far apart"
        raise ValueError(f"values of {where} must be {fitting}, got {rule.values}")
    _check_count(rule, where)
    _check_options(rule, where)
    if rule.kind in ("mode", "above_median", "mean_cut") and len(rule.of) != 1:
        raise ValueError(f"{where} needs one attribute `of`, got {rule.of}")
    if rule.kind in FOR_MORE:
        _check_two(rule, where)
    if rule.between is not None and not (len(rule.between) == 2 and _rise(rule.between, or_equal=True)):
        raise ValueError(f"between of {where} must be two numbers, the lower first, got {rule.between}")
    if rule.kind == "mean_cut":
        _check_cuts(rule, where, len(rule.values) - 1)
    if rule.unknown is not None:
        _check_unknown(rule, where)
    _check_spellings(rule, where)


def _check_words(rule: SchemaRule, where: str) -> None:
    """A name and values as `ProfileSchema` takes them, which a loading script cannot import; `of` as texts."""
    if not rule.values or not all(isinstance(value, str) and value for value in rule.values):
        raise ValueError(f"{where} needs values, each a text (in quotes where YAML sees none), got {rule.values}")
    if not isinstance(rule.name, str) or not rule.name:
        raise ValueError(f"{where} needs a name that is a text (in quotes where YAML sees none)")
    # Underscores of a column become blanks again, when a schema is read from a dataset.
    for word in (rule.name.replace("_", " "), *rule.values):
        if " ".join(word.split()) != word or set(word) & set("<|:"):
            fitting = "words with single blanks (or `_`) between them and no '<', '|' or ':'"
            raise ValueError(f"name and values of {where} must be {fitting}, got {word!r}")
    if (rule.kind == "top" or rule.count != 1) and any("," in value for value in rule.values):
        raise ValueError(f"values of {where}, which stand between commas, must have no ',', got {rule.values}")
    sources = rule.of if rule.against is None else (*rule.of, rule.against)
    if not all(isinstance(path, str) and path for path in sources):
        raise ValueError(f"`of` and `against` of {where} must be texts, got {sources}")


def _check_count(rule: SchemaRule, where: str) -> None:
    if type(rule.count) is not int:
        raise ValueError(f"count of {where} must be a whole number, got {rule.count!r}")
    if rule.kind == "top" and not (0 < rule.count <= len(rule.values) and len(rule.of) == 1):
        raise ValueError(f"{where} needs one field `of` and a count of 1 to {len(rule.values)}, got {rule.count}")
    if rule.kind == "top" and rule.of[0] in (INSIDE, INSIDE.rstrip(".")):
        raise ValueError(
            f"`of` of {where} must name what is inside the attributes (`{INSIDE}...`), got {rule.of[0]!r}"
        )
    if rule.kind != "top" and rule.count != 1:
        raise ValueError(f"{where} takes one value, got count {rule.count}")


def _check_options(rule: SchemaRule, where: str) -> None:
    """An option that the kind does not look at would be believed to do something."""
    nothing = {"count": 1, "of": (), "texts": {}, "bounds": (), "quantiles": False}
    fitting, given = OPTIONS[rule.kind], vars(rule)
    for option in dict.fromkeys(option for options in OPTIONS.values() for option in options):
        if option not in fitting and given[option] != nothing.get(option):
            takes = ", ".join(f"`{name}`" for name in fitting) or "nothing"
            raise ValueError(f"`{option}` does nothing for {where}; rule {rule.kind} takes {takes} beside `values`")


def _check_two(rule: SchemaRule, where: str) -> None:
    count = len(rule.values)
    if count > 2:
        article, other = ("an" if rule.kind[0] in "aeiou" else "a"), FOR_MORE[rule.kind]
        raise ValueError(
            f"{where} has {count} values; {article} {rule.kind} decides between two: rule `{other}` takes any number"
        )
    if not (count == 2 and rule.yes in rule.values and rule.of):
        raise ValueError(f"{where} needs an attribute `of`, two values, and `yes`, one of them, got {rule.yes!r}")
    if rule.against is not None and len(rule.of) != 1:
        raise ValueError(f"`against` fits a majority of one attribute, got it for {where}")


def _check_cuts(rule: SchemaRule, where: str, cuts: int) -> None:
    if not cuts:
        raise ValueError(f"{where} has one value; a mean_cut takes two or more")
    if bool(rule.bounds) == bool(rule.quantiles):
        given = f"{rule.bounds} and {rule.quantiles}" if rule.bounds else "neither"
        raise ValueError(f"{where} needs `bounds` or `quantiles`, one of the two, got {given}")
    rising = "each above the one before"
    if rule.bounds and not (len(rule.bounds) == cuts and _rise((-LARGEST, *rule.bounds, LARGEST))):
        raise ValueError(f"bounds of {where} must be, for {cuts + 1} values, {cuts}, {rising}, got {rule.bounds}")
    if isinstance(rule.quantiles, tuple) and not (len(rule.quantiles) == cuts and _rise((0, *rule.quantiles, 1))):
        fitting = f"true, or, for {cuts + 1} values, {cuts} between 0 and 1, {rising}"
        raise ValueError(f"quantiles of {where} must be {fitting}, got {rule.quantiles}")


def _rise(numbers: Sequence[object], or_equal: bool = False) -> bool:
    """Whether they are numbers, each above the one before; nothing is above NaN."""
    plain = [number for number in numbers if isinstance(number, int | float) and not isinstance(number, bool)]
    pairs = zip(plain, plain[1:], strict=False)
    return len(plain) == len(numbers) and all(low < high or (or_equal and low == high) for low, high in pairs)


def _check_unknown(rule: SchemaRule, where: str) -> None:
    hint = " (YAML reads a bare no as false)" if rule.unknown is False else ""
    if rule.kind == "mode":
        if rule.unknown not in rule.values:
            raise ValueError(f"unknown of {where} must be one of {rule.values}, got {rule.unknown!r}{hint}")
    elif rule.unknown != UNKNOWN_IS_NO:
        raise ValueError(f'unknown of {where} may be "{UNKNOWN_IS_NO}", in quotes, got {rule.unknown!r}{hint}')
    elif rule.against is not None:
        raise ValueError(f"`unknown` fits a majority without `against`, got it for {where}")


def _check_spellings(rule: SchemaRule, where: str) -> None:
    """No text may tell two values."""
    if not isinstance(rule.texts, Mapping):
        raise ValueError(f"texts of {where} must be a mapping of texts to values, got {rule.texts!r}")
    if not rule.reads_texts:
        if rule.texts:
            fitting = f"a mode, or a top of something inside the attributes (`of: {INSIDE}...`)"
            raise ValueError(f"`texts` fits {fitting}, got it for {where} of {rule.of[0]}")
        return
    told = {}
    for text, value in (*zip(rule.values, rule.values, strict=True), *rule.texts.items()):
        if not isinstance(text, str) or not spelling(text) or value not in rule.values:
            fitting = f"texts, in quotes where YAML sees none, to some of {rule.values}"
            raise ValueError(f"texts of {where} must be {fitting}, got {text!r}: {value!r}")
        if told.setdefault(spelling(text), value) != value:
            both = f"{told[spelling(text)]!r} and {value!r}"
            raise ValueError(f"a text of {where} tells one value, whatever its capitals; {text!r} would tell {both}")
