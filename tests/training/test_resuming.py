"""Which checkpoints a run may go on from, and what an output folder keeps of an earlier one."""

import pytest
from datasets import Dataset, DatasetDict
from torch import nn

from files.output_files import write_json
from tests.tiny_corpus import features, user
from tests.toy_processor import WORDS, toy_image_processor, toy_processor, toy_tokenizer
from training.resuming import changes_since, check_folder, clear_folder, describe_run, move_to_users, processor_digest
from training.state import TrainingState

RUN = {
    "gradient_accumulation_steps": 1,
    "seed": 0,
    "system": "flan_t5",
    "train split": "a",
    "batch_size": 4,
    "processes": 2,
    "learning_rate": 0.1,
}


def corpus_of(rows, split):
    splits = {name: Dataset.from_list([user(9)], features=features()) for name in ("train", "validation", "test")}
    return DatasetDict(splits | {split: Dataset.from_list(rows, features=features())})


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("field", ["text", "captions"])
def test_a_corpus_that_changed_under_the_same_users_is_told(split, field):
    rows, before = [user(number) for number in range(3)], corpus_of([user(number) for number in range(3)], split)
    rows[1]["reviews"][0][field] = "other" if field == "text" else ["other", "captions"]
    model = nn.Linear(1, 1)
    now, then = (describe_run({}, corpus, toy_processor(), model, 1) for corpus in (corpus_of(rows, split), before))
    assert [name for name in now if now[name] != then[name]] == [f"{split} split"]


def test_other_weights_and_weights_that_are_not_trained_any_more_are_told():
    corpus, frozen = corpus_of([user(1)], "train"), nn.Linear(1, 2)
    frozen.bias.requires_grad_(False)
    models = [nn.Linear(1, 2), nn.Linear(1, 3), nn.Linear(1, 2, bias=False), frozen]
    assert len({describe_run({}, corpus, toy_processor(), model, 1)["weights"] for model in models}) == 4


def test_other_tokens_or_settings_of_the_processor_are_told():
    words = WORDS.replace(" a b ", " b a ")
    others = [toy_processor(), toy_processor(max_text_tokens=9), toy_processor(), toy_processor()]
    others[2].tokenizer = toy_tokenizer(words)
    others[3].image_processor = toy_image_processor(image_mean=[0.4, 0.5, 0.5])
    assert len({processor_digest(processor) for processor in [toy_processor(), *others]}) == 4


def checkpoint(folder, run, **more):
    folder.mkdir(parents=True)
    write_json(folder / "run.json", {"run": run, "step": 1, "epoch": None} | more)
    return folder


def test_what_changes_the_order_of_users_is_refused_and_all_else_is_told(tmp_path):
    path = checkpoint(tmp_path / "checkpoint-1", RUN)
    assert changes_since(path, RUN) == []
    assert changes_since(path, RUN | {"learning_rate": 0.2, "processes": 4}) == [
        "processes was 2, is 4",
        "learning_rate was 0.1, is 0.2",
    ]
    for name in ("seed", "train split", "system"):
        with pytest.raises(ValueError, match=f"is of another run: {name} was .*; learning_rate was 0.1, is 0.2$"):
            changes_since(path, RUN | {name: 7, "learning_rate": 0.2})


@pytest.mark.parametrize(
    ("flag", "same"), [("streaming", {"processes": 4}), ("group_by_length", {"batch_size": 2, "processes": 4})]
)
def test_batches_are_fixed_where_the_order_depends_on_them(tmp_path, flag, same):
    path = checkpoint(tmp_path / "checkpoint-1", RUN | {flag: True})
    assert len(changes_since(path, RUN | {flag: True} | same)) == len(same)
    with pytest.raises(ValueError, match="is of another run: batch_size was 4, is 8$"):
        changes_since(path, RUN | {flag: True, "batch_size": 8})


def test_what_another_version_did_not_know_is_let_pass(tmp_path):
    path = checkpoint(tmp_path / "checkpoint-1", RUN)
    assert changes_since(path, RUN | {"weights": "new", "batch_size": 2}) == ["batch_size was 4, is 2"]


@pytest.mark.parametrize(
    ("now", "place"),
    [
        ({}, (6, 0)),
        ({"processes": 4}, (3, 0)),
        ({"processes": 4, "batch_size": 2}, (6, 0)),
        ({"processes": 1, "batch_size": 7}, (6, 6)),
    ],
)
def test_the_place_in_an_epoch_is_one_of_users(tmp_path, now, place):
    state = TrainingState()
    state.batches = 6
    again = move_to_users(state, checkpoint(tmp_path / "checkpoint-1", RUN), RUN | now, users=100)
    assert (state.batches, again) == place


@pytest.mark.parametrize("now", [{"batch_size": 3}, {"processes": 1}])
def test_an_epoch_that_is_over_is_over_with_other_batches_too(tmp_path, now):
    state = TrainingState()
    state.batches = 6  # of 8 users a step, the last of 5
    users = 45
    assert move_to_users(state, checkpoint(tmp_path / "checkpoint-1", RUN), RUN | now, users) == 0
    a_batch = (RUN | now)["batch_size"] * (RUN | now)["processes"]
    assert (state.batches - 1) * a_batch < users <= state.batches * a_batch


def test_a_folder_with_files_is_refused_but_for_what_a_run_writes_before_its_first_checkpoint(tmp_path):
    check_folder(tmp_path, None, None, overwrite=False)
    for name in ("logs", ".unfinished-checkpoint-3"):
        (tmp_path / name).mkdir()
    check_folder(tmp_path, None, "auto", overwrite=False)
    with pytest.raises(ValueError, match="holds files already"):
        check_folder(tmp_path, None, None, overwrite=False)
    (tmp_path / "README.md").touch()
    with pytest.raises(ValueError, match="holds files already"):
        check_folder(tmp_path, None, "auto", overwrite=False)
    check_folder(tmp_path, None, "auto", overwrite=True)
    check_folder(tmp_path, tmp_path / "checkpoint-1", "auto", overwrite=False)


def test_a_cleared_folder_keeps_what_no_run_has_written(tmp_path):
    ours = ["README.md", "all_results.json", "curves.png", "metrics.jsonl", "recipe.yaml", "config.json", "LICENSE"]
    ours += ["model-00001-of-00002.safetensors", "tokenizer.json", "modeling_mmprofile.py", "handler.py"]
    theirs = [".gitattributes", "accelerate_config.json", "my.model", "notes.txt", "old.safetensors", "tokenizer.txt"]
    for name in [*ours, *theirs]:
        (tmp_path / name).touch()
    checkpoint(tmp_path / "checkpoint-7-epoch-1", RUN)
    checkpoint(tmp_path / "last-checkpoint", RUN)
    for name in ("logs/mmprofile/events", "logs/tracker_run.json", "logs/slurm-1.out", "adapter/adapter_config.json"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    clear_folder(tmp_path)
    left = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert left == {*theirs, "logs/slurm-1.out"}
    (tmp_path / "logs" / "slurm-1.out").unlink()
    clear_folder(tmp_path)
    assert not (tmp_path / "logs").exists()


def test_a_checkout_is_never_written_over(tmp_path):
    (tmp_path / "train.py").touch()
    with pytest.raises(ValueError, match="holds train.py itself"):
        check_folder(tmp_path, None, None, overwrite=True)
