"""Evaluation by generation: Macro-F1 of the profiles that a model writes, beside the majority class, and how probable
it takes them to be."""

import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import nan
from pathlib import Path
from typing import Any

import evaluate
import torch
from accelerate import Accelerator
from tqdm.auto import tqdm

from mmprofile import Profile, ProfileSchema, profile_users, target_losses, write_profiles
from prediction.linear import fast_linears

TARGETS = ("labels", "classes")  # of a batch; all else are inputs
METRIC = str(Path(__file__).parent.parent / "metrics" / "profile_f1")


@dataclass
class Evaluation:
    """`f1` in percent: attribute key -> Macro-F1, and "average"; `loss` per token, or nan; one profile a user."""

    f1: dict[str, float]
    loss: float
    predictions: list[Profile]
    references: list[Profile]

    @property
    def rows(self) -> list[dict]:
        """What `scoring.plots` reads: `profile`, in which a value that was not understood is none, and `truth`."""
        read = [{key: value or [] for key, value in profile.items()} for profile in self.predictions]
        return [{"profile": p, "truth": truth} for p, truth in zip(read, self.references, strict=True)]


def evaluate_model(
    model,
    loader,
    processor,
    accelerator: Accelerator,
    num_beams: int,
    name: str,
    constrained: bool = False,
) -> Evaluation:
    """Generates a profile for each user of a prepared loader, over all processes, and scores it.

    Args:
        model: the bare model of a system, see `systems.system`; it is left in evaluation mode.
        loader: batches of `training.batching.EvaluationCollator`, prepared by the accelerator.
        processor: `MMProfileProcessor`.
        accelerator: gathers the users of all processes, each once.
        num_beams: of the beam search.
        name: for the progress bar.
        constrained: write nothing that is no profile of the schema.

    What the loader raises ends the evaluation, and leaves the random numbers as they were.
    """
    rng = torch.get_rng_state()
    try:
        # Layers that were compiled for training would be compiled anew for each length of what is generated.
        with torch.compiler.set_stance("force_eager"):
            batches = _batches(loader, accelerator, name)
            return _evaluate(model, batches, processor, accelerator, num_beams, constrained)
    except BaseException:
        torch.set_rng_state(rng)
        raise


def _batches(loader, accelerator: Accelerator, name: str) -> tqdm:
    return tqdm(loader, desc=name, leave=False, disable=not accelerator.is_local_main_process)


def _evaluate(
    model,
    batches: Iterable[dict[str, torch.Tensor]],
    processor,
    accelerator: Accelerator,
    num_beams: int,
    constrained: bool,
) -> Evaluation:
    model.eval()
    losses_of, profiles_of = _two_methods(model)
    predictions, references, losses, counts = [], [], [], []
    for batch in batches:
        targets = {name: batch.pop(name) for name in TARGETS if name in batch}
        labels = targets["labels"]
        with torch.no_grad(), accelerator.autocast():
            inputs = _encoded_once(model, batch)
            losses.append(accelerator.gather_for_metrics(losses_of(inputs, targets)))
            written = profiles_of(inputs, processor, num_beams, constrained)
        counts.append(accelerator.gather_for_metrics((labels >= 0).sum(dim=1)))
        predictions += accelerator.gather_for_metrics(written, use_gather_object=True)
        references += _gathered_profiles(_without_ignored(labels, processor), processor, accelerator)
    return Evaluation(
        f1=profile_f1(predictions, references, processor.profile_schema),
        loss=(torch.cat(losses).sum() / torch.cat(counts).sum()).item(),
        predictions=predictions,
        references=references,
    )


def evaluation_of(rows: Sequence[Mapping], schema: ProfileSchema) -> Evaluation:
    """Of the profiles of `evaluate_probabilities`' rows; the loss is not known."""
    nothing = dict.fromkeys(schema.keys)
    predictions = [row["profile"] if row.get("problem") is None else nothing for row in rows]
    references = [row["truth"] for row in rows]
    return Evaluation(profile_f1(predictions, references, schema), nan, predictions, references)


def _two_methods(model) -> tuple[Callable, Callable]:
    """`target_losses` and `write_profiles` of a model; of a checkpoint whose own code is older, this code's."""
    losses, profiles = (getattr(model, name, None) for name in ("target_losses", "write_profiles"))
    return losses or partial(target_losses, model), profiles or partial(write_profiles, model)


def _encoded_once(model, batch: dict[str, torch.Tensor]) -> dict:
    """A batch as both methods take it, encoded where the model can do that by itself."""
    if not hasattr(model, "encode"):
        return batch
    encoded = model.encode(**batch)
    return {"encoder_outputs": encoded, "attention_mask": encoded.get("attention_mask", batch["attention_mask"])}


def _gathered_profiles(tokens: torch.Tensor, processor, accelerator: Accelerator) -> list[Profile]:
    padded: Any = accelerator.pad_across_processes(tokens, dim=1, pad_index=processor.tokenizer.pad_token_id)
    return processor.decode_profiles(accelerator.gather_for_metrics(padded))


def _without_ignored(labels: torch.Tensor, processor) -> torch.Tensor:
    return labels.masked_fill(labels < 0, processor.tokenizer.pad_token_id)


def evaluate_probabilities(model, loader, processor, accelerator: Accelerator, name: str) -> list[dict]:
    """What `generate_profiles` answers for each user of a prepared loader, over all processes.

    A user of whom the model computes what is not finite ends no run of hours: none of the values is right then, and a
    warning says so.

    Args:
        as `evaluate_model`.

    Returns:
        A row a user, as `scoring.plots.calibration` takes it: `profile`, `probabilities`, `truth`, of how many `views`
        they are, and `problem`, None or a sentence; then the profile has no values.
    """
    model.eval()
    rows, nothing = [], {key: [] for key in processor.profile_schema.keys}
    for batch in _batches(loader, accelerator, name):
        targets = {name: batch.pop(name) for name in TARGETS if name in batch}
        views = {"views": batch.pop("views").tolist()} if "views" in batch else {}
        truths = processor.decode_profiles(_without_ignored(targets["labels"], processor))
        with fast_linears(model.device):
            found = answers_of(model, processor.tokenizer, batch, **views)
        answers = [
            {
                "profile": one.get("profile", nothing),
                "probabilities": one.get("probabilities"),
                "truth": truth,
                "views": count,
                "problem": one.get("error"),
            }
            for one, truth, count in zip(found, truths, views.get("views", [1] * len(truths)), strict=True)
        ]
        rows += accelerator.gather_for_metrics(answers, use_gather_object=True)
    if (problems := list(filter(None, (row["problem"] for row in rows)))) and accelerator.is_main_process:
        warnings.warn(f"{name}: {len(problems)} of {len(rows)} users count as wrong: {problems[0]}", stacklevel=2)
    return rows


def answers_of(model, tokenizer, batch: dict[str, torch.Tensor], **search) -> list[dict]:
    """What `mmprofile.profile_users` tells of a batch, by the model's own method where it has one."""
    own = getattr(model, "profile_users", None)
    return own(batch, tokenizer, **search) if own else profile_users(model, tokenizer, batch, **search)


def check_bounds(model, search: Mapping) -> None:
    """Raises a `ValueError` where `answers_of` would refuse this search; mmprofile's own takes any."""
    own = getattr(model, "check_bounds", None)
    if own:
        own(search)


def profile_f1(predictions: list[Profile], references: list[Profile], schema: ProfileSchema) -> dict[str, float]:
    """The metric `profile_f1`, in percent."""
    metric = evaluate.load(METRIC, keep_in_memory=True)
    scores = metric.compute(predictions=predictions, references=references, schema=schema.to_list())
    assert scores is not None  # each process scores by itself
    return {key: 100 * score for key, score in scores.items()}


def majority_profile(profiles: Iterable[Profile], schema: ProfileSchema) -> Profile:
    """The most frequent values of each attribute, as many as it takes; ties go to schema order."""
    counts: dict[str, Counter] = {key: Counter() for key in schema.keys}
    for profile in profiles:
        for key, value in profile.items():
            counts[key].update([value] if isinstance(value, str) else value)
    majority = {}
    for attribute in schema.attributes:
        most = sorted(attribute.values, key=lambda value: -counts[attribute.key][value])[: attribute.count]
        majority[attribute.key] = most[0] if attribute.count == 1 else most
    return schema.validate(majority)


def majority_f1(train: Sequence[Profile], references: list[Profile], schema: ProfileSchema) -> dict[str, float]:
    """`profile_f1` of the training split's majority profile, given to every user."""
    return profile_f1([majority_profile(train, schema)] * len(references), references, schema)
