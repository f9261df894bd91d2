"""caption.py stopped, killed and started again, and in two processes: the same corpus as in one go."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from dataset_script import caption
from dataset_script.captions.store import CaptionRun
from tests import ROOT
from tests.tiny_blip2 import captions_of, log_calls, run_caption, save_tiny_blip2, write_photo_corpus

PHOTOS, BATCH, KILLS = 240, 2, 10
SCRIPT = ROOT / "dataset_script" / "caption.py"
# Runs the script with a model that writes down, before it looks at photos, which these are.
PROGRAM = f"""
import runpy, sys, time
sys.path.insert(0, {str(ROOT)!r})
from transformers import Blip2ForConditionalGeneration
from tests.tiny_blip2 import reds
generate, log = Blip2ForConditionalGeneration.generate, sys.argv.pop(1)

def logged(self, pixel_values, **options):
    with open(log, "ab") as file:
        file.write(f"{{reds(pixel_values)}}\\n".encode())
    time.sleep(0.05)
    return generate(self, pixel_values, **options)

Blip2ForConditionalGeneration.generate = logged
runpy.run_path({str(SCRIPT)!r}, run_name="__main__")
"""


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A model, a corpus of 12 photos, and the captions of a run in one go."""
    folder = tmp_path_factory.mktemp("small")
    save_tiny_blip2(folder / "blip2")
    write_photo_corpus(folder / "corpus")
    run_caption(folder / "blip2", folder / "corpus", folder / "whole")
    return folder / "blip2", folder / "corpus", captions_of(folder / "whole")


def interrupt_at(turn: int, function):
    turns = []

    def interrupted(*arguments):
        turns.append(1)
        if len(turns) == turn:
            raise KeyboardInterrupt
        return function(*arguments)

    return interrupted


def test_a_stopped_run_goes_on_where_it_stopped(small, tmp_path, monkeypatch):
    model, corpus, expected_captions = small
    calls = log_calls(monkeypatch)
    for module, name, expected in ((caption.Captioner, "__call__", [5]), (caption, "write_shard", [5, 3])):
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(module, name, interrupt_at(2, getattr(module, name)))
            run_caption(model, corpus, tmp_path / "out")
        assert [len(batch) for batch in calls] == expected and not (tmp_path / "out").exists()
        if name == "__call__":
            (journal,) = tmp_path.glob(".out.captioning/journal/*.jsonl")
            journal.write_bytes(journal.read_bytes()[:-9])  # a kill has cut the fifth line
            calls.clear()
    assert run_caption(model, corpus, tmp_path / "out")["photos_this_time"] == 0
    assert captions_of(tmp_path / "out") == expected_captions and len(calls) == 2


def test_a_corpus_is_replaced_in_place_by_a_run_that_is_killed_at_the_last_moment(small, tmp_path):
    model, corpus, expected_captions = small
    place = shutil.copytree(corpus, tmp_path / "place")
    with pytest.raises(ValueError, match="output must not exist unless --overwrite_output"):
        run_caption(model, place, place)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Path, "rename", interrupt_at(2, Path.rename))
        run_caption(model, place, place, overwrite_output=True)
    assert not place.exists()
    assert run_caption(model, place, place, overwrite_output=True) == {}
    assert captions_of(place) == expected_captions and [path.name for path in tmp_path.iterdir()] == ["place"]


def test_captions_of_another_model_are_not_mixed_in_but_forgotten_if_asked(small, tmp_path, monkeypatch):
    model, corpus, _ = small
    calls = log_calls(monkeypatch)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(caption.Captioner, "__call__", interrupt_at(2, caption.Captioner.__call__))
        run_caption(model, corpus, tmp_path / "out")
    save_tiny_blip2(tmp_path / "other", seed=3)
    with pytest.raises(ValueError, match="holds captions with .*'model': 'blip2'.* not .*'model': 'other'"):
        run_caption(tmp_path / "other", corpus, tmp_path / "out")
    calls.clear()
    run_caption(tmp_path / "other", corpus, tmp_path / "out", overwrite_output=True)
    assert len(sum(calls, [])) == 12


def test_a_second_run_beside_a_living_one_is_refused(small, tmp_path):
    model, corpus, _ = small
    code = "from dataset_script.captions.store import *\n"
    code += "r = CaptionRun(Path({!r})); r.take(); r.take(3); print(); input()"
    command = [sys.executable, "-c", code.format(str(tmp_path / "out"))]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as living:
        living.stdout.readline()
        with pytest.raises(ValueError, match="another process is still at work in"):
            run_caption(model, corpus, tmp_path / "out")
        living.communicate(b"\n")
    run_caption(model, corpus, tmp_path / "out")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("killed")
    save_tiny_blip2(folder / "model")
    write_photo_corpus(folder / "corpus", photos=PHOTOS, users=PHOTOS // 2)
    (folder / "program.py").write_text(PROGRAM)
    return folder


def start(folder: Path, script: list, output: Path, launcher: tuple[str, ...] = ()) -> subprocess.Popen:
    flags = {"model": folder / "model", "dataset": folder / "corpus", "output": output, "batch_size": BATCH}
    flags |= {"dtype": "float32", "num_workers": 1, "num_beams": 2, "max_new_tokens": 6}
    words = [part for name, value in flags.items() for part in (f"--{name}", value)]
    return subprocess.Popen(
        [sys.executable, *launcher, *map(str, [*script, *words])],
        env=os.environ | {"ACCELERATE_USE_CPU": "true"},
        **{"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "start_new_session": True},
        cwd=output.parent,
    )


def finish(process: subprocess.Popen) -> None:
    try:
        text, _ = process.communicate(timeout=280)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    assert process.returncode == 0, text


def logged(log: Path) -> list[str]:
    """The photos of each call, those of a line that a kill has cut left out."""
    lines = log.read_bytes().rpartition(b"\n")[0].splitlines() if log.exists() else []
    return [f"red{red}" for line in lines for red in json.loads(line)]


@pytest.fixture(scope="module")
def large_whole(folder) -> Path:
    launcher = ("-m", "accelerate.commands.launch", "--num_processes", "1", "--num_machines", "1")
    launcher += ("--mixed_precision", "no", "--dynamo_backend", "no")
    finish(start(folder, [SCRIPT], folder / "whole", launcher))
    return folder / "whole"


@pytest.mark.slow
def test_a_run_that_is_killed_ten_times_captions_each_photo_once(folder, large_whole, tmp_path):
    draw, run, calls = random.Random(0), CaptionRun(tmp_path / "out"), []
    for number in range(KILLS):
        finished = run.captions()["photo_id"].to_pylist()
        process, log = (
            start(folder, [folder / "program.py", tmp_path / f"{number}"], run.output),
            tmp_path / f"{number}",
        )
        batches = draw.randint(0, 4)
        while len(logged(log)) <= batches * BATCH:
            assert process.poll() is None, process.communicate()[0]
            time.sleep(0.01)
        time.sleep(draw.uniform(0, 0.2))
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        assert not set(logged(log)) & set(finished)
        calls += logged(log)
    finished = run.captions()["photo_id"].to_pylist()
    assert len(finished) == len(set(finished)) < PHOTOS and not run.output.exists()
    finish(start(folder, [folder / "program.py", tmp_path / "last"], run.output))
    # The last run had all the others, and no run had a photo again but what was in the works when it was killed.
    assert sorted([*finished, *logged(tmp_path / "last")]) == sorted(captions_of(large_whole))
    assert sum(times - 1 for times in Counter(calls).values()) <= KILLS * BATCH
    assert captions_of(run.output) == captions_of(large_whole)


@pytest.mark.slow
def test_two_processes_share_the_photos_and_write_the_same_corpus(folder, large_whole, tmp_path):
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2")
    finish(start(folder, [folder / "program.py", tmp_path / "log"], tmp_path / "out", launcher))
    assert sorted(logged(tmp_path / "log")) == sorted(captions_of(large_whole))
    assert (paths := list(large_whole.rglob("*.*")))
    for path in paths:
        assert path.read_bytes() == (tmp_path / "out" / path.relative_to(large_whole)).read_bytes()
