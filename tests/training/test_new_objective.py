"""An objective from existing parts is one entry of one table: the documentation's example is added, and trained."""

import json
import os
import re
import shutil
import subprocess
import sys

import pytest

from cli.flags import parse_flags
from mmprofile import OBJECTIVES, View, seen_by
from tests import ROOT
from tests.tiny_corpus import SCHEMA
from tests.training.test_train import SMALL
from training.arguments import JointTrainingArguments
from training.data import load_corpus, training_loader
from training.joint_step import SharedJointStep
from training.model import build_model


def documented_entry() -> str:
    text = "\n".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "docs").glob("extending*.md")))
    (entry,) = re.findall(r'```python\n( +"mask_both": {\n.*?\n +},\n)```', text, re.S)
    return entry


def words(corpus, output):
    flags = SMALL | {"dataset": corpus, "output_dir": output, "max_train_users": 4, "max_eval_users": 2}
    flags["test_conditions"] = "unpaired"
    return [word for name, value in flags.items() for word in (f"--{name}", str(value))] + [
        "--objectives",
        "mask_both",
    ]


@pytest.mark.parametrize("paradigm", ["multimodal", "unimodal", "combined"])
def test_the_documented_entry_makes_an_objective_that_trains_a_step(corpus, tmp_path, monkeypatch, paradigm):
    (name, views), *others = eval("{" + documented_entry() + "}", {"View": View}).items()
    assert name == "mask_both" and not others
    monkeypatch.setitem(OBJECTIVES, name, views)
    arguments = parse_flags(JointTrainingArguments, [*words(corpus, tmp_path), "--paradigm", paradigm])
    split = load_corpus(arguments)["train"]
    model, processor = build_model(arguments, SCHEMA, split)
    joint = SharedJointStep(model, arguments.views, processor.black)
    result = joint(next(iter(training_loader(split, processor, arguments))))
    result.loss.backward()
    assert list(result.losses) == [name] and 0 < result.loss.item() < 20
    sees = seen_by(model.config)
    assert sees == (paradigm != "unimodal", paradigm != "multimodal", True)
    tower = [parameter.grad is not None for parameter in model.vision_model.parameters()]
    assert any(tower) == sees.images


@pytest.mark.slow
def test_the_documented_entry_is_all_that_a_run_needs(corpus, tmp_path):
    tree, output = tmp_path / "tree", tmp_path / "model"
    shutil.copytree(ROOT, tree, ignore=shutil.ignore_patterns(".*", "__pycache__", "outputs", "tests"))
    table = tree / "configuration_mmprofile.py"
    end = re.compile(r"^OBJECTIVES\b[^\n]* = {\n.*?(?=^})", re.S | re.M)
    code, edits = end.subn(lambda found: found[0] + documented_entry(), table.read_text(encoding="utf-8"))
    assert edits == 1
    table.write_text(code, encoding="utf-8")
    command = [sys.executable, "train.py", *words(corpus, output)]
    subprocess.run(command, cwd=tree, env=os.environ | {"OMP_NUM_THREADS": "1"}, check=True, capture_output=True)
    (record,) = map(json.loads, (output / "metrics.jsonl").read_text().splitlines())
    assert record["train_loss_mask_both"] > 0
    assert json.loads((output / "config.json").read_text())["objectives"] == ["mask_both"]
    assert documented_entry() in (output / "configuration_mmprofile.py").read_text(encoding="utf-8")
    results = json.loads((output / "all_results.json").read_text())
    assert "photos of another user" in results["test_f1"]  # it was shown photos, so evaluation shows them too
    # Whoever loads it needs no edit, but has to trust it.
    predict = [sys.executable, "predict.py", "--model", str(output), "--dataset", str(corpus), "--show", "1"]
    subprocess.run([*predict, "--trust_remote_code", "true"], cwd=ROOT, check=True, capture_output=True)
    refused = subprocess.run(predict, cwd=ROOT, capture_output=True, text=True)
    assert refused.returncode == 1 and "configuration_mmprofile.py came with it: --trust_remote" in refused.stderr
