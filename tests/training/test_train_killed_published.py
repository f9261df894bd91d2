"""A run with trackers, pushes to a Hub and pictures is at its end as if it had never been killed."""

import json
import os
import random
import re
import subprocess
import sys
import time
from contextlib import suppress

import pytest
from PIL import Image

from tests import ROOT
from tests.training.test_trackers import BOTH, READ
from tests.training.test_train import SMALL
from tests.training.test_train_resume import untimed
from tests.training.test_train_trackers import FLAGS
from tests.training.test_train_trackers import untimed as untimed_scalars
from training.checkpoints import list_checkpoints

KILLS = 20
PUSHED = {"push_to_hub": True, "hub_strategy": "checkpoint", "resume_from_checkpoint": "auto"}


class Runs:
    """Processes of train.py with one corpus, each output pushed to a repository of its name."""

    def __init__(self, corpus, folder, hub):
        self.corpus, self.folder = corpus, folder
        self.environment = hub.environment(folder / "home")

    def start(self, output):
        flags = SMALL | FLAGS | PUSHED | {"dataset": self.corpus, "output_dir": output}
        flags |= {"hub_model_id": f"user/{output.name}", "report_to": " ".join(BOTH)}
        words = [word for name, value in flags.items() for word in (f"--{name}", *str(value).split())]
        with open(f"{output}.log", "ab") as log:
            command = [sys.executable, ROOT / "train.py", *words]
            return subprocess.Popen(command, cwd=self.folder, env=self.environment, stdout=log, stderr=log)


def left(output):
    """What a run has left, but for times: its files' names, weights, metrics, results and card."""
    names = {path.relative_to(output).as_posix() for path in output.rglob("*") if "logs" not in path.parts}
    history = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    results = json.loads((output / "all_results.json").read_text()) | {"train_seconds": None}
    card = re.sub(r"[\d:.]+ \(h:mm:ss\)|[\d.]+ users/s", "", (output / "README.md").read_text())
    return names, (output / "model.safetensors").read_bytes(), untimed(history), results, card.replace(output.name, "")


def names_in(output):
    """What the folder shows, but for trackers, who write at every start; `os.walk` passes over what has just gone."""
    found = set()
    for folder, folders, files in os.walk(output):
        folders[:] = [name for name in folders if name != "logs" and not name.startswith(".")]
        found.update(os.path.join(folder, name) for name in files)
    return found


def killed(process, output, news, delay):
    """Whether a process could be killed so many seconds after so many looks that found a new file, before its end."""
    known = names_in(output)
    while news and process.poll() is None:
        time.sleep(0.01)
        if not (found := names_in(output)) <= known:
            known, news = known | found, news - 1
    with suppress(subprocess.TimeoutExpired):
        process.wait(delay)
        return False
    process.kill()
    process.wait()
    return True


def scalars(output):
    return {name: untimed_scalars(read(output)) for name, read in READ.items()}


def assert_pushed(hub, output):
    """The Hub has the folder as it is, and its newest checkpoint."""
    newest = list_checkpoints(output)[-1]
    files = {p.relative_to(output): p for p in output.rglob("*") if p.is_file() and not p.match("*checkpoint-*/*")}
    expected = {path.as_posix(): file.read_bytes() for path, file in files.items()}
    expected |= {f"last-checkpoint/{path.name}": path.read_bytes() for path in newest.iterdir() if path.is_file()}
    assert hub.files(f"user/{output.name}") == expected


@pytest.mark.slow
def test_folder_hub_and_tracker_are_as_if_the_run_had_never_been_killed(corpus, tmp_path, hub):
    runs, chance = Runs(corpus, tmp_path, hub), random.Random(0)
    assert runs.start(tmp_path / "unkilled").wait() == 0, (tmp_path / "unkilled.log").read_text()
    expected, read = left(tmp_path / "unkilled"), scalars(tmp_path / "unkilled")
    assert all(len(read[name]["train/loss"]) == 8 and "test_average_f1" in read[name] for name in BOTH)
    assert_pushed(hub, tmp_path / "unkilled")

    kills, rounds, found = 0, 0, set()
    while kills < KILLS:
        output, rounds = tmp_path / f"killed{rounds}", rounds + 1
        while True:
            process = runs.start(output)
            # By what the folder shows, not by the clock: how long the imports take is another share of each machine.
            if kills == KILLS or not killed(process, output, chance.randint(1, 5), chance.uniform(0, 0.5)):
                break
            kills += 1
            found.add(frozenset(names_in(output)))
        assert process.wait() == 0, (tmp_path / f"{output.name}.log").read_text()
        assert left(output) == expected
        assert scalars(output) == read
        assert_pushed(hub, output)
        for name in ("curves", "confusion", "calibration"):
            assert min(Image.open(output / f"{name}.png").size) > 100
    print(f"{kills} kills in {rounds} runs, at {len(found)} places", file=sys.stderr)
    assert len(found) >= 4
