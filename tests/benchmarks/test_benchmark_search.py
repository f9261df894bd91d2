"""`benchmarks/search.py` at tiny size."""

import json

import pytest

from benchmarks import search
from tests.tiny_corpus import SCHEMA, write_corpus
from tests.tiny_folder import save_tiny_folder


def test_each_rule_has_its_figures_and_none_changes_what_is_proved(tmp_path):
    save_tiny_folder(tmp_path / "model", SCHEMA)
    write_corpus(tmp_path / "corpus", sizes=(1, 1, 2))
    argv = ["--model", str(tmp_path / "model"), "--dataset", str(tmp_path / "corpus"), "--users", "2"]
    found = search.main(["rules", *argv, "--output", str(tmp_path / "rules.json")])
    assert found == json.loads((tmp_path / "rules.json").read_text())
    assert set(found) >= {"all rules", *(f"without {name}" for name in search.RULES)}
    changed = [name for name in search.RULES if found[f"without {name}"]["tokens"] != found["all rules"]["tokens"]]
    assert "promise: the loss behind" in changed
    assert search.Heuristic.budget is search.BUDGET  # all rules are there again


def test_a_calls_prefixes_are_told_a_quarter_of_the_calls_after_the_other(tmp_path):
    found = search.main(["size", "--values", "9", "--choose", "2", "--calls", "8", "--output", str(tmp_path / "size")])
    assert found["profiles"] == 72
    assert found["prefixes_made"] == sorted(found["prefixes_made"]) and len(found["milliseconds_a_call"]) == 4
    assert all(
        asked < made for asked, made in zip(found["prefixes_that_may_be_asked"], found["prefixes_made"], strict=True)
    )


@pytest.mark.parametrize("argv", [[], ["rules"], ["other", "--output", "x"]])
def test_a_part_and_its_file_are_needed(argv, capsys):
    with pytest.raises(SystemExit):
        search.main(argv)
    assert "usage" in capsys.readouterr().err
