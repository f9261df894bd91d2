"""train.py, run as a user runs it, on a corpus of a few users."""

import json
import re
from pathlib import Path

import pytest
import torch
from accelerate.state import AcceleratorState
from safetensors.torch import load_file

import train
from training import evaluations

SMALL = {
    "text_model": "tiny",
    "vision_model": "tiny",
    "vocab_size": 400,
    "batch_size": 4,
    "num_epochs": 1,
    "num_beams": 1,
    "learning_rate": 0.01,
    "test_conditions": "none",
}


def main(corpus, output, **flags):
    """Runs train.py with these flags; returns what it returns."""
    flags = SMALL | {"dataset": corpus, "output_dir": output} | flags
    argv = []
    for name, value in flags.items():
        argv += [f"--{name}", *(map(str, value) if isinstance(value, list) else [str(value)])]
    AcceleratorState._reset_state()  # each run is a process of its own, as far as Accelerate knows
    return train.main(argv)


def run(corpus, output, **flags):
    results = main(corpus, output, **flags)
    history = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    return results, history


class Trained(Exception):
    """Ends a run that has its weights."""


def train_only(corpus, output, **flags):
    """The weights that a run ends with, without the last evaluations, which take two thirds of a small run."""
    evaluate, left = evaluations.evaluate_model, [flags.get("num_epochs", SMALL["num_epochs"])]

    def evaluate_or_end(model, *args):
        left[0] -= 1
        if left[0] == 0:
            raise Trained(model.state_dict())
        return evaluate(model, *args)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Trained) as ended:
        patch.setattr(evaluations, "evaluate_model", evaluate_or_end)
        run(corpus, output, **flags)
    return ended.value.args[0]


@pytest.fixture(scope="module")
def learned(corpus, tmp_path_factory):
    return train_only(corpus, tmp_path_factory.mktemp("learned") / "model")


def weights(output):
    return load_file(output / "model.safetensors")


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_a_run_leaves_a_folder_that_is_ready_for_the_hub(base):
    output, results, history = base
    assert {path.name for path in output.iterdir()} >= {
        "README.md",
        "all_results.json",
        "calibration.png",
        "config.json",
        "confusion.png",
        "configuration_mmprofile.py",
        "curves.png",
        "generation_config.json",
        "generation_mmprofile.py",
        "handler.py",
        "images_mmprofile.py",
        "metrics.jsonl",
        "model.safetensors",
        "modeling_mmprofile.py",
        "photo_files_mmprofile.py",
        "pipeline_mmprofile.py",
        "processing_mmprofile.py",
        "processor_config.json",
        "requirements.txt",
        "tokenizer.json",
    }
    assert not (output / ".unfinished").exists()
    saved = json.loads((output / "all_results.json").read_text())
    assert saved == json.loads(json.dumps(results))
    for name in ("test", "test_majority", "test_text_only", "test_unpaired", "test_forged", "test_often_forged"):
        assert 0 <= saved[f"{name}_average_f1"] <= 100
    assert all(0 <= of_key["expected_error"] <= 1 for of_key in saved["test_calibration"].values())
    assert list(saved["test_forged_agreement"]) == list(saved["test_calibration"])
    assert all(
        0 <= of_key[row] <= 100
        for of_key in saved["test_forged_agreement"].values()
        for row in ("without", "with", "with_five")
    )
    assert {f"train_loss_{name}" for name in ("fusion", "text", "mask_image", "mask_profile")} <= set(history[0])
    assert history[0]["train_loss"] > 0
    assert history[0]["dev_loss"] > 0


def test_losses_fall(corpus, tmp_path):
    _, history = run(corpus, tmp_path / "model", num_epochs=4, objectives=["text"], paradigm="multimodal")
    losses = [record["train_loss"] for record in history]
    assert losses[-1] < 0.7 * losses[0]
    assert [record["epoch"] for record in history] == [1, 2, 3, 4]


def test_the_same_seed_gives_the_same_weights(corpus, base, tmp_path):
    run(corpus, tmp_path / "model")
    assert same(weights(tmp_path / "model"), weights(base[0]))


def test_workers_do_not_change_the_weights(corpus, learned, tmp_path):
    assert same(train_only(corpus, tmp_path / "model", num_workers=2), learned)


# Flags that change the weights after one epoch; each run differs from the base run in this flag alone.
CHANGES_WEIGHTS = {
    "vocab_size": 250,
    "fusion": "concat",
    "vision_feature": "patches",
    "paradigm": "multimodal",
    "objectives": ["fusion", "text"],
    "objective_weights": [1, 2, 3, 4],
    "objective_schedule": "sampled",
    "mask_probability": 0.9,
    "profile_mask_probability": 0.0,
    "num_reviews": 1,
    "num_images": 2,
    "photos_from": "nobody",
    "photo_share": 0.5,
    "max_text_tokens": 45,
    "forged_lines": 1.0,
    "batch_size": 2,
    "gradient_accumulation_steps": 2,
    "group_by_length": True,
    "learning_rate": 0.005,
    "text_learning_rate": 0.005,
    "vision_learning_rate": 0.005,
    "fusion_learning_rate": 0.005,
    "weight_decay": 0.5,
    "adam_beta2": 0.9,
    "lr_scheduler": "constant",
    "warmup_ratio": 0.5,
    "max_grad_norm": 0.01,
    "mixed_precision": "bf16",
    "fused_adamw": False,
    "freeze_vision": True,
    "ema_decay": 0.5,
    "seed": 1,
    "max_train_users": 4,
    "streaming": True,
}
CHANGES_ELSE = {
    "combination": "test_how_views_are_combined_changes_no_training_but_by_states",
    "view_reviews": "test_a_history_is_read_in_views_and_the_recipe_in_one",
    "eval_views": "test_a_history_is_read_in_views_and_the_recipe_in_one",
    # name -> the test that shows it
    "dataset": "test_bad_runs_are_refused_before_the_first_step",
    "dataset_config": "test_a_configuration_of_the_corpus_can_be_chosen",
    "dataset_revision": "test_a_corpus_of_the_hub_is_that_of_its_revision",
    "dataset_name": "test_the_card_names_the_corpus_and_shows_an_example_if_asked",
    "language": "test_the_card_names_the_corpus_and_shows_an_example_if_asked",
    "publish_example": "test_the_card_names_the_corpus_and_shows_an_example_if_asked",
    "output_dir": "test_a_run_leaves_a_folder_that_is_ready_for_the_hub",
    "overwrite_output_dir": "test_an_output_folder_with_files_is_not_overwritten_unasked",
    "system": "test_each_system_is_trained_evaluated_described_and_predicts",
    "constrained_beams": "test_beams_within_the_schema_write_profiles_of_it_alone",
    "model": "test_training_goes_on_from_a_checkpoint",
    "model_revision": "test_a_checkpoint_of_the_hub_is_that_of_its_revision",
    "trust_remote_code": "test_code_that_came_with_a_checkpoint_is_trained_and_saved_only_where_that_is_asked_for",
    "text_model": "test_two_towers_from_folders_are_trained",
    "vision_model": "test_two_towers_from_folders_are_trained",
    "final_objective_weights": "test_weights_of_epochs_lie_evenly_between_the_first_and_the_last",
    "num_epochs": "test_losses_fall",
    "lora_rank": "test_lora_trains_matrices_of_its_rank_and_the_fusion_and_the_folder_is_the_merged_model",
    "lora_alpha": "test_targets_and_alpha_are_those_asked_for",
    "lora_targets": "test_targets_and_alpha_are_those_asked_for",
    "gradient_checkpointing": "test_gradient_checkpointing_recomputes_and_changes_no_gradient",
    "matmul_precision": "test_matmul_precision_is_for_the_run_that_asks_for_it",
    "compile": "test_compiled_layers_train_as_they_are_and_are_not_compiled_for_each_size",
    "shuffle_buffer": "test_the_buffer_bounds_what_is_held_and_mixes_as_much",
    "num_workers": "test_workers_do_not_change_the_weights",
    "check_photos": "test_with_the_check_left_out_a_run_ends_at_the_photo_and_names_it_a_checkpoint_first",
    "on_bad_photo": "test_skipped_photos_leave_the_weights_of_a_corpus_without_them",
    "photo_cache": "test_a_photo_cache_changes_no_weight_and_is_decoded_once",
    "eval_batch_size": "test_evaluation_flags_reach_the_evaluation",
    "num_beams": "test_evaluation_flags_reach_the_evaluation",
    "max_eval_users": "test_evaluation_flags_reach_the_evaluation",
    "max_test_users": "test_conditions_and_test_users_are_those_asked_for_and_every_profile_is_kept",
    "test_conditions": "test_conditions_and_test_users_are_those_asked_for_and_every_profile_is_kept",
    "save_predictions": "test_conditions_and_test_users_are_those_asked_for_and_every_profile_is_kept",
    "dry_run": "test_a_dry_run_counts_steps_evaluations_and_time_and_writes_nothing",
    "log_steps": "test_a_run_tells_each_step_of_all_batches_and_the_level_says_how_much",
    "log_level": "test_a_run_tells_each_step_of_all_batches_and_the_level_says_how_much",
    "max_steps": "test_max_steps_end_a_run_whatever_num_epochs_says",
    "eval_steps": "test_an_evaluation_is_done_after_so_many_steps_and_at_the_end_of_an_epoch",
    "early_stopping_patience": "test_a_run_ends_when_its_patience_does",
    "max_skipped_steps": "test_too_many_steps_in_a_row_end_the_run_with_the_last_good_checkpoint",
    "do_train": "test_evaluating_a_folder_again_writes_what_training_wrote_and_changes_no_weight",
    "test_split": "test_another_split_of_another_corpus_is_named_and_what_is_not_known_of_the_training_is_not_told",
    "seeds": "test_a_run_among_seeds_is_bit_for_bit_the_run_of_that_seed_alone",
    "resume_from_checkpoint": "test_a_run_that_is_stopped_again_and_again_is_the_run_left_alone",
    "save_steps": "test_save_steps_and_the_limit_say_which_checkpoints_there_are",
    "checkpoints_total_limit": "test_save_steps_and_the_limit_say_which_checkpoints_there_are",
    "auto_batch_size": "test_auto_batch_size_halves_until_it_fits_and_keeps_the_global_batch",
    "report_to": "test_a_tracker_gets_flags_losses_and_scores",
    "push_to_hub": "test_the_hub_gets_the_folder_and_the_checkpoint_if_asked",
    "hub_model_id": "test_a_hub_that_is_away_harms_nothing_and_the_way_to_push_later_is_shown",
    "hub_private_repo": "test_the_hub_gets_the_folder_and_the_checkpoint_if_asked",
    "hub_strategy": "test_the_hub_gets_the_folder_and_the_checkpoint_if_asked",
}


@pytest.mark.parametrize("flag", list(CHANGES_WEIGHTS))
def test_flag_changes_the_weights(corpus, learned, tmp_path, flag):
    assert not same(train_only(corpus, tmp_path / "model", **{flag: CHANGES_WEIGHTS[flag]}), learned)


def test_every_flag_has_a_test():
    fields = set(train.JointTrainingArguments.__dataclass_fields__)
    assert fields == set(CHANGES_WEIGHTS) | set(CHANGES_ELSE)
    folders = Path(__file__).parent, Path(__file__).parent.parent / "baselines"
    files = [path for folder in folders for path in sorted(folder.glob("test_*.py"))]
    here = {name for file in files for name in re.findall(r"^def (test_\w+)", file.read_text(), re.M)}
    assert set(CHANGES_ELSE.values()) <= here
