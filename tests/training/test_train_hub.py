"""train.py and a Hub: what is pushed when, and a Hub that fails."""

import json
import shutil
import subprocess
import sys

import pytest
from huggingface_hub import HfApi, snapshot_download
from transformers import AutoModelForSeq2SeqLM

from publishing import hub_upload
from tests import ROOT
from tests.files.test_checkpoint_files import commits  # noqa: F401
from tests.publishing.test_hub_upload import wait_for
from tests.tiny_corpus import SCHEMA, write_corpus
from tests.training.test_train import run, same, weights
from tests.training.test_train_resume import stopped_run, untimed
from training import checkpoints, set_up
from training.arguments import JointTrainingArguments
from training.model import build_model

LOAD = """
from transformers import AutoModel, AutoProcessor
model = AutoModel.from_pretrained("user/run", trust_remote_code=True)
processor = AutoProcessor.from_pretrained("user/run", trust_remote_code=True)
inputs = processor(reviews=["user likes a place"])
print(model.generate_profiles(**inputs, tokenizer=processor.tokenizer)[0].text)
"""


@pytest.fixture
def hub(hub, monkeypatch):
    monkeypatch.setattr(hub_upload, "FIRST_WAIT", 0.02)
    return hub


def messages(hub):
    return [request for request in hub.requests if "/commit/" in request]


@pytest.mark.parametrize("strategy", ["end", "every_save", "checkpoint"])
def test_the_hub_gets_the_folder_and_the_checkpoint_if_asked(corpus, tmp_path, hub, strategy):
    flags = {"push_to_hub": True, "hub_strategy": strategy, "hub_private_repo": True, "save_steps": 1}
    run(corpus, tmp_path / "run", **flags)
    pushed = hub.files("user/run")
    for name in ("model.safetensors", "README.md", "all_results.json", "metrics.jsonl", "modeling_mmprofile.py"):
        assert pushed[name] == (tmp_path / "run" / name).read_bytes()
    assert ("last-checkpoint/run.json" in pushed) == (strategy == "checkpoint")
    assert not any(name.startswith("checkpoint-") for name in pushed)
    assert len(messages(hub)) == 1 if strategy == "end" else len(messages(hub)) > 1
    assert hub.repos["model", "user/run"].private


def test_a_hub_that_is_away_harms_nothing_and_the_way_to_push_later_is_shown(corpus, base, tmp_path, hub, capsys):
    hub.down()
    run(corpus, tmp_path / "run", push_to_hub=True, hub_model_id="user/other", hub_strategy="every_save")
    assert same(weights(tmp_path / "run"), weights(base[0]))
    assert f"hf upload user/other {tmp_path / 'run'} ." in capsys.readouterr().out


@pytest.mark.slow
def test_pushes_happen_while_training_goes_on_unless_the_end_is_asked_for(corpus, tmp_path, hub):
    run(corpus, tmp_path / "run", push_to_hub=True, num_epochs=2)
    assert len(messages(hub)) > 1


@pytest.mark.parametrize(
    ("token", "name", "message"),
    [
        (None, "run", "there is no token to write to 'run' of the Hub: log in with `hf auth login`"),
        ("hf_wrong", "run", "does not know the token: log in with `hf auth login`"),
        ("hf_wrong", "user/there", "does not know the token: log in with `hf auth login`"),
        ("hf_reader", "user/run", "the token of user may only read, and a push needs one that may write"),
        ("hf_reader", "user/there", "'user/there' of the Hub: the token may not write there"),
        ("hf_other", "user/there", "'user/there' of the Hub: the token may not write there"),
        ("hf_other", "lab/run", "the token is of other, who may write to other, not lab"),
    ],
)
def test_a_token_that_may_not_write_is_refused_before_anything_is_loaded(
    corpus,
    tmp_path,
    hub,
    monkeypatch,
    token,
    name,
    message,
):
    HfApi().create_repo("user/there")
    monkeypatch.setattr(set_up, "load_inputs", None)
    monkeypatch.setenv("HF_TOKEN", token) if token else monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(ValueError, match=message) as refused:
        run(corpus, tmp_path / "run", push_to_hub=True, hub_model_id=name)
    assert not token or token not in str(refused.value)
    assert list(hub.repos) == [("model", "user/there")]


@pytest.mark.parametrize("fault", [429, 503, "down"])
def test_of_a_hub_that_is_away_at_the_start_a_run_is_warned_and_goes_on(
    corpus,
    tmp_path,
    hub,
    caplog,
    fault,
    monkeypatch,
):
    hub.fail_next("auth-check", fault) if fault != "down" else hub.down()
    monkeypatch.setattr(set_up, "load_inputs", None)
    with pytest.raises(TypeError, match="not callable"):  # it goes on to load
        run(corpus, tmp_path / "run", push_to_hub=True, hub_model_id="user/run")
    assert "Whether user/run can be pushed to is not known yet: " in caplog.messages[0]
    hub.up()
    hub.fail_next("whoami", 200, body="<html>A gateway's page</html>")
    with pytest.raises(TypeError, match="not callable"):
        run(corpus, tmp_path / "run", push_to_hub=True)
    assert "Whether run can be pushed to is not known yet: JSONDecodeError" in caplog.messages[-1]


@pytest.mark.parametrize("name", ["run", "user/run", "lab/run"])
def test_a_repository_is_made_before_the_first_step_of_a_run_that_nothing_else_ends(
    corpus,
    tmp_path,
    hub,
    name,
    monkeypatch,
):
    flags = {"push_to_hub": True, "hub_model_id": name, "hub_private_repo": True}
    with pytest.raises(ValueError, match="there is no corpus"):
        run(tmp_path / "nowhere", tmp_path / "run", **flags)
    assert not hub.repos
    monkeypatch.setattr(set_up, "save_recipe", None)
    with pytest.raises(TypeError, match="not callable"):
        run(corpus, tmp_path / "run", **flags)
    assert hub.repos["model", name if "/" in name else "user/run"].private


def test_a_run_that_is_not_that_of_its_checkpoint_makes_no_repository_and_one_that_may_not_make_it_loses_nothing(
    corpus,
    tmp_path,
    hub,
):
    output, flags = tmp_path / "run", {"save_steps": 1, "objectives": ["text"], "max_eval_users": 1}
    run(corpus, output, **flags)
    before = {path: path.stat().st_mtime_ns for path in output.rglob("*")}
    flags |= {"push_to_hub": True, "hub_model_id": "user/run"}
    with pytest.raises(ValueError, match="seed was 0, is 1"):
        run(corpus, output, seed=1, resume_from_checkpoint="auto", **flags)
    assert not hub.repos
    hub.fail_next("POST /api/repos/create", 403)  # as of a token with permissions of its own
    with pytest.raises(ValueError, match="'user/run' of the Hub: the token may not write there"):
        run(corpus, output, overwrite_output_dir=True, **flags)
    assert {path: path.stat().st_mtime_ns for path in output.rglob("*")} == before


RESUMED = {"num_epochs": 2, "batch_size": 2, "hub_model_id": "user/run", "push_to_hub": True}


@pytest.fixture(scope="module")
def left_alone(corpus, tmp_path_factory):
    output = tmp_path_factory.mktemp("alone") / "run"
    _, history = run(corpus, output, **{name: RESUMED[name] for name in ("num_epochs", "batch_size")})
    return output, history


@pytest.mark.parametrize(("at", "asked"), [(11, "auto"), pytest.param(10, "last-checkpoint", marks=pytest.mark.slow)])
def test_a_download_of_what_was_pushed_goes_on_to_the_weights_of_a_run_left_alone(
    corpus,
    left_alone,
    tmp_path,
    hub,
    monkeypatch,
    at,
    asked,
):
    flags = RESUMED | {"hub_strategy": "checkpoint"} | ({"save_steps": 1} if asked == "auto" else {})
    with monkeypatch.context() as patched:
        patched.setattr(hub_upload.HubUploader, "on_save", pushed_before_it_goes_on)
        stopped_run(corpus, tmp_path / "run", at, patched, **flags)
    shutil.rmtree(tmp_path / "run")
    output = tmp_path / "download"
    snapshot_download("user/run", local_dir=output)
    assert (output / "last-checkpoint" / "run.json").is_file()
    asked = output / asked if asked == "last-checkpoint" else asked
    history = run(corpus, output, **flags, resume_from_checkpoint=asked)[1]
    assert same(weights(output), weights(left_alone[0])) and untimed(history) == untimed(left_alone[1])
    pushed = hub.files("user/run")
    assert pushed["model.safetensors"] == (output / "model.safetensors").read_bytes()
    newest = checkpoints.list_checkpoints(output)[-1]
    assert {name for name in pushed if name.startswith("last-checkpoint/")} == {
        f"last-checkpoint/{path.relative_to(newest)}" for path in newest.rglob("*") if path.is_file()
    }


ON_SAVE = hub_upload.HubUploader.on_save


def pushed_before_it_goes_on(uploader, step, checkpoint=None):
    ON_SAVE(uploader, step, checkpoint)
    wait_for(lambda: uploader._pushed == uploader._requested)


def test_a_name_that_no_repository_can_have_is_refused_before_anything_is_done(corpus, tmp_path, hub):
    with pytest.raises(ValueError, match="user/run/more"):
        run(corpus, tmp_path / "run", push_to_hub=True, hub_model_id="user/run/more")
    assert not (tmp_path / "run").exists() and hub.requests == []


@pytest.mark.slow
def test_what_was_pushed_loads_from_the_hub_by_its_name(corpus, tmp_path, hub):
    run(corpus, tmp_path / "run", push_to_hub=True, hub_model_id="user/run")
    environment = hub.environment(tmp_path / "home")
    loaded = subprocess.run(
        [sys.executable, "-c", LOAD], env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=240
    )
    assert loaded.stdout.startswith("Stars: "), loaded.stderr


def test_a_checkpoint_of_the_hub_is_that_of_its_revision(commits, tmp_path):  # noqa: F811
    for revision, folder in ((commits[0], "0"), (None, "1")):
        arguments = JointTrainingArguments(dataset="x", output_dir="y", model="user/model", model_revision=revision)
        model, _ = build_model(arguments, SCHEMA, None)
        expected = AutoModelForSeq2SeqLM.from_pretrained(tmp_path / folder, trust_remote_code=True)
        assert same(model.state_dict(), expected.state_dict())


CORPORA = """
import json, sys
from prediction.inputs import open_users
from tests.tiny_corpus import SCHEMA
from training.arguments import JointTrainingArguments
from training.data import load_corpus
for revision in json.loads(sys.argv[1]):
    arguments = JointTrainingArguments(dataset="user/corpus", output_dir="x", dataset_revision=revision)
    users = open_users("user/corpus", None, "test", SCHEMA, None, None, revision)
    print(json.dumps([len(load_corpus(arguments)["train"]), len(users)]))
"""


@pytest.mark.slow
def test_a_corpus_of_the_hub_is_that_of_its_revision(hub, tmp_path, no_client_retries):
    api, found = HfApi(hub.endpoint, token=hub.token), []
    api.create_repo("user/corpus", repo_type="dataset")
    for number in (1, 2):
        write_corpus(tmp_path / str(number), sizes=(4 + number, 2, number))
        found.append(api.upload_folder(repo_id="user/corpus", repo_type="dataset", folder_path=tmp_path / str(number)))
    asked = json.dumps([found[0].oid, found[1].oid, None])
    environment = hub.environment(tmp_path / "home", PYTHONPATH=str(ROOT))
    command = [sys.executable, "-c", CORPORA, asked]
    shown = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=240)
    assert [json.loads(line) for line in shown.stdout.splitlines()] == [[5, 1], [6, 2], [6, 2]], shown.stderr
