"""Pushes of a corpus that fail, are refused or killed: nothing half done loads, and nothing is sent twice."""

import hashlib
import shlex
import shutil
import subprocess
import sys
import threading
from collections import Counter

import pytest
from huggingface_hub import DatasetCard

from dataset_script import corpus_upload
from dataset_script.mmprofile_yelp import build
from dataset_script.provenance import MARKER
from dataset_script.synthesize import synthesize
from tests import ROOT
from tests.hub_repos import Blob, HubError
from tests.hub_routes import HubHandler
from tests.hub_server import Fault

pytestmark = pytest.mark.usefixtures("no_client_retries")

CREATE, COMMIT, LFS = "POST /api/repos/create", "POST /api/datasets/user/corpus/commit", "PUT /lfs-storage"


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Six different shards, that nobody knows to be synthetic."""
    folder = tmp_path_factory.mktemp("made")
    synthesize(folder / "raw", num_users=50, num_businesses=40, image_size=16)
    (folder / "raw" / MARKER).unlink()
    build(folder / "raw", folder / "corpus", config=["default", "full"])
    return folder / "corpus"


def contents(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def sent(hub):
    """How often each large file was sent."""
    return Counter(request for request in hub.requests if request.startswith(LFS))


def push(folder, *flags):
    return corpus_upload.main([str(folder), "user/corpus", *flags])


@pytest.mark.parametrize(
    ("match", "status"),
    [(CREATE, 401), (CREATE, 429), (CREATE, 500), ("/preupload", 401), ("/info/lfs/objects/batch", 500)]
    + [(LFS, 500), (LFS, 429), (LFS, 0), ("/validate-yaml", 502), (COMMIT, 500), (COMMIT, 401), (COMMIT, 0)],
)
def test_a_push_that_fails_leaves_nothing_and_goes_on_by_the_command_that_it_names(hub, built, match, status):
    fault = Fault(match, 1 if status else 3, status, body="<html>a gateway's page</html>")
    hub.faults.append(fault)
    while fault.times:
        with pytest.raises(SystemExit, match=f"Not pushed to user/corpus: (.|\n)*{built} is whole") as end:
            push(built)
        assert not hub.files("user/corpus", "dataset")
    python, module, name, *arguments = str(end.value).splitlines()[-1].split()
    assert (python, module, name) == ("python", "-m", "dataset_script.corpus_upload")
    assert corpus_upload.main(shlex.split(" ".join(arguments))) == 0
    assert hub.files("user/corpus", "dataset") == contents(built) and hub.repos["dataset", "user/corpus"].private
    if match != LFS:
        assert set(sent(hub).values()) == {1} and len(sent(hub)) == 6


def test_shards_that_the_hub_has_are_not_sent_again(hub, built, monkeypatch):
    monkeypatch.setattr(corpus_upload, "TOGETHER", 2)
    refused = hashlib.sha256((built / "data/full/train.parquet").read_bytes()).hexdigest()
    for _ in range(2):
        hub.fail_next(f"{LFS}/{refused}", 503)
        with pytest.raises(SystemExit, match="503"):
            push(built)
        assert not hub.files("user/corpus", "dataset") and len(hub.large_files) >= 4
    push(built)
    assert hub.files("user/corpus", "dataset") == contents(built)
    assert len(sent(hub)) == 6 and sent(hub).pop(f"{LFS}/{refused}") == 3
    assert sum(sent(hub).values()) == 5 + 3


def test_a_corpus_that_is_there_is_not_sent_again(hub, built):
    push(built)
    before = len(hub.requests)
    push(built)
    assert (asked := hub.requests[before:])
    assert not any(request.startswith((LFS, COMMIT)) for request in asked)


def test_somebody_elses_commit_meanwhile_is_kept(hub, built, monkeypatch, tmp_path):
    push(built)
    preupload = HubHandler.preupload

    def meanwhile(handler, repo, revision):
        monkeypatch.setattr(HubHandler, "preupload", preupload)
        repo.commit("main", repo.at("main").files | {"data/late.parquet": Blob(b"late")})
        return preupload(handler, repo, revision)

    monkeypatch.setattr(HubHandler, "preupload", meanwhile)
    folder = shutil.copytree(built, tmp_path / "changed")
    card = DatasetCard.load(folder / "README.md")
    card.text += "\nmore\n"
    card.save(folder / "README.md")
    with pytest.raises(SystemExit, match="412"):
        push(folder)
    assert hub.files("user/corpus", "dataset") == contents(built) | {"data/late.parquet": b"late"}


@pytest.mark.parametrize(
    ("token", "message"),
    [("hf_wrong", "does not know the token"), ("hf_other", "may not write"), ("hf_reader", "may")],
)
def test_a_token_that_is_refused_ends_in_a_sentence(hub, built, monkeypatch, token, message):
    monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(SystemExit, match=message) as end:
        push(built)
    assert str(end.value).startswith("Not pushed to user/corpus: the ") and "Traceback" not in str(end.value)


@pytest.mark.slow
@pytest.mark.parametrize("stored", [0, 2, 5])
def test_a_push_that_is_killed_goes_on_where_it_was(hub, built, tmp_path, monkeypatch, stored):
    store, halfway, killed, again = HubHandler.lfs_put, *(threading.Event() for _ in range(3))

    def put(handler, oid):
        if len(hub.large_files) == stored and not again.is_set():
            halfway.set()
            killed.wait(60)
            raise HubError(500, "nobody is there any more", "")
        return store(handler, oid)

    monkeypatch.setattr(HubHandler, "lfs_put", put)
    command = [sys.executable, "-m", "dataset_script.corpus_upload", str(built), "user/corpus"]
    others = set(threading.enumerate())
    first = subprocess.Popen(command, cwd=ROOT, env=hub.environment(tmp_path), stderr=subprocess.DEVNULL)
    assert halfway.wait(60)
    first.kill()
    assert first.wait() == -9
    killed.set()
    for thread in set(threading.enumerate()) - others:  # what it sent before its end
        thread.join(30)
    assert not hub.files("user/corpus", "dataset")
    had, before = set(hub.large_files), len(hub.requests)
    again.set()
    subprocess.run(command, cwd=ROOT, env=hub.environment(tmp_path), check=True, capture_output=True, timeout=600)
    assert hub.files("user/corpus", "dataset") == contents(built)
    resent = [request.removeprefix(f"{LFS}/") for request in hub.requests[before:] if request.startswith(LFS)]
    assert len(had) == stored and len(resent) == 6 - stored and {*resent} | had == set(hub.large_files)
