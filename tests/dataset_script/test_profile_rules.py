"""Rules at their borders: what a business tells, exactly half, a tie, a mean of 3.5; and a schema that is none."""

import pytest

from dataset_script.profile_rules import Rule, decide, read_rules
from mmprofile.configuration_mmprofile import ProfileAttribute, ProfileSchema
from tests.raw_corpus import RULES

STARS, CATEGORY, MEAL, BUDGET, DISCOUNT, SERVICE = RULES


def test_the_yaml_holds_the_papers_schema():
    attributes = tuple(ProfileAttribute(rule.name, rule.values, rule.count) for rule in RULES)
    assert ProfileSchema(attributes) == ProfileSchema()
    assert [rule.key for rule in RULES] == list(ProfileSchema().keys)


@pytest.mark.parametrize(
    ("rule", "texts", "evidence"),
    [
        (MEAL, ["{'lunch': False, 'dinner': True}"], 1000),
        (MEAL, ["{'dinner': True}"], 1000),
        (MEAL, ["{'lunch': True, 'dinner': None}"], 0),
        (MEAL, ["{'lunch': True, 'dinner': True}"], None),
        (MEAL, ["{'lunch': False, 'dinner': False}"], None),
        (MEAL, ["True"], None),
        (MEAL, [""], None),
        (BUDGET, ["1"], 1000),
        (BUDGET, ["2.5"], 2500),
        (BUDGET, ["0"], None),
        (BUDGET, ["5"], None),
        (BUDGET, ["True"], None),
        (BUDGET, ["u'2'"], None),
        (BUDGET, ["1e999"], None),
        (DISCOUNT, ["True"], 1000),
        (DISCOUNT, ["u'no'"], None),
        (SERVICE, ["True", "False"], 1000),
        (SERVICE, ["None", "True"], 1000),
        (SERVICE, ["False", "None"], 0),
        (SERVICE, ["None", ""], None),
    ],
)
def test_a_business_tells_what_its_attributes_say(rule, texts, evidence):
    assert rule.evidence(texts) == evidence


def test_a_key_inside_an_attribute_is_evidence_without_a_counterpart():
    rule = Rule("Parking", ("Yes", "No"), "majority", of=("BusinessParking.lot",), yes="Yes")
    texts = ["{'lot': True}", "{'lot': False}", "{'lot': None}", "{}"]
    assert [rule.evidence([text]) for text in texts] == [1000, 0, None, None]


def test_exactly_half_is_no_majority_and_nothing_known_is_none():
    assert [DISCOUNT.share_label(total, 4) for total in (2000, 3000)] == ["False", "True"]
    assert DISCOUNT.share_label(0, 0) is None


def test_the_median_itself_is_not_above():
    assert [BUDGET.share_label(total, 2, (2.5,)) for total in (5000, 5001)] == ["Low", "High"]


def test_the_mean_rating_rounds_a_half_up():
    assert [STARS.rating_label(total, count) for total, count in ((7000, 2), (6999, 2), (4500, 1))] == ["4", "3", "5"]


def test_a_tie_of_categories_goes_to_the_order_of_the_values():
    assert CATEGORY.top_label([1, 1, 0, 1, 0, 0, 0, 0, 0, 0]) == ["Automotive", "Shopping"]
    assert CATEGORY.top_label([0, 0, 0, 1, 0, 0, 0, 0, 0, 2]) == ["Pizza", "Home Services"]
    assert CATEGORY.top_label([0, 0, 0, 2, 0, 0, 0, 0, 0, 0]) is None


def test_a_profile_has_null_where_there_is_no_evidence():
    rules = (STARS, DISCOUNT)
    totals = {"ratings": 9000, "reviews": 2, "sum_1": 0, "count_1": 0}
    assert decide(rules, totals, {}) == {"stars": "5", "discount_preference": None}


MAJORITY = "name: A, values: [x, y], rule: majority, of: f, 'yes': x"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("attributes: 3", "a schema has attributes"),
        ("[", "schema must be a YAML file"),
        ("attributes: [{name: A, values: [x]}]", "has a name, values and a rule"),
        ("attributes: [{name: A, values: [x], rule: guess}]", "rule of attribute 'A' must be one of"),
        (
            "attributes: [{name: A, values: [x], rule: top, of: f, colour: red}]",
            r"'A' has no \['colour'\]; it may have \['rule', 'name', ",
        ),
        (
            "attributes: [{name: A, values: [x, y], rule: majority, of: f, yes: x}]",
            "YAML reads yes as true: write it in",
        ),
        ("attributes: [{name: A, values: [x, y], rule: majority, of: f, 'yes': z}]", "`yes`, one of them, got 'z'"),
        ("attributes: [{name: A, values: [x, y], rule: top, of: f, count: 3}]", "a count of 1 to 2, got 3"),
        ("attributes: [{name: A, values: [1, 2], rule: mean_rating}]", "in quotes where YAML sees none"),
        ("attributes: [{name: A, values: ['1', '2', '4'], rule: mean_rating}]", "must be ratings like '1', '2', '3'"),
        (
            f"attributes: [{{{MAJORITY}, unknown: no}}]",
            r'"no", in quotes, got False \(YAML reads a bare no as false\)',
        ),
        (f"attributes: [{{{MAJORITY}, unknown: 'yes'}}]", "\"no\", in quotes, got 'yes'"),
        (f"attributes: [{{{MAJORITY}, against: g, unknown: 'no'}}]", "fits a majority without `against`, got it for"),
        (
            "attributes: [{name: A, values: [x], rule: top, of: f, unknown: 'no'}]",
            "`unknown` does nothing for attribute 'A'; rule top",
        ),
    ],
)
def test_a_schema_that_is_none_is_refused(tmp_path, text, message):
    (tmp_path / "schema.yaml").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_rules(tmp_path / "schema.yaml")


def test_a_missing_schema_is_refused(tmp_path):
    with pytest.raises(ValueError, match="schema must be a YAML file"):
        read_rules(tmp_path / "nowhere.yaml")


@pytest.mark.parametrize(
    ("content", "wrong"),
    [
        (b"root:x:0:0: secret\n- a: [b\n", "line 2, column 1 is no YAML"),
        (b"attributes: !!python/object:secret.x {}\n", "line 1, column 13 is no YAML"),
        (b"a: *secret\n", "line 1, column 4 is no YAML"),
        (b'a: "sec\x01ret"\n', "the character at 7 has no place in YAML"),
        (b"secret \xe9", "the byte at 7 is no UTF-8"),
        (b"secret: 1", "it has none"),
        (b"- secret", "it has none"),
    ],
)
def test_what_is_no_schema_is_told_without_a_word_of_it(tmp_path, content, wrong):
    (tmp_path / "schema.yaml").write_bytes(content)
    with pytest.raises(ValueError) as refused:
        read_rules(tmp_path / "schema.yaml")
    assert str(refused.value).endswith(f"schema.yaml': {wrong}")
