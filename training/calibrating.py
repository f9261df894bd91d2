"""Temperatures and thresholds of a trained model, fitted on the development split."""

from pathlib import Path

from accelerate import Accelerator
from datasets import Dataset

from files.checkpoint_files import set_config_fields
from mmprofile import FITTED
from scoring.evaluation import evaluate_probabilities
from scoring.temperature import fit_calibration
from training.agreement import Agreement, on_main
from training.arguments import JointTrainingArguments
from training.data import checked_loader
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
    """Fits them over all processes and stores them, in the model's configuration and in that of `output_dir`; of a
    model without temperatures, and where no user could be answered, nothing.

    Args:
        as of `training.results.evaluate_saved`, but `split` is the development one.
    """
    if not hasattr(model.config, "temperatures"):
        return
    for name in FITTED:  # of a run that was stopped behind this
        setattr(model.config, name, None)
    loader = checked_loader(split, processor, arguments, accelerator, agreement, cache=cache, history=True)
    model = model.to(accelerator.device)
    rows = evaluate_probabilities(model, loader, processor, accelerator, "development, probabilities")
    rows = [row for row in rows if row["problem"] is None]
    if not rows:
        return
    if arguments.combination != "product":
        rows = [row | {"views": 1} for row in rows]
    fitted = fit_calibration(rows, processor.profile_schema)
    for name, value in fitted.items():
        setattr(model.config, name, value)
    on_main(accelerator, lambda: set_config_fields(Path(arguments.output_dir), fitted))
