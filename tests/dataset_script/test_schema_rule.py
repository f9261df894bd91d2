"""A rule that does not fit is refused, and the error says what was given and what fits."""

import pytest
import yaml

from dataset_script.profile_rules import Rule, read_rules
from dataset_script.schema_rule import OPTIONS

THREE = {"name": "WiFi", "values": ["Free", "Paid", "No"], "of": "WiFi"}
MODE = THREE | {"rule": "mode"}
BOUNDS = THREE | {"rule": "mean_cut", "bounds": [1, 2]}
QUANTILES = THREE | {"rule": "mean_cut", "quantiles": True}
RATING = {"name": "Stars", "rule": "mean_rating"}
OF_FIELD = THREE | {"rule": "top", "of": "categories"}
OF_LIST = OF_FIELD | {"of": "attributes.cuisines"}
YES = {"yes": "Free"}


def read(tmp_path, entry):
    (tmp_path / "schema.yaml").write_text(yaml.safe_dump({"attributes": [entry]}))
    return read_rules(tmp_path / "schema.yaml")


@pytest.mark.parametrize(
    "entry",
    [
        MODE,
        MODE | {"unknown": "No", "texts": {"paid by hour": "Paid", "FREE": "Free"}},
        MODE | {"values": ["One, or two", "More"]},
        BOUNDS,
        BOUNDS | {"bounds": [-0.5, 1e11], "between": [-1, 1e12]},
        BOUNDS | {"values": ["Low", "High"], "bounds": 2},
        QUANTILES,
        QUANTILES | {"quantiles": [0.25, 0.75]},
        QUANTILES | {"values": ["Low", "High"], "quantiles": 0.9},
        RATING | {"values": ["0.5", "1", "1.5", "2.0"]},
        RATING | {"values": ["0", "50", "100"]},
        RATING | {"values": ["-1", "0", "1"]},
        RATING | {"values": ["0.125", "0.25", "0.375"]},
        RATING | {"values": ["3"]},
        OF_LIST | {"count": 2, "texts": {"gratis": "Free"}},
    ],
)
def test_a_rule_that_fits_is_read(tmp_path, entry):
    (rule,) = read(tmp_path, entry)
    assert (rule.name, rule.kind, rule.values) == (entry["name"], entry["rule"], tuple(entry["values"]))
    assert hash(rule) == hash(read(tmp_path, entry)[0])


TAKES = "'WiFi' has 3 values; {} decides between two: rule `{}` takes any number$"


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (THREE | {"rule": "majority"} | YES, TAKES.format("a majority", "mode")),
        (THREE | {"rule": "above_median"} | YES, TAKES.format("an above_median", "mean_cut")),
        (MODE | {"of": ["WiFi", "Wifi"]}, r"needs one attribute `of`, got \('WiFi', 'Wifi'\)"),
        (MODE | {"of": []}, r"needs one attribute `of`, got \(\)"),
        (MODE | {"count": 2}, "takes one value, got count 2"),
        (MODE | YES, "`yes` does nothing for attribute 'WiFi'; rule mode takes `of`, `texts`, `unknown` beside"),
        (MODE | {"between": [1, 2]}, "`between` does nothing for attribute 'WiFi'; rule mode"),
        (MODE | {"against": "Cable"}, "`against` does nothing"),
        (MODE | {"bounds": [1, 2]}, "`bounds` does nothing"),
        (MODE | {"quantiles": True}, "`quantiles` does nothing"),
        (MODE | {"unknown": "none"}, r"must be one of \('Free', 'Paid', 'No'\), got 'none'"),
        (MODE | {"unknown": False}, r"got False \(YAML reads a bare no as false\)"),
        (MODE | {"texts": {False: "No"}}, r"must be texts, in quotes where .* of \('Free', .*got False: 'No'"),
        (MODE | {"texts": {"gratis": "Gratis"}}, "must be texts, .* got 'gratis': 'Gratis'"),
        (MODE | {"texts": {" ": "No"}}, "must be texts, .* got ' ': 'No'"),
        (MODE | {"texts": ["gratis"]}, r"must be a mapping of texts to values, got \['gratis'\]"),
        (MODE | {"texts": {"paid": "Free"}}, "'paid' would tell 'Paid' and 'Free'"),
        (MODE | {"texts": {"X ": "Free", "x": "Paid"}}, "'x' would tell 'Free' and 'Paid'"),
        (MODE | {"values": ["Free", "FREE"]}, "'FREE' would tell 'Free' and 'FREE'"),
        (BOUNDS | {"bounds": [1]}, r"must be, for 3 values, 2, each above the one before, got \(1,\)"),
        (BOUNDS | {"bounds": [2, 1]}, r"each above the one before, got \(2, 1\)"),
        (BOUNDS | {"bounds": [2, 2]}, r"each above the one before, got \(2, 2\)"),
        (BOUNDS | {"bounds": ["1", "2"]}, r"each above the one before, got \('1', '2'\)"),
        (BOUNDS | {"bounds": [0, True]}, r"each above the one before, got \(0, True\)"),
        (BOUNDS | {"bounds": [1, float("nan")]}, "each above the one before, got"),
        (BOUNDS | {"bounds": [1, float("inf")]}, "each above the one before, got"),
        (BOUNDS | {"bounds": [1, 10**400]}, "each above the one before, got"),
        (BOUNDS | {"bounds": True}, r"each above the one before, got \(True,\)"),
        (BOUNDS | {"quantiles": True}, r"needs `bounds` or `quantiles`, one of the two, got \(1, 2\) and True"),
        (BOUNDS | {"bounds": []}, "needs `bounds` or `quantiles`, one of the two, got neither"),
        (BOUNDS | {"values": ["Free"], "bounds": []}, "has one value; a mean_cut takes two or more"),
        (BOUNDS | YES, "`yes` does nothing"),
        (BOUNDS | {"unknown": "No"}, "`unknown` does nothing"),
        (BOUNDS | {"of": ["a", "b"]}, "needs one attribute `of`"),
        (BOUNDS | {"between": [3, 2]}, "between of attribute 'WiFi' must be two numbers, the lower first"),
        (QUANTILES | {"quantiles": [0.5]}, r"true, or, for 3 values, 2 between 0 and 1, .* got \(0.5,\)"),
        (QUANTILES | {"quantiles": [0, 0.5]}, r"2 between 0 and 1, each above the one before, got \(0, 0.5\)"),
        (QUANTILES | {"quantiles": [0.5, 1]}, r"2 between 0 and 1, each above the one before, got \(0.5, 1\)"),
        (QUANTILES | {"quantiles": [0.7, 0.3]}, r"2 between 0 and 1, each above the one before, got \(0.7, 0.3\)"),
        (QUANTILES | {"quantiles": 1}, r"2 between 0 and 1, each above the one before, got \(1,\)"),
        (QUANTILES | {"quantiles": "true"}, r"true, or, for 3 values, 2 between 0 and 1"),
        (QUANTILES | {"quantiles": False}, "needs `bounds` or `quantiles`, one of the two, got neither"),
        (RATING | {"values": ["0.5", "1", "2"]}, "'0.5', '1', '1.5', the lowest first and equally far apart, got"),
        (RATING | {"values": ["2", "1"]}, r"the lowest first and equally far apart, got \('2', '1'\)"),
        (RATING | {"values": ["0.3333", "0.6666"]}, "must be ratings like"),
        (RATING | {"values": ["1", "1.0"]}, "must be ratings like"),
        (RATING | {"values": ["1e0", "2e0"]}, "must be ratings like"),
        (RATING | {"values": ["0", "0.001", "99999999999999"]}, "must be ratings like"),
        (RATING | {"values": ["1", "2"], "of": "stars"}, "rule mean_rating takes nothing beside `values`"),
        (
            OF_FIELD | {"texts": {"gratis": "Free"}},
            r"inside the attributes \(`of: attributes....`\), got it for .* of cat",
        ),
        (OF_LIST | {"of": "attributes"}, r"inside the attributes \(`attributes....`\), got 'attributes'"),
        (OF_LIST | {"of": "attributes."}, r"inside the attributes \(`attributes....`\), got 'attributes.'"),
        (
            OF_LIST | {"unknown": "No"},
            "`unknown` does nothing for attribute 'WiFi'; rule top takes `count`, `of`, `te",
        ),
    ],
)
def test_a_rule_that_does_not_fit_is_refused(tmp_path, entry, message):
    with pytest.raises(ValueError, match=message):
        read(tmp_path, entry)


def test_each_option_of_each_rule_is_a_field_of_it():
    options = {option for fitting in OPTIONS.values() for option in fitting}
    assert options == set(Rule.__dataclass_fields__) - {"name", "values", "kind"}
