"""A saved folder, and transformers' Auto classes that load it with the code that it holds."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModel, AutoProcessor

from mmprofile.configuration_mmprofile import ProfileSchema
from mmprofile.modeling_mmprofile import MMProfileForConditionalGeneration
from tests import ROOT
from tests.tiny_folder import save_tiny_folder
from tests.tiny_models import D_MODEL, random_batch, tiny_config, tiny_model

SCHEMA = ProfileSchema(({"name": "Mood", "values": ["Calm", "Loud", "Shy"], "count": 2},))
AUTO_MAP = {
    "AutoConfig": "configuration_mmprofile.MMProfileConfig",
    "AutoModel": "modeling_mmprofile.MMProfileForConditionalGeneration",
    "AutoModelForSeq2SeqLM": "modeling_mmprofile.MMProfileForConditionalGeneration",
    "AutoModelForImageTextToText": "modeling_mmprofile.MMProfileForConditionalGeneration",
}
# What a user of the Hub does, in a process that has never seen the checkout.
STRANGER = """
import json, sys, torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModel, AutoModelForImageTextToText, AutoModelForSeq2SeqLM

folder, batch, resaved = sys.argv[1:]
batch, logits = load_file(batch), {}
config = AutoConfig.from_pretrained(folder, trust_remote_code=True)
for auto in (AutoModel, AutoModelForSeq2SeqLM, AutoModelForImageTextToText):
    model = auto.from_pretrained(folder, trust_remote_code=True)
    with torch.no_grad():
        logits[auto.__name__] = model(**batch).logits
model.save_pretrained(resaved)
save_file(logits, f"{resaved}/logits.safetensors")
print(json.dumps({
    "config": type(config).__name__,
    "schema": config.profile_schema.to_list(),
    "training": model.training,
    "profiles": model.generate(**batch, num_beams=3, max_new_tokens=4).shape[0],
    "checkout": [name for name in sys.modules if name.split(".")[0] == "mmprofile"],
}))
"""


def code_files(folder) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in Path(folder).glob("*.py")}


def weights(folder) -> dict[str, torch.Tensor]:
    return load_file(Path(folder) / "model.safetensors")


def assert_same(tensors: dict, others: dict):
    assert tensors.keys() == others.keys()
    for name, tensor in tensors.items():
        assert torch.equal(tensor, others[name]), name


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    model = tiny_model(vision_feature="patches", paradigm="multimodal", profile_schema=SCHEMA)
    folder = tmp_path_factory.mktemp("saved")
    model.save_pretrained(folder)
    return model, folder


def test_a_saved_folder_holds_safetensors_code_and_the_auto_map(saved):
    _, folder = saved
    names = {path.name for path in folder.iterdir()}
    assert {"config.json", "generation_config.json", "model.safetensors"} <= names
    assert {name for name in names if not name.endswith((".json", ".py"))} == {"model.safetensors"}
    assert {"configuration_mmprofile.py", "modeling_mmprofile.py", "generation_mmprofile.py"} <= names
    assert code_files(folder) == {name: (ROOT / name).read_bytes() for name in names if name.endswith(".py")}
    config = json.loads((folder / "config.json").read_text())
    assert config["auto_map"] == AUTO_MAP
    assert config["profile_schema"] == SCHEMA.to_list()


def test_a_process_that_has_never_seen_the_checkout_loads_it_through_every_auto_class(saved, tmp_path):
    model, folder = saved
    batch = random_batch()
    save_file(batch, tmp_path / "batch.safetensors")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment["HF_MODULES_CACHE"] = str(tmp_path / "modules")
    ran = subprocess.run(
        [sys.executable, "-c", STRANGER, folder, tmp_path / "batch.safetensors", tmp_path / "resaved"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout) == {
        "config": "MMProfileConfig",
        "schema": SCHEMA.to_list(),
        "training": False,
        "profiles": 3,
        "checkout": [],
    }
    with torch.no_grad():
        expected = model(**batch).logits
    logits = load_file(tmp_path / "resaved/logits.safetensors")
    assert logits.keys() == AUTO_MAP.keys() - {"AutoConfig"}
    for name in logits:
        assert torch.equal(logits[name], expected)
    # What it saved is what it loaded.
    assert_same(weights(folder), weights(tmp_path / "resaved"))
    assert code_files(tmp_path / "resaved") == code_files(folder)
    assert json.loads((tmp_path / "resaved/config.json").read_text())["auto_map"] == AUTO_MAP


def test_what_is_loaded_from_a_hub_folder_is_saved_with_handler_requirements_and_licence(tmp_path):
    save_tiny_folder(tmp_path / "hub")
    AutoModel.from_pretrained(tmp_path / "hub", trust_remote_code=True).save_pretrained(tmp_path / "again")
    again = AutoModel.from_pretrained(tmp_path / "again", trust_remote_code=True)
    again.save_pretrained(tmp_path / "again")  # over itself
    for name in ("handler.py", "requirements.txt", "LICENSE"):
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "hub" / name).read_bytes()
    assert (tmp_path / "hub" / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()


def test_a_model_whose_source_is_gone_is_saved_without_what_lay_there_alone(tmp_path):
    save_tiny_folder(tmp_path / "hub")
    model = AutoModel.from_pretrained(tmp_path / "hub", trust_remote_code=True)
    shutil.rmtree(tmp_path / "hub")
    model.save_pretrained(tmp_path / "again")
    assert (tmp_path / "again" / "model.safetensors").exists() and not (tmp_path / "again" / "handler.py").exists()


def test_a_save_that_is_pushed_has_all_files(hub, tmp_path):
    save_tiny_folder(tmp_path / "hub")
    model = AutoModel.from_pretrained(tmp_path / "hub", trust_remote_code=True)
    model.save_pretrained(tmp_path / "again", push_to_hub=True, repo_id="user/model")
    files = hub.files("user/model")
    assert {"model.safetensors", "modeling_mmprofile.py", "handler.py", "requirements.txt", "LICENSE"} <= set(files)
    assert files["handler.py"] == (ROOT / "handler.py").read_bytes()


def test_loading_keeps_every_weight_and_the_ties(saved):
    model, folder = saved
    loaded, report = MMProfileForConditionalGeneration.from_pretrained(folder, output_loading_info=True)
    assert not any(report[problem] for problem in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert_same(loaded.state_dict(), model.state_dict())
    embeddings = loaded.get_input_embeddings().weight
    for tied in (loaded.text_model.encoder.embed_tokens, loaded.text_model.decoder.embed_tokens):
        assert tied.weight is embeddings
    assert loaded.get_output_embeddings().weight is embeddings
    assert loaded.get_decoder() is loaded.text_model.decoder
    assert "text_model.lm_head.weight" not in weights(folder)


def test_config_fields_survive_and_can_be_overridden(saved):
    config = AutoConfig.from_pretrained(saved[1], trust_remote_code=True, paradigm="unimodal")
    assert (config.fusion, config.vision_feature, config.paradigm) == ("gated", "patches", "unimodal")
    assert (config.text_config.d_model, config.vision_config.patch_size) == (D_MODEL, 8)
    assert type(AutoModel.from_config(config, trust_remote_code=True)).__name__ == "MMProfileForConditionalGeneration"


def test_overrides_are_checked_as_all_else_is(saved):
    schema = [{"name": "Mood", "values": ["Calm", "Loud"]}]
    config = AutoConfig.from_pretrained(saved[1], trust_remote_code=True, profile_schema=schema)
    assert config.to_dict()["profile_schema"] == [{"name": "Mood", "values": ["Calm", "Loud"], "count": 1}]
    for name, value in {"paradigm": "all", "fusion": "sum", "vision_feature": "pixels"}.items():
        for made in (
            tiny_config,
            lambda **wrong: MMProfileForConditionalGeneration.from_pretrained(saved[1], **wrong),
        ):
            with pytest.raises(ValueError, match=rf"{name} must be one of \['.*'\], got '{value}'"):
                made(**{name: value})


@pytest.mark.parametrize("attn", ["eager", "sdpa"])
def test_loading_hands_dtype_and_attention_on_to_both_towers(saved, attn):
    model = MMProfileForConditionalGeneration.from_pretrained(saved[1], dtype=torch.bfloat16, attn_implementation=attn)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
    for tower in (model.text_model.encoder, model.text_model.decoder, model.vision_model):
        assert tower.config._attn_implementation == attn


@pytest.mark.parametrize("device_map", [{"": "cpu"}, "auto"])
def test_a_device_map_places_the_model_which_still_generates(saved, device_map):
    model, folder = saved
    placed = MMProfileForConditionalGeneration.from_pretrained(folder, device_map=device_map)
    inputs = random_batch()
    inputs.pop("labels")
    options = {"num_beams": 3, "max_new_tokens": 5, "do_sample": False}
    assert torch.equal(placed.generate(**inputs, **options).cpu(), model.generate(**inputs, **options))


def test_a_model_offloaded_to_disk_in_parts_gives_the_same_logits(saved, tmp_path):
    model, folder = saved
    device_map = {"text_model": "cpu", "vision_model": "disk", "visual_projection": "cpu", "fusion": "disk"}
    placed = MMProfileForConditionalGeneration.from_pretrained(folder, device_map=device_map, offload_folder=tmp_path)
    assert torch.equal(placed(**random_batch()).logits, model(**random_batch()).logits)


def test_config_processor_and_model_of_a_folder_have_one_schema_and_take_each_others(tmp_path):
    save_tiny_folder(tmp_path)
    model = AutoModel.from_pretrained(tmp_path, trust_remote_code=True)
    config = AutoConfig.from_pretrained(tmp_path, trust_remote_code=True)
    processor = AutoProcessor.from_pretrained(tmp_path, trust_remote_code=True)
    schemas = [model.config.profile_schema, config.profile_schema, processor.profile_schema]
    assert len(set(schemas)) == 1
    config.profile_schema = processor.profile_schema = SCHEMA
    assert config.profile_schema == processor.profile_schema == SCHEMA != model.config.profile_schema
    model.config.profile_schema = processor.profile_schema
    inputs = processor(reviews=["kind staff"])
    of_model = model.generate_profiles(**inputs, tokenizer=processor.tokenizer)
    assert of_model == model.generate_profiles(**inputs, tokenizer=processor.tokenizer, schema=SCHEMA.to_list())
    assert list(of_model[0].profile) == ["mood"]
