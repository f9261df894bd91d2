"""The uploader against the loopback Hub, with every kind of failure."""

import os
import shlex
import subprocess
import sys
import time
from pathlib import Path

import pytest

from publishing import hub_upload
from publishing.hub_upload import STAGING, HubUploader

CREATE, COMMIT, LFS = "POST /api/repos/create", "POST /api/models/user/run/commit/main", "PUT /lfs-storage"


@pytest.fixture
def hub(hub, no_client_retries, monkeypatch):
    """A failure reaches the uploader at once."""
    monkeypatch.setattr(hub_upload, "FIRST_WAIT", 0.02)
    return hub


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "out" / ".unfinished").mkdir(parents=True)
    return tmp_path / "out"


def save(folder: Path, step: int) -> dict[str, bytes]:
    """Writes what a trainer does, whole files moved in and a growing log; returns what is to be pushed."""
    files = {"model.safetensors": b"%06d" % step * 10_000, "config.json": b"%d" % step, "README.md": b"# %d" % step}
    for name, content in files.items():
        (folder / ".unfinished" / name).write_bytes(content)
        os.replace(folder / ".unfinished" / name, folder / name)
    (folder / ".unfinished" / "half.safetensors").write_bytes(b"half")
    (folder / "metrics.tmp").write_bytes(b"half")
    (folder / f"checkpoint-{step}").mkdir()
    (folder / f"checkpoint-{step}" / "optimizer.bin").write_bytes(b"o%d" % step)
    with (folder / "metrics.jsonl").open("ab") as log:
        log.write(b"%d\n" % step)
    return files | {"metrics.jsonl": (folder / "metrics.jsonl").read_bytes()}


def wait_for(condition) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline, "did not come to pass"
        time.sleep(0.01)


@pytest.mark.parametrize(("strategy", "commits"), [("end", 1), ("every_save", 2), ("checkpoint", 2)])
def test_the_strategy_says_what_is_pushed_and_when(hub, folder, strategy, commits):
    (folder / STAGING / "1").mkdir(parents=True)  # of a killed run
    uploader = HubUploader("run", folder, hub_private_repo=True, hub_strategy=strategy)
    for step in (1, 2):
        expected = save(folder, step)
        uploader.on_save(step, folder / f"checkpoint-{step}")
        wait_for(lambda: uploader._pushed == uploader._requested)
    result = uploader.finish()
    assert result == (f"{hub.endpoint}/user/run", None, None) and str(result) == f"Pushed to {hub.endpoint}/user/run"
    assert hub.files("user/run") == expected | (
        {"last-checkpoint/optimizer.bin": b"o2"} if strategy == "checkpoint" else {}
    )
    assert hub.requests.count(COMMIT) == commits and hub.repos["model", "user/run"].private
    assert not (folder / STAGING).exists()


def test_a_push_takes_away_what_an_earlier_run_has_left_and_this_one_has_not_written_yet(hub, folder):
    uploader = HubUploader("user/run", folder)
    save(folder, 1)
    (folder / "adapter").mkdir()
    for name in ("all_results.json", "curves.png", "adapter/adapter_model.safetensors", "notes.txt"):
        (folder / name).write_bytes(b"old")
    uploader.finish()
    for name in ("README.md", "all_results.json", "curves.png", "adapter/adapter_model.safetensors", "notes.txt"):
        (folder / name).unlink()
    HubUploader("user/run", folder).finish()
    assert sorted(hub.files("user/run")) == ["config.json", "metrics.jsonl", "model.safetensors", "notes.txt"]


def test_wrong_arguments_are_refused(folder):
    with pytest.raises(ValueError, match=r"'end', 'every_save', 'checkpoint'.*'always'"):
        HubUploader("user/run", folder, hub_strategy="always")
    with pytest.raises(ValueError, match="user/run/more"):
        HubUploader("user/run/more", folder)


@pytest.mark.parametrize(("failures", "steps"), [(0, [b"1", b"3"]), (1, [b"3"])])
def test_a_push_is_of_its_save_and_the_newest_takes_a_waiting_or_failed_ones_place(hub, folder, failures, steps):
    hub.fail_next(CREATE, 500, times=failures)
    uploader = HubUploader("user/run", folder, hub_strategy="every_save")
    with hub.lock:  # the Hub hangs
        for step in (1, 2, 3):
            expected, started = save(folder, step), time.monotonic()
            uploader.on_save(step)
            assert time.monotonic() - started < 5  # the Hub's client would wait for longer
            wait_for(lambda step=step: uploader._waiting is None or step > 1)  # the first push is under way
        assert (folder / "model.safetensors").stat().st_nlink == 2  # large files are not copied
        save(folder, 4)
    wait_for(lambda: hub.files("user/run") == expected)
    commits = [commit.files for commit in hub.repos["model", "user/run"].commits.values()]
    assert [files["config.json"].content for files in commits if len(files) > 1] == steps
    uploader.finish()


@pytest.mark.parametrize(
    ("match", "fault"),
    [(CREATE, 500), (CREATE, 429), ("/validate-yaml", 502), ("/lfs/objects/batch", 504)]
    + [(LFS, 500), (LFS, "cut"), (COMMIT, 503), (COMMIT, 412), (COMMIT, "cut")],
)
def test_a_passing_failure_is_told_once_and_tried_again(hub, folder, caplog, match, fault):
    if fault == "cut":
        hub.drop_connection(match, times=3)
    else:
        hub.fail_next(match, fault, times=3, body="<html>A gateway's page</html>")
    uploader = HubUploader("user/run", folder, hub_strategy="every_save")
    expected = save(folder, 1)
    uploader.on_save(1)
    wait_for(lambda: hub.files("user/run") == expected)
    assert len(caplog.messages) <= (2 if fault == "cut" else 1)  # a cut is seen in writing or in reading
    reason = {"cut": "Error", 502: "JSONDecodeError"}.get(fault, str(fault))
    assert "is tried again" in caplog.messages[0] and reason in caplog.messages[0] and uploader.finish().url


def test_retry_after_is_waited_for_also_by_a_newer_save_and_the_end(hub, folder):
    hub.fail_next(CREATE, 429, headers={"Retry-After": "1"})
    uploader = HubUploader("user/run", folder, hub_strategy="every_save")
    save(folder, 1)
    started = time.monotonic()
    uploader.on_save(1)
    wait_for(lambda: hub.requests.count(CREATE) >= 1)
    expected = save(folder, 2)
    uploader.on_save(2)
    assert uploader.finish().url and hub.files("user/run") == expected
    assert time.monotonic() - started > 0.9


def test_a_wait_beyond_the_end_is_not_begun(hub, folder):
    hub.fail_next(CREATE, 429, headers={"ratelimit": '"api";r=0;t=60'})
    started = time.monotonic()
    assert "429" in HubUploader("user/run", folder).finish(timeout=20).reason
    assert time.monotonic() - started < 10


@pytest.mark.parametrize("status", [401, 403])
def test_a_refusal_is_told_once_and_tried_again_at_the_next_save_only(hub, folder, caplog, status):
    hub.fail_next(CREATE, status, times=2)
    uploader = HubUploader("user/run", folder, hub_strategy="every_save")
    for step in (1, 2):
        save(folder, step)
        uploader.on_save(step)
        wait_for(lambda step=step: uploader._failures == step)
    time.sleep(0.2)
    (warning,) = caplog.messages
    assert (
        str(status) in warning
        and "not tried again before the next save" in warning
        and hub.requests.count(CREATE) == 2
    )
    expected = save(folder, 3)
    assert uploader.finish().url and hub.files("user/run") == expected


def test_a_hub_that_is_down_in_training_and_up_at_the_end_gets_all(hub, folder, caplog):
    hub.down()
    uploader = HubUploader("user/run", folder, hub_strategy="every_save")
    for step in (1, 2, 3):
        expected = save(folder, step)
        uploader.on_save(step)
        time.sleep(0.1)
    wait_for(lambda: caplog.messages)
    (warning,) = caplog.messages
    assert "ConnectError" in warning
    hub.up()
    assert uploader.finish().url and hub.files("user/run") == expected


def test_a_hub_that_stays_down_leaves_the_command_that_uploads_later(hub, folder, tmp_path):
    hub.down()
    expected, started = save(folder, 1), time.monotonic()
    result = HubUploader("user/run", folder, hub_private_repo=True).finish(timeout=60)
    assert time.monotonic() - started < 30
    assert result.url is None and "ConnectError" in result.reason and result.command in str(result)
    program, *arguments = shlex.split(result.command)
    assert [program, *arguments[:5]] == ["hf", "upload", "user/run", str(folder), ".", "--private"]
    hub.up()
    command = [Path(sys.executable).with_name(program), *arguments]
    subprocess.run(command, env=hub.environment(tmp_path / "home"), check=True, timeout=600, capture_output=True)
    assert hub.files("user/run") == expected and hub.repos["model", "user/run"].private


def test_a_hub_that_hangs_does_not_hold_up_the_end(hub, folder):
    uploader = HubUploader("user/run", folder)
    with hub.lock:
        started = time.monotonic()
        result = uploader.finish(timeout=0.5)
        assert time.monotonic() - started < 8  # the client gives up after 10
    assert result.reason == "not done within 0.5 seconds" and result.command.startswith("hf upload user/run")
    wait_for(lambda: not uploader._thread.is_alive())
    assert not (folder / STAGING).exists()


def test_a_full_disk_costs_a_push_and_no_more(hub, folder, caplog, monkeypatch):
    uploader, expected = HubUploader("user/run", folder, hub_strategy="every_save"), save(folder, 1)
    with monkeypatch.context() as broken:
        broken.setattr("publishing.hub_upload.shutil.copyfile", lambda *paths: Path("/dev/full").write_bytes(b"x"))
        uploader.on_save(1)
    assert "No space left" in caplog.messages[0] and hub.requests == []
    assert uploader.finish().url and hub.files("user/run") == expected


def test_a_failure_of_xet_is_one_like_others(hub, folder, monkeypatch, caplog):
    monkeypatch.setattr(hub_upload, "FINAL_TRIES", 2)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", False)  # the loopback Hub has none
    save(folder, 1)
    result = HubUploader("user/run", folder).finish()
    assert "xet-write-token" in result.reason and result.command and len(caplog.messages) == 1


def test_no_commit_mixes_saves_whatever_fails(hub, folder):
    uploader = HubUploader("user/run", folder, hub_strategy="every_save")
    for step in range(1, 31):
        expected = save(folder, step)
        uploader.on_save(step)
        hub.faults.clear()
        hub.fail_next((CREATE, COMMIT, LFS)[step % 3], 500)
        hub.drop_connection((LFS, COMMIT)[step % 2])
        time.sleep(0.02)
    assert uploader.finish().url and hub.files("user/run") == expected
    commits = [commit.files for commit in hub.repos["model", "user/run"].commits.values() if len(commit.files) > 1]
    assert commits
    for files in commits:
        step = int(files["config.json"].content)
        assert files["model.safetensors"].content == b"%06d" % step * 10_000 and len(files) == 5
        assert files["metrics.jsonl"].content.endswith(b"%d\n" % step)
