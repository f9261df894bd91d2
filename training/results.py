"""What a trained model is worth on the test split: under which conditions, in which figures, with which example."""

from collections.abc import Mapping, Sequence

from accelerate import Accelerator
from datasets import Dataset, DatasetDict
from transformers import AutoModelForSeq2SeqLM

from mmprofile import ProfileSchema, seen_by
from scoring.evaluation import Evaluation, evaluate_model, evaluate_probabilities, majority_f1
from scoring.plots import calibration
from training.agreement import Agreement, CheckedLoader
from training.arguments import JointTrainingArguments
from training.batching import UserExamples
from training.data import evaluation_loader
from training.forged_lines import agreement
from training.photo_cache import PhotoCache

# Row of the results table -> what `UserExamples` gives of a user (Figure 6 calls strangers' photos "unpaired").
TEST_CONDITIONS = {
    "mmprofile": {},
    "reviews alone": {"photos_from": "nobody"},
    "photos of another user": {"photos_from": "stranger"},
    "profile forged in a review": {"forged": 1},
    "profile forged in five reviews": {"forged": 5},
}
# Row -> what `all_results.json` calls its average.
AVERAGES = {
    "mmprofile": "test_average_f1",
    "majority class": "test_majority_average_f1",
    "reviews alone": "test_text_only_average_f1",
    "photos of another user": "test_unpaired_average_f1",
    "profile forged in a review": "test_forged_average_f1",
    "profile forged in five reviews": "test_often_forged_average_f1",
}
# What `all_results.json` calls the agreement with a forged profile -> row.
FORGED_ROWS = {
    "without": "mmprofile",
    "with": "profile forged in a review",
    "with_five": "profile forged in five reviews",
}


def evaluate_saved(
    processor,
    split: Dataset,
    arguments: JointTrainingArguments,
    accelerator: Accelerator,
    cache: PhotoCache | None,
    agreement: Agreement,
) -> tuple[dict[str, Evaluation], list[dict]]:
    """The model in `output_dir` on a split: under each of `TEST_CONDITIONS`, of a model that sees reviews alone those
    about reviews; and the rows of `evaluate_probabilities`. `cache` is of photos."""
    model = AutoModelForSeq2SeqLM.from_pretrained(arguments.output_dir, trust_remote_code=True).to(accelerator.device)
    tests, sees = {}, seen_by(arguments)
    for row, condition in TEST_CONDITIONS.items():
        if "photos_from" in condition and not (sees.images or sees.captions):
            continue
        loader = accelerator.prepare(evaluation_loader(split, processor, arguments, cache=cache, **condition))
        checked, name = CheckedLoader(loader, agreement), f"test, {row}"
        tests[row] = evaluate_model(model, checked, processor, accelerator, arguments.num_beams, name)
    loader = accelerator.prepare(evaluation_loader(split, processor, arguments, cache=cache))
    checked = CheckedLoader(loader, agreement)
    return tests, evaluate_probabilities(model, checked, processor, accelerator, "test, probabilities")


def forged_agreement(tests: Mapping[str, Evaluation], split: Dataset, schema: ProfileSchema) -> dict[str, dict]:
    """How often the profile that users' forged reviews name is written, and how often it would be without them.

    Returns:
        attribute key -> `without`, `with` one and `with_five` forged reviews, percent of the split's users.
    """
    examples = UserExamples(split, schema)
    forged = [examples.forged_profile(index) for index in range(len(split))]
    agreed = {name: agreement(tests[row].predictions, forged, schema) for name, row in FORGED_ROWS.items()}
    return {key: {name: of_row[key] for name, of_row in agreed.items()} for key in schema.keys}


def summarise_tests(
    tests: Mapping[str, Evaluation], rows: Sequence[Mapping], corpus: DatasetDict, schema: ProfileSchema
) -> dict:
    """The results of the test split, as `all_results.json` has them.

    Args:
        tests, rows: of `evaluate_saved`.
    """
    train_profiles = [schema.profile_from_labels(labels) for labels in corpus["train"]["profile"]]
    table = {row: evaluation.f1 for row, evaluation in tests.items()}
    table["majority class"] = majority_f1(train_profiles, tests["mmprofile"].references, schema)
    return {
        **{name: table[row]["average"] for row, name in AVERAGES.items() if row in table},
        "test_f1": table,
        "test_forged_agreement": forged_agreement(tests, corpus["test"], schema),
        "test_calibration": calibration(rows, schema),
    }


def describe_corpus(corpus: DatasetDict, arguments: JointTrainingArguments) -> dict:
    """Name and sizes of the corpus, for the model card."""
    return {
        "name": arguments.dataset_name or arguments.dataset,
        "config": arguments.dataset_config,
        "train": len(corpus["train"]),
        "dev": len(corpus["validation"]),
        "test": len(corpus["test"]),
    }


def typical_user(rows: Sequence[Mapping]) -> tuple[int, int]:
    """The first user of whose profile as many attributes are right as of the median user's, and how many these are.

    Args:
        rows: of `evaluate_probabilities`.
    """
    right = [sum(row["profile"][key] == value for key, value in row["truth"].items()) for row in rows]
    median = sorted(right)[(len(right) - 1) // 2]
    return right.index(median), median


def example_of_use(
    rows: Sequence[Mapping], split: Dataset, schema: ProfileSchema, arguments: JointTrainingArguments
) -> dict:
    """A typical user of a split, for the model card: reviews, the profile written and the true one, and how many of
    the attributes are right."""
    index, right = typical_user(rows)
    examples = UserExamples(split, schema, arguments.num_reviews, arguments.num_images, photos_from="nobody")
    return {
        "reviews": examples[index].reviews,
        "profile": schema.render(rows[index]["profile"]),
        "truth": schema.render(rows[index]["truth"]),
        "right": right,
    }
