"""What the text of a business' attribute says: a Python literal, JSON, or plain words.

Nothing here evaluates code or raises, whatever the text.
"""

import ast
import json
import warnings
from collections.abc import Iterable, Mapping

# Yelp's longest attribute value has some 200 characters. The bound keeps a hostile one from the parser.
MAX_LITERAL_CHARACTERS = 2000

SCALE = 1000  # what numbers are multiplied by, to be summed up as whole ones
# A number beyond, infinity and NaN are no measure of a business.
LARGEST = 1e12

# As Python and JSON write nothing; in quotes it is a word, as Yelp's `u'none'` of a place that serves no alcohol.
NOTHING = ("", "None", "null")


def parse_literal(text: str | None) -> object:
    """The value of a Python literal (`u'no'`, `{'lunch': True}`) or of JSON (`true`); None where it is neither."""
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


def parse_text(text: str | None) -> object:
    """As `parse_literal`; a text that is no literal is its own value, so that `free` says what `u'free'` does."""
    value = parse_literal(text)
    if value is not None or text is None or len(text) > MAX_LITERAL_CHARACTERS:
        return value
    return None if text.strip() in NOTHING else text.strip()


def value_at(literals: Mapping[str, object], path: str) -> object:
    """The value of an attribute, or, behind a dot, of a key inside one."""
    name, dot, key = path.partition(".")
    value = literals[name]
    if not dot:
        return value
    return value.get(key) if isinstance(value, dict) else None


def one_text(value: object) -> list[str]:
    """The text that a value is, if it is one: a string, a number, true or false."""
    return [str(value)] if isinstance(value, str | bool | int | float) else []


def several_texts(value: object) -> list[str]:
    """The texts of a list, of a text with commas between, or of an object's true keys."""
    if isinstance(value, str):
        return value.split(",")
    if isinstance(value, dict):
        return _texts(key for key, is_so in value.items() if is_so is True)
    return _texts(value) if isinstance(value, list | tuple | set) else one_text(value)


def _texts(values: Iterable[object]) -> list[str]:
    return [text for value in values for text in one_text(value)]


def spelling(text: str) -> str:
    """What two spellings of one text have in common: capitals and blanks aside."""
    return " ".join(text.split()).casefold()
