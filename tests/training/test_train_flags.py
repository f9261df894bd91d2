"""Flags of train.py whose effect is not in the weights alone, and runs that are refused."""

import json
import re
import shutil

import pyarrow.parquet as pq
import pytest
import torch
from accelerate.tracking import LOGGER_TYPE_TO_CLASS, GeneralTracker
from datasets import Dataset
from transformers import AutoProcessor, T5ForConditionalGeneration, ViTImageProcessorPil, ViTModel, get_scheduler

from cli.flags import parse_flags
from mmprofile import MMProfileProcessor
from publishing.hub_upload import IGNORED
from publishing.run_files import PREDICTIONS
from scoring.evaluation import profile_f1
from systems.presets import train_tokenizer
from tests.files.test_output_files import held
from tests.tiny_corpus import SCHEMA, features, user, write_corpus
from tests.tiny_folder import make_older
from tests.tiny_models import tiny_t5_config, tiny_vit_config
from tests.training.test_train import run, same, weights
from training import evaluations
from training import results as training_results
from training.arguments import CONDITIONS, LR_SCHEDULERS, JointTrainingArguments
from training.data import SPLITS, load_corpus
from training.joint_step import JointStep


def test_training_goes_on_from_a_checkpoint(corpus, base, tmp_path):
    _, history = run(corpus, tmp_path / "model", model=base[0])
    assert history[0]["train_loss"] < base[2][0]["train_loss"]
    assert (tmp_path / "model" / "modeling_mmprofile.py").is_file()


def test_training_goes_on_from_a_checkpoint_that_older_code_saved_and_leaves_code_of_today(corpus, base, tmp_path):
    older = tmp_path / "older"
    shutil.copytree(base[0], older)
    make_older(older)
    run(corpus, tmp_path / "model", model=older)
    assert (tmp_path / "model" / "texts_mmprofile.py").is_file()
    assert "encode_sections" in (tmp_path / "model" / "processing_mmprofile.py").read_text()
    processor = AutoProcessor.from_pretrained(tmp_path / "model", trust_remote_code=True)
    assert processor.section_marks == "words"


@pytest.mark.slow
def test_code_that_came_with_a_checkpoint_is_trained_and_saved_only_where_that_is_asked_for(corpus, base, tmp_path):
    own = shutil.copytree(base[0], tmp_path / "own")
    with open(own / "modeling_mmprofile.py", "a") as file:
        file.write(f"\nopen({str(tmp_path / 'ran')!r}, 'w').close()\n")
    for trusted in (False, True):
        run(corpus, tmp_path / str(trusted), model=own, trust_remote_code=trusted)
        saved = (tmp_path / str(trusted) / "modeling_mmprofile.py").read_bytes()
        assert (saved == (own / "modeling_mmprofile.py").read_bytes()) == (tmp_path / "ran").exists() == trusted
    assert same(weights(tmp_path / "False"), weights(tmp_path / "True"))


def test_two_towers_from_folders_are_trained(corpus, tmp_path):
    tokenizer = train_tokenizer(["user likes a place"], SCHEMA, vocab_size=400)
    tokenizer.save_pretrained(tmp_path / "t5")
    text = T5ForConditionalGeneration(tiny_t5_config(vocab_size=len(tokenizer)))
    text.save_pretrained(tmp_path / "t5")
    ViTModel(tiny_vit_config()).save_pretrained(tmp_path / "vit")
    ViTImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(tmp_path / "vit")
    flags = {"text_model": tmp_path / "t5", "vision_model": tmp_path / "vit", "learning_rate": 1e-9}
    run(corpus, tmp_path / "model", **flags)
    trained = weights(tmp_path / "model")["text_model.shared.weight"]
    torch.testing.assert_close(trained, text.shared.weight.detach(), atol=1e-6, rtol=0)


def test_a_photo_cache_changes_no_weight_and_is_decoded_once(corpus, base, tmp_path, monkeypatch):
    decoded, load_image = [], MMProfileProcessor.load_image

    def counting(self, image):
        decoded.append(isinstance(image, bytes))
        return load_image(self, image)

    monkeypatch.setattr(MMProfileProcessor, "load_image", counting)
    run(corpus, tmp_path / "model", photo_cache=tmp_path / "photos")
    assert same(weights(tmp_path / "model"), weights(base[0]))
    assert len(list((tmp_path / "photos").iterdir())) == 1
    assert sum(decoded) > 0
    decoded.clear()
    run(corpus, tmp_path / "again", photo_cache=tmp_path / "photos")
    assert sum(decoded) == 0


def test_evaluation_flags_reach_the_evaluation(corpus, tmp_path, monkeypatch):
    seen = []
    evaluate_model = evaluations.evaluate_model

    def spy(model, loader, processor, accelerator, num_beams, name, constrained):
        seen.append((num_beams, loader.loader.total_batch_size, len(loader.loader.dataset)))
        return evaluate_model(model, loader, processor, accelerator, num_beams, name, constrained)

    for module in (evaluations, training_results):
        monkeypatch.setattr(module, "evaluate_model", spy)
    flags = {"eval_batch_size": 2, "num_beams": 3, "max_eval_users": 3}
    run(corpus, tmp_path / "model", test_conditions=[*CONDITIONS], **flags)
    assert seen == [(3, 2, 3)] * 5  # development, and the test split by the recipe, itself and under three conditions
    assert json.loads((tmp_path / "model" / "generation_config.json").read_text())["num_beams"] == 3


def test_conditions_and_test_users_are_those_asked_for_and_every_profile_is_kept(corpus, tmp_path):
    flags = {"max_eval_users": 2, "max_test_users": 3, "save_predictions": True}
    results, _ = run(corpus, tmp_path / "model", test_conditions=["text_only"], **flags)
    assert list(results["test_f1"]) == ["mmprofile", "the paper's recipe", "reviews alone", "majority class"]
    assert results["test_corpus"]["users"] == 3 and results["train_corpus"]["dev"] == 2
    kept = pq.read_table(tmp_path / "model" / PREDICTIONS)
    assert kept.column_names == ["user_id", "truth", "mmprofile", "the paper's recipe", "reviews alone"]
    assert len(kept) == 3
    truths, written = ([json.loads(text) for text in kept[name].to_pylist()] for name in ("truth", "reviews alone"))
    assert profile_f1(written, truths, SCHEMA) == results["test_f1"]["reviews alone"]
    assert PREDICTIONS in IGNORED
    card = (tmp_path / "model" / "README.md").read_text()
    assert "another person" not in card and "one more review" not in card and "the reviews alone reach" in card
    results, _ = run(corpus, tmp_path / "model", test_conditions="none", **flags, overwrite_output_dir=True)
    assert list(results["test_f1"]) == ["mmprofile", "the paper's recipe", "majority class"]
    with pytest.raises(ValueError, match="test_conditions must be different ones of .*, got"):
        run(corpus, tmp_path / "other", test_conditions=["text_only", "blind"])


def test_a_tracker_gets_flags_losses_and_scores(corpus, tmp_path, monkeypatch):
    noted = []

    class Notes(GeneralTracker):
        name, requires_logging_directory, tracker = "notes", True, None

        def __init__(self, run_name, logging_dir):
            super().__init__()
            noted.append((run_name, logging_dir))

        def store_init_configuration(self, values):
            noted.append(values)

        def log(self, values, step=None, **options):
            noted.append((step, values))

    monkeypatch.setitem(LOGGER_TYPE_TO_CLASS, "notes", Notes)
    run(corpus, tmp_path / "model", batch_size=2, num_reviews=2, report_to="notes", num_epochs=3, log_steps=1000)
    named, flags, *logged = noted
    assert named == ("mmprofile", str(tmp_path / "model" / "logs")) or named[1] == tmp_path / "model" / "logs"
    assert (flags["num_reviews"], flags["learning_rate"]) == (2, 0.01)
    assert [step for step, _ in logged] == [4, 8, 12, 13]
    assert {"train_loss", "train_loss_text", "dev_loss", "dev_f1_stars", "dev_f1_average"} <= set(logged[-2][1])
    assert {"test_average_f1", "test_f1/mmprofile/stars"} <= set(logged[-1][1])


def test_a_configuration_of_the_corpus_can_be_chosen(tmp_path):
    write_corpus(tmp_path / "corpus" / "small", sizes=(4, 2, 2))
    write_corpus(tmp_path / "corpus" / "large", sizes=(6, 2, 2))
    configs = "".join(
        f"- config_name: {name}\n  data_files:\n"
        + "".join(f"  - split: {s}\n    path: {name}/{s}-*.parquet\n" for s in SPLITS)
        for name in ("small", "large")
    )
    (tmp_path / "corpus" / "README.md").write_text(f"---\nconfigs:\n{configs}---\n")
    for name, users in (("small", 4), ("large", 6)):
        arguments = parse_flags(
            JointTrainingArguments,
            ["--dataset", str(tmp_path / "corpus"), "--output_dir", "x", "--dataset_config", name],
        )
        assert len(load_corpus(arguments)["train"]) == users


def test_the_card_names_the_corpus_and_shows_an_example_if_asked(corpus, base, tmp_path):
    run(corpus, tmp_path / "model", dataset_name="synthetic Yelp", publish_example=True, language="de")
    asked, unasked = ((folder / "README.md").read_text() for folder in (tmp_path / "model", base[0]))
    assert "synthetic Yelp" in asked and "language: de" in asked
    assert re.search(r"user 20\d review 0 likes", asked) and not re.search(r"user 20\d", unasked)
    assert "synthetic Yelp" not in unasked


def test_an_output_folder_with_files_is_not_overwritten_unasked(corpus, base, tmp_path):
    before = weights(base[0])
    with pytest.raises(ValueError, match="overwrite_output_dir"):
        run(corpus, base[0])
    assert same(weights(base[0]), before)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "metrics.jsonl").write_text("{}\n{}\n")
    _, history = run(corpus, tmp_path / "model", overwrite_output_dir=True)
    assert len(history) == 1


def test_a_checkpoint_of_another_schema_is_refused(corpus, base, tmp_path):
    stars_alone = features()
    stars_alone["profile"] = {"stars": stars_alone["profile"]["stars"]}
    rows = [user(number) | {"profile": {"stars": 0}} for number in range(3)]
    other = tmp_path / "corpus"
    other.mkdir()
    for name in SPLITS:
        Dataset.from_list(rows, features=stars_alone).to_parquet(other / f"{name}-00000-of-00001.parquet")
    with pytest.raises(ValueError, match="Favorite Category"):
        run(other, tmp_path / "model", model=base[0])


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"paradigm": "bimodal"}, "'bimodal'"),
        ({"objectives": ["fusion", "sense"]}, "sense"),
        ({"objective_weights": [1, 2]}, r"\[1.0, 2.0\]"),
        ({"mask_probability": 1.5}, "1.5"),
        ({"profile_mask_probability": -0.5}, "-0.5"),
        ({"batch_size": 0}, "batch_size is at least 1, got 0"),
        ({"num_images": -1}, "num_images is at least 0, got -1"),
        ({"learning_rate": -1.0}, "-1.0"),
        ({"lr_scheduler": "steep"}, "'steep'"),
        ({"lr_scheduler": "reduce_lr_on_plateau"}, "'reduce_lr_on_plateau'"),
        ({"lr_scheduler": "cosine_with_min_lr"}, "'cosine_with_min_lr'"),
        ({"learning_rate": ".nan"}, "above 0.*nan"),
        ({"max_grad_norm": ".nan"}, "above 0.*nan"),
        ({"weight_decay": ".inf"}, "weight_decay is at least 0, got inf"),
        ({"objective_weights": [1, ".nan", 1, 1]}, "nan"),
        ({"vision_feature": "x"}, "'x'"),
        ({"model": "org/model", "fusion": "concat"}, "org/model has its own fusion"),
        ({"model": "/nowhere"}, "there is no model '/nowhere': "),
        ({"dataset": "/nowhere"}, "there is no corpus '/nowhere'"),
        ({"output_dir": "/dev/null"}, "output must be a folder .* got /dev/null"),
        ({"mixed_precision": "fp8"}, "'fp8'"),
        ({"vision_model": "google/vit-base-patch16-224"}, "both towers"),
        ({"fusion": "sum"}, "'sum'"),
        ({"dataset": ""}, "--dataset"),
        ({"objective_schedule": "some"}, "'some'"),
        ({"objective_schedule": "sampled", "final_objective_weights": [1, 2]}, r"\[1.0, 2.0\]"),
        ({"objective_schedule": "sampled", "final_objective_weights": [1, 0, 1, 1]}, r"\[1.0, 0.0, 1.0, 1.0\]"),
        ({"final_objective_weights": [1, 2, 3, 4]}, "objective_schedule sampled, got 'all'"),
        ({"save_steps": 0}, "save_steps is at least 1, got 0"),
        ({"checkpoints_total_limit": 0}, "checkpoints_total_limit is at least 1, got 0"),
        ({"hub_strategy": "always"}, "'always'"),
        ({"hub_model_id": "user/run"}, "user/run.*--push_to_hub"),
    ],
)
def test_bad_runs_are_refused_before_the_first_step(corpus, tmp_path, flags, message, monkeypatch):
    monkeypatch.setattr(JointStep, "forward", None)
    with pytest.raises(ValueError, match=message):
        run(corpus, tmp_path / "model", **flags)


def test_weights_of_epochs_lie_evenly_between_the_first_and_the_last():
    flags = {"dataset": "x", "output_dir": "y", "objectives": ["fusion", "text"], "objective_schedule": "sampled"}
    arguments = JointTrainingArguments(**flags, objective_weights=[1, 9], final_objective_weights=[9, 1], num_epochs=5)
    assert [of_epoch["fusion"] for of_epoch in arguments.drawn_by] == pytest.approx([0.1, 0.3, 0.5, 0.7, 0.9])
    assert [sum(of_epoch.values()) for of_epoch in arguments.drawn_by] == pytest.approx([1.0] * 5)
    equal, once = {"fusion": 0.5, "text": 0.5}, {"fusion": 0.1, "text": 0.9}
    assert JointTrainingArguments(**flags, num_epochs=2).drawn_by == [equal, equal]
    one_epoch = JointTrainingArguments(**flags, objective_weights=[1, 9], final_objective_weights=[9, 1], num_epochs=1)
    assert one_epoch.drawn_by == [once]
    assert JointTrainingArguments(**flags | {"objective_schedule": "all"}).drawn_by is None


def test_as_many_photos_as_the_flags_ask_for_are_taken(corpus, tmp_path):
    run(corpus, tmp_path / "model", num_reviews=4, num_images=9)
    assert AutoProcessor.from_pretrained(tmp_path / "model", trust_remote_code=True).max_images == 36


def test_an_output_in_which_another_run_is_at_work_is_refused(corpus, tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "metrics.jsonl").write_text("of the other run")
    with held(tmp_path / "model"), pytest.raises(ValueError, match="another run is at work in .*model; wait"):
        run(corpus, tmp_path / "model", overwrite_output_dir=True)
    assert (tmp_path / "model" / "metrics.jsonl").read_text() == "of the other run"


@pytest.mark.parametrize("schedule", LR_SCHEDULERS)
def test_each_schedule_makes_a_learning_rate(schedule):
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))])
    scheduler = get_scheduler(schedule, optimizer, num_warmup_steps=1, num_training_steps=4)
    optimizer.step()
    scheduler.step()
    assert optimizer.param_groups[0]["lr"] > 0
