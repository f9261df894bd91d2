"""Runs of train.py with trackers: what these read at the end, of a run left alone and resumed."""

import socket

import pytest
import yaml
from trackio.sqlite_storage import SQLiteStorage

from tests.training.test_trackers import BOTH, READ, logs_stay_here, trackio_run  # noqa: F401
from tests.training.test_train import run
from tests.training.test_train_resume import TIMES, stopped_run
from training import trackers
from training.checkpoints import Checkpoints

FLAGS = {"batch_size": 2, "num_epochs": 2, "save_steps": 2, "log_steps": 1, "report_to": BOTH}


def untimed(scalars):
    timed = (*TIMES, "train_seconds", "train/users_per_second", "train/tokens_per_second")
    return {name: values for name, values in scalars.items() if name not in timed}


def steps(values):
    return [step for step, _ in values]


@pytest.fixture(scope="module")
def alone(corpus, tmp_path_factory):
    """A run's folder, results, metrics and ports, and what its trackers read at its end."""
    output = tmp_path_factory.mktemp("tracked") / "alone"
    bound, bind = [], socket.socket.bind
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "bind", lambda self, address: (bound.append(address), bind(self, address)))
        results, history = run(corpus, output, **FLAGS)
    return output, results, history, bound, {name: read(output) for name, read in READ.items()}


def assert_same(output, expected):
    """The same steps of each value, none twice, and the same values, but for times."""
    for name, read in READ.items():
        again = read(output)
        assert {tag: steps(again[tag]) for tag in again} == {tag: steps(expected[name][tag]) for tag in expected[name]}
        assert untimed(again) == untimed(expected[name])


@pytest.mark.parametrize("name", BOTH)
def test_two_trackers_at_once_have_each_epoch_and_the_test_scores(alone, name):
    _, results, history, bound, reads = alone
    read = reads[name]
    assert not bound  # no server
    for tag in ("train_loss", "train_loss_text", "dev_loss", "learning_rate"):
        assert read[tag] == [(record["step"], pytest.approx(record[tag])) for record in history]
    assert read["dev_f1_stars"] == [(record["step"], pytest.approx(record["dev_f1"]["stars"])) for record in history]
    assert steps(read["train/loss"]) == steps(read["train/grad_norm"]) == list(range(1, 9))
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


def test_what_a_resumed_run_logs_again_stands_once(corpus, alone):
    output, expected = alone[0], alone[-1]
    run(corpus, output, resume_from_checkpoint=output / "checkpoint-6", **FLAGS)
    assert_same(output, expected)
    run(corpus, output, resume_from_checkpoint="auto", **FLAGS)  # the results alone
    assert_same(output, expected)
    assert len(list((output / trackers.LOG_FOLDER / "mmprofile").glob("*/hparams.yml"))) == 1


class Killed(BaseException):
    pass


@pytest.mark.slow
def test_an_evaluation_that_is_done_again_is_logged_once(corpus, alone, tmp_path, monkeypatch):
    def killed(self, state):
        raise Killed

    output, flags = tmp_path / "model", FLAGS | {"resume_from_checkpoint": "auto"}
    assert "checkpoint-4 " in f"{stopped_run(corpus, output, 5, monkeypatch, **flags)} "  # while it is evaluated
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Checkpoints, "save", killed)
        run(corpus, output, **flags)  # evaluates and logs
    run(corpus, output, **flags)
    assert_same(output, alone[-1])
