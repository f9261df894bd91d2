"""Files stand whole or not at all, and an output folder is one run's."""

import json
import math
import os
import subprocess
import sys
from contextlib import contextmanager

import pytest

from files.output_files import LOCK, append_json, only_run, read_json, replacing, write_json
from tests import ROOT


def test_records_are_one_json_line_each(tmp_path):
    append_json(tmp_path / "metrics.jsonl", {"epoch": 1, "dev_f1": {"average": 50.5}})
    append_json(tmp_path / "metrics.jsonl", {"epoch": 2})
    assert (tmp_path / "metrics.jsonl").read_text() == '{"epoch": 1, "dev_f1": {"average": 50.5}}\n{"epoch": 2}\n'


def test_a_record_is_written_out_before_it_is_synced_to_the_disk(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(os, "fsync", lambda _: synced.append((tmp_path / "m.jsonl").read_text()))
    append_json(tmp_path / "m.jsonl", {"epoch": 1})
    assert synced == ['{"epoch": 1}\n']


def test_numbers_that_json_lacks_become_null(tmp_path):
    data = {"loss": math.nan, "best": [-math.inf, 1.5]}
    append_json(tmp_path / "m.jsonl", data)
    write_json(tmp_path / "m.json", data)
    for name in ("m.jsonl", "m.json"):
        assert json.loads((tmp_path / name).read_text()) == {"loss": None, "best": [None, 1.5]}


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    write_json(tmp_path / "results.json", {"score": 1})
    with pytest.raises(OSError, match="disk full"), replacing(tmp_path / "results.json") as temporary:
        temporary.write_text('{"sco')
        raise OSError("disk full")
    assert json.loads((tmp_path / "results.json").read_text()) == {"score": 1}
    assert os.listdir(tmp_path) == ["results.json"]


@pytest.mark.parametrize(
    ("text", "message"),
    [("{", "is not JSON"), ("[" * 100_000, "is not JSON"), ("[1]", "must hold an object, got list")],
)
def test_a_file_that_holds_no_object_is_named(tmp_path, text, message):
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(ValueError, match=f"run.json {message}"):
        read_json(tmp_path / "run.json")


def elsewhere(folder, then="pass"):
    """A process that tries to hold the folder, says whether it does, and does what follows."""
    program = f"""
import os, sys, time
from files.output_files import only_run
try:
    with only_run({str(folder)!r}):
        print("held", flush=True)
        {then}
except ValueError as error:
    print(error, flush=True)
"""
    return subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, text=True)


@contextmanager
def held(folder):
    """In its block another process holds the folder."""
    process = elsewhere(folder, "time.sleep(600)")
    assert process.stdout.readline() == "held\n"
    try:
        yield
    finally:
        process.kill()
        process.communicate()


def test_two_runs_do_not_share_a_folder(tmp_path):
    with only_run(tmp_path / "out"):
        (tmp_path / "out" / "results.json").touch()
        said, _ = elsewhere(tmp_path / "out").communicate()
        assert said.startswith(f"another run is at work in {tmp_path / 'out'}; wait for its end")
        assert (tmp_path / "out" / LOCK).exists()
    assert os.listdir(tmp_path / "out") == ["results.json"]
    assert elsewhere(tmp_path / "out").communicate()[0] == "held\n"


def test_a_killed_run_holds_nothing_though_its_children_live(tmp_path):
    with elsewhere(tmp_path, "os.fork() and time.sleep(60) or time.sleep(2)") as process:
        assert process.stdout.readline() == "held\n"
        process.kill()
    with only_run(tmp_path):
        pass
    assert os.listdir(tmp_path) == []


def test_what_a_killed_run_left_unfinished_is_removed(tmp_path):
    for name in (".unfinished-checkpoint-3", ".unfinished", "checkpoint-2"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "half").touch()
    (tmp_path / ".unfinished-curves.png").touch()
    with only_run(tmp_path):
        assert sorted(os.listdir(tmp_path)) == [LOCK, "checkpoint-2"]
    assert os.listdir(tmp_path) == ["checkpoint-2"]


def test_a_run_that_is_refused_leaves_no_folder(tmp_path):
    with pytest.raises(ValueError, match="no such checkpoint"), only_run(tmp_path / "deep" / "new"):
        raise ValueError("no such checkpoint")
    assert os.listdir(tmp_path) == []
    (tmp_path / "deep").mkdir()
    with only_run(tmp_path / "deep" / "new"):
        pass
    assert os.listdir(tmp_path) == ["deep"]  # which was there


def test_without_locks_a_run_goes_on(tmp_path, monkeypatch):
    def no_locks(*_):
        raise OSError(37, "No locks available")

    monkeypatch.setattr("fcntl.lockf", no_locks)
    with only_run(tmp_path):
        pass
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("name", ["file", "file/below"])
def test_a_file_is_no_output_folder(tmp_path, name):
    (tmp_path / "file").write_text("kept")
    with pytest.raises(ValueError, match=f"folder that can be written, got .*{name}: "), only_run(tmp_path / name):
        pass
    assert (tmp_path / "file").read_text() == "kept"
