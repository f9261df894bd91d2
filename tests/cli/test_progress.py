"""Bars of a program whose stderr is a pipe."""

import re
import subprocess
import sys

import pytest

from tests import ROOT

DRAW = """
import sys, time
from cli.progress import log_progress
log_progress(0.2)
log_progress(0.2)  # a program may start another's main
assert "torch" not in sys.modules
from {module} import tqdm
for outer in tqdm(range(2), desc="outer"):
    for inner in tqdm(range(300), desc="inner", leave=False, mininterval=0):
        time.sleep(0.002)
print("left", file=sys.stderr)
"""


@pytest.mark.parametrize(
    "module", ["tqdm", "tqdm.auto", "datasets.utils", "huggingface_hub.utils", "transformers.utils.logging"]
)
def test_a_pipe_gets_a_line_now_and_then_from_any_librarys_bars(module):
    program = [sys.executable, "-c", DRAW.format(module=module)]
    written = subprocess.run(program, cwd=ROOT, capture_output=True, check=True).stderr.decode()
    *bars, last = written.splitlines()
    assert "\r" not in written and "\x1b" not in written
    assert 2 <= len(bars) <= 20 and last == "left"  # of 600, and of 1.2 s on an idle machine
    assert all(" [00:0" in line and line.startswith(("inner:", "outer:")) for line in bars)


def test_bars_of_a_moment_write_nothing():
    program = [sys.executable, "-c", DRAW.format(module="tqdm").replace("0.2", "30")]
    assert subprocess.run(program, cwd=ROOT, capture_output=True, check=True).stderr == b"left\n"


@pytest.mark.parametrize("program", ["train.py", "predict.py", "score.py", "upload.py", "app.py"])
def test_each_program_that_draws_bars_draws_them_so(program):
    main = re.search(r"\ndef main\(.*?\n\n\n", (ROOT / program).read_text(), re.S).group()
    assert "log_progress()" in main
