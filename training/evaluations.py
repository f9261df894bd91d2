"""What comes after steps: an evaluation on the development split, checkpoints, and what the output folder shows."""

import time
from pathlib import Path

from cli.logs import told
from files.output_files import append_json
from publishing.hub_folder import save_hub_folder
from publishing.run_files import CURVES, METRICS
from scoring.evaluation import Evaluation, evaluate_model
from scoring.plots import plot_confusion
from scoring.reporting import best_record, plot_curves
from training.agreement import CheckedLoader
from training.results import development_record
from training.run import Run


def evaluate_or_save(run: Run) -> None:
    """What is due after a step: an evaluation, else a checkpoint."""
    if run.evaluation_due:
        evaluate_period(run)
    elif run.checkpoints.due(run.state.step):
        began = time.monotonic()
        push_checkpoint(run, run.checkpoints.save(run.state))
        run.meter.pause(time.monotonic() - began)


def evaluate_period(run: Run) -> None:
    """Evaluates what the steps since the last evaluation have made of the model, saves a checkpoint if the run keeps
    any, and has the output folder show it."""
    began, accelerator, state, arguments = time.monotonic(), run.accelerator, run.state, run.arguments
    record = state.training_record(accelerator, list(arguments.views), run.epoch_done)
    with run.evaluated_model() as whole:
        loader = CheckedLoader(run.dev_loader, run.agreement)
        evaluation = evaluate_model(
            whole, loader, run.processor, accelerator, arguments.num_beams, "development", arguments.constrained_beams
        )
        state.end_period(record | development_record(evaluation, run.schema), run.ends_epoch)
        accelerator.log(state.flat_record, step=state.step)
        # The checkpoint first: from it the folder's files can be written again.
        saved = run.checkpoints.save(state) if arguments.saves_checkpoints else None
        if accelerator.is_main_process:
            publish_evaluation(whole, run.processor, state.history, evaluation, run.output)
    push_checkpoint(run, saved)
    run.meter.pause(time.monotonic() - began)
    run.time_left.done("evaluation")


def push_checkpoint(run: Run, saved: Path | None) -> None:
    if run.uploader:
        run.uploader.on_save(run.state.step, saved)


def publish_evaluation(model, processor, history: list[dict], evaluation: Evaluation, output: Path) -> None:
    """Has the output folder show the evaluations so far and the last one's errors, its weights if it is the best."""
    record = history[-1]
    append_json(output / METRICS, record)
    of = f"Development split, {len(evaluation.references)} users, epoch {record['epoch']}"
    plot_confusion(evaluation.rows, processor.profile_schema, output / "confusion.png", of)
    plot_curves(history, processor.profile_schema, output / CURVES)
    if best_record(history) is record:
        save_hub_folder(model, processor, output)
    told.info(
        f"epoch {record['epoch']}: training loss {record['train_loss']:.3f}, development loss {evaluation.loss:.3f},"
        f" development Macro-F1 {evaluation.f1['average']:.2f}, {record['users_per_second']:.1f} users/s"
    )
