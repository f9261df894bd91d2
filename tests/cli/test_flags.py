"""--help: there at once, with what a program takes."""

import subprocess
import sys

import pytest

from tests import ROOT
from training.arguments import JointTrainingArguments
from training.objectives import OBJECTIVES

HELP = """
import runpy, sys
sys.argv = ["{program}", "--help"]
try:
    runpy.run_path("{program}", run_name="__main__")
except SystemExit as end:
    assert not end.code
print("imported:", *{heavy} & set(sys.modules))
"""
HEAVY = {"torch", "datasets", "pandas", "duckdb", "ibis", "accelerate", "gradio", "matplotlib"}
INPUTS = {
    "train.py": ["`reviews`, a list of `text`, `images` and `captions`", "recipes/quickstart.yaml\n", "--revision"],
    "predict.py": ['    {"user_id": "u1", "reviews": ["', "--split test --output out", "--revision"],
    "app.py": [
        "    python app.py --model outputs/quickstart\n",
        "whose variables MODEL_ID and MODEL_REVISION name the model",
        "--revision",
    ],
    "benchmarks/build_corpus.py": ["    python benchmarks/build_corpus.py --output", "--photo_size"],
    "benchmarks/demo_seeds.py": ["    python benchmarks/demo_seeds.py --output", "--flags"],
    "benchmarks/inference.py": ["    python benchmarks/inference.py --output", "--dtype {float32,bfloat16,float16}"],
    "benchmarks/train_step.py": ["    python -m benchmarks.train_step --output", "--matmul_precision"],
    "upload.py": ["    python upload.py outputs/quickstart user/model\n", "--space"],
}


@pytest.mark.parametrize("program", INPUTS)
def test_help_shows_the_inputs_and_imports_nothing_that_takes_seconds(program):
    command = [sys.executable, "-c", HELP.format(program=program, heavy=HEAVY)]
    shown = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert all(text in shown for text in INPUTS[program])
    assert shown.endswith("\nimported:\n")


def test_the_objectives_that_need_no_torch_to_be_named_are_all_objectives():
    assert JointTrainingArguments(dataset="x", output_dir="y").objectives == list(OBJECTIVES)
