"""The loopback Hub against the clients that take it for the real one."""

import http.client
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from huggingface_hub import CommitOperationAdd, HfApi
from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError
from huggingface_hub.utils import httpx

from tests.hub_routes import INLINE_LIMIT


@pytest.fixture
def api(hub):
    client = HfApi(hub.endpoint, token=hub.token)
    client.create_repo("user/repo", private=True)
    return client


@pytest.mark.parametrize("kind", ["model", "dataset", "space"])
def test_a_folder_comes_back_as_it_was_pushed(hub, api, tmp_path, kind):
    names = ("README.md", "model.safetensors", "data/train.bin", "empty")
    files = dict(zip(names, (b"# Hello", b"w" * 300_000, b"rows", b""), strict=True))
    for name, content in files.items():
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).write_bytes(content)
    repo_id = api.create_repo("user/folder", repo_type=kind, space_sdk="gradio" if kind == "space" else None).repo_id
    api.upload_folder(repo_id=repo_id, repo_type=kind, folder_path=tmp_path / "in")
    api.upload_file(repo_id=repo_id, repo_type=kind, path_or_fileobj=b"more", path_in_repo="notes/more.txt")
    files["notes/more.txt"] = b"more"
    assert hub.files(repo_id, kind) == files
    assert set(api.list_repo_files(repo_id, repo_type=kind)) == {*files, ".gitattributes"}
    folder = Path(api.snapshot_download(repo_id, repo_type=kind, cache_dir=tmp_path / "all"))
    assert {name: (folder / name).read_bytes() for name in files} == files
    file = api.hf_hub_download(repo_id, "data/train.bin", repo_type=kind, cache_dir=tmp_path / "one")
    assert Path(file).read_bytes() == b"rows"


def test_only_large_files_go_through_lfs_and_once(hub, api, tmp_path):
    (tmp_path / "a.safetensors").write_bytes(b"w")
    (tmp_path / "big.txt").write_bytes(b"b" * (INLINE_LIMIT + 1))
    (tmp_path / "small.txt").write_bytes(b"s")
    first = api.upload_folder(repo_id="user/repo", folder_path=tmp_path).oid
    assert api.upload_folder(repo_id="user/repo", folder_path=tmp_path).oid == first
    entries = {entry.path: entry.lfs is not None for entry in api.list_repo_tree("user/repo")}
    assert entries == {".gitattributes": False, "a.safetensors": True, "big.txt": True, "small.txt": False}
    assert sorted(map(len, hub.large_files.values())) == [1, INLINE_LIMIT + 1]
    assert sum(request.startswith("PUT") for request in hub.requests) == 2


def test_an_old_revision_keeps_its_content(api, tmp_path):
    old = api.upload_file(repo_id="user/repo", path_or_fileobj=b"old", path_in_repo="a.txt").oid
    api.upload_file(repo_id="user/repo", path_or_fileobj=b"new", path_in_repo="a.txt")
    for revision, content in ((old, b"old"), ("main", b"new")):
        file = api.hf_hub_download("user/repo", "a.txt", revision=revision, cache_dir=tmp_path)
        assert Path(file).read_bytes() == content
    with pytest.raises(RevisionNotFoundError):
        api.repo_info("user/repo", revision="nowhere")


def test_files_and_folders_can_be_deleted(hub, api):
    operations = [CommitOperationAdd(path, b"x") for path in ("a.txt", "b.txt", "in/c.txt", "in/d.txt")]
    api.create_commit("user/repo", operations, commit_message="four")
    api.delete_file("a.txt", "user/repo")
    api.delete_folder("in", "user/repo")
    assert hub.files("user/repo") == {"b.txt": b"x"}
    with pytest.raises(EntryNotFoundError):
        api.delete_file("a.txt", "user/repo")


def test_the_tree_is_told_as_on_the_hub(api):
    commit = api.upload_file(repo_id="user/repo", path_or_fileobj=b"abc", path_in_repo="in/deep/c.bin").oid
    assert [entry.path for entry in api.list_repo_tree("user/repo")] == ["in", ".gitattributes"]
    below = api.list_repo_tree("user/repo", "in", recursive=True)
    assert [entry.path for entry in below] == ["in/deep", "in/deep/c.bin"]
    (info,) = api.get_paths_info("user/repo", ["in/deep/c.bin", "absent"])
    assert (info.size, info.lfs.size, info.lfs.sha256[:8]) == (3, 3, "ba7816bf")
    (branch,) = api.list_repo_refs("user/repo").branches
    assert (branch.name, branch.target_commit, api.repo_info("user/repo").sha) == ("main", commit, commit)
    with pytest.raises(EntryNotFoundError):
        list(api.list_repo_tree("user/repo", "absent"))


def test_a_second_creation_and_a_commit_on_an_old_parent_are_refused(api):
    api.create_repo("user/repo", exist_ok=True)
    with pytest.raises(HfHubHTTPError, match="409"):
        api.create_repo("user/repo")
    parent = api.repo_info("user/repo").sha
    api.upload_file(repo_id="user/repo", path_or_fileobj=b"x", path_in_repo="a.txt", parent_commit=parent)
    with pytest.raises(HfHubHTTPError, match="412"):
        api.upload_file(repo_id="user/repo", path_or_fileobj=b"y", path_in_repo="a.txt", parent_commit=parent)


def test_tokens_decide_who_reads_and_writes(hub, api):
    assert api.whoami()["name"] == "user" and [lab["name"] for lab in api.whoami()["orgs"]] == ["lab"]
    assert HfApi(hub.endpoint, token="hf_reader").whoami()["auth"]["accessToken"]["role"] == "read"
    assert api.repo_info("user/repo").private
    for token in (False, "hf_other"):
        with pytest.raises(RepositoryNotFoundError):
            HfApi(hub.endpoint, token=token).repo_info("user/repo")
    with pytest.raises(HfHubHTTPError, match="Invalid user token"):
        HfApi(hub.endpoint, token="hf_wrong").whoami()
    with pytest.raises(HfHubHTTPError, match="401"):
        HfApi(hub.endpoint, token=False).create_repo("user/second")
    for token in ("hf_other", "hf_reader"):
        with pytest.raises(HfHubHTTPError, match="403"):
            HfApi(hub.endpoint, token=token).create_repo("user/second")
    assert api.create_repo("lab/shared", private=True).repo_id == "lab/shared" and api.repo_info("lab/shared").private


def get(hub, path: str, method: str = "GET", **headers: str) -> tuple[int, bytes, dict]:
    with closing(http.client.HTTPConnection("127.0.0.1", hub.port, timeout=10)) as connection:
        connection.request(method, path, headers=headers | {"Authorization": f"Bearer {hub.token}"})
        response = connection.getresponse()
        return response.status, response.read(), dict(response.headers)


def test_resolve_answers_head_and_ranges(hub, api):
    commit = api.upload_file(repo_id="user/repo", path_or_fileobj=b"0123456789", path_in_repo="w.bin").oid
    status, body, headers = get(hub, "/user/repo/resolve/main/w.bin", "HEAD")
    assert (status, body, headers["Content-Length"], headers["X-Linked-Size"]) == (200, b"", "10", "10")
    assert headers["X-Repo-Commit"] == commit and headers["X-Linked-Etag"].startswith('"84d89877')
    status, body, headers = get(hub, "/user/repo/resolve/main/w.bin", Range="bytes=2-4")
    assert (status, body, headers["Content-Range"]) == (206, b"234", "bytes 2-4/10")
    assert get(hub, "/user/repo/resolve/main/w.bin", Range="bytes=7-")[:2] == (206, b"789")
    assert get(hub, "/user/repo/resolve/main/w.bin", Range="bytes=10-")[0] == 416


def test_a_failure_strikes_as_often_as_asked(hub, api):
    hub.fail_next("GET /api/whoami", 429, times=2, headers={"Retry-After": "7"}, body="slow down")
    answers = [get(hub, "/api/whoami-v2") for _ in range(2)]
    assert [(status, body, headers["Retry-After"]) for status, body, headers in answers] == [
        (429, b"slow down", "7")
    ] * 2
    assert api.whoami()["name"] == "user"
    assert hub.requests[1:] == ["GET /api/whoami-v2"] * 3


def test_a_cut_upload_leaves_nothing_and_can_be_repeated(hub, api):
    hub.drop_connection("PUT /lfs-storage", times=1)
    with pytest.raises(httpx.TransportError):
        httpx.put(f"{hub.endpoint}/lfs-storage/{'0' * 64}", content=b"x" * 10**6, trust_env=False)
    assert hub.large_files == {}
    hub.drop_connection("PUT /lfs-storage", times=1)
    api.upload_file(repo_id="user/repo", path_or_fileobj=b"w" * 10**6, path_in_repo="w.bin")  # the client tries again
    assert hub.files("user/repo") == {"w.bin": b"w" * 10**6}


def test_a_cut_download_is_resumed(hub, api, tmp_path):
    content = bytes(range(250)) * 4000
    api.upload_file(repo_id="user/repo", path_or_fileobj=content, path_in_repo="w.bin")
    hub.drop_connection("GET .*/resolve/")
    assert Path(api.hf_hub_download("user/repo", "w.bin", cache_dir=tmp_path)).read_bytes() == content
    assert sum(request.startswith("GET /user/repo/resolve") for request in hub.requests) == 2


def test_a_hub_that_is_down_refuses_and_comes_back_with_its_repositories(hub, api):
    hub.down()
    with pytest.raises(httpx.TransportError):
        api.whoami()  # over the connection that was open
    with pytest.raises(ConnectionRefusedError):
        get(hub, "/api/whoami-v2")
    hub.up()
    assert api.repo_exists("user/repo")


MODEL = """
import torch
from transformers import AutoConfig, AutoModel, T5Config, T5Model
model = T5Model(T5Config(vocab_size=50, d_model=8, d_kv=4, d_ff=16, num_layers=1, num_heads=2))
model.push_to_hub("user/tiny", private=True)
loaded = AutoModel.from_pretrained("user/tiny", trust_remote_code=True)
assert type(loaded) is T5Model and AutoConfig.from_pretrained("user/tiny").d_ff == 16
assert all(torch.equal(weight, loaded.state_dict()[name]) for name, weight in model.state_dict().items())
"""
DATASET = """
from datasets import Dataset, DatasetDict, load_dataset
rows = [{"user": "u1", "stars": 4}, {"user": "u2", "stars": 5}]
splits = DatasetDict(train=Dataset.from_list(rows), test=Dataset.from_list(rows[:1]))
splits.push_to_hub("user/tiny", private=True)
loaded = load_dataset("user/tiny")
assert loaded["train"].to_list() == rows and loaded["test"].to_list() == rows[:1]
assert list(load_dataset("user/tiny", split="train", streaming=True)) == rows
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["model", "dataset"])
def test_a_fresh_process_loads_what_it_pushed(hub, tmp_path, kind):
    command = [sys.executable, "-c", MODEL if kind == "model" else DATASET]
    done = subprocess.run(command, env=hub.environment(tmp_path), capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert any(name.endswith((".safetensors", ".parquet")) for name in hub.files("user/tiny", kind))
    assert hub.repos[kind, "user/tiny"].private
