"""Folders that take each other's place: at once or step by step, killed at any step, nothing is lost."""

import os

import pytest

from files import exchange as module
from files.exchange import exchange, mend_exchange


@pytest.fixture(params=[True, False], ids=["at_once", "step_by_step"])
def folders(request, tmp_path, monkeypatch):
    if not request.param:
        monkeypatch.setattr(module, "_at_once", lambda one, other: False)
    one, other = tmp_path / "one", tmp_path / "room" / "other"
    for folder, text in ((one, "old"), (other, "new")):
        folder.mkdir(parents=True)
        (folder / "file").write_text(text)
    return one, other


def texts(*folders) -> list[str]:
    return [(folder / "file").read_text() for folder in folders]


def test_each_is_the_other_afterwards_and_nothing_else_is_there(folders):
    exchange(*folders)
    assert texts(*folders) == ["new", "old"]
    assert sorted(path.name for path in folders[1].parent.iterdir()) == ["other"]
    mend_exchange(*folders)
    assert texts(*folders) == ["new", "old"]


@pytest.mark.parametrize("step", [0, 1, 2])
def test_what_was_stopped_between_two_steps_is_ended(folders, monkeypatch, step):
    done, rename = [], os.rename

    def stop(source, target):
        if len(done) == step:
            raise KeyboardInterrupt
        done.append(target)
        rename(source, target)

    monkeypatch.setattr(module, "_at_once", lambda one, other: False)
    monkeypatch.setattr(os, "rename", stop)
    with pytest.raises(KeyboardInterrupt):
        exchange(*folders)
    monkeypatch.setattr(os, "rename", rename)
    mend_exchange(*folders)
    assert texts(*folders) == (["new", "old"] if step else ["old", "new"])


def test_a_folder_that_is_not_there_is_an_error(folders, tmp_path):
    with pytest.raises(OSError, match="nowhere"):
        exchange(tmp_path / "nowhere", folders[1])
    assert texts(*folders) == ["old", "new"]
