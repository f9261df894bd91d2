"""The model card of a training run: `README.md` of the output folder, from `model_card_template.md`."""

import dataclasses
import os
import re
import statistics
import textwrap
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path

from huggingface_hub import EvalResult, ModelCard, ModelCardData
from transformers import CONFIG_MAPPING

from baselines.table import DEFAULT_SYSTEM, find_system
from files.output_files import read_json, replacing
from files.public_names import is_on_hub, link, public_name
from mmprofile import ProfileSchema, seen_by
from publishing.run_files import MAJORITY_ROW, REVIEWS_ROW
from scoring.reporting import format_table, table_order
from training.arguments import OF_SYSTEM, OF_VIEWS, OUTSIDE_THE_RUN, TOWERS, JointTrainingArguments
from training.launcher import LAUNCHED

TEMPLATE = Path(__file__).with_name("model_card_template.md")
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


def write_model_card(
    output_dir: str | os.PathLike,
    arguments: JointTrainingArguments,
    schema: ProfileSchema,
    results: Mapping,
    history: Sequence[Mapping],
    example: Mapping | None,
    flags_known: bool = True,
) -> None:
    """Writes `README.md`, the Hub's model card with its metadata. It names no folder of this machine.

    Args:
        output_dir: the folder of the saved model; its name is the model's. `confusion.png` and `calibration.png` of
            the split that was evaluated are expected there, and `curves.png` where there is a history.
        arguments: of the run.
        schema: what a profile is.
        results: what `all_results.json` holds, see `training.results.summarise_tests`; `test_shortened_texts`; and,
            where they are known, `test_faithfulness` of `measure_faithfulness`, and `best_epoch`, `train_seconds`,
            `train_software` and `train_corpus` of the training.
            The rows "reviews alone", of a model that sees more, and "majority class" may be missing.
        history: one record an epoch, see `scoring.reporting.plot_curves`; `users_per_second` too. None where it is
            not known how the training went.
        example: `reviews` (texts), the newest of so many that were `read`, the `profile` written and the `truth`,
            which the card shows, and how many attributes are `right`. The reviews are the widget's example too, with
            the profile as its output where it was written from these texts alone. What it holds is published: None
            where the reviews are a real person's.
        flags_known: whether `arguments` are those that made the model; the card tells none of them otherwise.

    Raises:
        ValueError: if a row of the results lacks an attribute, or there is no row of the system's name.
    """
    rows = results["test_f1"]
    own, system = arguments.system, find_system(arguments.system)
    if own not in rows:
        raise ValueError(f"the results need a row {own!r}, got {list(rows)}")
    f1, majority, attributes = rows[own], rows.get(MAJORITY_ROW), table_order(schema)
    towers = _tower_types(output_dir)
    names = (TOWER_NAMES.get(kind, f"a vision tower of type `{kind}`") for kind in towers)
    text_tower, vision_tower = names if own == DEFAULT_SYSTEM else ("", "")
    tested, trained = results["test_corpus"], results.get("train_corpus")
    card = ModelCard.from_template(
        _metadata(output_dir, arguments, schema, results, example, towers, flags_known),
        template_path=str(TEMPLATE),
        model_name=Path(output_dir).resolve().name,
        text_tower=text_tower,
        vision_tower=vision_tower,
        table=format_table(rows, schema, results["test_intervals"]),
        results=results,
        history=history,
        tested=tested,
        tested_link=_corpus_link(tested),
        trained=trained,
        trained_link=_corpus_link(trained) if trained else None,
        synthetic=all("synthetic" in corpus["name"].lower() for corpus in (tested, trained or tested)),
        example=_example_text(example) if example else None,
        right=example["right"] if example else None,
        gain=results["test_average_f1"] - results.get("test_text_only_average_f1", results["test_average_f1"]),
        costs=_costs(results, own, schema),
        system=system,
        own_code=own == DEFAULT_SYSTEM,
        plain_type=plain_type(output_dir),
        quantized=read_json(Path(output_dir) / "config.json").get("linear_weights", "float") != "float",
        errors=[(attribute.name, 100 - f1[attribute.key]) for attribute in attributes],
        distances=[(a.name, results["test_calibration"][a.key]["expected_error"]) for a in attributes],
        forged=[(a.name, agreed) for a in attributes if "with_five" in (agreed := _forged(results, a.key))],
        forged_lines=arguments.forged_lines,
        max_text_tokens=arguments.max_text_tokens,
        no_better=[a.name for a in attributes if majority and f1[a.key] <= majority[a.key]],
        attributes=schema.to_list(),
        language=arguments.language,
        flags_known=flags_known,
        **_training(arguments, results, history),
    )
    card.text += "\n"
    with replacing(Path(output_dir) / "README.md") as temporary:
        card.save(temporary)


def _costs(results: Mapping, own_row: str, schema: ProfileSchema) -> list[tuple[str, float, float, Sequence[float]]]:
    """Of each attribute in which the reviews alone do better its name, the Macro-F1 of all and of the reviews alone,
    and the interval of the difference."""
    own = results["test_f1"][own_row]
    alone = results["test_f1"].get(REVIEWS_ROW, own)
    found = [a for a in table_order(schema) if alone[a.key] > own[a.key]]
    return [(a.name, own[a.key], alone[a.key], results["test_differences"][REVIEWS_ROW][a.key]) for a in found]


def _forged(results: Mapping, key: str) -> Mapping:
    """How often forged profiles were written; without both kinds of forgery nothing."""
    agreed = results["test_forged_agreement"][key]
    return agreed if {"with", "with_five"} <= set(agreed) else {}


def _corpus_link(corpus: Mapping) -> str:
    return link(corpus["dataset"], "datasets/") or f"the corpus `{corpus['name']}`"


def _metadata(
    output_dir: str | os.PathLike,
    arguments: JointTrainingArguments,
    schema: ProfileSchema,
    results: Mapping,
    example: Mapping | None,
    towers: Sequence[str],
    flags_known: bool,
) -> ModelCardData:
    columns = {attribute.key: attribute.name for attribute in table_order(schema)} | {"average": "average"}
    f1, tested, trained = results["test_f1"][arguments.system], results["test_corpus"], results.get("train_corpus")
    eval_results = [
        EvalResult(
            task_type="user-profiling",
            task_name="User profiling",
            dataset_type=tested["dataset"] if is_on_hub(tested["dataset"]) else "unknown",
            dataset_name=tested["name"],
            dataset_config=tested["config"],
            dataset_split=tested["split"],
            metric_type="f1",
            metric_name=f"Macro-F1, {column} (percent)",
            metric_args={"average": "macro"},
            metric_value=round(float(f1[key]), 2),
        )
        for key, column in columns.items()
    ]
    sees_photos = find_system(arguments.system).sees_photos
    base_models = [model for model in _start_models(arguments) if flags_known and is_on_hub(model)] or None
    widget: list[dict] | None = None
    if example:
        text = " ".join(" ".join(example["reviews"]).split())
        widget = [{"example_title": "One user's reviews", "text": text}]
        sees = seen_by(arguments)
        if example["read"] == len(example["reviews"]) and not (sees.images or sees.captions):
            widget[0]["output"] = {"text": example["profile"]}
    return ModelCardData(
        language=arguments.language,
        license="apache-2.0",
        library_name="transformers",
        pipeline_tag="image-text-to-text" if arguments.system == DEFAULT_SYSTEM else None,
        tags=["mmprofile", "user-profiling", *(["multimodal"] if sees_photos else []), *towers],
        datasets=[trained["dataset"]] if trained and is_on_hub(trained["dataset"]) else None,
        metrics=["f1"],
        base_model=base_models,
        # A list of base models alone reads as a merge of their weights.
        base_model_relation="finetune" if base_models else None,
        widget=widget,
        model_name=Path(output_dir).resolve().name,
        eval_results=eval_results,
    )


def _tower_types(output_dir: str | os.PathLike) -> list[str]:
    """The `model_type` of the text and of the vision tower, as far as a model is composed of them, else its own; of a
    model's vision part, the model's."""
    config = read_json(Path(output_dir) / "config.json")
    towers = [config[tower]["model_type"] for tower in ("text_config", "vision_config") if tower in config]
    towers = towers or [config["model_type"]]
    return [tower.removesuffix("_vision_model") for tower in towers]


def plain_type(output_dir: str | os.PathLike) -> str | None:
    """The `model_type` of a saved model, if it is one of transformers' own, whose classes load the files."""
    kind = read_json(Path(output_dir) / "config.json")["model_type"]
    return kind if kind in CONFIG_MAPPING else None


def _training(arguments: JointTrainingArguments, results: Mapping, history: Sequence[Mapping]) -> dict:
    """What the card says of the run."""
    sees = seen_by(arguments)
    takes = {"photos": sees.images, "photo captions": sees.captions}
    return {
        "paradigm": arguments.paradigm,
        "objectives": list(arguments.views),
        "fusion": None if arguments.model else arguments.fusion,
        "takes": [source for source, taken in takes.items() if taken],
        "start": " and ".join(link(model) or f"`{public_name(model)}`" for model in _start_models(arguments)),
        "duration": timedelta(seconds=round(results["train_seconds"])) if "train_seconds" in results else None,
        "users_per_second": statistics.median(record["users_per_second"] for record in history) if history else None,
        "software": results.get("train_software"),
        "flags": _changed_flags(arguments),
    }


def _start_models(arguments: JointTrainingArguments) -> list[str]:
    """The checkpoints that the training started from, none for the tiny preset."""
    if arguments.model:
        return [arguments.model]
    towers = [str(name) for name in (arguments.text_model, arguments.vision_model) if name]
    return [] if arguments.text_model == "tiny" else towers


def _changed_flags(arguments: JointTrainingArguments) -> list[tuple[str, str, str]]:
    """Name, value and default of the flags that say how the model was trained and are not at their defaults."""
    changed, elsewhere = [], OUTSIDE_THE_RUN + (TOWERS if arguments.model else ())
    system = find_system(arguments.system)
    for flag in dataclasses.fields(arguments):
        default = flag.default if flag.default_factory is dataclasses.MISSING else flag.default_factory()
        default = LAUNCHED[flag.name][1] if flag.name in LAUNCHED else default  # of no launcher's word either
        default = getattr(system, OF_SYSTEM[flag.name]) if flag.name in OF_SYSTEM else default
        default = arguments.views_default[flag.name] if flag.name in OF_VIEWS and system.reads_views else default
        value = getattr(arguments, flag.name)
        if flag.name not in elsewhere and value != default:
            changed.append((flag.name, _shown(value), _shown(default)))
    return changed


def _shown(value) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return public_name(value) if isinstance(value, str) else "none" if value is None else str(value)


def _example_text(example: Mapping) -> str:
    """A fenced block that no text of a review can end."""
    reviews = [textwrap.shorten(review, EXAMPLE_CHARACTERS, placeholder=" ...") for review in example["reviews"]]
    lines = [textwrap.fill(f"- {review}", EXAMPLE_COLUMNS, subsequent_indent="  ") for review in reviews]
    of = f"Of {example['read']} reviews that were read, the newest {len(reviews)}:"
    head = "Reviews:" if example["read"] == len(reviews) else of
    text = "\n".join([head, *lines, "", f"Generated: {example['profile']}", f"True:      {example['truth']}"])
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{fence}text\n{text}\n{fence}"
