"""A trained model evaluated again, on whichever split and corpus: results, figures and card, and no training."""

import dataclasses
import json
import math
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from datasets import DatasetDict, Features
from huggingface_hub import snapshot_download
from transformers.utils.hub import cached_file

from baselines.table import DEFAULT_SYSTEM, find_system
from cli.logs import told
from corpora.checks import check_content, labels_schema
from corpora.opening import NotStreamable, open_corpus
from corpora.shards import Shards
from files.checkpoint_code import load_model, load_processor, system_of
from files.checkpoint_files import LOADED, exact_revision
from files.output_files import UNFINISHED, read_json, replacing
from mmprofile import MMProfileProcessor, ProfileSchema, seen_by
from publishing.hub_folder import save_hub_folder
from publishing.run_files import ADAPTER, ALL_RESULTS, METRICS, RECIPE
from scoring.reporting import best_epoch
from training.agreement import on_main
from training.arguments import OF_VIEWS, JointTrainingArguments
from training.data import check_corpus_photos, checked_split, open_caches, open_shards
from training.faithfulness import measure_faithfulness
from training.results import evaluate_saved, publish_results, summarise_tests
from training.run_recipe import OF_EVALUATION, as_trained, of_system, read_saved_recipe
from training.set_up import make_uploader
from training.trackers import end_trackers, log_results, start_trackers

# What a run tells of itself beside its weights, and of `all_results.json` what is of the training.
OF_THE_RUN, OF_TRAINING = (RECIPE, METRICS, ALL_RESULTS), ("train_corpus", "train_software", "train_seconds")
# What a folder has for those who load it, beside the files of `LOADED`.
BESIDE_CODE = ("*.py", "requirements.txt", "LICENSE")


def evaluate_only(arguments: JointTrainingArguments, accelerator: Accelerator) -> dict:
    """Evaluates the model in `output_dir`, or `model`, of which `output_dir` gets a copy, on `test_split` of a corpus,
    and writes `all_results.json`, figures and card; weights and checkpoints stay. Returns what the first holds.

    What the model was trained with is read from its folder, `recipe.yaml`, `metrics.jsonl` and `all_results.json`;
    the card tells no more of the training than these do.

    Raises:
        ValueError: if there is no model, `output_dir` has files that are not of `model`, or the corpus has no such
            split, profiles of another schema, or rows or photos that cannot be read.
    """
    output, is_main = Path(arguments.output_dir), accelerator.is_main_process
    uploader = make_uploader(arguments, accelerator)
    source, revision = on_main(accelerator, lambda: _source(arguments, output))
    processor, config = load_processor(source, revision, arguments.trust_remote_code)
    if arguments.system not in (DEFAULT_SYSTEM, made := system_of(config)):
        raise ValueError(f"{source!r} is a checkpoint of the system {made!r}, got {arguments.system!r}")
    recipe = _beside(source, revision, RECIPE)
    saved = read_saved_recipe(recipe.parent) if recipe else None
    flags = _as_made(arguments, saved, config, processor)
    corpus = load_evaluated(flags, processor.profile_schema)
    check_content(corpus[flags.test_split], needs_captions=seen_by(config).captions)
    if arguments.model:
        on_main(accelerator, lambda: _copy(source, revision, processor, output, arguments.trust_remote_code))
    _say_what_differs(flags, saved or {})
    processor.max_images = max(processor.max_images, flags.num_reviews * flags.num_images)
    torch.set_float32_matmul_precision(flags.matmul_precision)
    with accelerator.local_main_process_first():
        shown = DatasetDict({flags.test_split: corpus[flags.test_split]})
        if accelerator.is_local_main_process:
            check_corpus_photos(shown, processor, flags)
        of_photos = dataclasses.replace(flags, freeze_vision=False)  # no states of photos
        cache, _ = open_caches(shown, None, processor, of_photos, accelerator.device)

    model = load_model(str(output), None, arguments.trust_remote_code)  # whatever the recipe says
    tests, rows = evaluate_saved(model, processor, corpus[flags.test_split], flags, accelerator, cache)
    weights = measure_faithfulness(model, processor, corpus[flags.test_split], flags, accelerator, cache)
    history = read_history(output)
    results = summarise_tests(tests, rows, corpus, processor, flags) | weights | _of_training(output)
    if history:
        results["best_epoch"] = best_epoch(history)
    _log(results, history, flags, accelerator)
    if is_main:
        publish_results(results, tests, rows, corpus, history, processor, flags, flags_known=saved is not None)
        if uploader:
            told.info(str(uploader.finish()))
    accelerator.wait_for_everyone()
    return results


def _source(arguments: JointTrainingArguments, output: Path) -> tuple[str, str]:
    """The name and the revision of the model to evaluate."""
    if not arguments.model:
        if not (output / "config.json").is_file() or not any(output.glob("*.safetensors")):
            raise ValueError(f"{output} holds no model to evaluate: train one there first, or name one by --model")
        return str(output), "main"
    if found := sorted(path.name for path in output.iterdir() if not path.name.startswith(UNFINISHED)):
        raise ValueError(
            f"{output} holds files already, {found[0]} among them, where a copy of --model {arguments.model} is to"
            " go; choose another output_dir, or leave --model out to evaluate what is there"
        )
    return arguments.model, exact_revision(arguments.model, arguments.model_revision) or "main"


def _beside(source: str, revision: str, name: str) -> Path | None:
    """A file of a model's folder or repository; None where it has none of that name."""
    path = cached_file(source, name, revision=revision, _raise_exceptions_for_missing_entries=False)
    return None if path is None else Path(path)


def _copy(source: str, revision: str, processor: MMProfileProcessor, output: Path, trusted: bool) -> None:
    """The model with the code that is run, its own if that is trusted and else today's; its adapter, and what its run
    told of itself."""
    if trusted:
        patterns = [*LOADED, *BESIDE_CODE]
        folder = _fetched(source, revision, patterns, ["*/*"])
        found = {path for pattern in patterns for path in folder.glob(pattern) if path.is_file()}
        for path in sorted(found, key=lambda path: (path.suffix == ".safetensors", path.name)):
            if not path.name.startswith(UNFINISHED):
                _copy_file(path, output / path.name)
    else:
        save_hub_folder(load_model(source, revision, dtype="auto"), processor, output)
    for path in (_fetched(source, revision, [f"{ADAPTER}/*"]) / ADAPTER).glob("*"):
        _copy_file(path, output / ADAPTER / path.name)
    for name in OF_THE_RUN:
        if path := _beside(source, revision, name):
            _copy_file(path, output / name)


def _fetched(source: str, revision: str, patterns: list[str], but: list[str] | None = None) -> Path:
    """The model's folder, or that where files of its repository now are."""
    if Path(source).is_dir():
        return Path(source)
    return Path(snapshot_download(source, revision=revision, allow_patterns=patterns, ignore_patterns=but))


def _copy_file(path: Path, target: Path) -> None:
    target.parent.mkdir(exist_ok=True)
    with replacing(target) as temporary:
        shutil.copyfile(path, temporary)


def load_evaluated(arguments: JointTrainingArguments, schema: ProfileSchema) -> DatasetDict:
    """The split to evaluate, photos undecoded, cut to the number of users asked for; and "train", of which the
    majority class is, if the corpus has it: of one that was streamed in training the labels alone.

    Args:
        arguments: as the model was trained, where the evaluation does not decide them.

    Raises:
        ValueError: if there is none, its profiles are of another schema, or a user's row cannot be read.
    """
    name = arguments.test_split
    corpus, streamed = _open(arguments)
    if name not in corpus:
        there = sorted({*corpus, "train"} if streamed else corpus)
        raise ValueError(f"{arguments.dataset!r} has the splits {there}, got test_split={name!r}")
    splits = DatasetDict()
    if streamed:
        _check_schema(streamed.features, schema)
        splits["train"] = streamed.labels
    for split in {"train", name} & set(corpus):
        _check_schema(corpus[split].features, schema)
        limit = arguments.test_users if split == name else arguments.max_train_users
        splits[split] = checked_split(split, corpus[split], schema, limit)
    return splits


def _open(arguments: JointTrainingArguments) -> tuple[DatasetDict, Shards | None]:
    """The splits that are read whole, and of a streamed corpus the training split, unless that is evaluated."""
    if arguments.streaming and arguments.test_split != "train":
        try:
            return open_shards(arguments)
        except NotStreamable:  # the model's own corpus could be
            if "://" in arguments.dataset:
                raise
    return open_corpus(arguments.dataset, arguments.dataset_config, arguments.dataset_revision), None


def _check_schema(features: Features, schema: ProfileSchema) -> None:
    found = labels_schema(features)
    if found != schema:
        raise ValueError(f"the model writes profiles of {schema.to_list()}, the corpus has {found.to_list()}")


def _as_made(
    arguments: JointTrainingArguments, saved: Mapping | None, config: Any, processor: MMProfileProcessor
) -> JointTrainingArguments:
    """The flags that made the model, as far as they are known, with those of this evaluation."""
    arguments = as_trained(arguments, dict(saved)) if saved is not None else arguments
    objectives = arguments.objectives if config.objectives is None else list(config.objectives)
    same = objectives == arguments.objectives
    system = system_of(config)
    reads = find_system(system).reads_views  # a checkpoint's own code may be older
    of_views = {name: getattr(config, name, None) if reads else None for name in OF_VIEWS}
    return of_system(
        arguments,
        system=system,
        **of_views,
        paradigm=config.paradigm,
        objectives=objectives,
        objective_weights=arguments.objective_weights if same else [],
        final_objective_weights=arguments.final_objective_weights if same else [],
        max_text_tokens=processor.max_text_tokens,
    )


def _say_what_differs(arguments: JointTrainingArguments, saved: Mapping) -> None:
    for name in OF_EVALUATION:
        value = getattr(arguments, name)
        if name in saved and saved[name] != value:
            told.warning(f"train.py: {name} is {value}, the run that made the model had {saved[name]}")


def read_history(folder: Path) -> list[dict]:
    """The records of a run's epochs, empty where there are none; what was not a number is none again."""
    path = folder / METRICS
    if not path.is_file():
        return []
    try:
        records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    except ValueError as error:
        raise ValueError(f"{path} is not a line of JSON for each epoch: {error}") from error
    return [{name: math.nan if value is None else value for name, value in record.items()} for record in records]


def _log(results: Mapping, history: list[dict], flags: JointTrainingArguments, accelerator: Accelerator) -> None:
    """Has the trackers know the results, in the place of those of the training."""
    step = history[-1]["step"] if history else 0
    start_trackers(accelerator, flags.trackers, flags.run_flags, step, Path(flags.output_dir))
    log_results(accelerator, results, step)
    end_trackers(accelerator)


def _of_training(folder: Path) -> dict:
    path = folder / ALL_RESULTS
    before = read_json(path) if path.is_file() else {}
    return {name: before[name] for name in OF_TRAINING if name in before}
