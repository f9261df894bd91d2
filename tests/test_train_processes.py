"""Two processes train as one: losses and evaluation are those of one with all their users."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from accelerate.commands.config.config_args import load_config_from_file

from tests.tiny_corpus import write_corpus

ROOT = Path(__file__).parent.parent
FLAGS = "--text_model tiny --vision_model tiny --vocab_size 400 --num_epochs 2 --num_beams 1 --learning_rate 0.01"


def free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


def train(corpus, output, launcher, **flags):
    words = [word for name, value in flags.items() for word in (f"--{name}", str(value))]
    command = [*launcher, "train.py", *FLAGS.split(), "--dataset", corpus, "--output_dir", output, *words]
    done = subprocess.run(command, cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count(f"Written to {output}") == 1
    history = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    return history, json.loads((output / "all_results.json").read_text())


@pytest.mark.slow
def test_two_processes_are_one(tmp_path):
    write_corpus(tmp_path / "corpus", sizes=(8, 5, 5))
    launch = [Path(sys.executable).with_name("accelerate"), "launch", "--config_file", "recipes/accelerate_cpu.yaml"]
    launch += ["--main_process_port", str(free_port())]
    one = train(tmp_path / "corpus", tmp_path / "one", [sys.executable], batch_size=4)
    two = train(tmp_path / "corpus", tmp_path / "two", launch, batch_size=2)
    for ours, theirs in zip(one[0], two[0], strict=True):
        assert ours["step"] == theirs["step"]
        for name in (name for name in ours if name.startswith("train_loss")):
            # Adam turns the last digits of a gradient that is all but zero into steps.
            assert ours[name] == pytest.approx(theirs[name], rel=2e-6 if ours["epoch"] == 1 else 1e-4)
        assert ours["dev_f1"] == theirs["dev_f1"]
        # The mean of batches' means: of five users in one batch, or of three and two.
        assert ours["dev_loss"] == pytest.approx(theirs["dev_loss"], rel=5e-3)
    assert one[1]["test_f1"] == two[1]["test_f1"]


@pytest.mark.parametrize("path", sorted((ROOT / "recipes").glob("accelerate_*.yaml")), ids=lambda path: path.stem)
def test_accelerate_reads_the_configurations(path):
    config = load_config_from_file(str(path))
    assert config.num_processes == yaml.safe_load(path.read_text())["num_processes"] >= config.num_machines
