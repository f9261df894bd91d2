"""A schema that no model takes, or whose fields are of another type, is refused before anything is built."""

import pytest
import yaml
from datasets import ClassLabel

from dataset_script.profile_rules import Rule, read_rules
from mmprofile.configuration_mmprofile import ProfileAttribute, ProfileSchema

SHARE = {"name": "A", "values": ["x", "y"], "rule": "majority", "of": "f", "yes": "x"}
MEDIAN = {"name": "A", "values": ["x", "y"], "rule": "above_median", "of": "f", "yes": "x"}
TOP = {"name": "A", "values": ["x", "y", "z"], "rule": "top", "of": "f", "count": 2}

WORDS = ["A | B", "A|B", "A: B", "A:", "<extra_id_0>", "a < b", " A", "A ", "A  B", "A\tB", "A\u00a0B", "\n", "", 5]


def read(tmp_path, entry):
    (tmp_path / "schema.yaml").write_text(yaml.safe_dump({"attributes": [entry]}))
    return read_rules(tmp_path / "schema.yaml")


@pytest.mark.parametrize("word", WORDS)
def test_a_name_or_value_that_no_model_takes_is_refused(tmp_path, word):
    for entry in (SHARE | {"name": word}, SHARE | {"values": [word, "y"], "yes": word}):
        with pytest.raises(ValueError, match="a name or value"):
            ProfileAttribute(entry["name"], entry["values"])
        with pytest.raises(ValueError, match="of attribute .* must be words with single blanks|needs (a name|values)"):
            read(tmp_path, entry)


@pytest.mark.parametrize("name", ["_", "A_", "_A", "A__B", "A _B"])
def test_a_name_that_its_column_does_not_give_back_is_refused(tmp_path, name):
    with pytest.raises(ValueError, match="single blanks"):
        read(tmp_path, SHARE | {"name": name})


@pytest.mark.parametrize(
    "word", ["A", "A b", "A_b", "Happy-Hour", "it's", "a, b", "100 %", "{}", "Gr\u00f6\u00dfe", "\u5348\u9910"]
)
def test_a_name_or_value_that_a_model_takes_is_taken(tmp_path, word):
    (rule,) = read(tmp_path, SHARE | {"name": word, "values": [word, "y"], "yes": word})
    assert ProfileSchema((ProfileAttribute(word, (word, "y")),)).keys == (rule.key,)


@pytest.mark.parametrize("count", [1, 2])
def test_values_that_stand_between_commas_hold_none(tmp_path, count):
    with pytest.raises(ValueError, match="values of attribute 'A', which stand between commas, must have no ','"):
        read(tmp_path, TOP | {"values": ["Food, Drinks", "y", "z"], "count": count})


def test_a_rule_knows_what_a_model_will_call_it(tmp_path):
    for name in ("Cook's Favorite", "Diet of Choice", "HappyHour", "user_id", "E-mail"):
        (rule,) = read(tmp_path, SHARE | {"name": name})
        features = {rule.key: ClassLabel(names=list(rule.values))}
        assert [a.name for a in ProfileSchema.from_features(features).attributes] == [rule.schema_name]
    assert read(tmp_path, SHARE | {"name": "Cook's Favorite"})[0].schema_name == "Cook's Favorite"


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (SHARE | {"name": 5}, "attribute 5 needs a name that is a text"),
        (SHARE | {"name": ""}, "attribute '' needs a name that is a text"),
        (SHARE | {"name": ["A"]}, "needs a name that is a text"),
        (SHARE | {"of": 5}, "`of` and `against` of attribute 'A' must be texts, got .5,."),
        (SHARE | {"of": ""}, "`of` and `against` of attribute 'A' must be texts, got .'',."),
        (SHARE | {"of": ["f", None]}, "must be texts, got .'f', None."),
        (SHARE | {"against": 5}, "must be texts, got .'f', 5."),
        (TOP | {"of": 5}, "must be texts, got .5,."),
        (TOP | {"count": 2.0}, "count of attribute 'A' must be a whole number, got 2.0"),
        (TOP | {"count": True}, "count of attribute 'A' must be a whole number, got True"),
        (TOP | {"count": "2"}, "count of attribute 'A' must be a whole number, got '2'"),
        (MEDIAN | {"between": ["a", "b"]}, "between of attribute 'A' must be two numbers, the lower first"),
        (MEDIAN | {"between": [1, 2, 3]}, "must be two numbers, the lower first, got .1, 2, 3."),
        (MEDIAN | {"between": [4, 1]}, "must be two numbers, the lower first, got .4, 1."),
        (MEDIAN | {"between": [1, float("nan")]}, "must be two numbers, the lower first"),
        (MEDIAN | {"between": [False, True]}, "must be two numbers, the lower first"),
        (MEDIAN | {"between": []}, "must be two numbers, the lower first"),
        (MEDIAN | {"between": 0}, "must be two numbers, the lower first, got .0,."),
    ],
)
def test_a_field_of_another_type_is_refused(tmp_path, entry, message):
    with pytest.raises(ValueError, match=message):
        read(tmp_path, entry)


def test_the_limits_of_a_number_may_be_one():
    rule = Rule("A", ("x", "y"), "above_median", of=("f",), yes="x", between=(2, 2))
    assert [rule.evidence([text]) for text in ("1.9", "2", "2.1")] == [None, 2000, None]
