"""The page and the handler have the revision of a Hub model that is asked for, its code too where that is trusted."""

import sys

import pytest
from huggingface_hub import HfApi

pytest.importorskip("gradio", reason="the page needs gradio, see requirements-app.txt")

import app  # noqa: E402
from tests.served_model import USER, load_handler  # noqa: E402
from tests.tiny_folder import save_tiny_folder  # noqa: E402

pytestmark = pytest.mark.usefixtures("no_client_retries")


@pytest.fixture
def commits(hub, tmp_path) -> list[str]:
    """Two of a model, with other weights and other code."""
    api, found = HfApi(hub.endpoint, token=hub.token), []
    api.create_repo("user/paged")
    for seed in (0, 1):
        folder = tmp_path / str(seed)
        save_tiny_folder(folder, seed=seed)
        (folder / "README.md").write_text("# A model\n")
        for name in ("handler.py", "processing_mmprofile.py", "modeling_mmprofile.py"):
            with open(folder / name, "a") as file:
                file.write(f"\nCOMMIT = {seed}\n")
        found.append(api.upload_folder(repo_id="user/paged", folder_path=folder).oid)
    return found


def test_page_and_handler_are_of_the_revision(commits, tmp_path, monkeypatch):
    expected = [load_handler(tmp_path / name)({"inputs": USER})["log_probability"] for name in ("0", "1")]
    assert expected[0] != expected[1]
    for revision, number in ((commits[0], 0), ("main", 1), (None, 1)):
        profiler = app.Profiler("user/paged", tmp_path, revision, trusted=True)
        handler = profiler.handler
        assert handler({"inputs": USER})["log_probability"] == expected[number]
        parts = (type(handler), type(handler.processor), type(handler.model))
        modules = [sys.modules[part.__module__] for part in parts]
        assert [module.COMMIT for module in modules] == [number] * 3
        assert all(commits[number] in module.__name__ for module in modules)
        own = app.Profiler("user/paged", tmp_path, revision).handler
        assert own({"inputs": USER})["log_probability"] == expected[number]
        parts = (type(own).__mro__[1], type(own.processor), type(own.model))
        assert [part.__module__ for part in parts] == [
            *("handler", "mmprofile.processing_mmprofile", "mmprofile.modeling_mmprofile"),
        ]
    monkeypatch.setenv("MODEL_REVISION", commits[0])
    built = []
    monkeypatch.setattr(app, "launch", lambda page, **options: built.append(page))
    app.main(["--model", "user/paged"])
    texts = [block.value for block in built[0].blocks.values() if isinstance(block, app.gr.HTML)]
    assert any(f"tree/{commits[0]}" in text for text in texts)


def test_a_revision_that_is_not_there_ends_the_start_with_a_sentence(commits):
    with pytest.raises(SystemExit, match="The model 'user/paged' cannot be loaded: .*v9"):
        app.main(["--model", "user/paged", "--revision", "v9"])


def test_a_folder_has_no_revision(tmp_path, capsys):
    with pytest.raises(SystemExit):
        app.main(["--model", str(tmp_path), "--revision", "main"])
    assert "--revision main is for a model of the Hub" in capsys.readouterr().err
