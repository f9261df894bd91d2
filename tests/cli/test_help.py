"""--help of every program: there at once, with what the program takes."""

import subprocess
import sys

import pytest

import train
from cli.flags import parse_flags
from tests import ROOT
from training.arguments import JointTrainingArguments

HELP = """
import runpy, sys
program = "{program}"
sys.argv = [program, "--help"]
run = runpy.run_path if program.endswith(".py") else runpy.run_module
try:
    run(program, run_name="__main__", **({{}} if program.endswith(".py") else {{"alter_sys": True}}))
except SystemExit as end:
    assert not end.code
print("imported:", *{heavy} & set(sys.modules))
"""
HEAVY = {"torch", "datasets", "pandas", "duckdb", "ibis", "pyspark", "accelerate", "gradio", "matplotlib"}
INPUTS = {
    "train.py": [
        "`reviews`, a list of `text`, `images` and `captions`",
        "recipes/quickstart.yaml\n",
        "--model_revision",
    ],
    "predict.py": [
        '    {"user_id": "u1", "reviews": ["',
        "--split test --output out",
        "--model_revision",
        "  recipe  ",
    ],
    "score.py": [
        '    {"user_id": "u1", "profile": {"stars": "4", "favorite_category": ["Pizza", "Coffee & Tea"], ...}}\n',
        "Siddiqi, Credit Risk Scorecards, 2006",
        "--against",
        "  recipe  ",
    ],
    "app.py": [
        "    python app.py --model outputs/quickstart\n",
        "whose variables MODEL_ID and MODEL_REVISION name the model",
        "--revision",
    ],
    "benchmarks/build_corpus.py": ["    python benchmarks/build_corpus.py --output", "--photo_size"],
    "benchmarks/demo_seeds.py": ["    python benchmarks/demo_seeds.py --output", "--flags"],
    "benchmarks/inference.py": ["    python benchmarks/inference.py --output", "--dtype {float32,bfloat16,float16}"],
    "benchmarks/train_step.py": ["    python -m benchmarks.train_step --output", "--matmul_precision"],
    "prediction.flat": ["    python -m prediction.flat outputs/test\n", "profile.favorite_category.Pizza", "folder"],
    "upload.py": ["    python upload.py outputs/quickstart user/model\n", "--space"],
    "dataset_script.mmprofile_yelp": [
        '    *review.json     {"review_id": "r1", "user_id": "u1", "business_id": "b1", "stars": 4.0,',
        "photos/p1.jpg",
        "--max_images_per_review",
    ],
    "dataset_script.caption": [
        "`photo_ids`, `images` (each `bytes`), `photo_captions`",
        "--revision",
        "--no_repeat_ngram_size",
        "  recipe  ",
    ],
    "dataset_script.synthesize": [
        "python -m dataset_script.synthesize --output data/raw --users 2000",
        "--image_size",
    ],
    "dataset_script.corpus_upload": ["data/CONFIGURATION/SPLIT*.parquet", "--private"],
}


@pytest.mark.parametrize("program", INPUTS)
def test_help_shows_the_inputs_and_imports_nothing_that_takes_seconds(program):
    command = [sys.executable, "-c", HELP.format(program=program, heavy=HEAVY)]
    shown = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert all(text in shown for text in INPUTS[program])
    assert shown.endswith("\nimported:\n")


def test_help_names_every_flag(capsys):
    with pytest.raises(SystemExit):
        parse_flags(JointTrainingArguments, ["--help"], train.__doc__)
    shown = capsys.readouterr().out
    assert [name for name in JointTrainingArguments.__dataclass_fields__ if f"--{name}" not in shown] == []
