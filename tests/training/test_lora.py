"""LoRA: what is trained, what the folder holds, and that it loads to the model in training."""

import pytest
import torch
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from safetensors.torch import load_file
from transformers import AutoModelForSeq2SeqLM

from files.output_files import read_json
from publishing import hub_folder
from tests.tiny_models import random_batch, tiny_model
from tests.training.test_train import run, same
from tests.training.test_train_resume import stopped_run
from training import evaluations
from training.arguments import JointTrainingArguments
from training.lora import add_lora


def arguments(**flags):
    return JointTrainingArguments(dataset="x", output_dir="y", **flags)


def adapted(seed=0, **flags):
    """A tiny model with LoRA that has learned something."""
    model = tiny_model(seed)
    model.vision_model.requires_grad_(not flags.get("freeze_vision", False))
    add_lora(model, arguments(lora_rank=3, **flags))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(parameter, std=0.2)
    return model.eval()


class Processor:
    def save_pretrained(self, folder):
        pass


def logits(model):
    with torch.no_grad():
        return model.eval()(**random_batch()).logits


def layers(model):
    return {name: layer for name, layer in model.named_modules() if isinstance(layer, LoraLayer)}


def test_attention_of_both_towers_gets_matrices_and_the_fusion_is_trained_whole():
    model, plain = adapted(), tiny_model()
    assert {name.rpartition(".")[2] for name in layers(model)} == {
        *("q", "k", "v", "o", "q_proj", "k_proj", "v_proj", "o_proj")
    }
    assert len(layers(model)) == 2 * 4 + 2 * 8 + 2 * 4  # encoder, decoder with cross-attention, vision
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    whole = {name for name, _ in plain.named_parameters() if name.startswith(("fusion.", "visual_projection."))}
    assert trained == whole | {name for name, _ in model.named_parameters() if "lora_" in name}


def test_a_vision_tower_that_is_left_as_it_is_gets_none():
    assert {name.partition(".")[0] for name in layers(adapted(freeze_vision=True))} == {"text_model"}


def test_targets_and_alpha_are_those_asked_for():
    model = adapted(lora_targets=["wi", "fc1"], lora_alpha=12)
    assert {name.rpartition(".")[2] for name in layers(model)} == {"wi", "fc1"}
    assert {layer.scaling["default"] for layer in layers(model).values()} == {4.0}
    assert {layer.scaling["default"] for layer in layers(adapted()).values()} == {2.0}
    with pytest.raises(ValueError, match=r"linear layers of the towers, of .*'wi'.*got \['query'\]"):
        adapted(lora_targets=["q", "query"])  # the fusion's, which is trained whole


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"lora_rank": 0}, "lora_rank is at least 1, got 0"),
        ({"lora_rank": 2, "lora_alpha": 0.0}, "lora_alpha is above 0, got 0.0"),
        ({"lora_targets": ["q"], "lora_alpha": 2.0}, "lora_alpha.*2.0.*lora_targets.*'q'.*--lora_rank only"),
    ],
)
def test_flags_that_do_not_fit_are_refused(flags, message):
    with pytest.raises(ValueError, match=message):
        arguments(**flags)


def test_without_peft_it_is_said_what_to_install(monkeypatch):
    monkeypatch.setattr("training.arguments.find_spec", lambda name: None)
    with pytest.raises(ValueError, match="lora_rank=2 needs peft: `pip install -r requirements-lora.txt`"):
        arguments(lora_rank=2)
    assert arguments(lora_rank=2, do_train=False).lora_rank == 2  # what was learned is in the weights already


@pytest.mark.parametrize("name", ["folder", "org/model"])
def test_the_adapter_names_a_model_of_the_hub_as_it_is_and_no_folder_of_this_machine(tmp_path, name):
    given = tmp_path / "secret" / name if name == "folder" else name
    model = adapted(model=str(given))
    hub_folder.save_hub_folder(model, Processor(), tmp_path / "out")
    config = read_json(tmp_path / "out" / "adapter" / "adapter_config.json")
    assert config["base_model_name_or_path"] == {"folder": "./folder"}.get(name, name)


def test_merged_is_the_same_model_and_what_was_merged_stays_as_it_is():
    model = adapted()
    expected, before = logits(model), {name: weight.clone() for name, weight in model.state_dict().items()}
    merged = hub_folder.without_lora(model, merge=True)
    torch.testing.assert_close(logits(merged), expected)
    assert merged.state_dict().keys() == tiny_model().state_dict().keys()
    assert same(model.state_dict(), before) and logits(model).equal(expected)
    plain = hub_folder.without_lora(model, merge=False)
    assert same(plain.state_dict(), tiny_model().state_dict()) and not logits(plain).allclose(expected, atol=1e-3)


def test_the_folder_loads_by_the_auto_classes_as_the_model_in_training(tmp_path):
    model = adapted()
    with torch.no_grad():
        model.fusion.ffn_in.weight.mul_(2)
    hub_folder.save_hub_folder(model, Processor(), tmp_path)
    loaded = AutoModelForSeq2SeqLM.from_pretrained(tmp_path, trust_remote_code=True)
    torch.testing.assert_close(logits(loaded), logits(model))
    saved = load_file(tmp_path / "model.safetensors")
    assert saved and not any("lora_" in name or "base_layer" in name for name in saved)


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")  # which peft asks for
def test_the_adapter_beside_makes_of_the_model_that_was_trained_the_one_in_training(tmp_path):
    model = adapted()
    with torch.no_grad():
        model.fusion.ffn_in.weight.mul_(2)
        model.visual_projection.weight.mul_(2)
    for _ in range(2):  # over what is there
        hub_folder.save_hub_folder(model, Processor(), tmp_path)
    loaded = PeftModel.from_pretrained(tiny_model(), tmp_path / "adapter")
    assert logits(loaded).equal(logits(model))
    assert not logits(tiny_model()).allclose(logits(model), atol=1e-3)


def test_lora_trains_matrices_of_its_rank_and_the_fusion_and_the_folder_is_the_merged_model(
    corpus,
    base,
    tmp_path,
    monkeypatch,
):
    seen = []
    save_hub_folder = evaluations.save_hub_folder
    monkeypatch.setattr(
        evaluations, "save_hub_folder", lambda *given: [seen.append(given[0]), save_hub_folder(*given)]
    )
    run(corpus, tmp_path / "model", lora_rank=2, model=base[0])
    (trained,) = seen
    assert {layer.r["default"] for layer in layers(trained).values()} == {2}
    folders = (base[0], tmp_path / "model")
    started, loaded = (AutoModelForSeq2SeqLM.from_pretrained(f, trust_remote_code=True) for f in folders)
    before, now, state = started.state_dict(), loaded.state_dict(), trained.state_dict()
    assert before.keys() == now.keys()
    changed = {name for name in now if not now[name].equal(before[name])}
    with_matrices = {f"{name}.weight" for name in layers(trained)}
    assert changed - with_matrices == {name for name in now if name.startswith(("fusion.", "visual_projection."))}
    assert changed & with_matrices
    for name in with_matrices:
        assert state[name.replace(".weight", ".base_layer.weight")].equal(before[name])
    inputs = {"input_ids": torch.tensor([[5, 6, 7]]), "labels": torch.tensor([[8, 9]])}
    with torch.no_grad():
        torch.testing.assert_close(loaded.eval()(**inputs).logits, trained.eval()(**inputs).logits)


@pytest.mark.slow
def test_a_run_with_lora_and_averages_that_is_stopped_goes_on_as_if_left_alone(corpus, tmp_path, monkeypatch):
    flags = {"num_epochs": 2, "lora_rank": 2, "ema_decay": 0.5, "batch_size": 2}
    run(corpus, tmp_path / "alone", **flags)
    flags["resume_from_checkpoint"] = "auto"
    stopped_run(corpus, tmp_path / "stopped", 6, monkeypatch, **flags)
    run(corpus, tmp_path / "stopped", **flags)
    for name in ("model.safetensors", "adapter/adapter_model.safetensors"):
        assert same(load_file(tmp_path / "alone" / name), load_file(tmp_path / "stopped" / name))
