"""train.py and predict.py with each system: no loop, resume or evaluation of its own."""

import json
import shutil

import pytest
import torch
from accelerate.state import AcceleratorState
from peft import PeftModel

import app
import predict
import train
from baselines.table import SYSTEMS
from files.output_files import read_json
from publishing.hub_folder import save_adapter, save_hub_folder
from scoring import evaluation
from tests.baselines.tiny_systems import OTHERS, examples_of, processor_of_users, tiny_model, views_of
from tests.tiny_corpus import SCHEMA, write_corpus
from tests.training.test_evaluation_only import other_schema
from tests.training.test_train import main, run, same, weights
from tests.training.test_train_processes import launcher
from tests.training.test_train_processes import train as train_launched
from tests.training.test_train_resume import stopped_run, untimed
from training import evaluation_only
from training.arguments import CONDITIONS, JointTrainingArguments
from training.batching import JointCollator
from training.checkpoints import list_checkpoints
from training.joint_step import NaiveJointStep, joint_step
from training.lora import add_lora
from training.optimization import make_optimizer

KINDS = ("bart", "llama", "coopnet")  # an encoder-decoder, a causal model, a classifier


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("systems") / "corpus"
    write_corpus(folder)
    return folder


@pytest.fixture(scope="module")
def bart(corpus, tmp_path_factory):
    output = tmp_path_factory.mktemp("bart") / "model"
    main(corpus, output, system="bart", objectives=["text"])
    return output


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"system": "gpt"}, "system must be one of .*'mmprofile', 'flan_t5'.*got 'gpt'"),
        ({"system": "bart", "paradigm": "combined"}, "bart is trained by the paradigms .'unimodal'., got 'combined'"),
        ({"system": "bart", "fusion": "concat"}, "fusion is no choice of bart: leave"),
        ({"system": "select_att", "vision_feature": "patches"}, "vision_feature is no choice of select_att"),
        ({"system": "bart", "freeze_vision": True}, "bart has no vision tower, got freeze_vision=True"),
        (
            {"system": "bart", "vision_model": "vit"},
            "bart has no vision tower of a checkpoint of its own",
        ),
        ({"system": "bart", "fusion_learning_rate": 0.1}, "bart has no part for fusion_learning_rate=0.1"),
        ({"system": "bart", "vision_learning_rate": 0.1}, "bart has no part for vision_learning_rate=0.1"),
        ({"system": "coopnet", "text_learning_rate": 0.1}, "coopnet has no part for text_learning_rate=0.1"),
        ({"system": "coopnet", "vision_model": "google/vit-base-patch16-224"}, "the tiny preset makes both towers"),
    ],
)
def test_what_does_not_fit_a_system_is_refused_before_the_first_step(corpus, tmp_path, flags, message):
    with pytest.raises(ValueError, match=message):
        main(corpus, tmp_path / "model", **flags)


def test_a_system_whose_frozen_tower_reads_photos_again_and_again_is_named(corpus, tmp_path, capfd):
    flags = {"freeze_vision": True, "photo_cache": tmp_path / "cache", "dry_run": True}
    main(corpus, tmp_path / "model", system="coopnet", **flags)
    assert "coopnet keeps no states of photos: its frozen vision tower reads them" in capfd.readouterr().err


def test_a_checkpoint_of_another_system_or_schema_is_refused_and_both_are_named(bart, corpus, tmp_path):
    for system in ("mmprofile", "llama"):
        with pytest.raises(ValueError, match=f"'{bart}' is a checkpoint of the system 'bart', got '{system}'"):
            main(corpus, tmp_path / system, system=system, model=bart)
    others = other_schema(tmp_path / "others")
    for split in ("train", "validation"):
        shutil.copy(others / "test-00000-of-00001.parquet", others / f"{split}-00000-of-00001.parquet")
    with pytest.raises(ValueError, match=r"writes profiles of .*Favorite Category.* the corpus has \[.*Stars"):
        main(others, tmp_path / "schema", system="bart", model=bart)
    folder = tmp_path / "unknown"
    shutil.copytree(bart, folder)
    config = read_json(bart / "config.json") | {"system": "unknown"}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="system must be one of .*'bart'.*got 'unknown'"):
        main(corpus, tmp_path / "output", system="bart", model=folder)


@pytest.mark.slow
def test_beams_within_the_schema_write_profiles_of_it_alone(corpus, tmp_path, monkeypatch):
    found, evaluate = [], evaluation._evaluate
    monkeypatch.setattr(evaluation, "_evaluate", lambda *args: found.append(evaluate(*args)) or found[-1])
    for constrained in (False, True):
        found.clear()
        main(
            corpus, tmp_path / str(constrained), objectives=["text"], constrained_beams=constrained, learning_rate=1e-5
        )
        written = [profile for of_split in found for profile in of_split.predictions]
        assert written and all(None not in profile.values() for profile in written) == constrained


def test_parts_of_a_system_have_their_learning_rates():
    rates = {"text_learning_rate": 0.2, "vision_learning_rate": 0.3, "fusion_learning_rate": 0.4}
    begins = {
        "llava": {"text": "language_model", "vision": "vision_tower", "fusion": "multi_modal_projector"},
        "aom": {"text": "text_model", "vision": "vision_model", "fusion": "graph"},
        "coopnet": {"vision": "vision_model", "fusion": "reader"},
    }
    for name, parts in begins.items():
        model = tiny_model(name)
        asked = {f"{part}_learning_rate": rates[f"{part}_learning_rate"] for part in parts}
        flags = JointTrainingArguments(dataset="x", output_dir="y", system=name, **asked)
        optimizer = make_optimizer(NaiveJointStep(model, views_of(name), torch.zeros(3)), flags)
        found = {parameter: group["lr"] for group in optimizer.param_groups for parameter in group["params"]}
        assert parts
        for part, word in parts.items():
            its = {found[p] for key, p in model.named_parameters() if word in key.split(".") and p.requires_grad}
            assert its == {asked[f"{part}_learning_rate"]}


def test_a_system_without_a_layer_for_lora_is_named():
    model = tiny_model("coopnet")
    model.vision_model.requires_grad_(False)
    with pytest.raises(ValueError, match="coopnet has no linear layer for lora_rank=2 that is trained"):
        add_lora(model, JointTrainingArguments(dataset="x", output_dir="y", system="coopnet", lora_rank=2))


def test_a_layer_that_is_not_read_gets_no_matrices():
    model = tiny_model("llava")
    model.config.vision_feature_layer = -2
    model.prepare(processor_of_users())
    add_lora(model, JointTrainingArguments(dataset="x", output_dir="y", system="llava", lora_rank=2))
    adapted = [name for name, _ in model.named_parameters() if "lora_A" in name and "vision_tower" in name]
    assert adapted and all(".layers.0." in name for name in adapted)


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")  # peft's
def test_llavas_adapter_names_its_projector(tmp_path):
    model = tiny_model("llava")
    add_lora(model, JointTrainingArguments(dataset="x", output_dir="y", system="llava", lora_rank=2))
    save_adapter(model, tmp_path / "adapter")
    found = read_json(tmp_path / "adapter" / "adapter_config.json")["modules_to_save"]
    assert found == ["model.multi_modal_projector"]
    PeftModel.from_pretrained(tiny_model("llava"), tmp_path / "adapter")


@pytest.mark.parametrize("name", ["bart", "llava"])
def test_without_its_recipe_a_system_is_evaluated_with_its_own_towers(name, corpus, tmp_path, monkeypatch):
    model, processor, given = tiny_model(name), processor_of_users(), []
    save_hub_folder(model, processor, tmp_path / "model")

    def evaluated(model, processor, split, arguments, *_):
        given.append(arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(evaluation_only, "evaluate_saved", evaluated)
    AcceleratorState._reset_state()
    with pytest.raises(KeyboardInterrupt):
        flags = {"dataset": corpus, "output_dir": tmp_path / "model", "do_train": False, "fusion": "concat"}
        train.main([word for flag, value in flags.items() for word in (f"--{flag}", str(value))])
    found, system = given[0], SYSTEMS[name]
    assert (found.system, found.paradigm) == (name, system.own_paradigm)
    assert (found.text_model, found.vision_model) == (system.text_model, system.vision_model)
    assert (found.fusion, found.vision_feature) == ("gated", "cls")


def test_the_page_shows_no_model_that_does_not_search(bart):
    with pytest.raises(SystemExit, match="cannot be loaded: the page shows models that search.*bart does not"):
        app.main(["--model", str(bart)])


def test_flan_t5_on_text_is_evaluated_on_text(corpus, tmp_path, monkeypatch):
    found, evaluate = [], evaluation._evaluate

    def noted(model, batches, *args):
        batches = list(batches)
        found.extend(sorted(batch) for batch in batches)
        return evaluate(model, batches, *args)

    monkeypatch.setattr(evaluation, "_evaluate", noted)
    results = main(corpus, tmp_path / "model", system="flan_t5", objectives=["text"], test_conditions=[*CONDITIONS])
    assert found and all(names == ["attention_mask", "input_ids", "labels"] for names in found)
    assert "reviews alone" not in results["test_f1"]
    assert "is shown no photo and no caption" in (tmp_path / "model" / "README.md").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("name", OTHERS)
def test_each_system_is_trained_evaluated_described_and_predicts(name, corpus, tmp_path):
    output, asked = tmp_path / "model", tmp_path / "predictions"
    results = main(corpus, output, system=name, test_conditions=[*CONDITIONS])
    assert name in results["test_f1"] and results["test_average_f1"] == results["test_f1"][name]["average"]
    card = (output / "README.md").read_text(encoding="utf-8")
    assert (
        SYSTEMS[name].title in card
        and "Do not load it by `AutoModel`" in card
        and "load_model(repo, None)" in card
        and "handler.py" not in card
    )
    assert not (output / "handler.py").exists() and "auto_map" not in read_json(output / "config.json")
    argv = ["--model", output, "--dataset", corpus, "--split", "test", "--output", asked, "--evaluate", "true"]
    assert predict.main(list(map(str, argv)))["predicted"] == 4
    again = main(corpus, output, do_train=False, test_split="validation")
    assert name in again["test_f1"]


@pytest.mark.slow
@pytest.mark.parametrize("name", OTHERS)
def test_each_system_learns_16_users_by_heart(name):
    processor, model, examples = processor_of_users(), tiny_model(name).train(), examples_of(16, photos=2)
    views = views_of(name, objectives=["fusion", "text"])
    collator = JointCollator(processor, views, 0.5, 0.5, with_classes=SYSTEMS[name].needs_classes)
    step, batch = joint_step(model, views, processor.black), collator(examples)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    inputs = NaiveJointStep(model, views, processor.black).inputs_of(views["fusion"], batch)
    for number in range(400):
        optimizer.zero_grad()
        step(batch).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if number % 20 == 19:
            model.eval()
            if model.write_profiles(inputs, processor, 1) == [example.profile for example in examples]:
                return
            model.train()
    pytest.fail("after 400 steps some profiles are still others")


@pytest.mark.slow
@pytest.mark.parametrize("name", KINDS)
def test_a_system_that_is_stopped_goes_on_as_if_left_alone(name, corpus, tmp_path, monkeypatch):
    flags = {"system": name, "num_epochs": 2, "batch_size": 2, "test_conditions": [*CONDITIONS]}
    alone, history = run(corpus, tmp_path / "alone", **flags)
    flags |= {"resume_from_checkpoint": "auto"}
    for at in (2, 4, 3):
        stopped_run(corpus, tmp_path / "stopped", at, monkeypatch, **flags)
        assert list_checkpoints(tmp_path / "stopped")
    results, stopped = run(corpus, tmp_path / "stopped", **flags)
    assert same(weights(tmp_path / "stopped"), weights(tmp_path / "alone"))
    assert results["test_f1"] == alone["test_f1"] and untimed(stopped) == untimed(history)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["llama", "coopnet", "aom"])
def test_two_processes_train_a_system_as_one(name, tmp_path):
    write_corpus(tmp_path / "corpus", sizes=(8, 4, 4))
    launch = launcher("recipes/accelerate_cpu.yaml", "train.py")
    flags = {"system": name, "num_epochs": 1}
    two, history = train_launched(tmp_path / "corpus", tmp_path / "two", launch, batch_size=2, **flags)[::-1]
    one, expected = run(tmp_path / "corpus", tmp_path / "one", batch_size=4, test_conditions=[*CONDITIONS], **flags)
    names = [name for name in expected[0] if name.startswith("train_loss") or name == "dev_loss"]
    assert {"train_loss", "train_loss_fusion", "dev_loss"} <= set(names)
    # Adam turns the last digits of a gradient that is all but zero into steps.
    found, wanted = ([run[0][name] for name in names] for run in (history, expected))
    assert found == pytest.approx(wanted, rel=5e-4)
    assert two["test_f1"].keys() == one["test_f1"].keys()
    for row, scores in one["test_f1"].items():
        assert two["test_f1"][row] == pytest.approx(scores)


def test_answers_keep_the_schemas_order():
    model, processor = tiny_model("bart"), processor_of_users()
    inputs = processor(reviews=["a place"])
    (found,) = model.profile_users(inputs, processor.tokenizer)
    assert list(found["profile"]) == list(SCHEMA.keys)
