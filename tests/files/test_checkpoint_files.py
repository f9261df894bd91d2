"""Which files of a checkpoint count, and that all of a Hub model comes from the revision asked for."""

import json
import shutil

import pytest
from huggingface_hub import HfApi
from safetensors.torch import load_file, save_file
from transformers import AutoProcessor

from files.checkpoint_code import load_model, load_processor
from files.checkpoint_files import checkpoint_folder, exact_revision, file_digests, set_config_fields
from tests.prediction.test_predict import rows_of, run
from tests.tiny_corpus import SCHEMA
from tests.tiny_folder import save_tiny_folder
from training.arguments import JointTrainingArguments

FITTED = {"product": {"1": {"temperatures": {"stars": 2.0}}}}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model's folder with what else a training leaves there."""
    folder = tmp_path_factory.mktemp("checkpoint") / "model"
    save_tiny_folder(folder, SCHEMA)
    (folder / "all_results.json").write_text("{}")
    (folder / "curves.png").write_bytes(b"PNG")
    return folder


def swap_two_words(folder):
    path = folder / "tokenizer.json"
    tokenizer = json.loads(path.read_text())
    words = tokenizer["model"]["vocab"]
    words[-1], words[-2] = words[-2], words[-1]
    path.write_text(json.dumps(tokenizer))


def change_a_row(folder):
    path = folder / "model.safetensors"
    weights = load_file(path)
    name = next(name for name, tensor in weights.items() if "shared" in name or "embed_tokens" in name)
    weights[name][137] += 0.5
    save_file(weights, path, {"format": "pt"})


def append(name, text):
    def change(folder):
        with open(folder / name, "a") as file:
            file.write(text)

    return change


@pytest.mark.parametrize(
    ("file", "change"),
    [
        ("tokenizer.json", swap_two_words),
        ("model.safetensors", change_a_row),
        ("config.json", append("config.json", "\n")),
        ("generation_config.json", append("generation_config.json", "\n")),
        ("processor_config.json", append("processor_config.json", "\n")),
        ("modeling_mmprofile.py", append("modeling_mmprofile.py", "# changed")),
        ("generation_mmprofile.py", append("generation_mmprofile.py", "# imported by another")),
    ],
)
def test_a_file_that_is_loaded_and_is_another_is_named(folder, tmp_path, file, change):
    shutil.copytree(folder, tmp_path / "model")
    change(tmp_path / "model")
    before, now = file_digests(folder), file_digests(tmp_path / "model")
    assert {name for name in before | now if before.get(name) != now.get(name)} == {file}


def test_what_is_not_loaded_does_not_count(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "model")
    for name in ("README.md", "curves.png", "all_results.json", "metrics.jsonl", "handler.py"):
        (tmp_path / "model" / name).write_text("new")
    (tmp_path / "model" / "checkpoint-3").mkdir()
    assert file_digests(tmp_path / "model") == file_digests(folder)


def test_a_swapped_tokenizer_and_a_changed_row_are_not_mixed_into_a_run(folder, tmp_path):
    (tmp_path / "users.jsonl").write_text(json.dumps({"user_id": "a", "reviews": ["good"]}))
    shutil.copytree(folder, tmp_path / "model")
    run(tmp_path / "model", tmp_path / "users.jsonl", tmp_path / "out")
    (tmp_path / "model" / "README.md").write_text("A card.")
    run(tmp_path / "model", tmp_path / "users.jsonl", tmp_path / "out")
    change_a_row(tmp_path / "model")
    swap_two_words(tmp_path / "model")
    with pytest.raises(ValueError, match="holds predictions with .*model.safetensors.*tokenizer.json.*, not "):
        run(tmp_path / "model", tmp_path / "users.jsonl", tmp_path / "out")


@pytest.fixture
def commits(hub, tmp_path):
    """Two commits of a Hub model, of which every part is another; main is at the second."""
    api, found = HfApi(hub.endpoint, token=hub.token), []
    api.create_repo("user/model")
    for seed, max_text_tokens in enumerate((64, 32)):
        folder = tmp_path / str(seed)
        save_tiny_folder(folder, SCHEMA, seed=seed)
        processor = AutoProcessor.from_pretrained(folder, trust_remote_code=True)
        processor.max_text_tokens = max_text_tokens
        processor.save_pretrained(folder)
        append("configuration_mmprofile.py", f"\nCOMMIT = {seed}\n")(folder)
        found.append(api.upload_folder(repo_id="user/model", folder_path=folder).oid)
    return found


def test_weights_processor_and_code_are_those_of_the_revision(commits):
    for revision, number in ((commits[0], 0), ("main", 1), (None, 1)):
        commit = exact_revision("user/model", revision)
        processor, config = load_processor("user/model", commit, trusted=True)
        model = load_model("user/model", commit, trusted=True)
        assert commit == commits[number] and processor.max_text_tokens == (64, 32)[number]
        for part in (processor, config, model):
            assert commit in type(part).__module__
        assert file_digests(checkpoint_folder("user/model", commit))["model.safetensors"]


def test_predictions_are_those_of_the_revision_and_say_it(commits, tmp_path):
    (tmp_path / "users.jsonl").write_text(json.dumps({"user_id": "a", "reviews": ["good"]}))
    results = run("user/model", tmp_path / "users.jsonl", tmp_path / "hub", model_revision=commits[0])
    assert (results["model"], results["revision"]) == ("user/model", commits[0])
    assert run(tmp_path / "0", tmp_path / "users.jsonl", tmp_path / "here")["revision"] is None
    assert rows_of(tmp_path / "hub") == rows_of(tmp_path / "here")
    with pytest.raises(ValueError, match="holds predictions with .*model.safetensors"):
        run("user/model", tmp_path / "users.jsonl", tmp_path / "hub")


def test_a_revision_that_cannot_be_is_refused(commits, folder):
    with pytest.raises(ValueError, match="a revision, v1, is for a model of the Hub, '.*model' is a folder"):
        exact_revision(str(folder), "v1")
    with pytest.raises(ValueError, match="there is no model 'user/model' at 'v1': "):
        exact_revision("user/model", "v1")
    with pytest.raises(ValueError, match="--model_revision and --trust_remote_code are of use with --model"):
        JointTrainingArguments(dataset="x", output_dir="y", model_revision="v1")


def test_fields_of_a_saved_config_change_and_nothing_else(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "model")
    before, plain = file_digests(tmp_path / "model"), json.loads((folder / "config.json").read_text())
    set_config_fields(tmp_path / "model", {"calibrations": FITTED})
    after = file_digests(tmp_path / "model")
    assert [name for name in before if before[name] != after[name]] == ["config.json"]
    assert json.loads((tmp_path / "model" / "config.json").read_text()) == plain | {"calibrations": FITTED}
    assert load_model(str(tmp_path / "model"), None).config.calibrations == FITTED
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        path.name for path in (tmp_path / "model").iterdir()
    )


def test_a_folder_without_a_config_gets_no_fields(tmp_path):
    with pytest.raises(ValueError, match="has no config.json"):
        set_config_fields(tmp_path, {"calibrations": None})
