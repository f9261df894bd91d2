"""Code that came with a checkpoint is run where that is asked for, and nowhere else."""

import json
import os
import re
import shutil

import pytest
import torch
from huggingface_hub import HfApi
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSeq2SeqLM, AutoProcessor

from files.checkpoint_code import foreign_code, load_model, load_processor
from files.checkpoint_files import exact_revision
from mmprofile import MMProfileForConditionalGeneration, MMProfileProcessor
from tests import ROOT
from tests.prediction.test_predict import rows_of, run
from tests.tiny_corpus import SCHEMA
from tests.tiny_folder import save_tiny_folder


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("code") / "model"
    save_tiny_folder(folder, SCHEMA)
    return folder


@pytest.fixture
def folder(saved, tmp_path):
    return shutil.copytree(saved, tmp_path / "model")


@pytest.fixture
def ran(tmp_path):
    """What foreign code leaves where it is run."""
    return tmp_path / "ran"


def add_code(path, ran):
    with open(path, "a") as file:
        file.write(f"\nopen({str(ran)!r}, 'w').close()\n")


def set_fields(path, **fields):
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def name_processor(folder):
    set_fields(folder / "processor_config.json", auto_map={"AutoProcessor": "other.Other"})


def name_image_processor(folder):
    settings = json.loads((folder / "processor_config.json").read_text())["image_processor"]
    named = settings | {"auto_map": {"AutoImageProcessor": "other.Other"}, "image_processor_type": "Other"}
    set_fields(folder / "processor_config.json", image_processor=named)


def name_tokenizer(folder):
    names = {"AutoTokenizer": ["other.Other", "other.Other"]}
    set_fields(folder / "tokenizer_config.json", auto_map=names, tokenizer_class="Other")


def load(name, revision=None, trusted=False):
    return *load_processor(str(name), revision, trusted), load_model(str(name), revision, trusted)


@pytest.mark.parametrize("module", ["configuration", "modeling", "processing"])
def test_a_folders_own_code_is_not_run_unless_it_is_trusted(folder, ran, capsys, module, monkeypatch):
    # Where another folder's code of the same configuration is registered, transformers takes its model for this one's.
    monkeypatch.setattr(AutoModelForSeq2SeqLM._model_mapping, "_extra_content", {})
    add_code(folder / f"{module}_mmprofile.py", ran)
    processor, _, model = load(folder)
    assert type(processor) is MMProfileProcessor and type(model) is MMProfileForConditionalGeneration
    assert f"{module}_mmprofile.py came with it and is not run, see --trust_remote_code" in capsys.readouterr().err
    assert not ran.exists()
    trusted = load(folder, trusted=True)
    modules = {type(part).__module__.partition(".")[0] for part in trusted}
    assert ran.exists() and modules == {"transformers_modules"}


def test_code_of_the_same_length_and_age_is_foreign_too_and_the_first_process_alone_says_so(
    folder, capsys, monkeypatch
):
    ours, path = ROOT / "texts_mmprofile.py", folder / "texts_mmprofile.py"
    path.write_bytes(ours.read_bytes().replace(b"import", b"imporT", 1))
    os.utime(path, ns=(ours.stat().st_atime_ns, ours.stat().st_mtime_ns))
    assert path.stat().st_size == ours.stat().st_size
    monkeypatch.setenv("RANK", "1")
    load_processor(str(folder), None)
    assert "not run" not in capsys.readouterr().err
    monkeypatch.setenv("RANK", "0")
    load_processor(str(folder), None)
    assert "texts_mmprofile.py came with it and is not run" in capsys.readouterr().err


def test_processor_and_configuration_of_a_hub_model_are_those_of_its_revision(hub, folder):
    api = HfApi(hub.endpoint, token=hub.token)
    api.create_repo("user/settings")
    first = api.upload_folder(repo_id="user/settings", folder_path=folder).oid
    set_fields(folder / "processor_config.json", max_text_tokens=33)
    set_fields(folder / "config.json", paradigm="unimodal")
    second = api.upload_folder(repo_id="user/settings", folder_path=folder).oid
    found = [load_processor("user/settings", revision) for revision in (first, second)]
    assert [processor.max_text_tokens for processor, _ in found] == [64, 33]
    assert [config.paradigm == "unimodal" for _, config in found] == [False, True]


def test_a_folder_with_this_packages_code_is_loaded_as_the_auto_classes_load_it_and_nothing_is_said(saved, capsys):
    processor, _, model = load(saved)
    assert "not run" not in capsys.readouterr().err and foreign_code(str(saved), None) == []
    expected = AutoModelForSeq2SeqLM.from_pretrained(saved, trust_remote_code=True)
    inputs = processor(reviews=["good"], targets=None)
    other = AutoProcessor.from_pretrained(saved, trust_remote_code=True)(reviews=["good"])
    assert inputs["input_ids"].tolist() == other["input_ids"].tolist()
    assert all((value == expected.state_dict()[name]).all() for name, value in model.state_dict().items())


@pytest.mark.parametrize("name", [name_processor, name_image_processor, name_tokenizer])
def test_code_of_a_processors_parts_is_not_run(folder, ran, name):
    (folder / "other.py").write_text("class Other:\n    pass\n")
    add_code(folder / "other.py", ran)
    name(folder)
    if name is name_processor:
        assert type(load_processor(str(folder), None)[0]) is MMProfileProcessor
    else:
        with pytest.raises(ValueError, match=r"other.py came with it: --trust_remote_code true runs"):
            load_processor(str(folder), None)
    assert not ran.exists()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"objectives": ["mask_both"]}, r"objectives must be different ones of .*'mask_both'"),
        ({"model_type": "other"}, "it must be a checkpoint of type 'mmprofile', it is 'other'"),
        ({"fusion": "sum"}, "fusion must be one of .*, got 'sum'"),
        ({"vision_config": {"model_type": "other"}}, "other"),
    ],
)
def test_a_checkpoint_that_needs_its_own_code_names_the_flag_and_one_without_code_does_not(
    folder, ran, fields, message
):
    set_fields(folder / "config.json", **fields)
    with pytest.raises(ValueError, match=message) as error:
        load_processor(str(folder), None)
    assert "trust_remote_code" not in str(error.value)
    add_code(folder / "modeling_mmprofile.py", ran)
    with pytest.raises(
        ValueError, match=f"(?s){message}.*modeling_mmprofile.py came with it: --trust_remote_code true"
    ):
        load_processor(str(folder), None)
    assert not ran.exists()


@pytest.mark.parametrize("change", ["lacks", "has"])
def test_weights_that_are_not_the_models_are_refused(folder, change):
    weights = load_file(folder / "model.safetensors")
    first = weights["fusion.gate_text.weight"]
    weights |= {"fusion.gate_other.weight": first.clone()} if change == "has" else {}
    if change == "lacks":
        del weights["fusion.gate_text.weight"]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match=r"other weights than the model, e.g. of 'fusion.gate_(text|other).weight'"):
        load_model(str(folder), None)


def test_weights_of_sixteen_bits_are_trained_in_thirty_two_unless_they_are_wanted_as_they_are(folder):
    halved = {name: weight.bfloat16() for name, weight in load_file(folder / "model.safetensors").items()}
    save_file(halved, folder / "model.safetensors", {"format": "pt"})
    set_fields(folder / "config.json", dtype="bfloat16")
    for trusted in (False, True):
        assert load_model(str(folder), None, trusted).dtype == torch.float32
        assert load_model(str(folder), None, trusted, dtype="auto").dtype == torch.bfloat16


def test_a_model_of_another_type_is_refused_where_it_is_trusted_and_has_no_code(folder):
    (folder / "config.json").write_text(json.dumps({"model_type": "t5"}))
    with pytest.raises(ValueError, match="must be a checkpoint of type 'mmprofile', it is 't5'"):
        load_processor(str(folder), None, trusted=True)


def test_code_of_a_hub_model_is_not_run_unless_it_is_trusted(hub, folder, ran, capsys):
    add_code(folder / "processing_mmprofile.py", ran)
    api = HfApi(hub.endpoint, token=hub.token)
    api.create_repo("user/coded")
    api.upload_folder(repo_id="user/coded", folder_path=folder)
    commit = exact_revision("user/coded", None)
    processor, _, model = load("user/coded", commit)
    assert type(processor) is MMProfileProcessor and type(model) is MMProfileForConditionalGeneration
    assert "user/coded: processing_mmprofile.py came with it and is not run" in capsys.readouterr().err
    assert not ran.exists()
    assert commit in type(load("user/coded", commit, trusted=True)[2]).__module__ and ran.exists()


def test_predictions_are_by_code_that_came_with_the_model_where_that_is_asked_for(folder, ran, tmp_path):
    users = tmp_path / "users.jsonl"
    users.write_text(json.dumps({"user_id": "a", "reviews": ["good"]}))
    path = folder / "processing_mmprofile.py"
    path.write_text(re.sub(r"IGNORED_LABEL = -100.*", "IGNORED_LABEL = -100", path.read_text()))
    add_code(path, ran)
    run(folder, users, tmp_path / "ours")
    assert not ran.exists()
    with pytest.raises(ValueError, match="holds predictions with .*not .*processing_mmprofile.py"):
        run(folder, users, tmp_path / "ours", trust_remote_code=True)
    run(folder, users, tmp_path / "theirs", trust_remote_code=True)
    assert ran.exists() and rows_of(tmp_path / "ours") == rows_of(tmp_path / "theirs")
