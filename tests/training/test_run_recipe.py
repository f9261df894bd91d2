"""The flags that made a model, beside it: a recipe that train.py takes, without a folder of the machine."""

from pathlib import Path

import pytest

from baselines.table import SYSTEMS
from cli.flags import parse_flags
from training.arguments import JointTrainingArguments
from training.run_recipe import OF_EVALUATION, as_trained, read_saved_recipe, save_recipe

FLAGS = {
    "dataset": "/secret/place/corpus",
    "output_dir": "/secret/model",
    "text_model": "/secret/towers/my-t5",
    "learning_rate": 3e-5,
    "objectives": ["fusion", "text"],
    "objective_weights": [1.0, 2.5],
    "num_beams": 1,
    "language": "de",
    "save_steps": 5,
}


@pytest.fixture
def saved(tmp_path):
    arguments = JointTrainingArguments(**FLAGS)
    save_recipe(arguments, tmp_path)
    return arguments


def test_the_recipe_gives_the_same_run_and_names_no_folder(saved, tmp_path):
    text = (tmp_path / "recipe.yaml").read_text()
    assert "secret" not in text and "# The flags of train.py that made this model, in one process" in text
    read = parse_flags(JointTrainingArguments, [str(tmp_path / "recipe.yaml"), "--output_dir", "x"])
    assert read.run_flags == saved.run_flags | {"text_model": "./my-t5"}
    assert (read.dataset, read.language, read.save_steps) == ("./corpus", "de", None)
    assert read.vision_model == "google/vit-base-patch16-224"


def test_an_evaluation_has_the_runs_flags_but_those_of_its_own(saved, tmp_path):
    recipe = read_saved_recipe(tmp_path)
    asked = JointTrainingArguments(dataset="other", output_dir="y", num_beams=3, learning_rate=1.0, model="org/model")
    told = as_trained(asked, recipe)
    assert (told.dataset, told.output_dir, told.num_beams) == ("other", "y", 3)
    assert (told.learning_rate, told.language, told.model, told.text_model) == (3e-5, "de", None, "./my-t5")
    assert set(OF_EVALUATION) <= set(saved.run_flags)


@pytest.mark.parametrize("name", SYSTEMS)
def test_a_recipe_that_names_a_system_alone_has_the_systems_own_defaults(name):
    asked = JointTrainingArguments(dataset="x", output_dir="y", do_train=False, fusion="concat")
    told, system = as_trained(asked, {"system": name}), SYSTEMS[name]
    assert [told.system, told.paradigm] == [name, system.own_paradigm]
    assert [told.text_model, told.vision_model] == [system.text_model, system.vision_model]
    assert told.fusion == ("concat" if name == "mmprofile" else "gated")


def test_a_flag_that_is_gone_is_left_out_and_what_is_no_recipe_refused(saved, tmp_path):
    assert read_saved_recipe(tmp_path / "nowhere") is None
    path = Path(tmp_path / "recipe.yaml")
    path.write_text(f"{path.read_text()}\nold_flag: 3\n")
    assert "old_flag" not in read_saved_recipe(tmp_path)
    for text, message in (("- 1\n", r"must hold flags and their values, got \[1\]"), ("a: [", "is not YAML")):
        path.write_text(text)
        with pytest.raises(ValueError, match=message):
            read_saved_recipe(tmp_path)
