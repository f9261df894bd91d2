"""upload.py against the loopback Hub."""

import json
import os
import re
import shutil

import pytest

import upload
from publishing.hub_folder import save_hub_folder
from tests import hub_routes
from tests.baselines.tiny_systems import processor_of_users, tiny_model
from tests.tiny_folder import save_tiny_folder

pytestmark = pytest.mark.usefixtures("no_client_retries")

VARIABLES = "POST /api/spaces/user/page/variables"


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved")
    save_tiny_folder(folder)
    (folder / "README.md").write_text("# A model\n")
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def folder(saved, tmp_path):
    for name, content in saved.items():
        (tmp_path / name).write_bytes(content)
    return tmp_path


@pytest.fixture
def variables(monkeypatch):
    """The variables of the loopback Hub's Spaces, filled as they are set."""
    found = {}

    def set_variable(handler, repo):
        asked = json.loads(handler.body)
        found[repo.id, asked["key"]] = asked["value"]
        return {asked["key"]: {"value": asked["value"], "updatedAt": hub_routes.DATE}}

    route = ("POST", hub_routes.API + "/variables", "set_variable")
    monkeypatch.setattr(hub_routes, "ROUTES", [*hub_routes.ROUTES, route])
    monkeypatch.setattr(hub_routes.HubHandler, "set_variable", set_variable, raising=False)
    return found


def test_the_hub_gets_the_folder_without_what_is_unfinished(hub, folder, saved, capsys):
    for name in ("checkpoint-7/optimizer.bin", ".unfinished/half.safetensors", ".unfinished-push/1/x", "log.tmp"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")
    for _ in range(2):  # the second time the repository is there
        upload.main([str(folder), "user/model", "--private"])
    assert hub.files("user/model") == saved and hub.repos["model", "user/model"].private
    assert set(saved) >= {"model.safetensors", "handler.py", "pipeline_mmprofile.py", "README.md", "requirements.txt"}
    assert capsys.readouterr().out == f"Pushed to {hub.endpoint}/user/model\n" * 2
    assert not any(kind == "space" for kind, _ in hub.repos)


def test_a_repository_is_public_unless_it_is_asked_to_be_private(hub, folder):
    upload.main([str(folder), "user/model"])
    assert not hub.repos["model", "user/model"].private


def test_the_space_gets_its_page_and_the_name_of_the_model(hub, folder, variables, capsys):
    pytest.importorskip("gradio")
    from app import PICTURE, SPACE_FILES

    upload.main([str(folder), "user/model", "--space", "user/page", "--private"])
    files = hub.files("user/page", "space")
    assert set(files) == {"README.md", *SPACE_FILES, PICTURE, "requirements.txt"}
    assert b"spaces/user/page/resolve/main/thumbnail.jpg" in files["README.md"]
    assert b"sdk: gradio" in files["README.md"] and b"user/model" in files["README.md"]
    assert variables == {("user/page", "MODEL_ID"): "user/model", ("user/page", "TRUST_REMOTE_CODE"): "true"}
    commit = next(number for number, line in enumerate(hub.requests) if "spaces/user/page/commit" in line)
    assert hub.requests.index(VARIABLES) < commit  # the first start of the page has it
    assert hub.repos["space", "user/page"].private and "secret HF_TOKEN" in capsys.readouterr().out


def without(name):
    return lambda folder: (folder / name).unlink()


def with_text(name, text):
    return lambda folder: (folder / name).write_text(text)


def with_map(weight_map):
    return with_text("model.safetensors.index.json", json.dumps({"weight_map": weight_map}))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            lambda folder: [path.unlink() for path in folder.iterdir()],
            "lacks config.json, .*model.safet.*READ",
        ),
        (without("model.safetensors"), "lacks model.safetensors$"),
        (without("images_mmprofile.py"), "lacks images_mmprofile.py$"),
        (without("README.md"), "lacks README.md$"),
        (with_map({"a": "m-1.safetensors"}), "lacks m-1.safetens"),
        (with_map([1]), r"must name a file of it for each.*got \[1\]"),
        (with_map({"a": 1}), "must name a file of it for each weight"),
        (with_map({"a": "../m.safetensors"}), "must name a file of it for each weight"),
        (with_map({}), "must name a file of it for each weight"),
        (with_text("model.safetensors.index.json", "{}"), "must name a file of it for each weight.*got None"),
        (with_text("model.safetensors", ""), "model.safetensors' does not hold weights: "),
        (lambda folder: os.truncate(folder / "model.safetensors", 5000), "model.safetensors' does not hold weights"),
        (with_text("config.json", '{"model_type": "mmprofile"}'), "config.json' needs an auto_map"),
        (with_text("config.json", "{"), "config.json is not JSON"),
        (with_text("config.json", "[]"), "must hold an object, got list"),
        (with_text("config.json", '{"model_type": "t5"}'), "type 'mmprofile', it is 't5'"),
    ],
)
def test_a_folder_that_is_no_model_is_refused_before_anything_is_sent(hub, folder, spoil, message):
    spoil(folder)
    with pytest.raises(ValueError, match=message):
        upload.main([str(folder), "user/model"])
    assert hub.requests == []


@pytest.fixture(scope="module", params=["bart", "coopnet"])
def others(request, tmp_path_factory):
    """A system of the paper's others, and a folder of its model."""
    folder = tmp_path_factory.mktemp(request.param)
    save_hub_folder(tiny_model(request.param), processor_of_users(), folder)
    (folder / "README.md").write_text("# A model\n")
    return request.param, folder


def test_a_model_of_another_system_is_uploaded_as_it_is(hub, others):
    _, folder = others
    upload.main([str(folder), "user/model"])
    found = hub.files("user/model")
    assert found == {path.name: path.read_bytes() for path in folder.iterdir()}
    assert "model.safetensors" in found and "handler.py" not in found


def test_another_systems_folder_needs_weights_a_card_and_a_known_system(hub, others, tmp_path):
    name, folder = others
    config = json.loads((folder / "config.json").read_text())
    unknown = with_text("config.json", json.dumps(config | {"system": "unknown"}))
    messages = {
        "lacks model.safetensors$": without("model.safetensors"),
        "lacks README.md$": without("README.md"),
        "system must be one of .*got 'unknown'": unknown,
        "model.safetensors' does not hold weights": with_text("model.safetensors", ""),
    }
    for number, (message, spoil) in enumerate(messages.items()):
        spoil(shutil.copytree(folder, tmp_path / str(number)))
        with pytest.raises(ValueError, match=message):
            upload.main([str(tmp_path / str(number)), "user/model"])
    with pytest.raises(ValueError, match=f"--space shows models of mmprofile alone, .* is of the system '{name}'"):
        upload.main([str(folder), "user/model", "--space", "user/page"])
    assert hub.requests == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere", "user/model"], "there is no folder 'nowhere'"),
        (["{folder}", "model"], "user/name, got 'model'"),
        (["{folder}", "user/model/more"], "user/name, got 'user/model/more'"),
        (["{folder}", "user/mo--del"], "mo--del"),
        (["{folder}", "user/model", "--space", "page"], "user/name, got 'page'"),
    ],
)
def test_wrong_names_are_refused_before_anything_is_sent(hub, folder, words, message):
    with pytest.raises(ValueError, match=message):
        upload.main([word.format(folder=folder) for word in words])
    assert hub.requests == []


@pytest.mark.parametrize(
    ("token", "name", "message"),
    [("hf_wrong", "user/model", "does not know the token"), ("hf_other", "user/model", "to other, not user")],
)
def test_a_token_that_is_refused_ends_in_a_sentence(hub, folder, monkeypatch, token, name, message):
    monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(SystemExit, match=message) as end:
        upload.main([str(folder), name])
    assert str(end.value).startswith(f"Not pushed to {name}: ") and "Traceback" not in str(end.value)


def test_a_push_that_failed_says_the_command_that_completes_it(hub, folder, saved, variables):
    pytest.importorskip("gradio")
    words = [str(folder), "user/model", "--space", "user/page"]
    for fault, place in (("PUT /lfs-storage", "user/model"), (VARIABLES, "user/page")):
        hub.fail_next(fault, 500)
        with pytest.raises(SystemExit, match=f"Not pushed to {place}: .*500") as end:
            upload.main(words)
        assert re.search(r"\n    python upload.py (.*)$", str(end.value)).group(1).split() == words
    upload.main(words)
    assert hub.files("user/model") == saved and "app.py" in hub.files("user/page", "space")
