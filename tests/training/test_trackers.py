"""Trackers are read back with what their packages read: TensorBoard's event files and trackio's database."""

import json
import logging
import math
import multiprocessing
import random
import socket
import time
from pathlib import Path

import pytest
import yaml
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.tracking import LOGGER_TYPE_TO_CLASS, GeneralTracker
from accelerate.utils import LoggerType
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.summary.writer import event_file_writer
from trackio.sqlite_storage import SQLiteStorage

from cli.flags import parse_flags
from tests.training.test_train import SMALL, corpus, run  # noqa: F401
from tests.training.test_train_killed import train_into
from tests.training.test_train_resume import TIMES
from training import trackers
from training.arguments import JointTrainingArguments
from training.checkpoints import list_checkpoints, prepare_folder

BOTH = ["tensorboard", "trackio"]
FLAGS = {"batch_size": 2, "num_epochs": 2, "save_steps": 2, "report_to": BOTH}


@pytest.fixture(autouse=True)
def logs_stay_here(monkeypatch):
    """In the session's HF_HOME, as tests/conftest.py sets it."""
    for name in ("TRACKIO_DIR", "TRACKIO_SPACE_ID", "TRACKIO_SERVER_URL"):
        monkeypatch.delenv(name, raising=False)
    # TensorBoard orders the event files of one second by this number as text: 10 before 9.
    monkeypatch.setattr(event_file_writer, "_global_uid", event_file_writer.AtomicCounter(0))


def tensorboard_scalars(output):
    """Name -> (step, value) in the order of TensorBoard, which has one run of the folder."""
    logs = output / trackers.LOG_FOLDER
    assert [path.name for path in logs.iterdir() if path.is_dir()] == ["mmprofile"]
    read = EventAccumulator(str(logs / "mmprofile"), size_guidance={"scalars": 0}).Reload()
    return {tag: [(e.step, e.value) for e in read.Scalars(tag)] for tag in read.Tags()["scalars"]}


def trackio_run(output):
    identity = json.loads((output / trackers.LOG_FOLDER / trackers.IDENTITY_FILE).read_text())["id"]
    name = f"{output.name}-{identity[:8]}"
    (found,) = [record["id"] for record in SQLiteStorage.get_run_records("mmprofile") if record["name"] == name]
    return found


def trackio_scalars(output):
    scalars = {}
    for row in SQLiteStorage.get_logs("mmprofile", run_id=trackio_run(output)):
        for name, value in row.items():
            if name not in ("step", "timestamp"):
                scalars.setdefault(name, []).append((row["step"], value))
    return scalars


READ = {"tensorboard": tensorboard_scalars, "trackio": trackio_scalars}


def untimed(scalars):
    return {name: values for name, values in scalars.items() if name not in (*TIMES, "train_seconds")}


def steps(values):
    return [step for step, _ in values]


def begin(output, step=0, names=BOTH):
    AcceleratorState._reset_state()
    accelerator = Accelerator(cpu=True)
    settings = {"learning_rate": 5e-5, "objectives": ["fusion", "text"], "fused": True, "revision": None}
    trackers.start_trackers(accelerator, names, settings, step, output)
    return accelerator


def log_steps(accelerator, first, last, loss=float):
    for step in range(first, last + 1):
        accelerator.log({"loss": loss(step), "step": step}, step=step)


@pytest.fixture(scope="module")
def alone(corpus, tmp_path_factory):  # noqa: F811
    """A run's folder, results, metrics and ports, and what its trackers read at its end."""
    output = tmp_path_factory.mktemp("tracked") / "alone"
    bound, bind = [], socket.socket.bind
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "bind", lambda self, address: (bound.append(address), bind(self, address)))
        results, history = run(corpus, output, **FLAGS)
    return output, results, history, bound, {name: read(output) for name, read in READ.items()}


@pytest.mark.parametrize("name", BOTH)
def test_two_trackers_at_once_have_each_epoch_and_the_test_scores(alone, name):
    _, results, history, bound, reads = alone
    read = reads[name]
    assert not bound  # no server
    for tag in ("train_loss", "train_loss_text", "dev_loss", "learning_rate"):
        assert read[tag] == [(record["step"], pytest.approx(record[tag])) for record in history]
    assert read["dev_f1_stars"] == [(record["step"], pytest.approx(record["dev_f1"]["stars"])) for record in history]
    end = history[-1]["step"] + 1
    assert read["test_average_f1"] == [(end, pytest.approx(results["test_average_f1"]))]
    of_row = results["test_f1"]["majority class"]["stars"]
    assert read["test_f1/majority_class/stars"] == [(end, pytest.approx(of_row))]
    assert results["test_average_f1"] > 0 or of_row > 0


def test_trackers_get_the_flags_as_what_they_are(alone):
    (settings,) = (alone[0] / trackers.LOG_FOLDER / "mmprofile").glob("*/hparams.yml")
    in_trackio = SQLiteStorage.get_run_config("mmprofile", run_id=trackio_run(alone[0]))
    assert in_trackio is not None
    for flags in (yaml.safe_load(settings.read_text()), in_trackio):
        assert (flags["batch_size"], flags["learning_rate"], flags["compile"]) == (2, 0.01, False)
        assert flags["max_train_users"] is None
        assert flags["objectives"] == "fusion text mask_image mask_profile"


@pytest.mark.parametrize("argv", [[], ["--report_to", "none"]])
def test_without_a_tracker_nothing_is_logged(tmp_path, argv):
    arguments = parse_flags(JointTrainingArguments, ["--dataset", "x", "--output_dir", "y", *argv])
    accelerator = begin(tmp_path, names=arguments.trackers)
    log_steps(accelerator, 1, 1)
    assert accelerator.trackers == [] and not list(tmp_path.iterdir())


def assert_same(output, expected):
    """The same steps of each value, none twice, and the same values, but for times."""
    for name, read in READ.items():
        again = read(output)
        assert {tag: steps(again[tag]) for tag in again} == {tag: steps(expected[name][tag]) for tag in expected[name]}
        assert untimed(again) == untimed(expected[name])


def test_what_a_resumed_run_logs_again_stands_once(corpus, alone):  # noqa: F811
    output, expected = alone[0], alone[-1]
    run(corpus, output, resume_from_checkpoint=output / "checkpoint-6", **FLAGS)
    assert_same(output, expected)
    run(corpus, output, resume_from_checkpoint="auto", **FLAGS)  # the results alone
    assert_same(output, expected)
    assert len(list((output / trackers.LOG_FOLDER / "mmprofile").glob("*/hparams.yml"))) == 1


@pytest.mark.parametrize("name", BOTH)
def test_steps_after_the_checkpoint_are_taken_back(tmp_path, name):
    log_steps(begin(tmp_path / "killed", names=[name]), 1, 7, loss=lambda step: -step)
    log_steps(begin(tmp_path / "killed", step=3, names=[name]), 4, 5, loss=lambda step: -step)
    accelerator = begin(tmp_path / "killed", names=[name])  # before the first checkpoint
    log_steps(accelerator, 1, 6)
    accelerator = begin(tmp_path / "killed", step=4, names=[name])
    log_steps(accelerator, 5, 8)
    accelerator.end_training()
    assert READ[name](tmp_path / "killed") == {"loss": [(step, step) for step in range(1, 9)]}


def test_a_checkpoint_has_what_was_logged_before_it(tmp_path):
    accelerator = begin(tmp_path / "model")
    log_steps(accelerator, 1, 5)
    accelerator.save_state(tmp_path / "checkpoint")
    for read in READ.values():  # as a kill now would leave it
        assert read(tmp_path / "model") == {"loss": [(step, step) for step in range(1, 6)]}
    accelerator.end_training()


def test_only_a_new_run_has_a_new_identity_and_no_old_events(tmp_path):
    accelerator = begin(tmp_path)
    log_steps(accelerator, 1, 3)
    accelerator.end_training()
    first = trackio_run(tmp_path)
    with pytest.raises(ValueError, match="holds files already"):
        prepare_folder(tmp_path, None, overwrite=False)
    prepare_folder(tmp_path, "auto", overwrite=False)  # killed before its first checkpoint
    accelerator = begin(tmp_path)
    log_steps(accelerator, 1, 1)
    accelerator.end_training()
    assert trackio_run(tmp_path) == first
    prepare_folder(tmp_path, None, overwrite=True)
    accelerator = begin(tmp_path)
    log_steps(accelerator, 2, 2)
    accelerator.end_training()
    assert trackio_run(tmp_path) != first
    assert tensorboard_scalars(tmp_path) == trackio_scalars(tmp_path) == {"loss": [(2, 2)]}


def test_auto_does_not_take_files_of_others_for_its_own(tmp_path):
    (tmp_path / trackers.LOG_FOLDER).mkdir()
    (tmp_path / "thesis.txt").write_text("")
    with pytest.raises(ValueError, match="holds files already"):
        prepare_folder(tmp_path, "auto", overwrite=False)


@pytest.mark.parametrize("name", BOTH)
def test_numbers_that_are_not_finite_are_left_out(tmp_path, name):
    accelerator = begin(tmp_path / "model", names=[name])
    accelerator.log({"loss": math.nan, "norm": math.inf, "pace": 2.0}, step=1)
    accelerator.log({"loss": -math.inf}, step=2)
    accelerator.end_training()
    assert READ[name](tmp_path / "model") == {"pace": [(1, 2)]}


class Notes(GeneralTracker):
    """Notes what it is given; fails in the methods named."""

    name, requires_logging_directory, tracker = "notes", False, None
    given, fails = [], ()

    def __init__(self, run_name, **settings):
        super().__init__()
        self.given.append(settings)

    def start(self):
        self._called("start")

    def log(self, values, step=None, **options):
        self._called("log")

    def finish(self):
        self._called("finish")

    def _called(self, method):
        self.given.append(method)
        if method in self.fails:
            raise OSError(f"no network to {method} over")


@pytest.fixture
def notes(monkeypatch):
    monkeypatch.setattr(Notes, "given", [])
    monkeypatch.setitem(LOGGER_TYPE_TO_CLASS, "notes", Notes)
    monkeypatch.setitem(LOGGER_TYPE_TO_CLASS, "wandb", Notes)
    return Notes


@pytest.mark.parametrize(
    ("fails", "called"),
    [
        (["log", "finish"], ["start", "log", "log", "log", "finish"]),
        (["start"], ["start"]),
    ],
)
def test_a_tracker_that_fails_is_warned_of_once_and_the_others_go_on(
    tmp_path, notes, monkeypatch, caplog, fails, called
):
    monkeypatch.setattr(notes, "fails", fails)
    with caplog.at_level(logging.WARNING, trackers.logger.name):
        accelerator = begin(tmp_path, names=["notes", "tensorboard"])
        log_steps(accelerator, 1, 3)
        accelerator.end_training()
    assert notes.given == [{}, *called]
    (warning,) = [record.getMessage() for record in caplog.records if record.name == trackers.logger.name]
    assert warning.startswith("The tracker notes fails") and warning.endswith(f"no network to {fails[0]} over")
    assert tensorboard_scalars(tmp_path) == {"loss": [(1, 1), (2, 2), (3, 3)]}


def test_a_folder_that_tensorboard_cannot_write_to_ends_no_run(tmp_path, caplog):
    (tmp_path / trackers.LOG_FOLDER).mkdir()
    (tmp_path / trackers.LOG_FOLDER / "mmprofile").write_text("in its place")
    accelerator = begin(tmp_path)
    log_steps(accelerator, 1, 2)
    accelerator.end_training()
    assert trackio_scalars(tmp_path) == {"loss": [(1, 1), (2, 2)]}
    assert "The tracker tensorboard fails" in caplog.text


def test_wandb_resumes_by_the_identity_that_stands_in_the_folder(tmp_path, notes):
    for step in (0, 4):
        begin(tmp_path / "paper", step=step, names=["wandb"])
    first, again = (given for given in notes.given if given != "start")
    assert first == again and first["resume"] == "allow" and len(first["id"]) == 32
    assert first["name"] == f"paper-{first['id'][:8]}"


def test_installed_trackers_can_be_chosen(notes):
    assert trackers.chosen_trackers(["tensorboard", "trackio", "tensorboard"]) == BOTH
    assert set(BOTH) <= set(trackers.chosen_trackers(["all"]))
    assert trackers.chosen_trackers(["notes"]) == ["notes"]  # registered by a package of its own
    assert trackers.chosen_trackers(["none"]) == trackers.chosen_trackers([]) == []


@pytest.mark.parametrize(
    ("report_to", "there", "message"),
    [
        (["paper"], [LoggerType.TENSORBOARD], r"\['none', 'all', .*'tensorboard', .*\], got 'paper'"),
        (["tensorboard", "wandb"], [LoggerType.TENSORBOARD], r"'wandb' is not installed, those of \['tensorboard'\]"),
        (["tensorboard"], [], r"'tensorboard' is not installed"),
        (["all"], [], "report_to all needs the package of one of .*'trackio'"),
        (["none", "tensorboard"], [LoggerType.TENSORBOARD], "none stands alone, got .*'tensorboard'"),
    ],
)
def test_trackers_that_are_not_there_are_refused(corpus, tmp_path, monkeypatch, report_to, there, message):  # noqa: F811
    monkeypatch.setattr(trackers, "get_available_trackers", lambda: there)
    with pytest.raises(ValueError, match=message):
        run(corpus, tmp_path / "model", report_to=report_to)


def test_results_are_flattened_to_scalars():
    results = {
        "test_f1": {"photos of another user": {"favorite_category": 40.5, "average": 41}},
        "test_intervals": {"mmprofile": {"stars": [38.0, 43.5]}},
        "test_calibration": {"stars": {"expected_error": None, "bins": [{"probability": 0.5}, {"accuracy": 0.5}]}},
        "best_epoch": 3,
        "whole": True,
        "note": "text",
    }
    assert trackers.flat_scalars(results) == {
        "test_f1/photos_of_another_user/favorite_category": 40.5,
        "test_f1/photos_of_another_user/average": 41,
        "test_intervals/mmprofile/stars/low": 38.0,
        "test_intervals/mmprofile/stars/high": 43.5,
        "best_epoch": 3,
    }


@pytest.mark.slow
def test_a_run_killed_at_random_moments_reads_as_the_run_left_alone(corpus, alone, tmp_path):  # noqa: F811
    flags = SMALL | FLAGS | {"dataset": corpus, "save_steps": 1, "resume_from_checkpoint": "auto"}
    flags |= {"report_to": " ".join(BOTH)}
    argv = [word for name, value in flags.items() for word in (f"--{name}", *str(value).split())]
    start = multiprocessing.get_context("forkserver")
    start.set_forkserver_preload(["train", "trackio", "torch.utils.tensorboard"])

    def launch(output):
        process = start.Process(target=train_into, args=(f"{output}.log", [*argv, "--output_dir", str(output)]))
        process.start()
        return process

    launch(tmp_path / "warm").join()
    started = time.monotonic()
    launch(tmp_path / "whole").join()
    whole = time.monotonic() - started
    chance, kills, rounds, found = random.Random(0), 0, 0, set()
    while kills < 12:
        output, rounds = tmp_path / f"killed{rounds}", rounds + 1
        while True:
            process = launch(output)
            process.join(chance.uniform(0.0, 0.6 * whole) if kills < 12 else None)
            if process.exitcode is not None:
                break
            process.kill()
            process.join()
            kills += 1
            found.add(tuple(path.name for path in list_checkpoints(output)))
        assert process.exitcode == 0, Path(f"{output}.log").read_text()
        assert_same(output, alone[-1])
    assert len(found) >= 3
