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

from contextlib import nullcontext

import torch
from accelerate import Accelerator, PartialState
from accelerate.utils import set_seed

from cli.logs import set_log_level, told
from cli.progress import log_progress
from files.checkpoint_code import load_model
from files.output_files import WriteFailure, only_run
from scoring.reporting import best_epoch
from training.agreement import saved_when_stopped
from training.calibrating import calibrate
from training.dry_run import estimate
from training.evaluation_only import evaluate_only
from training.evaluations import evaluate_or_save
from training.failures import TrainingFailure
from training.faithfulness import measure_faithfulness
from training.guards import explained_failures
from training.launcher import make_accelerator
from training.results import describe_training, evaluate_saved, publish_results, summarise_tests
from training.run import Run
from training.seeds import run_seeds
from training.set_up import begin, set_up
from training.steps import log_if_due, steps_of_epoch, train_step
from training.trackers import end_trackers, log_results


def main(argv: list[str] | None = None) -> dict:
    """Trains, evaluates and writes the output folder; returns what stands in its `all_results.json`, of several seeds
    in `seeds.json`; of a dry run what `estimate` returns."""
    arguments = parse_flags(JointTrainingArguments, argv, __doc__)
    log_progress()
    torch.backends.cuda.enable_cudnn_sdp(False)  # it plans for each new shape, and each batch has its own
    found = main_of_seed(arguments) if arguments.seeds is None else run_seeds(arguments, main_of_seed)
    PartialState().destroy_process_group()
    return found


def main_of_seed(arguments: JointTrainingArguments) -> dict:
    """`main` of one seed, which leaves the processes together."""
    accelerator = make_accelerator(arguments)
    set_log_level(arguments.log_level, accelerator.is_main_process)
    for note in unused_settings(arguments):
        told.warning(f"train.py: {note}")
    set_seed(arguments.seed)
    with only_run(arguments.output_dir) if accelerator.is_main_process else nullcontext():
        return train(arguments, accelerator) if arguments.do_train else evaluate_only(arguments, accelerator)


def train(arguments: JointTrainingArguments, accelerator: Accelerator) -> dict:
    """What one process does of `main`."""
    run = set_up(arguments, accelerator)
    if arguments.dry_run:
        with explained_failures(arguments, run.output):
            return estimate(run)
    begin(run)
    with explained_failures(run.arguments, run.output), saved_when_stopped(run.agreement, run.save):
        if run.evaluation_due:  # of a run that was stopped in it
            evaluate_or_save(run)
        while not run.finished:
            for batches in steps_of_epoch(run):
                train_step(run, batches)
                log_if_due(run)
                evaluate_or_save(run)
                if run.finished:
                    break
        return report(run)


def report(run: Run) -> dict:
    """Evaluates the weights that were best on the test split, and completes the output folder."""
    accelerator, arguments, corpus, seconds = run.accelerator, run.arguments, run.corpus, run.state.seconds
    accelerator.wait_for_everyone()
    cache, agreement = run.photo_cache, run.agreement
    run.leave_device()
    best = load_model(str(run.output), None, trusted=True)  # the code is that of the model that was trained
    calibrate(best, run.processor, corpus["validation"], arguments, accelerator, cache, agreement)
    tests, rows = evaluate_saved(best, run.processor, corpus["test"], arguments, accelerator, cache, agreement)
    weights = measure_faithfulness(best, run.processor, corpus["test"], arguments, accelerator, cache, agreement)
    results = {
        **summarise_tests(tests, rows, corpus, run.processor, arguments),
        **weights,
        **describe_training(corpus, arguments),
        "train_seconds": seconds,
        "best_epoch": best_epoch(run.state.history),
    }
    log_results(accelerator, results, run.state.step)
    end_trackers(accelerator)
    if accelerator.is_main_process:
        publish_results(results, tests, rows, corpus, run.state.history, run.processor, arguments)
        if run.uploader:
            told.info(str(run.uploader.finish()))
    return results


if __name__ == "__main__":
    try:
        main()
    except (ValueError, TrainingFailure, WriteFailure) as error:
        sys.exit(f"train.py: {error}")
