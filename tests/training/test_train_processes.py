"""Two processes train as one: losses, gradients and evaluation are those of one with all their users."""

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml
from accelerate.commands.config.config_args import load_config_from_file
from safetensors.torch import load_file

from tests import ROOT
from tests.tiny_corpus import write_corpus
from tests.training.test_train_resume import untimed
from tests.training.test_train_speed import assert_gradients_close, first_gradients
from training.checkpoints import list_checkpoints

FLAGS = "--text_model tiny --vision_model tiny --vocab_size 400 --num_epochs 2 --num_beams 1 --learning_rate 0.01"


def free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


def start(corpus, output, launcher, **flags):
    words = [word for name, value in flags.items() for word in (f"--{name}", str(value))]
    command = [*launcher, *FLAGS.split(), "--dataset", corpus, "--output_dir", output, *words]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"}, **pipes)


def train(corpus, output, launcher, **flags):
    process = start(corpus, output, launcher, **flags)
    said, errors = process.communicate()
    assert process.returncode == 0, errors[-3000:]
    assert said.count(f"Written to {output}") == 1
    history = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    return history, json.loads((output / "all_results.json").read_text())


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    """A corpus, and the output, history and results of one process."""
    folder = tmp_path_factory.mktemp("processes")
    write_corpus(folder / "corpus", sizes=(8, 5, 5))
    results = train(folder / "corpus", folder / "one", [sys.executable, "train.py"], batch_size=4, save_steps=1)
    return folder / "corpus", folder / "one", *results


def launcher(config, *program):
    accelerate = Path(sys.executable).with_name("accelerate")
    return [accelerate, "launch", "--config_file", config, "--main_process_port", str(free_port()), *program]


def assert_same_run(history, results, expected_history, expected_results):
    assert history
    for ours, theirs in zip(history, expected_history, strict=True):
        assert ours["step"] == theirs["step"]
        for name in (name for name in ours if name.startswith("train_loss") or name == "dev_loss"):
            # Adam turns the last digits of a gradient that is all but zero into steps: 1.2e-4 on some CPUs.
            first = ours["epoch"] == 1 and name != "dev_loss"
            assert ours[name] == pytest.approx(theirs[name], rel=2e-6 if first else 5e-4)
        assert ours["dev_f1"] == theirs["dev_f1"]
    assert results["test_f1"] == expected_results["test_f1"]
    ours, theirs = results["test_faithfulness"]["photos"], expected_results["test_faithfulness"]["photos"]
    assert (ours["users"], ours["top"]) == (theirs["users"], pytest.approx(theirs["top"], abs=0.01))
    assert ours["random"] == pytest.approx(theirs["random"], abs=0.01)
    for key, expected in expected_results["test_calibration"].items():
        bins = results["test_calibration"][key]["bins"]
        assert sum(cell["values"] for cell in bins) == sum(cell["values"] for cell in expected["bins"])
        assert results["test_calibration"][key]["expected_error"] == pytest.approx(
            expected["expected_error"], abs=0.01
        )


@pytest.mark.slow
@pytest.mark.parametrize("batches", [1, 2])
def test_two_processes_are_one(one, tmp_path, batches):
    corpus, output, history, results = one
    sizes = {"batch_size": 2 // batches, "gradient_accumulation_steps": batches}
    launch = launcher("recipes/accelerate_cpu.yaml", "train.py")
    two = train(corpus, tmp_path / "two", launch, save_steps=1, **sizes)
    assert_gradients_close(first_gradients(output), first_gradients(tmp_path / "two"))
    assert_same_run(*two, history, results)


@pytest.mark.slow
def test_two_processes_evaluate_a_copy_of_a_model_as_one_trained_it(one, tmp_path):
    corpus, output, _, results = one
    launch = launcher("recipes/accelerate_cpu.yaml", "train.py")
    again = train(corpus, tmp_path / "new" / "copy", launch, model=output, do_train=False)[1]
    assert again["test_f1"] == results["test_f1"]
    assert (tmp_path / "new" / "copy" / "model.safetensors").is_file()


@pytest.mark.slow
def test_a_photo_that_one_of_two_processes_cannot_read_ends_both_with_a_checkpoint(tmp_path):
    broken = {(5, 0, 0): {"bytes": b"no photo", "path": None}}
    write_corpus(tmp_path / "corpus", sizes=(8, 4, 4), replaced=broken)
    launch = launcher("recipes/accelerate_cpu.yaml", "train.py")
    flags = {"batch_size": 1, "num_reviews": 4, "num_images": 2, "check_photos": False}
    process = start(tmp_path / "corpus", tmp_path / "two", launch, **flags)
    _, errors = process.communicate(timeout=300)
    said = [line for line in errors.splitlines() if "user 'u5', photo 1 of review 1: the image of 8 bytes" in line]
    (newest,) = list_checkpoints(tmp_path / "two")
    assert process.returncode and any(f"the last good checkpoint is {newest}" in line for line in said), errors
    flags |= {"on_bad_photo": "skip", "resume_from_checkpoint": newest}
    train(tmp_path / "corpus", tmp_path / "two", launch, **flags)


@pytest.mark.slow
def test_two_processes_that_are_stopped_go_on_as_if_left_alone(one, tmp_path):
    corpus, flags = one[0], {"batch_size": 1, "num_epochs": 8, "save_steps": 3}

    def launch():
        return launcher("recipes/accelerate_cpu.yaml", "train.py")

    history, results = train(corpus, tmp_path / "alone", launch(), **flags)
    process = start(corpus, tmp_path / "stopped", launch(), **flags)
    while not list_checkpoints(tmp_path / "stopped"):
        assert process.poll() is None
        time.sleep(0.05)
    process.terminate()  # the launcher passes it on
    errors = process.communicate()[1]
    newest = list_checkpoints(tmp_path / "stopped")[-1]
    assert process.returncode and f"stopped by SIGTERM; go on with --resume_from_checkpoint {newest}" in errors
    assert not (tmp_path / "stopped" / "all_results.json").exists()
    resumed = train(corpus, tmp_path / "stopped", launch(), resume_from_checkpoint="auto", **flags)
    assert untimed(resumed[0]) == untimed(history)
    assert resumed[1] | {"train_seconds": None} == results | {"train_seconds": None}
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("alone", "stopped")]
    assert weights[0] == weights[1]


@pytest.mark.slow
def test_fsdp_trains_saves_and_resumes_as_one_process(one, tmp_path):
    corpus, output, history, results = one
    config = yaml.safe_load(Path("recipes/accelerate_fsdp.yaml").read_text())
    del config["gpu_ids"]
    config |= {"use_cpu": True, "num_processes": 2, "main_process_ip": "127.0.0.1", "mixed_precision": "no"}
    (tmp_path / "fsdp.yaml").write_text(yaml.safe_dump(config))
    flags = {"batch_size": 2, "save_steps": 1}

    def sharded(**options):
        launch = launcher(tmp_path / "fsdp.yaml", "-m", "tests.sharded_on_cpu")
        return train(corpus, tmp_path / "fsdp", launch, **flags, **options)

    alone = sharded()
    assert_same_run(*alone, history, results)
    assert len(list((tmp_path / "fsdp" / "checkpoint-1" / "pytorch_model_fsdp_0").glob("*.distcp"))) == 2
    whole, gathered = (load_file(folder / "model.safetensors") for folder in (output, tmp_path / "fsdp"))
    assert {name: weight.shape for name, weight in gathered.items()} == {n: w.shape for n, w in whole.items()}
    resumed = sharded(resume_from_checkpoint=tmp_path / "fsdp" / "checkpoint-3")
    assert untimed(resumed[0]) == untimed(alone[0])
    again = load_file(tmp_path / "fsdp" / "model.safetensors")
    assert all(torch.equal(again[name], weight) for name, weight in gathered.items())


@pytest.mark.parametrize("path", sorted((ROOT / "recipes").glob("accelerate_*.yaml")), ids=lambda path: path.stem)
def test_accelerate_reads_the_configurations(path):
    config = load_config_from_file(str(path))
    assert config.num_processes == yaml.safe_load(path.read_text())["num_processes"] >= config.num_machines
