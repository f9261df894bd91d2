"""Joint training of a multimodal user profile model.

    accelerate launch train.py recipes/quickstart.yaml
    accelerate launch train.py recipes/paper.yaml --dataset org/corpus --output_dir outputs/paper

Evaluates by generation after each epoch, keeps the weights with the best average Macro-F1 on the development split in
`output_dir`, and leaves there at the end what the Hub takes: weights, processor, code, model card, figures, results.
"""

import math
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from accelerate.utils import set_seed
from datasets import Dataset, DatasetDict, load_dataset
from torch.utils.data import DataLoader
from tqdm.auto import tqdm
from transformers import (
    AutoImageProcessor,
    AutoModelForSeq2SeqLM,
    AutoProcessor,
    AutoTokenizer,
    GenerationConfig,
    get_scheduler,
)

from mmprofile import MMProfileForConditionalGeneration, MMProfileProcessor, ProfileSchema
from mmprofile.batching import EvaluationCollator, JointCollator, UserExamples, check_columns, undecoded
from mmprofile.evaluation import Evaluation, evaluate_model, majority_f1, max_profile_tokens
from mmprofile.hub_folder import save_hub_folder
from mmprofile.model_card import write_model_card
from mmprofile.objectives import JointTrainingModel
from mmprofile.presets import tiny_config, tiny_processor
from mmprofile.reporting import append_metrics, best_epoch, format_table, plot_curves, write_json
from mmprofile.training_arguments import JointTrainingArguments, parse_arguments

SPLITS = ("train", "validation", "test")
# Row of the results table -> whose photos and captions a user gets (Figure 6 calls strangers' "unpaired").
TEST_CONDITIONS = {"mmprofile": "self", "reviews alone": "nobody", "photos of another user": "stranger"}


# ---------------------------------------------------------------------------------------------------------------------
# Data


def load_corpus(arguments: JointTrainingArguments) -> DatasetDict:
    """The corpus' three splits, photos undecoded, cut to the numbers of users asked for.

    Raises:
        ValueError: if a split or a column is missing, or captions are needed and there are none.
    """
    corpus = load_dataset(arguments.dataset, arguments.dataset_config)
    if missing := set(SPLITS) - set(corpus):
        raise ValueError(f"{arguments.dataset!r} needs the splits {list(SPLITS)}, {sorted(missing)} missing")
    needs_captions = any("captions" in view.text for view in arguments.views.values())
    splits = DatasetDict()
    for name in SPLITS:
        split = undecoded(corpus[name])
        check_columns(split, needs_captions)
        limit = arguments.max_train_users if name == "train" else arguments.max_eval_users
        splits[name] = split.select(range(min(limit or len(split), len(split))))
    return splits


def corpus_texts(split: Dataset) -> Iterator[str]:
    """Every review and caption of a split, for the tiny preset's tokenizer."""
    for reviews in split["reviews"]:
        for review in reviews:
            yield review["text"]
            yield from (caption for caption in review["captions"] or () if caption)


def evaluation_loader(split: Dataset, processor, arguments: JointTrainingArguments, photos_from: str) -> DataLoader:
    examples = UserExamples(
        split, processor.profile_schema, arguments.num_reviews, arguments.num_images, photos_from=photos_from
    )
    collator = EvaluationCollator(processor, arguments.paradigm)
    return DataLoader(examples, arguments.eval_batch_size, collate_fn=collator, num_workers=arguments.num_workers)


# ---------------------------------------------------------------------------------------------------------------------
# Model


def build_model(arguments: JointTrainingArguments, schema: ProfileSchema, train_split: Dataset):
    """The model and processor to train: a checkpoint, the tiny preset, or two pre-trained towers.

    Raises:
        ValueError: if a checkpoint's schema is not the corpus'.
    """
    if arguments.model:
        model = AutoModelForSeq2SeqLM.from_pretrained(arguments.model, trust_remote_code=True, dtype=torch.float32)
        processor = AutoProcessor.from_pretrained(arguments.model, trust_remote_code=True)
        if processor.profile_schema.to_list() != schema.to_list():
            raise ValueError(
                f"{arguments.model!r} writes profiles of {processor.profile_schema.to_list()},"
                f" the corpus has {schema.to_list()}"
            )
        processor.max_text_tokens = arguments.max_text_tokens
    elif arguments.text_model == "tiny":
        texts = corpus_texts(train_split)
        processor = tiny_processor(
            texts, schema, vocab_size=arguments.vocab_size, max_text_tokens=arguments.max_text_tokens
        )
        config = tiny_config(schema, len(processor.tokenizer))
        config.fusion, config.vision_feature = arguments.fusion, arguments.vision_feature
        model = MMProfileForConditionalGeneration(config)
    else:
        model = MMProfileForConditionalGeneration.from_text_vision_pretrained(
            arguments.text_model,
            arguments.vision_model,
            dtype=torch.float32,
            fusion=arguments.fusion,
            vision_feature=arguments.vision_feature,
            profile_schema=schema,
        )
        processor = MMProfileProcessor(
            AutoImageProcessor.from_pretrained(arguments.vision_model),
            AutoTokenizer.from_pretrained(arguments.text_model),
            schema,
            max_text_tokens=arguments.max_text_tokens,
        )
    model.generation_config = GenerationConfig(
        num_beams=arguments.num_beams,
        max_new_tokens=max_profile_tokens(processor),
        decoder_start_token_id=model.config.decoder_start_token_id,
        eos_token_id=model.config.eos_token_id,
        pad_token_id=model.config.pad_token_id,
    )
    model.config.paradigm = arguments.paradigm
    if arguments.gradient_checkpointing:
        model.gradient_checkpointing_enable()
    return model, processor


# ---------------------------------------------------------------------------------------------------------------------
# Output


def prepare_output(arguments: JointTrainingArguments) -> Path:
    """The output folder, empty of an earlier run.

    Raises:
        ValueError: if it holds files and may not be overwritten.
    """
    folder = Path(arguments.output_dir)
    if folder.exists() and any(folder.iterdir()) and not arguments.overwrite_output_dir:
        raise ValueError(f"{folder} holds files already; choose another output_dir or --overwrite_output_dir true")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "metrics.jsonl").unlink(missing_ok=True)
    return folder


def evaluate_conditions(
    model, processor, split: Dataset, arguments: JointTrainingArguments, accelerator: Accelerator
) -> dict[str, Evaluation]:
    """The same checkpoint on a split under each of `TEST_CONDITIONS`."""
    evaluations = {}
    for row, photos_from in TEST_CONDITIONS.items():
        loader = accelerator.prepare(evaluation_loader(split, processor, arguments, photos_from))
        evaluations[row] = evaluate_model(model, loader, processor, accelerator, arguments.num_beams, f"test, {row}")
    return evaluations


def describe_corpus(corpus: DatasetDict, arguments: JointTrainingArguments) -> dict:
    """Name and sizes of the corpus, for the model card."""
    return {
        "name": arguments.dataset_name or arguments.dataset,
        "config": arguments.dataset_config,
        "train": len(corpus["train"]),
        "dev": len(corpus["validation"]),
        "test": len(corpus["test"]),
    }


def example_of_use(model, processor, split: Dataset, arguments: JointTrainingArguments) -> dict:
    """The first user of a split, for the model card: reviews, the profile written and the true one."""
    loader = evaluation_loader(split.select([0]), processor, arguments, "self")
    batch = next(iter(loader))
    del batch["labels"]
    inputs = {name: tensor.to(model.device) for name, tensor in batch.items()}
    return {
        "reviews": loader.dataset[0].reviews,
        "profile": model.generate_profiles(**inputs, tokenizer=processor.tokenizer)[0].text,
        "truth": processor.profile_schema.render(loader.dataset[0].profile),
    }


# ---------------------------------------------------------------------------------------------------------------------
# Training


def main(argv: list[str] | None = None) -> dict:
    """Trains, evaluates and writes the output folder; returns what stands in its `all_results.json`."""
    arguments = parse_arguments(argv)
    # A batch without photos leaves the vision tower out of the graph.
    unused = DistributedDataParallelKwargs(find_unused_parameters=True)
    accelerator = Accelerator(
        mixed_precision=arguments.mixed_precision,
        gradient_accumulation_steps=arguments.gradient_accumulation_steps,
        kwargs_handlers=[unused],
    )
    set_seed(arguments.seed)
    output = Path(arguments.output_dir)
    if accelerator.is_main_process:
        prepare_output(arguments)

    with accelerator.main_process_first():
        corpus = load_corpus(arguments)
    schema = ProfileSchema.from_features(corpus["train"].features["profile"])
    model, processor = build_model(arguments, schema, corpus["train"])

    train_loader = DataLoader(
        UserExamples(corpus["train"], schema, arguments.num_reviews, arguments.num_images, seed=arguments.seed),
        arguments.batch_size,
        shuffle=True,
        collate_fn=JointCollator(
            processor, arguments.views, arguments.mask_probability, arguments.profile_mask_probability
        ),
        num_workers=arguments.num_workers,
        persistent_workers=arguments.num_workers > 0,
    )
    dev_loader = evaluation_loader(corpus["validation"], processor, arguments, "self")

    joint = JointTrainingModel(model, arguments.views, processor.black, arguments.weights)
    optimizer = torch.optim.AdamW(
        joint.parameters(),
        lr=arguments.learning_rate,
        betas=(0.9, arguments.adam_beta2),
        weight_decay=arguments.weight_decay,
    )
    joint, optimizer, train_loader, dev_loader = accelerator.prepare(joint, optimizer, train_loader, dev_loader)
    steps = math.ceil(len(train_loader) / arguments.gradient_accumulation_steps) * arguments.num_epochs
    scheduler = accelerator.prepare(
        get_scheduler(
            arguments.lr_scheduler,
            optimizer,
            # The prepared schedule steps once a process.
            num_warmup_steps=round(steps * arguments.warmup_ratio) * accelerator.num_processes,
            num_training_steps=steps * accelerator.num_processes,
        )
    )

    history, best, step, started = [], -math.inf, 0, time.monotonic()
    for epoch in range(1, arguments.num_epochs + 1):
        joint.train()
        train_loader.set_epoch(epoch)
        epoch_started, sums = time.monotonic(), dict.fromkeys(("loss", *arguments.views), 0.0)
        progress = tqdm(
            train_loader,
            desc=f"epoch {epoch}/{arguments.num_epochs}",
            disable=not accelerator.is_local_main_process,
        )
        for batch in progress:
            with accelerator.accumulate(joint):
                result = joint(batch)
                accelerator.backward(result.loss)
                if accelerator.sync_gradients:
                    accelerator.clip_grad_norm_(joint.parameters(), arguments.max_grad_norm)
                    step += 1
                optimizer.step()
                scheduler.step()
                optimizer.zero_grad()
            for name, loss in {"loss": result.loss, **result.losses}.items():
                sums[name] += loss.detach()
            if progress.n % 10 == 0:
                progress.set_postfix(loss=f"{result.loss.item():.3f}")

        losses = accelerator.reduce(torch.stack([torch.as_tensor(value) for value in sums.values()]), "mean")
        means = dict(zip(sums, (losses / len(train_loader)).tolist(), strict=True))
        seconds = time.monotonic() - epoch_started
        evaluation = evaluate_model(model, dev_loader, processor, accelerator, arguments.num_beams, "development")
        record = {
            "epoch": epoch,
            "step": step,
            "train_loss": means.pop("loss"),
            **{f"train_loss_{name}": value for name, value in means.items()},
            "dev_loss": evaluation.loss,
            "dev_f1": evaluation.f1,
            "learning_rate": scheduler.get_last_lr()[0],
            "seconds": seconds,
            "users_per_second": len(corpus["train"]) / seconds,
        }
        history.append(record)
        if accelerator.is_main_process:
            append_metrics(output / "metrics.jsonl", record)
            plot_curves(history, schema, output / "curves.png")
            if evaluation.f1["average"] > best:
                save_hub_folder(model, processor, output)
        best = max(best, evaluation.f1["average"])
        accelerator.print(
            f"epoch {epoch}: training loss {record['train_loss']:.3f}, development loss {evaluation.loss:.3f},"
            f" development Macro-F1 {evaluation.f1['average']:.2f}, {record['users_per_second']:.1f} users/s"
        )
    train_seconds = time.monotonic() - started

    accelerator.wait_for_everyone()
    model = AutoModelForSeq2SeqLM.from_pretrained(output, trust_remote_code=True).to(accelerator.device)
    tests = evaluate_conditions(model, processor, corpus["test"], arguments, accelerator)
    train_profiles = [schema.profile_from_labels(labels) for labels in corpus["train"]["profile"]]
    table = {row: evaluation.f1 for row, evaluation in tests.items()}
    table["majority class"] = majority_f1(train_profiles, tests["mmprofile"].references, schema)
    results = {
        "test_average_f1": table["mmprofile"]["average"],
        "test_majority_average_f1": table["majority class"]["average"],
        "test_text_only_average_f1": table["reviews alone"]["average"],
        "test_unpaired_average_f1": table["photos of another user"]["average"],
        "test_f1": table,
        "best_epoch": best_epoch(history),
        "train_seconds": train_seconds,
    }
    if accelerator.is_main_process:
        write_json(output / "all_results.json", results)
        example = example_of_use(model, processor, corpus["test"], arguments) if arguments.publish_example else None
        write_model_card(output, arguments, schema, results, history, describe_corpus(corpus, arguments), example)
        print(f"\nMacro-F1 on the test split, in percent:\n\n{format_table(table, schema)}\n")
        print("\n".join(f"{name}: {results[name]:.2f}" for name in results if name.endswith("average_f1")))
        print(f"\nWritten to {output}")
    accelerator.end_training()
    return results


if __name__ == "__main__":
    try:
        main()
    except ValueError as error:
        sys.exit(f"train.py: {error}")
