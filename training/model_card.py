"""The model card of a training run: `README.md` of the output folder, from `model_card_template.md`."""

import dataclasses
import json
import math
import os
import re
import statistics
import textwrap
from collections.abc import Mapping, Sequence
from datetime import timedelta
from importlib.metadata import version
from pathlib import Path, PureWindowsPath
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id

from files.output_files import replacing
from mmprofile import ProfileSchema, seen_by
from scoring.reporting import format_table, table_order
from training.arguments import OUTSIDE_THE_RUN, TOWERS, JointTrainingArguments

TEMPLATE = Path(__file__).with_name("model_card_template.md")
MODEL_ROW, REVIEWS_ROW, MAJORITY_ROW = "mmprofile", "reviews alone", "majority class"
EXAMPLE_CHARACTERS, EXAMPLE_COLUMNS = 400, 100  # of a review, and of a line
# What a sentence calls a tower, by its `model_type`.
TOWER_NAMES = {
    "t5": "a T5",
    "mt5": "an mT5",
    "umt5": "a umT5",
    "vit": "a ViT",
    "dinov2": "a DINOv2",
    "dinov2_with_registers": "a DINOv2 with registers",
    "siglip": "a SigLIP",
    "clip": "a CLIP",
}
SOFTWARE = ("torch", "transformers", "datasets", "accelerate")


def write_model_card(
    output_dir: str | os.PathLike,
    arguments: JointTrainingArguments,
    schema: ProfileSchema,
    results: Mapping,
    history: Sequence[Mapping],
    corpus: Mapping[str, Any],
    example: Mapping | None,
) -> None:
    """Writes `README.md`, the Hub's model card with its metadata. It names no folder of this machine.

    Args:
        output_dir: the folder of the saved model; its name is the model's. `curves.png`, `confusion.png` and
            `calibration.png` of the test split are expected there.
        arguments: of the run.
        schema: what a profile is.
        results: what `all_results.json` holds: `test_f1`, the rows of `format_table`, among them "mmprofile";
            `test_average_f1` and `test_majority_average_f1` in percent, `test_text_only_average_f1` and
            `test_unpaired_average_f1` too where the model sees more than reviews; `test_calibration`, see
            `scoring.plots.calibration`; `train_seconds` and `best_epoch`.
        history: one record an epoch, see `scoring.reporting.plot_curves`; `users_per_second` too.
        corpus: `name` and `config` (may be None), users in `train`, `dev` and `test`, and whether it is `synthetic`;
            default: if its name says so.
        example: `reviews` (texts), the `profile` written and the `truth`, which the card shows as output and as the
            widget's example, and how many attributes are `right`. What it holds is published: None where the reviews
            are a real person's.

    Raises:
        ValueError: if a row of the results lacks an attribute, or there is no row "mmprofile".
    """
    rows = results["test_f1"]
    if MODEL_ROW not in rows:
        raise ValueError(f"the results need a row {MODEL_ROW!r}, got {list(rows)}")
    table = format_table(rows, schema)
    f1, majority, attributes = rows[MODEL_ROW], rows.get(MAJORITY_ROW), table_order(schema)
    name = Path(output_dir).resolve().name
    corpus = {**corpus, "name": _public_name(corpus["name"])}
    towers = _tower_types(output_dir)
    text_tower, vision_tower = (TOWER_NAMES.get(kind, f"a vision tower of type `{kind}`") for kind in towers)
    card = ModelCard.from_template(
        _metadata(output_dir, arguments, schema, f1, corpus, example, towers),
        template_path=str(TEMPLATE),
        model_name=name,
        text_tower=text_tower,
        vision_tower=vision_tower,
        table=table,
        results=results,
        history=history,
        corpus=corpus,
        corpus_link=_link(arguments.dataset, "datasets/") or f"the corpus `{corpus['name']}`",
        synthetic=corpus.get("synthetic", "synthetic" in corpus["name"].lower()),
        example=_example_text(example) if example else None,
        right=example["right"] if example else None,
        gain=results["test_average_f1"] - results.get("test_text_only_average_f1", results["test_average_f1"]),
        costs=_costs(rows, schema),
        resolution=_resolution(results["test_average_f1"], corpus["test"]),
        errors=[(attribute.name, 100 - f1[attribute.key]) for attribute in attributes],
        distances=[(a.name, results["test_calibration"][a.key]["expected_error"]) for a in attributes],
        forged=[(a.name, results["test_forged_agreement"][a.key]) for a in attributes],
        forged_lines=arguments.forged_lines,
        max_text_tokens=arguments.max_text_tokens,
        no_better=[a.name for a in attributes if majority and f1[a.key] <= majority[a.key]],
        attributes=schema.to_list(),
        language=arguments.language,
        **_training(arguments, results, history),
    )
    card.text += "\n"
    with replacing(Path(output_dir) / "README.md") as temporary:
        card.save(temporary)


def _costs(rows: Mapping[str, Mapping[str, float]], schema: ProfileSchema) -> list[tuple[str, float, float]]:
    """Name, Macro-F1 of all and of the reviews alone, of each attribute in which the reviews alone do better."""
    own, alone = rows[MODEL_ROW], rows.get(REVIEWS_ROW, rows[MODEL_ROW])
    return [(a.name, own[a.key], alone[a.key]) for a in table_order(schema) if alone[a.key] > own[a.key]]


def _resolution(percent: float, users: int) -> float:
    """Points: the standard error of a share of so many users, as large as a Macro-F1 (with Agresti and Coull's four
    users more, half of them right: it is not 0 where nothing or all is)."""
    share = (users * percent / 100 + 2) / (users + 4)
    return 100 * math.sqrt(share * (1 - share) / (users + 4))


def _metadata(
    output_dir: str | os.PathLike,
    arguments: JointTrainingArguments,
    schema: ProfileSchema,
    f1: Mapping[str, float],
    corpus: Mapping,
    example: Mapping | None,
    towers: Sequence[str],
) -> ModelCardData:
    columns = {attribute.key: attribute.name for attribute in table_order(schema)} | {"average": "average"}
    dataset = arguments.dataset if _on_hub(arguments.dataset) else None
    eval_results = [
        EvalResult(
            task_type="user-profiling",
            task_name="User profiling",
            dataset_type=dataset or "unknown",
            dataset_name=corpus["name"],
            dataset_config=corpus["config"],
            dataset_split="test",
            metric_type="f1",
            metric_name=f"Macro-F1, {column} (percent)",
            metric_args={"average": "macro"},
            metric_value=round(float(f1[key]), 2),
        )
        for key, column in columns.items()
    ]
    base_models = [model for model in _start_models(arguments) if _on_hub(model)] or None
    widget = None
    if example:
        text = " ".join(" ".join(example["reviews"]).split())
        widget = [{"example_title": "One user's reviews", "text": text, "output": {"text": example["profile"]}}]
    return ModelCardData(
        language=arguments.language,
        license="apache-2.0",
        library_name="transformers",
        pipeline_tag="image-text-to-text",
        tags=["mmprofile", "user-profiling", "multimodal", *towers],
        datasets=[dataset] if dataset else None,
        metrics=["f1"],
        base_model=base_models,
        # A list of base models alone reads as a merge of their weights.
        base_model_relation="finetune" if base_models else None,
        widget=widget,
        model_name=Path(output_dir).resolve().name,
        eval_results=eval_results,
    )


def _tower_types(output_dir: str | os.PathLike) -> list[str]:
    """The `model_type` of the text and of the vision tower; of a model's vision part, the model's."""
    config = json.loads((Path(output_dir) / "config.json").read_text(encoding="utf-8"))
    towers = (config[tower]["model_type"] for tower in ("text_config", "vision_config"))
    return [tower.removesuffix("_vision_model") for tower in towers]


def _training(arguments: JointTrainingArguments, results: Mapping, history: Sequence[Mapping]) -> dict:
    """What the card says of the run."""
    sees = seen_by(arguments)
    takes = {"photos": sees.images, "photo captions": sees.captions}
    return {
        "paradigm": arguments.paradigm,
        "objectives": list(arguments.views),
        "fusion": None if arguments.model else arguments.fusion,
        "takes": [source for source, taken in takes.items() if taken],
        "start": " and ".join(_link(model) or f"`{_public_name(model)}`" for model in _start_models(arguments)),
        "duration": timedelta(seconds=round(results["train_seconds"])),
        "users_per_second": statistics.median(record["users_per_second"] for record in history),
        "software": ", ".join(f"{package} {version(package)}" for package in SOFTWARE),
        "flags": _changed_flags(arguments),
    }


def _start_models(arguments: JointTrainingArguments) -> list[str]:
    """The checkpoints that the training started from, none for the tiny preset."""
    if arguments.model:
        return [arguments.model]
    return [] if arguments.text_model == "tiny" else [arguments.text_model, arguments.vision_model]


def _changed_flags(arguments: JointTrainingArguments) -> list[tuple[str, str, str]]:
    """Name, value and default of the flags that say how the model was trained and are not at their defaults."""
    changed, elsewhere = [], OUTSIDE_THE_RUN + (TOWERS if arguments.model else ())
    for flag in dataclasses.fields(arguments):
        default = flag.default if flag.default_factory is dataclasses.MISSING else flag.default_factory()
        value = getattr(arguments, flag.name)
        if flag.name not in elsewhere and value != default:
            changed.append((flag.name, _shown(value), _shown(default)))
    return changed


def _shown(value) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return _public_name(value) if isinstance(value, str) else "none" if value is None else str(value)


def _on_hub(name: str) -> bool:
    """Whether `from_pretrained` and `load_dataset` take a name for a Hub repository's: what is here comes first."""
    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return not Path(name).exists()


def _public_name(name: str) -> str:
    """A Hub name as it is, of a folder the last part only, with either separator."""
    return name if _on_hub(name) else PureWindowsPath(name).name or "a local folder"


def _link(name: str, kind: str = "") -> str | None:
    return f"[{name}](https://huggingface.co/{kind}{name})" if _on_hub(name) else None


def _example_text(example: Mapping) -> str:
    """A fenced block that no text of a review can end."""
    reviews = [textwrap.shorten(review, EXAMPLE_CHARACTERS, placeholder=" ...") for review in example["reviews"]]
    lines = [textwrap.fill(f"- {review}", EXAMPLE_COLUMNS, subsequent_indent="  ") for review in reviews]
    text = "\n".join(["Reviews:", *lines, "", f"Generated: {example['profile']}", f"True:      {example['truth']}"])
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{fence}text\n{text}\n{fence}"
