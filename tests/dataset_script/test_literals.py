"""What a text says: literals of Python and JSON, plain words, lists of any form; never an error, nothing executed."""

import os
import random
import warnings

import pytest

from dataset_script.literals import one_text, parse_literal, parse_text, several_texts, spelling, value_at


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("True", True),
        ("true", True),
        ("None", None),
        ("2", 2),
        ("u'no'", "no"),
        ("{'dessert': False, u'lunch': True, 'dinner': None}", {"dessert": False, "lunch": True, "dinner": None}),
        ('{"lunch":true,"dinner":null}', {"lunch": True, "dinner": None}),
        (None, None),
        ("", None),
        ("yes", None),
        ("{'lunch': ", None),
        ("{[]: 1}", None),
        ("\x00", None),
        ("\ud800", None),
        ("(" * 1999, None),
        ("[" * 1999, None),
        ("-" * 1999 + "1", None),
        ("1" + " " * 2000, None),
    ],
)
def test_a_literal_is_parsed_or_unknown(text, value):
    assert parse_literal(text) == value


def test_a_literal_is_never_executed(monkeypatch):
    monkeypatch.setattr(os, "getcwd", lambda: pytest.fail("executed"))
    assert parse_literal("__import__('os').getcwd()") is None


def test_no_string_makes_the_literal_parser_raise_or_warn():
    rng = random.Random(0)
    alphabet = "()[]{},:'\"u\\\n \t0123456789.eEjTrueFalsNo-+*~#;=f\x00\u00e9\ud800"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        texts = ["".join(rng.choices(alphabet, k=rng.choice((1, 2, 4, 12, 200)))) for _ in range(20000)]
        parsed = [parse_literal(text) for text in texts]
        lists = [[spelling(word) for word in several_texts(parse_text(text))] for text in texts]
    assert any(value is not None for value in parsed)
    assert max(map(len, lists)) > 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("u'free'", ["free"]),
        ("'free'", ["free"]),
        ('"free"', ["free"]),
        ("free", ["free"]),
        (" Very loud\n", ["Very loud"]),
        ("2", ["2"]),
        ("True", ["True"]),
        ("true", ["True"]),
        ("'none'", ["none"]),
        ("'None'", ["None"]),
        ("None", []),
        (" null ", []),
        ("", []),
        (None, []),
        ("b'free'", []),
        ("['free']", []),
        ("{'free': True}", []),
        ("x" * 2001, []),
    ],
)
def test_a_word_is_one_text_with_quotes_or_without(text, said):
    assert one_text(parse_text(text)) == said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('["Thai","Sushi"]', ["Thai", "Sushi"]),
        ("['Thai', u'Sushi']", ["Thai", "Sushi"]),
        ("('Thai', 'Sushi')", ["Thai", "Sushi"]),
        ("{'Thai'}", ["Thai"]),
        ("Thai, Sushi", ["Thai", " Sushi"]),
        ("u'Thai, Sushi'", ["Thai", " Sushi"]),
        ("Mom's, Dad's", ["Mom's", " Dad's"]),
        ("Thai", ["Thai"]),
        ('{"Thai":true,"Sushi":false,"Pizza":null,"Tea":"true"}', ["Thai"]),
        ("{'Thai': True, 1: True, 'Sushi': {'Tea': True}}", ["Thai", "1"]),
        ("[1, 2.5, True, None, ['Tea']]", ["1", "2.5", "True"]),
        ("[]", []),
        ("None", []),
        (None, []),
    ],
)
def test_a_list_has_any_form(text, said):
    assert several_texts(parse_text(text)) == said


def test_a_value_stands_behind_one_dot_at_most():
    literals = {"Ambience": {"level": "u'loud'", "a.b": 1}, "WiFi": "free"}
    assert value_at(literals, "WiFi") == "free"
    assert value_at(literals, "Ambience.level") == "u'loud'"
    assert value_at(literals, "Ambience.a.b") == 1
    assert value_at(literals, "WiFi.free") is None


def test_spellings_of_one_text_differ_in_capitals_and_blanks():
    assert len({spelling(text) for text in ("Very  Loud", " very loud\t", "VERY\nLOUD")}) == 1
    assert spelling("STRASSE") == spelling("Stra\u00dfe")
    assert spelling("very_loud") != spelling("very loud")
