"""--push_to_hub of the build: what cannot be pushed is said before anything is built, what is built is never lost."""

import shutil
from pathlib import Path

import pytest
from huggingface_hub import HfApi

from dataset_script import mmprofile_yelp
from dataset_script.corpus_upload import main as upload
from dataset_script.mmprofile_yelp import main
from dataset_script.synthesize import synthesize
from tests.raw_corpus import hand_written

pytestmark = pytest.mark.usefixtures("no_client_retries")


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    return hand_written().write(tmp_path_factory.mktemp("hand") / "raw")


@pytest.fixture
def run(raw, tmp_path):
    """Runs the program with more flags; the output is tmp_path / "corpus"."""
    return lambda *flags, data_dir=raw: main(
        ["--data_dir", str(data_dir), "--output", str(tmp_path / "corpus"), *flags]
    )


def contents(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_corpus_is_built_and_pushed_private(hub, run, tmp_path, capsys):
    assert run("--push_to_hub", "user/corpus", "--config", "default", "full") == 0
    assert hub.files("user/corpus", "dataset") == contents(tmp_path / "corpus")
    assert hub.repos["dataset", "user/corpus"].private
    assert f"Pushed to {hub.endpoint}/datasets/user/corpus (private)" in capsys.readouterr().out


@pytest.mark.parametrize(("flags", "private"), [(["--no-private"], False), (["--private"], True)])
def test_a_build_is_as_private_as_it_is_told(hub, run, flags, private):
    run("--push_to_hub", "user/corpus", *flags)
    assert hub.repos["dataset", "user/corpus"].private == private


def test_a_synthetic_build_is_as_the_hub_has_new_ones_unless_told_otherwise(hub, run, tmp_path):
    synthesize(tmp_path / "made", num_users=12, num_businesses=40, image_size=16)
    run("--push_to_hub", "user/open", data_dir=tmp_path / "made")
    run("--push_to_hub", "user/closed", "--private", "--overwrite", data_dir=tmp_path / "made")
    assert [hub.repos["dataset", f"user/{name}"].private for name in ("open", "closed")] == [False, True]


def no_token(monkeypatch, hub):
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr("huggingface_hub.hf_api.get_token", lambda: None)


def public_repository(monkeypatch, hub):
    HfApi().create_repo("user/corpus", repo_type="dataset", private=False)


@pytest.mark.parametrize(
    ("flags", "before", "message"),
    [
        (["--push_to_hub", "corpus"], None, "a repository's name is user/name, got 'corpus'"),
        (["--push_to_hub", "user/cor--pus"], None, "cor--pus"),
        (["--push_to_hub", "else/corpus"], None, "the token is of user, who may write to user, lab, not else"),
        (["--push_to_hub", "user/corpus"], no_token, "there is no token, see `hf auth login`"),
        (["--push_to_hub", "user/corpus"], "hf_wrong", "the Hub does not know the token"),
        (["--push_to_hub", "user/corpus"], "hf_reader", "the token of user may only read"),
        (["--push_to_hub", "user/corpus"], public_repository, "user/corpus is public"),
        (["--private"], None, "--private and --no-private are of the repository that --push_to_hub names"),
    ],
)
def test_what_cannot_be_pushed_is_said_before_anything_is_built(
    hub, run, tmp_path, monkeypatch, capsys, flags, before, message
):
    if isinstance(before, str):
        monkeypatch.setenv("HF_TOKEN", before)
    elif before:
        before(monkeypatch, hub)
    monkeypatch.setattr(mmprofile_yelp, "build", lambda *arguments, **options: pytest.fail("it was built"))
    with pytest.raises(SystemExit, match="2"):
        run(*flags)
    error = " ".join(capsys.readouterr().err.split())
    assert message in error and "Traceback" not in error
    assert not hub.large_files and ("dataset", "else/corpus") not in hub.repos


@pytest.mark.parametrize("status", [429, 500, 0])
def test_a_hub_that_does_not_answer_holds_no_build_up(hub, run, tmp_path, capsys, status):
    if status:
        hub.fail_next("/api/whoami-v2", status)
    else:
        hub.down()
        with pytest.raises(SystemExit, match="Not pushed to user/corpus: ConnectError"):
            run("--push_to_hub", "user/corpus")
        hub.up()
        upload([str(tmp_path / "corpus"), "user/corpus"])
    if status:
        run("--push_to_hub", "user/corpus")
    assert "The Hub does not answer now, so user/corpus was not looked at" in capsys.readouterr().err
    assert hub.files("user/corpus", "dataset") == contents(tmp_path / "corpus")


def test_a_push_that_fails_keeps_the_corpus_and_names_the_command_that_pushes_it(hub, run, tmp_path, capsys):
    hub.fail_next("POST /api/datasets/user/corpus/commit", 500)
    with pytest.raises(SystemExit, match="Not pushed to user/corpus: .*500") as end:
        run("--push_to_hub", "user/corpus", "--no-private")
    command = f"python -m dataset_script.corpus_upload {tmp_path / 'corpus'} user/corpus --no-private"
    assert f"\n    {command}\n" in str(end.value)
    built = contents(tmp_path / "corpus")
    with pytest.raises(SystemExit, match="2"):  # the same command builds nothing twice
        run("--push_to_hub", "user/corpus", "--no-private")
    assert f"\n    {command}\n" in capsys.readouterr().err
    assert upload(command.split()[3:]) == 0
    assert hub.files("user/corpus", "dataset") == built == contents(tmp_path / "corpus")
    assert not hub.repos["dataset", "user/corpus"].private


def test_a_folder_is_pushed_from_wherever_it_is_moved(hub, run, tmp_path):
    run()
    moved = shutil.move(tmp_path / "corpus", tmp_path / "a place")
    assert upload([str(moved), "user/corpus"]) == 0
    assert hub.files("user/corpus", "dataset") == contents(Path(moved))
