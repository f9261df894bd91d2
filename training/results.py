"""What a trained model is worth on the test split: under which conditions, in which figures, with which example."""

import json
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from accelerate import Accelerator
from datasets import Dataset, DatasetDict

from baselines.table import find_system
from cli.logs import told
from files.output_files import replacing, write_json
from files.public_names import portable_name, public_name
from mmprofile import Profile, ProfileSchema, seen_by
from publishing.run_files import ALL_RESULTS, CURVES, MAJORITY_ROW, PREDICTIONS, RECIPE_ROW, REVIEWS_ROW
from scoring.bootstrap import RESAMPLES, difference_intervals, half_width, interval, intervals, resample_f1
from scoring.evaluation import (
    Evaluation,
    evaluate_model,
    evaluate_probabilities,
    evaluation_of,
    majority_profile,
    profile_f1,
)
from scoring.plots import calibration, plot_calibration, plot_confusion, values_of
from scoring.reporting import format_table, plot_curves
from training.agreement import Agreement
from training.arguments import CONDITIONS, JointTrainingArguments
from training.batching import UserExamples
from training.data import checked_loader, evaluation_loader, shortened_texts
from training.forged_lines import agreement
from training.model_card import write_model_card
from training.photo_cache import PhotoCache

# Of the rows below those that are by whole histories too, where the system reads them; the others are by the recipe:
# what a stranger does weighs most where little else is read.
BY_HISTORY = ("reviews alone",)
# Row beside the system's own -> what `UserExamples` gives of a user (Figure 6 calls strangers' photos "unpaired").
TEST_CONDITIONS = {
    "reviews alone": {"photos_from": "nobody"},
    "photos of another user": {"photos_from": "stranger"},
    "profile forged in a review": {"forged": 1},
    "profile forged in five reviews": {"forged": 5},
}
# What `test_conditions` calls each.
CONDITION_ROWS: dict[str, str] = dict(zip(CONDITIONS, TEST_CONDITIONS, strict=True))
# Row -> what `all_results.json` calls its average; "test_average_f1" is the system's own.
AVERAGES = {
    RECIPE_ROW: "test_paper_recipe_average_f1",
    "majority class": "test_majority_average_f1",
    "reviews alone": "test_text_only_average_f1",
    "photos of another user": "test_unpaired_average_f1",
    "profile forged in a review": "test_forged_average_f1",
    "profile forged in five reviews": "test_often_forged_average_f1",
}
# What `all_results.json` calls the agreement with a forged profile -> row; "without" is the system's own.
FORGED_ROWS = {
    "with": "profile forged in a review",
    "with_five": "profile forged in five reviews",
}
SOFTWARE = ("torch", "transformers", "datasets", "accelerate")


def evaluate_saved(
    model,
    processor,
    split: Dataset,
    arguments: JointTrainingArguments,
    accelerator: Accelerator,
    cache: PhotoCache | None,
    agreement: Agreement | None = None,
) -> tuple[dict[str, Evaluation], list[dict]]:
    """A model on a split: in a row of the system's name and under each of `TEST_CONDITIONS`, of a model that sees
    reviews alone those about reviews; and the rows of `evaluate_probabilities` of the first.

    A system that reads whole histories is asked as `generate_profiles` answers, in `RECIPE_ROW` and in what is not
    `BY_HISTORY` as the paper asks, by beam search; so are the others in all. `cache` is of photos; `agreement`, of a
    run that may be stopped."""
    model, sees = model.to(accelerator.device), seen_by(arguments)
    history = find_system(arguments.system).reads_views

    def loader(**shown) -> Any:
        return checked_loader(split, processor, arguments, accelerator, agreement, cache=cache, **shown)

    def answered(name: str, **condition) -> list[dict]:
        users = loader(history=history, **condition)
        return evaluate_probabilities(model, users, processor, accelerator, name)

    def written(name: str, **condition) -> Evaluation:
        how = arguments.num_beams, name, arguments.constrained_beams
        return evaluate_model(model, loader(**condition), processor, accelerator, *how)

    tests, rows = {}, answered("test, probabilities")
    if history:
        tests[arguments.system] = evaluation_of(rows, processor.profile_schema)
        if arguments.combination != "states":
            tests[RECIPE_ROW] = written(f"test, {RECIPE_ROW}")
    else:
        tests[arguments.system] = written(f"test, {arguments.system}")
    for row, condition in tested_conditions(arguments).items():
        if "photos_from" in condition and not (sees.images or sees.captions):
            continue
        name = f"test, {row}"
        if history and row in BY_HISTORY:
            tests[row] = evaluation_of(answered(name, **condition), processor.profile_schema)
        else:
            tests[row] = written(name, **condition)
    return tests, rows


def tested_conditions(arguments: JointTrainingArguments) -> dict[str, dict]:
    """Of `TEST_CONDITIONS` those asked for."""
    rows = [CONDITION_ROWS[name] for name in arguments.test_conditions]
    return {row: condition for row, condition in TEST_CONDITIONS.items() if row in rows}


def forged_agreement(
    tests: Mapping[str, Evaluation], own: str, split: Dataset, schema: ProfileSchema
) -> dict[str, dict]:
    """How often the profile that users' forged reviews name is written, and how often it would be without them.

    Returns:
        attribute key -> `without`, `with` one and `with_five` forged reviews, percent of the split's users, as far as
        these were evaluated.
    """
    examples = UserExamples(split, schema)
    forged = [examples.forged_profile(index) for index in range(len(split))]
    rows = {"without": RECIPE_ROW if RECIPE_ROW in tests else own} | FORGED_ROWS
    rows = {name: row for name, row in rows.items() if row in tests}
    agreed = {name: agreement(tests[row].predictions, forged, schema) for name, row in rows.items()}
    return {key: {name: of_row[key] for name, of_row in agreed.items()} for key in schema.keys}


def development_record(evaluation: Evaluation, schema: ProfileSchema) -> dict:
    """What `metrics.jsonl` has of the development split: `dev_loss`, `dev_f1`, and `dev_average_low` and
    `dev_average_high`, the ends of the average's 95 % interval."""
    resampled = resample_f1({"own": evaluation.predictions}, evaluation.references, schema)["own"]
    low, high = interval(resampled["average"])
    return {
        "dev_loss": evaluation.loss,
        "dev_f1": evaluation.f1,
        "dev_average_low": low,
        "dev_average_high": high,
    }


def summarise_tests(
    tests: Mapping[str, Evaluation],
    rows: Sequence[Mapping],
    corpus: DatasetDict,
    processor,
    arguments: JointTrainingArguments,
) -> dict:
    """The results of the split that was evaluated, as `all_results.json` has them.

    Args:
        tests, rows: of `evaluate_saved`.
        corpus: by name; has that split, and "train" unless the majority class is to be left out.

    Returns:
        In percent by row of the table, attribute key and "average" `test_f1`, and the averages by `AVERAGES`;
        likewise the ends of 95 % intervals, `test_intervals` of each figure and `test_differences` of what the model's
        own row has more than each other (the recipe's more than those by the recipe); `test_resolution`, half the
        width of such an interval of the model's average, and `paired_half_width` of its difference from the reviews
        alone (the majority class where it sees nothing else), in points; `test_forged_agreement`, `test_calibration`
        and what the texts were shortened to; and of what they are, `test_corpus`.
    """
    own, split, schema = arguments.system, corpus[arguments.test_split], processor.profile_schema
    history = find_system(own).reads_views
    references = tests[own].references
    predictions: dict[str, Sequence[Profile]] = {row: evaluation.predictions for row, evaluation in tests.items()}
    table = {row: evaluation.f1 for row, evaluation in tests.items()}
    if "train" in corpus:
        train_profiles = [schema.profile_from_labels(labels) for labels in corpus["train"]["profile"]]
        predictions[MAJORITY_ROW] = [majority_profile(train_profiles, schema)] * len(references)
        table[MAJORITY_ROW] = profile_f1(list(predictions[MAJORITY_ROW]), references, schema)
    return {
        "test_average_f1": table[own]["average"],
        **{name: table[row]["average"] for row, name in AVERAGES.items() if row in table},
        "test_f1": table,
        **_uncertainty(predictions, own, references, schema),
        "test_forged_agreement": forged_agreement(tests, own, split, schema),
        "test_calibration": calibration(rows, schema),
        "test_shortened_texts": shortened_texts(evaluation_loader(split, processor, arguments, history=history)),
        "test_corpus": describe_corpus(arguments) | {"split": arguments.test_split, "users": len(split)},
    }


def _uncertainty(
    predictions: Mapping[str, Sequence[Profile]], own_row: str, references: Sequence[Profile], schema: ProfileSchema
) -> dict:
    resampled = resample_f1(predictions, references, schema)
    found = {row: intervals(values) for row, values in resampled.items()}
    own = resampled[own_row]
    recipe = resampled.get(RECIPE_ROW, own)
    alike = {row: own if row in (*BY_HISTORY, RECIPE_ROW, MAJORITY_ROW) else recipe for row in resampled}
    others = {r: difference_intervals(alike[r], values) for r, values in resampled.items() if r != own_row}
    paired = others.get(REVIEWS_ROW, others.get(MAJORITY_ROW))
    resolution = {
        "users": len(references),
        "resamples": RESAMPLES,
        "half_width": half_width(found[own_row]["average"]),
        "paired_half_width": half_width(paired["average"]) if paired else None,
    }
    return {"test_intervals": found, "test_differences": others, "test_resolution": resolution}


def describe_corpus(arguments: JointTrainingArguments) -> dict:
    """What a corpus is called: `name`, as people read it, `config`, and the `dataset` that is loaded."""
    name, dataset = public_name(arguments.dataset_name or arguments.dataset), portable_name(arguments.dataset)
    return {"name": name, "config": arguments.dataset_config, "dataset": dataset}


def describe_training(corpus: DatasetDict, arguments: JointTrainingArguments) -> dict:
    """What `all_results.json` tells of a training beside its length: `train_corpus` and `train_software`."""
    sizes = {"train": len(corpus["train"]), "dev": len(corpus["validation"]), "test": len(corpus["test"])}
    software = ", ".join(f"{package} {version(package)}" for package in SOFTWARE)
    return {"train_corpus": describe_corpus(arguments) | sizes, "train_software": software}


def publish_results(
    results: dict,
    tests: Mapping[str, Evaluation],
    rows: Sequence[Mapping],
    corpus: DatasetDict,
    history: Sequence[Mapping],
    processor,
    arguments: JointTrainingArguments,
    flags_known: bool = True,
) -> None:
    """Completes the output folder: results, figures of the split evaluated, curves and model card; tells the scores.

    Args:
        results: `summarise_tests` and what is known of the training.
        tests, rows: of `evaluate_saved`.
        flags_known: see `write_model_card`.
    """
    output, schema, split = Path(arguments.output_dir), processor.profile_schema, corpus[arguments.test_split]
    of = f"{arguments.test_split.capitalize()} split, {len(split)} users"
    plot_confusion(tests[arguments.system].rows, schema, output / "confusion.png", of)
    plot_calibration(results["test_calibration"], schema, output / "calibration.png", of)
    example, answered = None, [index for index, row in enumerate(rows) if row["problem"] is None]
    if arguments.publish_example and answered:
        example = example_of_use([rows[n] for n in answered], split.select(answered), schema, arguments)
    if history:
        plot_curves(history, schema, output / CURVES)
    if arguments.save_predictions:
        write_predictions(output / PREDICTIONS, tests, split["user_id"])
    write_model_card(output, arguments, schema, results, history, example, flags_known)
    write_json(output / ALL_RESULTS, results)  # the last, by which a run is known to have ended
    table = format_table(results["test_f1"], schema, results["test_intervals"])
    told.info(f"\nMacro-F1 on the {arguments.test_split} split, in percent, and 95 % intervals:\n\n{table}\n")
    told.info("\n".join(f"{name}: {results[name]:.2f}" for name in results if name.endswith("average_f1")))
    told.info(f"\nWritten to {output}")


def write_predictions(path: Path, tests: Mapping[str, Evaluation], users: Sequence[str]) -> None:
    """A table of the users: `user_id`, `truth`, and in each row of the results the profile written, all as texts in
    JSON; a value that was not understood is null."""
    first = next(iter(tests.values()))
    columns = {"truth": first.references} | {row: evaluation.predictions for row, evaluation in tests.items()}
    texts = {name: [json.dumps(profile) for profile in profiles] for name, profiles in columns.items()}
    with replacing(path) as temporary:
        pq.write_table(pa.table({"user_id": list(users), **texts}), temporary, compression="zstd")


def typical_user(rows: Sequence[Mapping]) -> tuple[int, int]:
    """A user of whose profile as many attributes are right as of the median user's, and how many these are. Of several
    the first with as many right values as their median: of an attribute of two values one alone may be right.

    Args:
        rows: of `evaluate_probabilities`.
    """
    right = [sum(row["profile"][key] == value for key, value in row["truth"].items()) for row in rows]
    median = _lower_median(right)
    alike = {index: _right_values(row) for index, row in enumerate(rows) if right[index] == median}
    values = _lower_median(list(alike.values()))
    return next(index for index, number in alike.items() if number == values), median


def _right_values(row: Mapping) -> int:
    return sum(
        value in values_of(row["profile"], key) for key in row["truth"] for value in values_of(row["truth"], key)
    )


def _lower_median(numbers: Sequence[int]) -> int:
    return sorted(numbers)[(len(numbers) - 1) // 2]


def example_of_use(
    rows: Sequence[Mapping], split: Dataset, schema: ProfileSchema, arguments: JointTrainingArguments
) -> dict:
    """A typical user of a split, for the model card: `reviews`, up to `num_reviews` of the newest of so many that were
    `read`, the profile written and the true one, and how many of the attributes are right."""
    index, right = typical_user(rows)
    examples = UserExamples(split, schema, arguments.num_reviews, arguments.num_images, photos_from="nobody")
    reviews = examples[index].reviews
    read = len(reviews)
    if find_system(arguments.system).reads_views:
        read = len(split[index]["reviews"])
        if arguments.eval_views != "all":
            read = min(read, arguments.eval_views * int(arguments.view_reviews or arguments.num_reviews))
    return {
        "reviews": reviews[:read],
        "read": read,
        "profile": schema.render(rows[index]["profile"]),
        "truth": schema.render(rows[index]["truth"]),
        "right": right,
    }
