"""The builder file as a loading script, under the last `datasets` that runs scripts, in an environment of its own."""

import ast
import json
import re
import shlex
import subprocess
import sys

import pytest

from tests import ROOT
from tests.raw_corpus import PROFILES, hand_written

SCRIPT = ROOT / "dataset_script" / "mmprofile_yelp.py"
CARD = ROOT / "dataset_script" / "README.md"
PACKAGES = shlex.split(re.search(r"^pip install (.*<4.*)$", CARD.read_text(encoding="utf-8"), re.MULTILINE)[1])
PROGRAM = """
import json, sys
from datasets import load_dataset
corpus = load_dataset(sys.argv[1], data_dir=sys.argv[2], trust_remote_code=True)
label = corpus["train"].features["profile"]["stars"].int2str
rows = [row for split in corpus.values() for row in split]
photos = [image.size for row in rows for review in row["reviews"] for image in review["images"]]
print(json.dumps({"stars": {row["user_id"]: label(row["profile"]["stars"]) for row in rows}, "photos": photos}))
"""


def test_the_cards_bounds_are_the_requirements():
    required = {
        line for line in (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines() if line[:1] != "#"
    }
    bounded = [package for package in PACKAGES if "<" in package and not package.startswith("datasets")]
    assert len(bounded) == 3 and set(bounded) <= required
    assert "datasets<4" in PACKAGES


def modules_beside(path):
    """Those that a file imports as it is loaded."""
    statements = ast.parse(path.read_text(encoding="utf-8")).body
    beside = [node for node in statements if isinstance(node, ast.ImportFrom) and node.level == 1]
    return {node.module or alias.name for node in beside for alias in node.names}


def test_the_script_imports_each_module_that_its_modules_import():
    fetched = modules_beside(SCRIPT)
    assert "engines" in fetched
    assert set().union(*(modules_beside(SCRIPT.with_name(f"{name}.py")) for name in fetched)) <= fetched


@pytest.mark.slow
def test_datasets_3_loads_the_builder_as_a_script(tmp_path):
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    subprocess.run([python, "-m", "pip", "install", "--quiet", *PACKAGES], check=True)
    raw = hand_written().write(tmp_path / "raw")
    caches = {"HF_HOME": str(tmp_path / "hf"), "HF_MODULES_CACHE": str(tmp_path / "modules"), "HF_HUB_OFFLINE": "1"}
    run = subprocess.run(
        [python, "-c", PROGRAM, SCRIPT, raw], cwd=tmp_path, env=caches, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    found = json.loads(run.stdout.splitlines()[-1])
    assert found["stars"] == {user: profile["stars"] for user, profile in PROFILES.items()}
    assert found["photos"] and set(map(tuple, found["photos"])) == {(8, 6)}
