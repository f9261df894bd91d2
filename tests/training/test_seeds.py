"""Several seeds: each the run that it would be alone, none trained twice, and what their figures come to."""

import json
import re
from dataclasses import replace

import pytest
from accelerate.state import AcceleratorState

import train
from cli.logs import set_log_level
from mmprofile.configuration_mmprofile import ProfileSchema
from systems.presets import tiny_config
from tests.training.test_train import SMALL, main, run, same, weights
from tests.training.test_train_resume import stopped_run
from training import seeds
from training.agreement import StoppedRun
from training.arguments import JointTrainingArguments
from training.checkpoints import list_checkpoints
from training.run_recipe import save_recipe
from training.seeds import of_seed, run_seeds, summarise_seeds

STARS = ProfileSchema(({"name": "Stars", "values": ["1", "2"]},))
F1 = {"stars": 50.0, "average": 60.0}


def results(average: float, split: str = "test") -> dict:
    return {
        "test_average_f1": average,
        "test_f1": {"mmprofile": F1 | {"average": average}},
        "test_intervals": {"mmprofile": {"stars": [40.0, 60.0]}},
        "test_corpus": {"name": "x", "dataset": "./x", "config": None, "split": split},
        "best_epoch": 2,
        "whole": True,
    }


def test_figures_have_mean_deviation_and_the_t_interval_of_the_mean():
    summary = summarise_seeds({3: results(70.0), 4: results(72.0), 5: results(74.0)})
    assert summary["seeds"] == [3, 4, 5] and summary["figures"].keys() == {"test_average_f1", "test_f1", "best_epoch"}
    average = summary["figures"]["test_f1"]["mmprofile"]["average"]
    assert (average["mean"], average["deviation"]) == (72.0, 2.0)
    # Student's t of two degrees of freedom: 4.303 standard errors of 2 / sqrt(3).
    assert average["interval"] == pytest.approx([72 - 4.9683, 72 + 4.9683], abs=1e-3)
    assert summary["figures"]["test_average_f1"] == average
    alone = summarise_seeds({3: results(70.0)})["figures"]["test_average_f1"]
    assert alone == {"mean": 70.0, "deviation": None, "interval": None}


def test_seeds_that_were_evaluated_on_different_splits_are_not_averaged():
    with pytest.raises(ValueError, match="seed 0 was evaluated on .*'test'.*, seed 2 on .*'validation'"):
        summarise_seeds({0: results(70.0), 1: results(70.0), 2: results(70.0, "validation")})


@pytest.fixture
def arguments(tmp_path):
    return JointTrainingArguments(dataset="/data/x", output_dir=str(tmp_path / "runs"), seed=5, seeds=3)


@pytest.fixture
def ran(monkeypatch):
    """Stands in for a training: notes the seeds and writes what it returns."""
    monkeypatch.setattr(seeds, "_report", lambda *of: None)
    noted = []

    def note(arguments):
        noted.append(arguments)
        folder = seeds.Path(arguments.output_dir)
        folder.mkdir(parents=True, exist_ok=True)
        save_recipe(arguments, folder)
        found = results(70.0 + arguments.seed)
        (folder / "all_results.json").write_text(json.dumps(found))
        return found

    note.noted = noted
    return note


def test_seeds_that_have_ended_are_not_trained_again_and_one_that_was_killed_is(arguments, ran, tmp_path):
    summary = run_seeds(arguments, ran)
    assert [flags.seed for flags in ran.noted] == [5, 6, 7] == summary["seeds"]
    assert [flags.output_dir for flags in ran.noted] == [f"{tmp_path}/runs/seed-{n}" for n in (5, 6, 7)]
    assert json.loads((tmp_path / "runs" / "seeds.json").read_text()) == summary
    (tmp_path / "runs" / "seed-6" / "all_results.json").unlink()
    ran.noted.clear()
    assert run_seeds(arguments, ran) == summary
    # Of that run there is no checkpoint: it begins anew in its folder, which has its recipe.
    begun = [(flags.seed, flags.overwrite_output_dir, flags.resume_from_checkpoint) for flags in ran.noted]
    assert begun == [(6, True, None)]


def test_seeds_of_other_flags_are_not_taken_for_these_unless_all_are_to_be_trained_anew(arguments, ran):
    run_seeds(arguments, ran)
    arguments.learning_rate, arguments.num_workers = 0.5, 2
    with pytest.raises(ValueError, match="is of other flags: learning_rate was 5e-05, is 0.5; choose"):
        run_seeds(arguments, ran)
    arguments.overwrite_output_dir = True
    run_seeds(arguments, ran)
    assert [flags.seed for flags in ran.noted] == [5, 6, 7] * 2


def test_of_seeds_that_are_to_be_trained_anew_no_figures_are_left(arguments, ran):
    run_seeds(arguments, ran)

    def killed(arguments):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_seeds(replace(arguments, overwrite_output_dir=True), killed)
    assert not list(seeds.Path(arguments.output_dir).rglob("*.json"))


def test_seeds_are_averaged_whatever_the_corpus_is_called_and_on_another_split_are_refused_at_once(arguments, ran):
    run_seeds(arguments, ran)
    folder = seeds.Path(arguments.output_dir)
    (folder / "seed-6" / "all_results.json").unlink()
    ran.noted.clear()
    renamed = replace(arguments, dataset_name="Another name")
    path = folder / "seed-5" / "all_results.json"
    path.write_text(json.dumps(results(75.0, "validation")))
    with pytest.raises(ValueError, match="seed 5 was evaluated on .*'validation'}, the others would be on .*'test'"):
        run_seeds(renamed, ran)
    assert not ran.noted
    named = results(75.0)["test_corpus"] | {"name": "Another"}
    path.write_text(json.dumps(results(75.0) | {"test_corpus": named}))
    assert run_seeds(renamed, ran)["seeds"] == [5, 6, 7] and [flags.seed for flags in ran.noted] == [6]


def test_a_seed_that_was_killed_before_its_last_push_is_pushed_when_the_others_go_on(arguments, ran, hub):
    pushed = replace(arguments, push_to_hub=True, hub_model_id="user/x", hub_strategy="checkpoint", seeds=1)
    run_seeds(pushed, ran)
    assert not hub.repos
    checkpoint = seeds.Path(arguments.output_dir) / "seed-5" / "checkpoint-3"
    checkpoint.mkdir()
    (checkpoint / "run.json").write_text('{"run": {}, "step": 3, "epoch": null}')
    run_seeds(replace(pushed, seeds=2), ran)
    assert [flags.seed for flags in ran.noted] == [5, 6]
    assert hub.files("user/x-seed-5").keys() == {"all_results.json", "recipe.yaml", "last-checkpoint/run.json"}


def test_each_seed_has_its_own_name_on_the_hub(tmp_path):
    flags = {"dataset": "x", "output_dir": str(tmp_path / "runs"), "seeds": 2}
    plain = of_seed(JointTrainingArguments(**flags), 4)
    assert (plain.hub_model_id, plain.seeds) == (None, None)
    assert of_seed(JointTrainingArguments(**flags, push_to_hub=True), 4).hub_model_id == "runs-seed-4"
    named = {"hub_model_id": "user/x", "push_to_hub": True}
    assert of_seed(JointTrainingArguments(**flags, **named), 4).hub_model_id == "user/x-seed-4"


@pytest.mark.parametrize("flags", [{}, {"save_steps": 5}, {"overwrite_output_dir": True}])
def test_a_seed_that_is_stopped_says_how_to_go_on_and_goes_on_from_its_checkpoint(arguments, ran, flags):
    def stopped(arguments):
        folder = seeds.Path(arguments.output_dir)
        if arguments.seed == 6 and not list_checkpoints(folder):
            (folder / "checkpoint-3").mkdir(parents=True)
            (folder / "checkpoint-3" / "run.json").write_text('{"run": {}, "step": 3, "epoch": null}')
            raise StoppedRun("SIGTERM", folder / "checkpoint-3")
        return ran(arguments)

    folder = f"{arguments.output_dir}/seed-6"
    with pytest.raises(SystemExit) as ended:
        run_seeds(replace(arguments, **flags), stopped)
    again = ", without --overwrite_output_dir true," if "overwrite_output_dir" in flags else ""
    assert ended.value.code == (
        f"train.py: seed 6 was stopped by SIGTERM, behind {folder}/checkpoint-3; the same command{again} goes on from"
        " there"
    )
    ran.noted.clear()
    run_seeds(replace(arguments, **flags, overwrite_output_dir=False) if not again else arguments, stopped)
    begun = [(flags.seed, flags.overwrite_output_dir, flags.resume_from_checkpoint) for flags in ran.noted]
    assert begun == [(6, False, "auto"), (7, False, "auto" if "save_steps" in flags else None)]


@pytest.mark.parametrize(("save_steps", "replaced"), [(None, [False, True, False]), (2, [False, False, False])])
def test_a_seed_that_can_go_on_keeps_what_its_trackers_wrote_before_its_first_checkpoint(
    arguments, ran, save_steps, replaced
):
    (seeds.Path(arguments.output_dir) / "seed-6" / "logs").mkdir(parents=True)
    run_seeds(replace(arguments, save_steps=save_steps), ran)
    assert [flags.overwrite_output_dir for flags in ran.noted] == replaced


def test_the_folder_of_a_seed_that_holds_something_else_is_left_alone(arguments, ran):
    folder = seeds.Path(arguments.output_dir) / "seed-6"
    (folder / "logs").mkdir(parents=True)
    (folder / ".unfinished-x").touch()
    run_seeds(arguments, ran)  # nothing there but what a run writes before it has anything to keep
    (folder / "all_results.json").rename(folder / "metrics.jsonl")
    save_recipe(replace(arguments, learning_rate=0.5), folder)
    with pytest.raises(ValueError, match="seed-6/recipe.yaml is of other flags: learning_rate was 0.5, is 5e-05"):
        run_seeds(arguments, ran)
    (folder / "recipe.yaml").unlink()
    (folder / "metrics.jsonl").rename(folder / "thesis.txt")
    with pytest.raises(ValueError, match="seed-6 holds files, thesis.txt among them, and neither a checkpoint nor"):
        run_seeds(arguments, ran)
    assert (folder / "thesis.txt").exists() and len(ran.noted) == 3


@pytest.mark.slow
def test_seeds_that_are_stopped_and_started_again_come_to_what_they_do_alone(corpus, tmp_path, monkeypatch):
    flags = {"num_epochs": 2, "batch_size": 2, "max_eval_users": 1, "seeds": 2}
    alone = main(corpus, tmp_path / "alone", **flags)
    message = stopped_run(corpus, tmp_path / "runs", 3, monkeypatch, **flags)
    assert re.search(r"seed 0 was stopped by SIGTERM, behind .*/seed-0/checkpoint-\d; the same command", message)
    again = main(corpus, tmp_path / "runs", **flags)
    assert again["figures"]["test_f1"] == alone["figures"]["test_f1"]
    for seed in ("seed-0", "seed-1"):
        assert same(weights(tmp_path / "runs" / seed), weights(tmp_path / "alone" / seed))


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"seeds": 0}, "seeds is at least 1, got 0"),
        ({"resume_from_checkpoint": "x/checkpoint-3"}, "by 'auto', got 'x/checkpoint-3'"),
        ({"model": "org/model", "do_train": False}, "org/model is one model, got seeds=2"),
    ],
)
def test_seeds_that_cannot_be_run_are_refused(flags, message):
    with pytest.raises(ValueError, match=message):
        JointTrainingArguments(**{"dataset": "x", "output_dir": "y", "seeds": 2} | flags)


@pytest.mark.slow
def test_a_run_among_seeds_is_bit_for_bit_the_run_of_that_seed_alone(corpus, tmp_path, capsys):
    flags = {"objectives": ["fusion", "text"], "max_eval_users": 1}
    argv = []
    for name, value in (SMALL | flags | {"dataset": corpus, "output_dir": tmp_path / "runs", "seeds": 2}).items():
        argv += [f"--{name}", *map(str, value if isinstance(value, list) else [value])]
    AcceleratorState._reset_state()
    summary = train.main(argv)
    assert "Mean Macro-F1 of 2 seeds, in percent, and 95 % intervals of the mean" in capsys.readouterr().out
    run(corpus, tmp_path / "alone", seed=1, **flags)
    found = [weights(tmp_path / "runs" / f"seed-{seed}") for seed in (0, 1)]
    assert same(weights(tmp_path / "alone"), found[1]) and not same(*found)
    took = [
        json.loads((tmp_path / "runs" / f"seed-{seed}" / "all_results.json").read_text())["train_seconds"]
        for seed in (0, 1)
    ]
    assert summary["figures"]["train_seconds"]["mean"] == pytest.approx(sum(took) / 2)


def test_the_table_of_seeds_has_means_their_intervals_and_how_far_a_seed_deviates(arguments, ran, capsys, monkeypatch):
    monkeypatch.undo()  # the report is what is tested
    set_log_level("info")
    for seed in (5, 6, 7):
        tiny_config(STARS, 100).save_pretrained(f"{arguments.output_dir}/seed-{seed}")
        save_recipe(of_seed(arguments, seed), seeds.Path(f"{arguments.output_dir}/seed-{seed}"))
    run_seeds(arguments, ran)
    *_, table, deviates, written = capsys.readouterr().out.strip().split("\n\n")
    assert [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.split("\n")[2:]] == [
        ["mmprofile", "50.00", "76.00"],
        ["95 % interval", "50.0–50.0", "73.5–78.5"],
    ]
    assert deviates == "mmprofile: a seed's average deviates by 1.00 points"
    assert written == f"Written to {arguments.output_dir}/seeds.json"
