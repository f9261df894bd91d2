"""Temperatures and thresholds of a trained model, fitted on the development split."""

import dataclasses
from pathlib import Path

from accelerate import Accelerator
from datasets import Dataset

from files.checkpoint_files import set_config_fields
from scoring.evaluation import evaluate_probabilities
from scoring.temperature import fit_calibration, fitted_views
from training.agreement import Agreement, on_main
from training.arguments import JointTrainingArguments
from training.data import checked_loader, history_views
from training.photo_cache import PhotoCache


def calibrate(
    model,
    processor,
    split: Dataset,
    arguments: JointTrainingArguments,
    accelerator: Accelerator,
    cache: PhotoCache | None,
    agreement: Agreement,
) -> None:
    """Fits them over all processes, to histories of several lengths, see `fitted_views`, and stores them, in the
    model's configuration and in that of `output_dir`; of a model without temperatures, and where no user could be
    answered, nothing.

    Args:
        as of `training.results.evaluate_saved`, but `split` is the development one.
    """
    if not hasattr(model.config, "calibrations"):
        return
    model.config.calibrations = None  # of a run that was stopped behind this
    model, by_views = model.to(accelerator.device), {}
    counts = history_views(split, arguments)
    for number in fitted_views(counts):
        users = split.select([place for place, count in enumerate(counts) if count >= number])
        fewer = dataclasses.replace(arguments, eval_views=number)
        loader = checked_loader(users, processor, fewer, accelerator, agreement, cache=cache, history=True)
        name = f"development, {number} views"
        rows = evaluate_probabilities(model, loader, processor, accelerator, name)
        rows = [row for row in rows if row["problem"] is None]
        if rows:
            by_views[str(number)] = fit_calibration(rows, processor.profile_schema)
    if not by_views:
        return
    model.config.calibrations = {arguments.combination: by_views}
    fields = {"calibrations": model.config.calibrations}
    on_main(accelerator, lambda: set_config_fields(Path(arguments.output_dir), fields))
