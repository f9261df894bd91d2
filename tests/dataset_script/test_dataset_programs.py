"""The programs of dataset_script in a log: no bars drawn anew."""

import subprocess
import sys

from tests import ROOT
from tests.raw_corpus import hand_written


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
