"""Trackers are read back with what their packages read: TensorBoard's event files and trackio's database."""

import json
import logging
import math

import pytest
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.tracking import LOGGER_TYPE_TO_CLASS, GeneralTracker
from accelerate.utils import LoggerType
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.summary.writer import event_file_writer
from trackio.sqlite_storage import SQLiteStorage

from cli.flags import parse_flags
from tests.training.test_train import run
from training import trackers
from training.arguments import JointTrainingArguments
from training.resuming import check_folder, clear_folder

BOTH = ["tensorboard", "trackio"]


@pytest.fixture(autouse=True)
def logs_stay_here(monkeypatch):
    for name in ("TRACKIO_SPACE_ID", "TRACKIO_SERVER_URL", "TRACKIO_STORAGE_MODE"):
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


def begin(output, step=0, names=BOTH):
    AcceleratorState._reset_state()
    accelerator = Accelerator(cpu=True)
    settings = {"learning_rate": 5e-5, "objectives": ["fusion", "text"], "fused": True, "revision": None}
    trackers.start_trackers(accelerator, names, settings, step, output)
    return accelerator


def log_steps(accelerator, first, last, loss=float):
    for step in range(first, last + 1):
        accelerator.log({"loss": loss(step), "step": step}, step=step)


@pytest.mark.parametrize("argv", [[], ["--report_to", "none"]])
def test_without_a_tracker_nothing_is_logged(tmp_path, argv):
    arguments = parse_flags(JointTrainingArguments, ["--dataset", "x", "--output_dir", "y", *argv])
    accelerator = begin(tmp_path, names=arguments.trackers)
    log_steps(accelerator, 1, 1)
    assert accelerator.trackers == [] and not list(tmp_path.iterdir())


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
    check_folder(tmp_path, None, "auto", overwrite=False)  # killed before its first checkpoint
    accelerator = begin(tmp_path)
    log_steps(accelerator, 1, 1)
    accelerator.end_training()
    assert trackio_run(tmp_path) == first
    clear_folder(tmp_path)
    accelerator = begin(tmp_path)
    log_steps(accelerator, 2, 2)
    accelerator.end_training()
    assert trackio_run(tmp_path) != first
    assert tensorboard_scalars(tmp_path) == trackio_scalars(tmp_path) == {"loss": [(2, 2)]}


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
def test_trackers_that_are_not_there_are_refused(corpus, tmp_path, monkeypatch, report_to, there, message):
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
