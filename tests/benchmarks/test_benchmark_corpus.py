"""`benchmarks/build_corpus.py` at a small size: every figure that it promises, of files like Yelp's."""

import json
import os

import pytest

from benchmarks import build_corpus


def run(tmp_path, *reviews):
    words = ["--output", tmp_path / "figures.json", "--folder", tmp_path, "--photos", 300, "--photo_size", 40]
    return build_corpus.main([str(word) for word in [*words, "--reviews", *reviews]])["duckdb"]


@pytest.mark.slow
def test_the_file_has_every_figure_of_every_size_and_the_raw_folder_is_gone(tmp_path):
    run(tmp_path, 20_000)
    sizes = run(tmp_path, 30_000, 60_000)
    assert json.loads((tmp_path / "figures.json").read_text())["duckdb"] == sizes
    assert os.listdir(tmp_path) == ["figures.json"]
    assert [sizes[size]["default"]["left"]["review lines"] for size in sizes] == [20_000, 30_000, 60_000]
    for figures in sizes["30000"], sizes["60000"]:
        assert figures["scan"]["cpu_seconds"] == sorted(figures["scans_cpu_seconds"])[1] > 0
        for build in figures["default"], figures["full"]:
            assert build["stages"].keys() == {"rest", *build_corpus.STAGES}
            assert build["peak_gib"] == max(stage["peak_gib"] for stage in build["stages"].values()) > 0.1
            assert 0 < build["derivation_cpu_seconds"] < build["cpu_seconds"]
            assert 0 < build["derivation_over_scan"] < build["build_over_scan"]
            assert build["photos_opened"] > 100 and build["shards_gib"] > 0


def test_a_stage_within_another_is_none_of_the_others_and_has_the_peak_of_its_own(tmp_path):
    meter = build_corpus.Meter(tmp_path)
    with meter.stage("outer"):
        with meter.stage("inner"):
            (tmp_path / "file").write_bytes(bytes(2**20))
            bytearray(b"x" * 2**28)
        (tmp_path / "file").unlink()
    meter.end()
    outer, inner, rest = (meter.stages[name] for name in ("outer", "inner", "rest"))
    assert inner["peak_gib"] > outer["peak_gib"] + 0.2 and inner["disk_gib"] == 2**-10 > outer["disk_gib"]
    assert inner["seconds"] > outer["seconds"] > 0 and meter.whole["peak_gib"] == inner["peak_gib"]
    assert meter.whole["seconds"] == pytest.approx(rest["seconds"] + outer["seconds"] + inner["seconds"])
