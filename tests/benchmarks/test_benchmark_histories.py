"""What a whole history costs, measured on a tiny model."""

import json

import pytest

from benchmarks import histories


def test_every_method_is_measured_and_one_view_is_the_measure(tmp_path):
    flags = ["--size", "tiny", "--text_tokens", "40", "--users", "2", "--views", "3", "--repeats", "1"]
    results = histories.main([*flags, "--output", str(tmp_path / "h.json")])
    assert json.loads((tmp_path / "h.json").read_text()) == results
    assert results["seconds"].keys() == results["over_one_view"].keys() == histories.METHODS.keys()
    assert results["over_one_view"]["one"] == 1
    of_all = results["seconds"]["product"]
    assert results["users_per_second"]["product"] == pytest.approx(1 / (of_all["encoder"] + of_all["search"]))
    assert (results["users"], results["views"]) == (2, 3)
