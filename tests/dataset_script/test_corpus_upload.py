"""A built corpus on the loopback Hub: it loads as from its folder, and who sees it is what was asked for."""

import json
import shutil
import subprocess
import sys

import pytest
from huggingface_hub import DatasetCard

from dataset_script import corpus_upload
from dataset_script.mmprofile_yelp import build
from tests.raw_corpus import hand_written

COMMIT = "POST /api/datasets/user/corpus/commit/main"


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    return hand_written().write(tmp_path_factory.mktemp("hand") / "raw")


@pytest.fixture(scope="module")
def built(raw, tmp_path_factory):
    output = tmp_path_factory.mktemp("built") / "corpus"
    build(raw, output, config=["default", "full"])
    return output


@pytest.fixture
def synthetic(built, tmp_path):
    folder = shutil.copytree(built, tmp_path / "synthetic")
    card = DatasetCard.load(folder / "README.md")
    card.data.tags.append("synthetic")
    card.save(folder / "README.md")
    return folder


def contents(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def push(folder, name="user/corpus", *flags):
    return corpus_upload.main([str(folder), name, *flags])


def is_private(hub, name="user/corpus"):
    return hub.repos["dataset", name].private


LOADED = """
import json, sys
from datasets import load_dataset
folder, repo = sys.argv[1:]
found = {}
for config in ("default", "full"):
    ours, theirs = load_dataset(folder, config), load_dataset(repo, config)
    streams = load_dataset(repo, config, streaming=True)
    assert list(ours) == list(theirs) == list(streams) == ["train", "validation", "test"]
    for split in ours:
        rows = ours[split].with_format("arrow")[:].to_pylist()
        assert rows == theirs[split].with_format("arrow")[:].to_pylist()
        assert list(ours[split]) == list(streams[split])  # photos by their pixels
        assert ours[split].features == theirs[split].features == streams[split].features
    found[config] = [len(split) for split in ours.values()]
assert [len(split) for split in load_dataset(repo).values()] == found["default"]
print(json.dumps(found))
"""


def test_both_configurations_load_from_the_hub_as_from_the_folder_at_once_and_streamed(hub, built, tmp_path, capsys):
    assert push(built) == 0
    assert capsys.readouterr().out == f"Pushed to {hub.endpoint}/datasets/user/corpus (private)\n"
    assert hub.files("user/corpus", "dataset") == contents(built) and hub.requests.count(COMMIT) == 1
    command = [sys.executable, "-c", LOADED, str(built), "user/corpus"]
    done = subprocess.run(command, env=hub.environment(tmp_path), capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == {"default": [6, 1, 1], "full": [6, 1, 1]}


@pytest.mark.parametrize(
    ("kind", "flags", "private"),
    [
        ("built", [], True),
        ("built", ["--private"], True),
        ("built", ["--no-private"], False),
        ("synthetic", [], False),
        ("synthetic", ["--private"], True),
        ("synthetic", ["--no-private"], False),
    ],
)
def test_a_corpus_is_private_unless_synthetic_or_told_otherwise(hub, request, capsys, kind, flags, private):
    push(request.getfixturevalue(kind), "user/corpus", *flags)
    assert is_private(hub) == private
    assert f"({'private' if private else 'public'})" in capsys.readouterr().out


@pytest.mark.parametrize("flags", [[], ["--no-private"]])
def test_a_private_repository_stays_private(hub, synthetic, flags):
    corpus_upload.HfApi().create_repo("user/corpus", repo_type="dataset", private=True)
    push(synthetic, "user/corpus", *flags)
    assert is_private(hub) and "README.md" in hub.files("user/corpus", "dataset")


def test_a_public_repository_gets_no_corpus_that_shall_be_private(hub, built):
    corpus_upload.HfApi().create_repo("user/corpus", repo_type="dataset", private=False)
    with pytest.raises(SystemExit, match=r"user/corpus is public.*--no-private(.|\n)*dataset_script.corpus_upload"):
        push(built)
    assert not hub.files("user/corpus", "dataset") and not hub.large_files
    push(built, "user/corpus", "--no-private")
    assert hub.files("user/corpus", "dataset") == contents(built)


def test_a_repository_goes_from_one_corpus_to_the_next_in_one_commit(hub, raw, built, tmp_path):
    api = corpus_upload.HfApi()
    push(built)
    api.upload_file(path_or_fileobj=b"mine", path_in_repo="NOTES.md", repo_id="user/corpus", repo_type="dataset")
    build(raw, tmp_path / "next", config="full", max_reviews=4)
    hub.fail_next(COMMIT, 500)
    with pytest.raises(SystemExit):
        push(tmp_path / "next")
    assert hub.files("user/corpus", "dataset") == contents(built) | {"NOTES.md": b"mine"}
    push(tmp_path / "next")
    assert hub.files("user/corpus", "dataset") == contents(tmp_path / "next") | {"NOTES.md": b"mine"}


def test_hidden_files_are_not_sent(hub, built, tmp_path):
    folder = shutil.copytree(built, tmp_path / "corpus")
    for name in (".env", ".cache/x", ".git/config", "data/.unfinished"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("secret")
    push(folder)
    assert hub.files("user/corpus", "dataset") == contents(built)


def without(name):
    return lambda folder: (folder / name).unlink()


def with_card(text):
    return lambda folder: (folder / "README.md").write_text(text)


def cut(folder):
    shard = folder / "data" / "default" / "test.parquet"
    shard.write_bytes(shard.read_bytes()[:-9])


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (shutil.rmtree, "a corpus is a folder with README.md, as the builder writes it; .*has none"),
        (without("README.md"), "a corpus is a folder with README.md"),
        (without("data/full/validation.parquet"), "not whole: split validation of full has 0 rows, its card 1"),
        (
            lambda folder: shutil.copy(folder / "data/full/test.parquet", folder / "data/full/test-2.parquet"),
            "has 2 rows",
        ),
        (cut, "test.parquet is no whole Parquet file"),
        (with_card("# no metadata"), "names no configuration"),
        (with_card("---\nconfigs: [\n---\n"), "is no card as the builder writes it"),
        (with_card("---\nconfigs:\n- config_name: default\n  data_files: data/*\n---\n"), "is no card as the builder"),
    ],
)
def test_a_folder_that_is_no_whole_corpus_is_refused_before_anything_is_sent(
    hub, built, tmp_path, capsys, spoil, message
):
    folder = shutil.copytree(built, tmp_path / "corpus")
    spoil(folder)
    with pytest.raises(ValueError, match=message):
        corpus_upload.push(folder, "user/corpus")
    with pytest.raises(SystemExit, match="2"):
        push(folder)
    assert hub.requests == [] and "corpus" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["corpus", "user/corpus/more", "user/cor--pus", "user/", "us er/corpus"])
def test_a_name_that_no_repository_can_have_is_refused_before_anything_is_sent(hub, built, name):
    with pytest.raises(ValueError, match=name):
        corpus_upload.push(built, name)
    assert hub.requests == []


def test_an_organization_gets_a_corpus_too(hub, built):
    push(built, "lab/corpus")
    assert is_private(hub, "lab/corpus") and hub.files("lab/corpus", "dataset") == contents(built)
