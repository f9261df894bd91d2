"""`benchmarks/update.py` at tiny size: who changed is predicted, and the figures are of the same runs."""

import json

import pytest

from benchmarks import update


def test_a_run_of_all_is_held_against_one_of_those_who_changed(tmp_path):
    sizes = ["--users", "4", "--changed", "1", "--reviews", "2", "--words", "5", "--text_tokens", "30"]
    figures = update.main([*sizes, "--output", str(tmp_path / "update.json")])
    assert json.loads((tmp_path / "update.json").read_text()) == figures
    seconds = figures["seconds"]
    assert set(seconds) == {"loading_in_each", "whole", "update_of_nothing", "update"}
    spent = seconds["update"] - seconds["loading_in_each"]
    assert figures["ratio_of_seconds"] == pytest.approx(spent / (seconds["whole"] - seconds["loading_in_each"]))
    assert figures["cpu_seconds"]["whole"] > 0 and (figures["users"], figures["changed"]) == (4, 1)
