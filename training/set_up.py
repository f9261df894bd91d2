"""From flags to a run that stands where it begins, or where its checkpoint left it."""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator, PartialState
from accelerate.utils import broadcast_object_list
from datasets import Dataset, DatasetDict

from cli.logs import told
from files.output_files import UNFINISHED
from mmprofile import MMProfileProcessor, ProfileSchema
from publishing.hub_upload import STALE, HubUploader
from publishing.run_files import RESULTS
from training.agreement import Agreement, on_main
from training.arguments import JointTrainingArguments
from training.batch_size import fit_batch_size
from training.checkpoints import Checkpoints, find_checkpoint
from training.data import (
    check_corpus_photos,
    evaluation_loader,
    load_corpus,
    open_caches,
    shortened_texts,
    training_loader,
)
from training.flops import peak_flops, step_flops
from training.joint_step import joint_step
from training.meter import Meter
from training.model import build_model, to_training
from training.optimization import WeightAverage, check_spreading, make_optimizer, make_scheduler
from training.photo_cache import PhotoCache
from training.resuming import changes_since, check_folder, clear_folder, describe_run, move_to_users, resume
from training.run import Run, log_values
from training.run_recipe import save_recipe
from training.state import TrainingState
from training.trackers import start_trackers
from training.vision_states import VisionStates
from training.whole_model import WholeModel


def set_up(arguments: JointTrainingArguments, accelerator: Accelerator) -> Run:
    """The parts of a run, its output folder untouched; `begin` then puts both to where the run begins.

    Raises:
        ValueError: if flags, corpus, model or output folder do not fit.
    """
    check_spreading(arguments, accelerator)
    output, asked = Path(arguments.output_dir), arguments.resume_from_checkpoint
    checkpoint = find_checkpoint(output, asked)
    on_main(accelerator, lambda: check_folder(output, checkpoint, asked, arguments.overwrite_output_dir))
    uploader = make_uploader(arguments, accelerator)
    check_shared(output, accelerator)
    corpus, model, processor, photo_cache, vision_states = load_inputs(arguments, accelerator, checkpoint)
    described = describe_run(arguments.run_flags, corpus, processor, model, accelerator.num_processes)
    if checkpoint:
        changes_since(checkpoint, described)
    whole_model, flops = WholeModel(model, accelerator), step_flops(model, arguments.views)
    joint = joint_step(model, arguments.views, processor.black, arguments.weights, accelerator.is_fsdp2)
    joint, optimizer = accelerator.prepare(joint, make_optimizer(joint, arguments))
    if arguments.auto_batch_size:
        to_training(joint, model, arguments)
        fit_batch_size(joint, processor, corpus["train"], arguments, accelerator)
        described |= arguments.run_flags
    train_loader, dev_loader = accelerator.prepare(
        training_loader(corpus["train"], processor, arguments, photo_cache, vision_states),
        evaluation_loader(corpus["validation"], processor, arguments, "self", photo_cache),
    )
    average = None if arguments.ema_decay is None else WeightAverage(model, arguments.ema_decay)
    state, limit = TrainingState(), arguments.checkpoints_total_limit
    peak = peak_flops(accelerator.device, str(arguments.mixed_precision))
    run = Run(
        arguments=arguments,
        accelerator=accelerator,
        corpus=corpus,
        model=model,
        processor=processor,
        photo_cache=photo_cache,
        joint=joint,
        whole_model=whole_model,
        average=average,
        optimizer=optimizer,
        train_loader=train_loader,
        dev_loader=dev_loader,
        state=state,
        checkpoints=Checkpoints(accelerator, output, described, arguments.save_steps, limit, average),
        agreement=Agreement(accelerator),
        meter=Meter(accelerator, state, list(arguments.views), flops, arguments.log_steps, peak),
        uploader=uploader,
        checkpoint=checkpoint,
    )
    return run


def begin(run: Run) -> None:
    """Puts a run and its output folder to its checkpoint, or to a beginning without what an earlier run has left."""
    accelerator, described = run.accelerator, run.checkpoints.run
    on_main(accelerator, lambda: run.uploader and run.uploader.check_access(create=True))
    if checkpoint := run.checkpoint:
        resume(checkpoint, run.checkpoints, run.state, run.evaluated_model, run.processor)
        if again := move_to_users(run.state, checkpoint, described, len(run.corpus["train"])):
            told.info(f"{again} users of epoch {run.state.epoch} are seen a second time, since batches are others")
        if run.uploader:
            run.uploader.hold(checkpoint)
    elif accelerator.is_main_process and run.arguments.overwrite_output_dir:
        clear_folder(run.output)
    if accelerator.is_main_process:
        save_recipe(run.arguments, run.output)
    begin_schedule(run)
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        say_what_is_shortened(run.corpus["validation"], run.processor, run.arguments)
    # The record of a step that is still to be evaluated may have been logged before a kill; what stands beside it is
    # logged again.
    standing = run.state.step - run.evaluation_due
    start_trackers(accelerator, run.arguments.trackers, described, standing, run.output)
    if run.state.logged.get("step", 0) > standing:
        log_values(run, run.state.logged["values"])
    run.meter.begin()
    run.time_left.begin()


def begin_schedule(run: Run) -> None:
    """Puts the learning rate to where the run is, by the flags of today."""
    run.scheduler = make_scheduler(run.optimizer, run.steps, run.arguments, run.state.step)


def make_uploader(arguments: JointTrainingArguments, accelerator: Accelerator | PartialState) -> HubUploader | None:
    """That of the main process, if the run pushes; in all processes a `ValueError` where it may not."""
    if not arguments.push_to_hub or arguments.dry_run:
        return None
    name = arguments.hub_model_id or Path(arguments.output_dir).resolve().name
    kept = arguments.output_dir, arguments.hub_private_repo
    options = {"hub_strategy": arguments.hub_strategy, "stale": STALE if arguments.do_train else RESULTS}
    made: list[HubUploader | None] = [None]

    def make() -> None:
        made[0] = HubUploader(name, *kept, **options)
        made[0].check_access()

    on_main(accelerator, make)
    return made[0]


def check_shared(folder: Path, accelerator: Accelerator) -> None:
    """Raises a `ValueError` where a machine does not see the output folder of the first: checkpoints have parts of all
    processes."""
    with seen_by_all(folder) if accelerator.is_main_process else nullcontext("") as mark:
        name = broadcast_object_list([str(mark)])[0]
        missing = not Path(name).exists()
        found: Any = accelerator.gather(torch.tensor([missing], device=accelerator.device))
    if found.any():
        raise ValueError(f"several machines need an output_dir that all of them see, {folder} is not such a folder")


@contextmanager
def seen_by_all(folder: Path) -> Iterator[Path]:
    """A file in the folder that is not there before and afterwards."""
    path = folder.resolve() / f"{UNFINISHED}-{secrets.token_hex(4)}-shared"
    path.touch()
    try:
        yield path
    finally:
        path.unlink()


def load_inputs(
    arguments: JointTrainingArguments, accelerator: Accelerator, checkpoint: Path | None
) -> tuple[DatasetDict, Any, MMProfileProcessor, PhotoCache | None, VisionStates | None]:
    """The corpus, the model to train, its processor and the caches of `open_caches`; photos are read once, by the
    first process, unless a run is resumed, whose were."""
    with accelerator.main_process_first():
        corpus = load_corpus(arguments)
    schema = ProfileSchema.from_features(corpus["train"].features["profile"])
    model, processor = build_model(arguments, schema, corpus["train"])
    with accelerator.local_main_process_first():
        if accelerator.is_local_main_process and not checkpoint:
            check_corpus_photos(corpus, processor, arguments)
        caches = open_caches(corpus, model, processor, arguments, accelerator.device)
    return corpus, model, processor, *caches


def say_what_is_shortened(split: Dataset, processor, arguments: JointTrainingArguments) -> None:
    found = shortened_texts(evaluation_loader(split, processor, arguments))
    if found["users"]:
        kinds = [name for name in ("reviews", "captions") if f"{name}_read" in found]
        read = " and ".join(f"{found[f'{name}_read']:.0%} of the {name}' tokens" for name in kinds)
        told.info(
            f"the texts of {found['users']} of {len(split)} development users do not fit in"
            f" max_text_tokens={processor.max_text_tokens}: {read} are read"
        )
