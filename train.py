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
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from datasets import DatasetDict

from cli.logs import set_log_level, told
from cli.progress import log_progress
from files.output_files import WriteFailure, only_run, write_json
from scoring.evaluation import Evaluation
from scoring.plots import plot_calibration, plot_confusion
from scoring.reporting import best_epoch, format_table, plot_curves
from training.agreement import saved_when_stopped
from training.data import evaluation_loader, shortened_texts
from training.dry_run import estimate
from training.evaluations import evaluate_or_save
from training.failures import TrainingFailure
from training.guards import explained_failures
from training.launcher import make_accelerator
from training.model_card import write_model_card
from training.results import describe_corpus, evaluate_saved, example_of_use, summarise_tests
from training.run import Run, begin, set_up
from training.steps import log_if_due, steps_of_epoch, train_step
from training.trackers import log_results


def main(argv: list[str] | None = None) -> dict:
    """Trains, evaluates and writes the output folder; returns what stands in its `all_results.json`;
    of a dry run what `estimate` returns."""
    arguments = parse_flags(JointTrainingArguments, argv, __doc__)
    log_progress()
    torch.backends.cuda.enable_cudnn_sdp(False)  # it plans for each new shape, and each batch has its own
    accelerator = make_accelerator(arguments)
    set_log_level(arguments.log_level, accelerator.is_main_process)
    for note in unused_settings(arguments):
        told.warning(f"train.py: {note}")
    set_seed(arguments.seed)
    with only_run(arguments.output_dir) if accelerator.is_main_process else nullcontext():
        return train(arguments, accelerator)


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
    test = corpus["test"]
    tests, rows = evaluate_saved(run.processor, test, arguments, accelerator, run.photo_cache, run.agreement)
    results = {
        **summarise_tests(tests, rows, corpus, run.schema),
        "test_shortened_texts": shortened_texts(evaluation_loader(test, run.processor, arguments)),
        "best_epoch": best_epoch(run.state.history),
        "train_seconds": seconds,
    }
    if accelerator.is_main_process:
        publish_results(results, tests, rows, corpus, run.state.history, run.processor, arguments)
        if run.uploader:
            told.info(str(run.uploader.finish()))
    log_results(accelerator, results, run.state.step)
    accelerator.end_training()
    return results


def publish_results(
    results: dict,
    tests: dict[str, Evaluation],
    rows: list[dict],
    corpus: DatasetDict,
    history: list[dict],
    processor,
    arguments: JointTrainingArguments,
) -> None:
    """Completes the output folder: results, figures, model card; tells the scores.

    Args:
        tests, rows: of `evaluate_saved`.
    """
    output, schema = Path(arguments.output_dir), processor.profile_schema
    write_json(output / "all_results.json", results)
    of = f"Test split, {len(corpus['test'])} users"
    plot_confusion(tests["mmprofile"].rows, schema, output / "confusion.png", of)
    plot_curves(history, schema, output / "curves.png")
    plot_calibration(results["test_calibration"], schema, output / "calibration.png", of)
    example, answered = None, [index for index, row in enumerate(rows) if row["problem"] is None]
    if arguments.publish_example and answered:
        example = example_of_use([rows[n] for n in answered], corpus["test"].select(answered), schema, arguments)
    described = describe_corpus(corpus, arguments)
    write_model_card(output, arguments, schema, results, history, described, example)
    told.info(f"\nMacro-F1 on the test split, in percent:\n\n{format_table(results['test_f1'], schema)}\n")
    told.info("\n".join(f"{name}: {results[name]:.2f}" for name in results if name.endswith("average_f1")))
    told.info(f"\nWritten to {output}")


if __name__ == "__main__":
    try:
        main()
    except (ValueError, TrainingFailure, WriteFailure) as error:
        sys.exit(f"train.py: {error}")
