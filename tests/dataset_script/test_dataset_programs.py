"""The programs of dataset_script: --help is there at once and shows what they take; a log gets no bars drawn anew."""

import subprocess
import sys

import pytest

from tests import ROOT
from tests.raw_corpus import hand_written

HELP = """
import runpy, sys
sys.argv = ["{program}", "--help"]
try:
    runpy.run_module("dataset_script.{program}", run_name="__main__", alter_sys=True)
except SystemExit as end:
    assert not end.code
print("imported:", *{heavy} & set(sys.modules))
"""
HEAVY = {"torch", "datasets", "pandas", "duckdb", "ibis", "pyspark", "accelerate", "matplotlib"}
INPUTS = {
    "mmprofile_yelp": [
        '    *review.json     {"review_id": "r1", "user_id": "u1", "business_id": "b1", "stars": 4.0,',
        "photos/p1.jpg",
        "--max_images_per_review",
    ],
    "caption": ["`photo_ids`, `images` (each `bytes`), `photo_captions`", "--revision", "--no_repeat_ngram_size"],
    "synthesize": ["python -m dataset_script.synthesize --output data/raw --users 2000", "--image_size"],
    "corpus_upload": ["data/CONFIGURATION/SPLIT*.parquet", "--private"],
}


@pytest.mark.parametrize("program", INPUTS)
def test_help_shows_the_inputs_and_imports_nothing_that_takes_seconds(program):
    command = [sys.executable, "-c", HELP.format(program=program, heavy=HEAVY)]
    shown = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert all(text in shown for text in INPUTS[program])
    assert shown.endswith("\nimported:\n")


def run(program, *flags):
    command = [sys.executable, "-m", f"dataset_script.{program}", *map(str, flags)]
    written = subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
    return written.stdout.decode(), written.stderr.decode()


def test_a_log_of_a_build_and_of_captions_has_no_bar(tmp_path):
    raw = hand_written().write(tmp_path / "raw", gz=True)
    told, drawn = run("mmprofile_yelp", "--data_dir", raw, "--output", tmp_path / "corpus")
    assert "### Configuration" in told
    assert "\r" not in drawn and "examples" not in drawn  # datasets' own, of a split
    flags = ["--dataset", tmp_path / "corpus", "--output", tmp_path / "captioned", "--source", "photo_captions"]
    told, drawn = run("caption", *flags)
    assert "Written to" in told
    assert "\r" not in drawn and "shards" not in drawn
