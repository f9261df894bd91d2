"""A dataclass as a command line, recipes of its flags, and checks of their values."""

import re
from dataclasses import dataclass
from math import inf, nan

import pytest

from cli.flags import check_choice, check_given, check_least, flag, parse_flags
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
    tracker: str | None = flag(None, "a text, or none")
    texts: list[str] = flag(["a"], "texts")


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
        *(
            ("a: [", "it is not YAML"),
            ("- a", r"it holds flags and their values, not \['a'\]"),
            ("null: 1", "there is no flag None"),
        ),
        *(("", "it holds flags and their values, not None"), ("recipe: a", "there is no flag recipe")),
        *(("sed: 1", "there is no flag sed, did you mean seed?"), ("zzz: 1", "there is no flag zzz, see --help")),
        *(("seed: 1\nname: a\nseed: 1", "seed stands there twice"), ("seed: [1]", "seed is an integer, got")),
        *(("seed: x", "seed is an integer, got 'x'"), ("seed: 1.9", "seed is an integer, got '1.9'")),
        *(("seed: 6.0", "seed is an integer, got '6.0'"), ("seed: 1e3", "seed is an integer, got '1000.0'")),
        *(("seed: null", "seed is an integer, got null"), ("seed: .inf", "seed is an integer, got 'inf'")),
        *(("seed: true", "seed is an integer, got 'True'"), ("limit: x", "limit is an integer or null, got 'x'")),
        *(("limit: 1.5", "limit is an integer or null, got '1.5'"), ("limit: no", "limit is an integer or null, got")),
        *(("rate: a", "rate is a number, got 'a'"), ("rate: true", "rate is a number, got 'True'")),
        *(("loud: 1", "loud is true or false, got '1'"), ("private: 0", "private is true or false or null, got '0'")),
        *(("name:", "name is text, got null"), ("name: {a: b}", "name is text, got")),
        *(("weights: 1", "weights is a list, got '1'"), ("weights:", "weights is a list, got None")),
        *(("weights: [1, a]", "weights is a number, got 'a'"), ("weights: [null]", "weights is a number, got 'None'")),
    ],
)
def test_a_recipe_that_is_no_recipe_is_refused_by_its_name(tmp_path, text, message):
    with pytest.raises(ValueError, match=f"recipe '.*recipe.yaml': {message}"):
        parse_flags(Flags, [recipe(tmp_path, text)])


def test_a_recipe_of_bytes_that_are_no_text_is_refused_by_its_name(tmp_path):
    (tmp_path / "weights.yaml").write_bytes(b"\x80\x81name: a")
    with pytest.raises(ValueError, match=r"recipe '.*weights.yaml': it is not YAML"):
        parse_flags(Flags, [str(tmp_path / "weights.yaml")])


def test_a_recipe_that_is_not_there_is_named():
    with pytest.raises(ValueError, match=r"recipe 'absent.yaml': there is no such file"):
        parse_flags(Flags, ["absent.yaml"])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        *(("name: no", {"name": "no"}), ("name: 2024-01-31", {"name": "2024-01-31"}), ("name: 007", {"name": "007"})),
        *(("name: 'null'", {"name": "null"}), ("name: ''", {"name": ""}), ("seed: '5'", {"seed": 5})),
        *(("rate: 5e-5", {"rate": 5e-5}), ("rate: 1", {"rate": 1.0}), ("rate: .inf", {"rate": inf})),
        *(("limit: null", {"limit": None}), ("limit:", {"limit": None}), ("limit: None", {"limit": None})),
        *(("private: ~", {"private": None}), ("private: yes", {"private": True}), ("loud: FALSE", {"loud": False})),
        *(("tracker: none", {"tracker": "none"}), ("tracker: no", {"tracker": "no"}), ("tracker:", {"tracker": None})),
        *(("weights: [1, 2e-1]", {"weights": [1.0, 0.2]}), ("weights: []", {"weights": []})),
        ("texts:\n- no\n- 2024-01-31\n- 1", {"texts": ["no", "2024-01-31", "1"]}),
    ],
)
def test_values_of_a_recipe_are_of_their_flags_types(tmp_path, text, expected):
    found = parse_flags(Flags, [recipe(tmp_path, text)])
    assert {name: getattr(found, name) for name in expected} == expected
    ((name, value),) = expected.items()
    assert type(getattr(found, name)) is type(value)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        *(("--name no", {"name": "no"}), ("--name null", {"name": "null"}), ("--name=", {"name": ""})),
        *(("--rate=5e-5", {"rate": 5e-5}), ("--rate 1", {"rate": 1.0}), ("--seed -3", {"seed": -3})),
        *(("--limit null", {"limit": None}), ("--limit None", {"limit": None}), ("--tracker None", {"tracker": None})),
        *(("--tracker none", {"tracker": "none"}), ("--tracker 2024-01-31", {"tracker": "2024-01-31"})),
        *(("--private", {"private": True}), ("--loud yes", {"loud": True}), ("--loud False", {"loud": False})),
        *(("--weights 1 2e-1 3", {"weights": [1.0, 0.2, 3.0]}), ("--weights -1 2", {"weights": [-1.0, 2.0]})),
        *(("--weights", {"weights": []}), ("--texts fusion no", {"texts": ["fusion", "no"]})),
    ],
)
def test_values_of_the_command_line_win_and_are_of_their_flags_types(tmp_path, words, expected):
    other = "name: a\nseed: 5\nrate: 7\nlimit: 8\ntracker: b\nprivate: no\nloud: no\nweights: [4]\ntexts: [c]"
    other = other.replace("loud: no", "loud: yes") if "False" in words else other
    found = parse_flags(Flags, [recipe(tmp_path, other), *words.split()])
    ((name, value),) = expected.items()
    assert (getattr(found, name), type(getattr(found, name))) == (value, type(value))
    assert vars(found) == vars(parse_flags(Flags, [recipe(tmp_path, other)])) | expected


@pytest.mark.parametrize(
    ("words", "message"),
    [
        *(("--seed 1.5", "seed is an integer, got '1.5'"), ("--limit 6.0", "limit is an integer or null, got '6.0'")),
        *(("--loud maybe", "loud is true or false, got 'maybe'"), ("--weights 1 a", "weights is a number, got 'a'")),
        *(
            ("--sed 1", "there is no flag sed, did you mean seed?"),
            ("--rat=1", "there is no flag rat, did you mean rate"),
        ),
        *(("--priv", "there is no flag priv, did you mean private?"), ("--seed", "--seed: expected one argument")),
        *(("--recipe a", "there is no flag recipe"), ("a.yaml b.yaml", "unrecognized arguments: b.yaml")),
        ("--seed null", "seed is an integer, got 'None'"),
    ],
)
def test_a_command_line_that_does_not_fit_is_refused_with_what_would(words, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        parse_flags(Flags, words.split())


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
            [
                "--output_dir",
                "c",
                "--objectives",
                "fusion",
                "text",
                "--push_to_hub",
                "true",
                "--objective_weights",
                "1",
                "2",
            ],
            {
                "output_dir": "c",
                "learning_rate": 5e-5,
                "objectives": ["fusion", "text"],
                "push_to_hub": True,
                "objective_weights": [1.0, 2.0],
            },
        ),
        (
            PredictionArguments,
            "model: a\ndataset: b\nshow: 1\nmax_calls: 4\n",
            ["--show", "2", "--evaluate", "--output", "c"],
            {"model": "a", "show": 2, "max_calls": 4, "evaluate": True},
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
