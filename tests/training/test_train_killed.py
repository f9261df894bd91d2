"""Runs that are killed with SIGKILL at random moments, again and again, end as the run left alone does."""

import json
import multiprocessing
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from systems.presets import train_tokenizer
from tests import ROOT
from tests.tiny_corpus import SCHEMA, write_corpus
from tests.tiny_models import tiny_t5_config, tiny_vit_config
from tests.training.test_train_resume import untimed
from training.checkpoints import list_checkpoints

KILLS = 24
FLAGS = "--batch_size 2 --num_epochs 3 --num_beams 1 --learning_rate 0.01 --save_steps 1 --checkpoints_total_limit 2"


def train_into(log, argv):
    sink = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(sink, 1)
    os.dup2(sink, 2)
    torch.set_num_threads(1)
    import train

    train.main(argv)


def towers(folder):
    """Two towers on the disk; the text tower has dropout, so that random numbers matter at every step."""
    from transformers import T5ForConditionalGeneration, ViTImageProcessorPil, ViTModel

    tokenizer = train_tokenizer(["user likes a place"], SCHEMA, vocab_size=400)
    tokenizer.save_pretrained(folder / "t5")
    T5ForConditionalGeneration(tiny_t5_config(vocab_size=len(tokenizer))).save_pretrained(folder / "t5")
    ViTModel(tiny_vit_config()).save_pretrained(folder / "vit")
    ViTImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(folder / "vit")


def trained(output):
    """All that training leaves, but for times: checkpoints' tensors, metrics and results."""
    files = {}
    for path in list_checkpoints(output):
        for name in ("pytorch_model.bin", "optimizer.bin"):
            files[f"{path.name}/{name}"] = torch.load(path / name, weights_only=True)
    history = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    results = json.loads((output / "all_results.json").read_text()) | {"train_seconds": None}
    return files, untimed(history), results, (output / "model.safetensors").read_bytes()


def equal(one, other):
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(equal(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(equal, one, other))
    return one == other


@pytest.mark.slow
def test_a_run_killed_at_random_moments_ends_bit_for_bit_as_the_run_left_alone(tmp_path):
    towers(tmp_path)
    write_corpus(tmp_path / "corpus", sizes=(10, 4, 4))
    names = {"dataset": "corpus", "text_model": "t5", "vision_model": "vit"}
    argv = FLAGS.split() + [word for flag, name in names.items() for word in (f"--{flag}", str(tmp_path / name))]
    start = multiprocessing.get_context("forkserver")  # processes that have imported everything
    start.set_forkserver_preload(["train", "tests.tiny_models"])  # not conftest, which makes a cache of its own

    def launch(output):
        process = start.Process(target=train_into, args=(f"{output}.log", [*argv, "--output_dir", str(output)]))
        process.start()
        return process

    def finish(output):
        process = launch(output)
        process.join()
        assert process.exitcode == 0, Path(f"{output}.log").read_text()

    argv += ["--resume_from_checkpoint", "auto"]
    finish(tmp_path / "warm")
    started = time.monotonic()
    finish(tmp_path / "whole")
    whole = time.monotonic() - started
    # A process of another kind and with another order of sets.
    command = [sys.executable, ROOT / "train.py", *argv, "--output_dir", tmp_path / "alone"]
    subprocess.run(command, env=os.environ | {"PYTHONHASHSEED": "7"}, check=True, capture_output=True)
    expected = trained(tmp_path / "alone")
    assert equal(trained(tmp_path / "whole"), expected)

    chance, kills, rounds, found = random.Random(0), 0, 0, set()
    while kills < KILLS:
        output, rounds = tmp_path / f"killed{rounds}", rounds + 1
        while True:
            process = launch(output)
            process.join(chance.uniform(0.0, 0.8 * whole) if kills < KILLS else None)
            if process.exitcode is not None:
                break
            process.kill()
            process.join()
            kills += 1
            found.add(tuple(path.name for path in list_checkpoints(output)))
            for path in list_checkpoints(output):  # whole, whenever the kill came
                torch.load(path / "optimizer.bin", weights_only=True)
        assert process.exitcode == 0, Path(f"{output}.log").read_text()
        assert equal(trained(output), expected)
    print(
        f"{kills} kills in {rounds} runs, {whole:.1f} s each; with {len(found)} sets of checkpoints", file=sys.stderr
    )
    assert len(found) >= 4
