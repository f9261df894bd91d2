"""A dataclass as a command line, recipes of its flags, and checks of their values."""

from dataclasses import dataclass
from math import inf, nan

import pytest

from cli.flags import check_choice, check_given, check_least, flag, parse_flags, read_recipe
from dataset_script.captions.arguments import CaptionArguments
from prediction.arguments import PredictionArguments
from training.arguments import JointTrainingArguments


@dataclass
class Flags:
    name: str = flag("", "a text")
    seed: int = flag(3, "an integer")
    rate: float = flag(0.5, "a number")
    limit: int | None = flag(None, "an integer, or none")
    private: bool | None = flag(None, "a truth, or none")
    loud: bool = flag(True, "a truth")
    weights: list[float] = flag([], "numbers")


def recipe(tmp_path, text):
    (tmp_path / "recipe.yaml").write_text(text)
    return str(tmp_path / "recipe.yaml")


def test_a_flag_wins_over_the_recipe_and_the_recipe_over_the_default(tmp_path):
    path = recipe(tmp_path, "name: a\nrate: 5e-5\nlimit: 7\nloud: false\nweights: [1, 2e-1]\n")
    found = parse_flags(Flags, [path, "--name", "b", "--private", "true"])
    assert found == Flags("b", 3, 5e-5, 7, True, False, [1.0, 0.2])
    assert type(found.weights[0]) is float
    assert parse_flags(Flags, ["--loud", "false", path, "--seed", "4"]).seed == 4


def test_a_default_list_is_each_ones_own():
    one, other = Flags(), Flags()
    one.weights.append(1.0)
    assert other.weights == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        *(("a: [", "not YAML"), ("- a", r"holds flags and their values, not \['a'\]"), ("sed: 1", r"not \['sed'\]")),
        *(("seed: x", "seed is an integer, got 'x'"), ("seed: 1.9", "seed is an integer, got 1.9")),
        *(("seed: null", "seed is an integer, got None"), ("seed: .inf", "seed is an integer, got inf")),
        *(("seed: true", "seed is an integer, got True"), ("limit: x", "limit is an integer, got 'x'")),
        *(("rate: a", "rate is a number, got 'a'"), ("loud: 1", "loud is true or false, got 1")),
        *(("private: 0", "private is true or false, got 0"), ("name: no", "name is text, got False")),
        *(("weights: 1", "weights is a list, got 1"), ("weights: [a]", "weights is a number, got 'a'")),
    ],
)
def test_a_recipe_that_is_no_recipe_is_refused(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        parse_flags(Flags, [recipe(tmp_path, text)])


def test_a_recipe_of_bytes_that_are_no_text_is_refused_by_its_name(tmp_path):
    (tmp_path / "weights.yaml").write_bytes(b"\x80\x81name: a")
    with pytest.raises(ValueError, match=r"recipe '.*weights.yaml' is not YAML"):
        read_recipe(str(tmp_path / "weights.yaml"), Flags)


def test_a_recipe_that_is_not_there_is_named():
    with pytest.raises(ValueError, match=r"no recipe 'absent.yaml'"):
        read_recipe("absent.yaml", Flags)


def test_optional_flags_of_a_recipe_may_be_null(tmp_path):
    assert read_recipe(recipe(tmp_path, "limit: null\nprivate: null"), Flags) == {"limit": None, "private": None}


@pytest.mark.parametrize("value", [2, -inf, inf, nan])
def test_what_is_below_the_least_or_no_number_is_refused(value):
    with pytest.raises(ValueError, match=f"rate is at least 3, got {value}"):
        check_least(Flags(rate=value), 3, "seed", "rate")


def test_what_fits_passes_and_what_is_missing_or_no_choice_is_named():
    assert check_least(Flags(), 3, "seed", "limit") is None
    assert check_choice(Flags(name="a"), "name", ("a", "b")) is None
    with pytest.raises(ValueError, match="--name is needed"):
        check_given(Flags(), "name")
    with pytest.raises(ValueError, match=r"name must be one of \['a', 'b'\], got 'c'"):
        check_choice(Flags(name="c"), "name", ("a", "b"))


@pytest.mark.parametrize(
    ("flags", "text", "words", "expected"),
    [
        (
            JointTrainingArguments,
            "dataset: a\noutput_dir: b\nlearning_rate: 5e-5\nobjectives: [text]\n",
            ["--output_dir", "c"],
            {"dataset": "a", "output_dir": "c", "learning_rate": 5e-5, "objectives": ["text"]},
        ),
        (
            PredictionArguments,
            "model: a\ndataset: b\nshow: 1\nmax_calls: 4\n",
            ["--show", "2"],
            {"model": "a", "show": 2, "max_calls": 4},
        ),
        (
            CaptionArguments,
            "dataset: a\noutput: b\nnum_workers: 2\n",
            ["--output", "c"],
            {"dataset": "a", "output": "c", "num_workers": 2},
        ),
    ],
)
def test_programs_with_many_flags_take_a_recipe(tmp_path, flags, text, words, expected):
    found = parse_flags(flags, [recipe(tmp_path, text), *words])
    assert {name: getattr(found, name) for name in expected} == expected
