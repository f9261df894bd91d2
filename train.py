"""Joint training of a multimodal user profile model.

    accelerate launch train.py recipes/quickstart.yaml
    accelerate launch train.py recipes/paper.yaml --dataset org/corpus --output_dir outputs/paper

Evaluates by generation after each epoch, keeps the weights with the best average Macro-F1 on the development split in
`output_dir`, and leaves there at the end what the Hub takes: weights, processor, code, model card, figures, results.

A recipe is a YAML file of flags. A corpus has the splits train, validation and test, as files named so or on the Hub,
and in each a row for each user: `user_id`; `reviews`, a list of `text`, `images` and `captions`, the newest first; and
`profile`, a struct of class labels, whose names and values are the attributes that the model learns. A photo is a
struct of its file's `bytes` or `path`, or one of the two alone; paths are relative to the folder.
"""

import sys

from cli.flags import answer_help, parse_flags
from training.arguments import JointTrainingArguments, unused_settings

if __name__ == "__main__":  # --help is there before what takes seconds to import
    answer_help(JointTrainingArguments, __doc__)

import math
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs, PartialState
from accelerate.utils import DataLoaderConfiguration, GradientAccumulationPlugin, set_seed
from datasets import Dataset, DatasetDict
from tqdm.auto import tqdm
from transformers import get_scheduler

from cli.progress import log_progress
from files.output_files import WriteFailure, append_json, only_run
from mmprofile import MMProfileForConditionalGeneration, MMProfileProcessor, ProfileSchema
from publishing.hub_folder import save_hub_folder
from publishing.hub_upload import HubUploader
from scoring.evaluation import Evaluation, evaluate_model
from scoring.plots import plot_confusion
from scoring.reporting import best_epoch, plot_curves
from training.checkpoints import (
    Checkpoints,
    TrainingState,
    describe_run,
    find_checkpoint,
    prepare_folder,
    resume,
)
from training.data import (
    check_corpus_photos,
    evaluation_loader,
    load_corpus,
    open_caches,
    shortened_texts,
    tokens_of_step,
    training_loader,
)
from training.evaluation_only import evaluate_only
from training.guards import LossWatch, TrainingFailure, explained_failures, fit_batch_size
from training.model import build_model, to_training
from training.objectives import JointTrainingModel
from training.photo_cache import PhotoCache
from training.results import (
    describe_training,
    development_record,
    evaluate_saved,
    publish_results,
    summarise_tests,
)
from training.run_recipe import save_recipe
from training.seeds import run_seeds
from training.stop_signals import saved_when_stopped
from training.vision_states import VisionStates
from training.whole_model import WholeModel, whole_tensor

# ---------------------------------------------------------------------------------------------------------------------
# Output


def hub_uploader(arguments: JointTrainingArguments) -> HubUploader | None:
    if not arguments.push_to_hub:
        return None
    name = arguments.hub_model_id or Path(arguments.output_dir).resolve().name
    return HubUploader(name, arguments.output_dir, arguments.hub_private_repo, hub_strategy=arguments.hub_strategy)


def say_what_is_shortened(split: Dataset, processor, arguments: JointTrainingArguments) -> None:
    found = shortened_texts(evaluation_loader(split, processor, arguments))
    if found["users"]:
        kinds = [name for name in ("reviews", "captions") if f"{name}_read" in found]
        read = " and ".join(f"{found[f'{name}_read']:.0%} of the {name}' tokens" for name in kinds)
        print(
            f"the texts of {found['users']} of {len(split)} development users do not fit in"
            f" max_text_tokens={processor.max_text_tokens}: {read} are read"
        )


def publish_epoch(model, processor, history: list[dict], evaluation: Evaluation, output: Path) -> None:
    """Has the output folder show the epochs so far and the last's evaluation, its weights too if it is the best."""
    record = history[-1]
    append_json(output / "metrics.jsonl", record)
    of = f"Development split, {len(evaluation.references)} users, epoch {record['epoch']}"
    plot_confusion(evaluation.rows, processor.profile_schema, output / "confusion.png", of)
    plot_curves(history, processor.profile_schema, output / "curves.png")
    if best_epoch(history) == record["epoch"]:
        save_hub_folder(model, processor, output)
    print(
        f"epoch {record['epoch']}: training loss {record['train_loss']:.3f}, development loss {evaluation.loss:.3f},"
        f" development Macro-F1 {evaluation.f1['average']:.2f}, {record['users_per_second']:.1f} users/s"
    )


# ---------------------------------------------------------------------------------------------------------------------
# Setup


def make_accelerator(arguments: JointTrainingArguments) -> Accelerator:
    # A batch without photos leaves the vision tower out of the graph.
    unused = DistributedDataParallelKwargs(find_unused_parameters=True)
    return Accelerator(
        cpu=not torch.accelerator.is_available(),  # or several processes would not find each other (accelerate 1.15)
        mixed_precision=arguments.mixed_precision,
        # Said, for where they are not the environment decides: the loss would be divided a second time.
        gradient_accumulation_plugin=GradientAccumulationPlugin(num_steps=1),
        dynamo_backend="no",
        dataloader_config=DataLoaderConfiguration(non_blocking=True),
        log_with=arguments.report_to,
        project_dir=Path(arguments.output_dir) / "logs" if arguments.report_to else None,
        kwargs_handlers=[unused],
    )


def load_inputs(
    arguments: JointTrainingArguments, accelerator: Accelerator
) -> tuple[DatasetDict, MMProfileForConditionalGeneration, MMProfileProcessor, PhotoCache | None, VisionStates | None]:
    """The corpus, the model to train, its processor and the caches of `open_caches`; photos are read once, by the
    first process, unless a run is resumed, whose were."""
    with accelerator.main_process_first():
        corpus = load_corpus(arguments)
    schema = ProfileSchema.from_features(corpus["train"].features["profile"])
    model, processor = build_model(arguments, schema, corpus["train"])
    with accelerator.local_main_process_first():
        resumed = find_checkpoint(Path(arguments.output_dir), arguments.resume_from_checkpoint)
        if accelerator.is_local_main_process and not resumed:
            check_corpus_photos(corpus, processor, arguments)
        caches = open_caches(corpus, model, processor, arguments, accelerator.device)
    return corpus, model, processor, *caches


def make_optimizer(joint: torch.nn.Module, arguments: JointTrainingArguments) -> torch.optim.Optimizer:
    return torch.optim.AdamW(
        [parameter for parameter in joint.parameters() if parameter.requires_grad],
        lr=arguments.learning_rate,
        betas=(0.9, arguments.adam_beta2),
        weight_decay=arguments.weight_decay,
        fused=arguments.fused_adamw or None,  # False would rule out the loop over many at once
    )


def make_scheduler(optimizer, steps: int, arguments: JointTrainingArguments, processes: int):
    """To be prepared, and then it steps once a process."""
    return get_scheduler(
        arguments.lr_scheduler,
        optimizer,
        num_warmup_steps=round(steps * arguments.warmup_ratio) * processes,
        num_training_steps=steps * processes,
    )


# ---------------------------------------------------------------------------------------------------------------------
# Steps and epochs


def steps_with_bar(
    epoch: int, state: TrainingState, loader, arguments: JointTrainingArguments, accelerator: Accelerator
) -> tqdm:
    """The steps that are left of an epoch, each a list of batches, in a progress bar of users."""
    batches = arguments.gradient_accumulation_steps
    return tqdm(
        state.remaining_steps(loader, batches),
        desc=f"epoch {epoch}/{arguments.num_epochs}",
        total=math.ceil(len(loader) / batches),
        initial=state.batches // batches,
        unit=" users",
        unit_scale=arguments.batch_size * batches * accelerator.num_processes,
        disable=not accelerator.is_main_process,
    )


def accumulate_gradients(
    joint: torch.nn.Module, batches: list[dict], accelerator: Accelerator, state: TrainingState, watch: LossWatch
) -> None:
    """Gradients of a step's loss, the mean over all its target tokens in all processes; notes the batches' losses."""
    tokens, all_tokens = tokens_of_step(batches, accelerator)
    for batch, count in zip(batches, tokens, strict=True):
        with nullcontext() if batch is batches[-1] else accelerator.no_sync(joint):
            result = joint(batch)
            # Each token of the step counts the same; the gradients of the processes are averaged.
            accelerator.backward(result.loss * count * accelerator.num_processes / all_tokens)
        losses = {**result.losses, "loss": result.loss}
        watch.note(state.step, losses)
        state.add(losses, count)


# ---------------------------------------------------------------------------------------------------------------------
# Training


def main(argv: list[str] | None = None) -> dict:
    """Trains, evaluates and writes the output folder; returns what stands in its `all_results.json`."""
    arguments = parse_flags(JointTrainingArguments, argv, __doc__)
    log_progress()
    results = run(arguments) if arguments.seeds is None else run_seeds(arguments, run)
    PartialState().destroy_process_group()
    return results


def run(arguments: JointTrainingArguments) -> dict:
    """`main` of one seed."""
    torch.backends.cuda.enable_cudnn_sdp(False)  # it plans for each new shape, and each batch has its own
    accelerator = make_accelerator(arguments)
    if accelerator.is_main_process:
        for note in unused_settings(arguments):
            print(f"train.py: {note}", file=sys.stderr)
    set_seed(arguments.seed)
    with only_run(arguments.output_dir) if accelerator.is_main_process else nullcontext():
        if not arguments.do_train:
            return evaluate_only(
                arguments, accelerator, hub_uploader(arguments) if accelerator.is_main_process else None
            )
        return train(arguments, accelerator)


def train(arguments: JointTrainingArguments, accelerator: Accelerator) -> dict:
    """What one process does of `main`."""
    output, uploader = Path(arguments.output_dir), None
    if accelerator.is_main_process:
        uploader = hub_uploader(arguments)
        prepare_folder(output, arguments.resume_from_checkpoint, arguments.overwrite_output_dir)
    corpus, model, processor, photo_cache, vision_states = load_inputs(arguments, accelerator)

    whole_model = WholeModel(model, accelerator)
    joint = JointTrainingModel(model, arguments.views, processor.black, arguments.weights, accelerator.is_fsdp2)
    joint, optimizer = accelerator.prepare(joint, make_optimizer(joint, arguments))
    if arguments.auto_batch_size:
        to_training(joint, model, arguments)
        fit_batch_size(joint, processor, corpus["train"], arguments, accelerator)
    train_loader, dev_loader = accelerator.prepare(
        training_loader(corpus["train"], processor, arguments, photo_cache, vision_states),
        evaluation_loader(corpus["validation"], processor, arguments, "self", photo_cache),
    )
    steps = math.ceil(len(train_loader) / arguments.gradient_accumulation_steps) * arguments.num_epochs
    scheduler = accelerator.prepare(make_scheduler(optimizer, steps, arguments, accelerator.num_processes))

    if accelerator.is_main_process:
        say_what_is_shortened(corpus["validation"], processor, arguments)
    run = describe_run(arguments.run_flags, corpus, processor, accelerator.num_processes)
    checkpoints = Checkpoints(accelerator, output, run, arguments.save_steps, arguments.checkpoints_total_limit)
    accelerator.init_trackers("mmprofile", {name: str(value) for name, value in run.items()})
    state, watch = TrainingState(), LossWatch()
    if checkpoint := find_checkpoint(output, arguments.resume_from_checkpoint):
        resume(checkpoint, checkpoints, state, whole_model, processor)

    with saved_when_stopped(checkpoints, state) as stop, explained_failures(arguments, output):
        for epoch in range(len(state.history) + 1, arguments.num_epochs + 1):
            to_training(joint, model, arguments)
            train_loader.set_epoch(epoch)
            state.begin_epoch(("loss", *arguments.views))
            progress = steps_with_bar(epoch, state, train_loader, arguments, accelerator)
            for batches in progress:
                state.step += 1
                accumulate_gradients(joint, batches, accelerator, state, watch)
                norm: Any = accelerator.clip_grad_norm_(joint.parameters(), arguments.max_grad_norm)
                if arguments.mixed_precision != "fp16":  # which skips a step whose gradient overflows
                    watch.note(state.step, {"gradient norm": whole_tensor(norm)})
                optimizer.step()
                scheduler.step()
                optimizer.zero_grad()
                ends = state.batches >= len(train_loader)  # then the epoch's means are logged
                if len(watch) >= 20 or ends:
                    latest = watch.check()
                    progress.set_postfix({name: f"{value:.3f}" for name, value in latest.items()})
                    if not ends:
                        accelerator.log(latest, step=state.step)
                if checkpoints.due(state.step) and not ends:
                    watch.check()
                    saved = checkpoints.save(state)
                    if uploader:
                        uploader.on_save(state.step, saved)
                if not ends:
                    stop.check(state.step)

            record = state.training_record(accelerator, scheduler.get_last_lr()[0], len(corpus["train"]))
            whole = whole_model.gathered()
            evaluation = evaluate_model(
                whole, dev_loader, processor, accelerator, arguments.num_beams, "development", stop.check
            )
            state.end_epoch(record | development_record(evaluation, processor.profile_schema))
            accelerator.log(state.flat_record, step=state.step)
            # The checkpoint first: from it the folder's files can be written again.
            saved = checkpoints.save(state) if arguments.save_steps or arguments.resume_from_checkpoint else None
            if accelerator.is_main_process:
                save_recipe(arguments, output)
                publish_epoch(whole, processor, state.history, evaluation, output)
                if uploader:
                    uploader.on_save(state.step, saved)

        train_seconds = state.seconds
        accelerator.wait_for_everyone()
        tests, rows = evaluate_saved(processor, corpus["test"], arguments, accelerator, photo_cache, stop.check)
    results = {
        **summarise_tests(tests, rows, corpus, processor, arguments),
        **describe_training(corpus, arguments),
        "train_seconds": train_seconds,
        "best_epoch": best_epoch(state.history),
    }
    if accelerator.is_main_process:
        publish_results(results, tests, rows, corpus, state.history, processor, arguments)
        if uploader:
            print(uploader.finish())
    for tracker in accelerator.trackers:
        tracker.finish()
    return results


if __name__ == "__main__":
    try:
        main()
    except (ValueError, TrainingFailure, WriteFailure) as error:
        sys.exit(f"train.py: {error}")
