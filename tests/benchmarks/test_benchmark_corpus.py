"""`benchmarks/build_corpus.py` at a small size: every figure that it promises, of files like Yelp's."""

import json
import os

import pytest

from benchmarks import build_corpus


@pytest.mark.slow
def test_the_file_has_every_figure_and_the_raw_folder_is_gone(tmp_path):
    output = tmp_path / "figures.json"
    flags = {"output": output, "folder": tmp_path, "reviews": 60_000, "photos": 300, "photo_size": 40}
    returned = build_corpus.main([word for name, value in flags.items() for word in (f"--{name}", str(value))])
    figures = json.loads(output.read_text())
    assert figures == returned and os.listdir(tmp_path) == ["figures.json"]
    assert figures["reviews"] == figures["derivation"]["left: review lines"] == 60_000
    assert figures["derivation_of_a_tenth"]["left: review lines"] == 6_000
    assert 0 < figures["derivation"]["left: users drawn"] <= figures["full_derivation"]["left: users drawn"]
    assert figures["derivation_over_scan"] == figures["derivation_seconds"] / figures["scan"]["seconds"]
    assert figures["json_loop_over_derivation"] == figures["json_loop"]["seconds"] / figures["derivation_seconds"]
    for name in ("peak_gib", "growth", "photos_a_second_a_core", "full_derivation_over_scan", "review_bytes"):
        assert figures[name] > 0
