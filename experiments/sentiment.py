"""Predicts the rating of each held-out review, 1 to 5, from its text, with or without the user's profile.

    python -m experiments.sentiment --profiles outputs/held_out --output outputs/bert --classifier bert --profile none
    python -m experiments.sentiment --profiles outputs/held_out --output outputs/bert_with --profile generated

PROFILES is an output folder of held_out.py. The profile stands as text before the review. `shuffled` gives each user
another one's generated profile: what it adds is none of the user's. `true` is of all of the user's reviews, those to
classify among them.

Test users are cut into folds; those of one are predicted by a classifier trained on the validation users and the test
users of the other folds, so that each is predicted once, by one that has not seen the user. Folds and exchanged
profiles are the same for all classifiers and seeds.

OUTPUT gets `all_results.json`, accuracy and Macro-F1 in percent, these of the commonest rating in training beside; and
a row for each review of a test user, its true and its predicted rating.
"""

import sys

from cli.flags import answer_help, parse_flags
from experiments.arguments import SentimentArguments

if __name__ == "__main__":  # --help is there before what takes seconds to import
    answer_help(SentimentArguments, __doc__)

import os
import random
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from datasets import Dataset
from sklearn.dummy import DummyClassifier
from sklearn.metrics import accuracy_score, f1_score
from sklearn.model_selection import GroupKFold
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    Trainer,
    TrainingArguments,
    set_seed,
)

from experiments.held_out import REVIEWS, TOKENIZER
from files.output_files import UNFINISHED, unfinished_folder, write_json
from publishing.run_files import ALL_RESULTS, PREDICTIONS

RATINGS = (1, 2, 3, 4, 5)
DRAW = 0  # of folds and exchanged profiles
TINY = "tiny"
ROOM = 256  # tokens for a profile; one of Yelp's six attributes has about 40
WIDTH = 64
CAUSAL = {"hidden_size": WIDTH, "intermediate_size": 128, "num_hidden_layers": 1, "num_attention_heads": 4}
CAUSAL |= {"initializer_range": WIDTH**-0.5, "bos_token_id": None}
# Configurations from random weights, by classifier: transformers' name of the architecture, and its sizes.
SIZES: dict[str, tuple[str, dict[str, Any]]] = {
    "bert": ("bert", CAUSAL | {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}),
    "t5": (
        "t5",
        {"d_model": WIDTH, "d_kv": 16, "d_ff": 128, "num_layers": 1, "num_decoder_layers": 1, "num_heads": 4}
        | {"dropout_rate": 0.0, "decoder_start_token_id": 0},
    ),
    "bart": (
        "bart",
        {"d_model": WIDTH, "encoder_layers": 1, "decoder_layers": 1, "init_std": 0.05, "dropout": 0.0}
        | {"encoder_attention_heads": 4, "decoder_attention_heads": 4, "encoder_ffn_dim": 128, "decoder_ffn_dim": 128},
    ),
    "llama": ("llama", CAUSAL),
    "chatglm": ("glm", CAUSAL | {"num_key_value_heads": 2, "head_dim": 16}),
}


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Trains, tests and writes; returns what stands in `all_results.json`. The output folder is whole or not there.

    Raises:
        ValueError: if the output is there already, there are no profiles, a rating is none of 1 to 5, or there are
            fewer test users than folds.
    """
    arguments = parse_flags(SentimentArguments, argv, __doc__)
    output = Path(arguments.output)
    if output.exists():
        raise ValueError(f"{output} is there already; choose another output")
    rows = read_reviews(Path(arguments.profiles))
    pairs = profiles_and_texts(rows, arguments.profile)
    ratings = np.array([row["rating"] for row in rows])
    predicted, majority = np.zeros_like(ratings), np.zeros_like(ratings)
    with unfinished_folder(output.with_name(f"{UNFINISHED}-{output.name}")) as folder:
        for train, test in folds(rows, arguments.folds):
            known, asked = ([pairs[place] for place in places] for places in (train, test))
            predicted[test] = classify(arguments, known, ratings[train], asked, folder)
            usual = DummyClassifier(strategy="most_frequent").fit(np.zeros((len(train), 1)), ratings[train])
            majority[test] = usual.predict(np.zeros((len(test), 1)))
        tested = [place for place, row in enumerate(rows) if row["split"] == "test"]
        columns = {"user_id": [rows[place]["user_id"] for place in tested], "rating": ratings[tested]}
        pq.write_table(pa.table(columns | {"predicted": predicted[tested]}), folder / PREDICTIONS)
        results = scores(ratings[tested], predicted[tested])
        results |= {"majority": scores(ratings[tested], majority[tested])}
        write_json(folder / ALL_RESULTS, results)
        os.replace(folder, output)
    print(f"{arguments.classifier}, profile {arguments.profile}: {results}")
    return results


def read_reviews(folder: Path) -> list[dict[str, Any]]:
    """The rows of `held_out.REVIEWS`, with `rating`, an integer.

    Raises:
        ValueError: if there are none, or a rating is none of 1 to 5.
    """
    if not (folder / REVIEWS).is_file():
        raise ValueError(f"{folder} is no output folder of experiments.held_out: it holds no {REVIEWS}")
    rows = pq.read_table(folder / REVIEWS).to_pylist()
    if other := sorted({row["stars"] for row in rows} - set(RATINGS)):
        raise ValueError(f"ratings are of {list(RATINGS)}, got {other}")
    return [row | {"rating": int(row["stars"])} for row in rows]


def profiles_and_texts(rows: Sequence[Mapping[str, Any]], profile: str) -> list[tuple[str, str]]:
    """What a classifier reads of each review: a profile, or nothing, and the text.

    Args:
        profile: of `arguments.SHOWN`.
    """
    if profile == "none":
        return [("", row["text"]) for row in rows]
    if profile == "shuffled":
        own = {row["user_id"]: row["generated"] for row in rows}
        others = others_of(list(own))
        return [(own[others[row["user_id"]]], row["text"]) for row in rows]
    return [(row[profile], row["text"]) for row in rows]


def others_of(users: Sequence[str]) -> dict[str, str]:
    """For each user another one, each once: the next in an order drawn at random.

    Raises:
        ValueError: if there is no other.
    """
    if len(users) < 2:
        raise ValueError(f"another user's profile needs two users, got {len(users)}")
    order = random.Random(DRAW).sample(users, len(users))
    return dict(zip(order, [*order[1:], order[0]], strict=True))


def folds(rows: Sequence[Mapping[str, Any]], number: int) -> Iterator[tuple[list[int], list[int]]]:
    """Of each fold the places of the rows to train on, and of those to test.

    Raises:
        ValueError: if there are fewer test users than folds.
    """
    tested = np.array([place for place, row in enumerate(rows) if row["split"] == "test"])
    others = [place for place, row in enumerate(rows) if row["split"] != "test"]
    users = [rows[place]["user_id"] for place in tested]
    if len(set(users)) < number:
        raise ValueError(f"{number} folds need as many test users, got {len(set(users))}")
    for train, test in GroupKFold(number, shuffle=True, random_state=DRAW).split(tested, groups=users):
        yield others + tested[train].tolist(), tested[test].tolist()


def scores(truths: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    """`accuracy` and `macro_f1`, over the ratings that occur in either, in percent."""
    macro_f1 = f1_score(truths, predicted, average="macro")
    return {"accuracy": 100 * float(accuracy_score(truths, predicted)), "macro_f1": 100 * float(macro_f1)}


def load_classifier(arguments: SentimentArguments) -> tuple[Any, Any]:
    """A tokenizer, and a model that tells `RATINGS` apart, its weights drawn by the seed where they are new."""
    is_tiny = arguments.model == TINY
    tokenizer = AutoTokenizer.from_pretrained(Path(arguments.profiles) / TOKENIZER if is_tiny else arguments.model)
    if tokenizer.pad_token is None:  # LLaMA
        tokenizer.pad_token = tokenizer.eos_token
    own = {"num_labels": len(RATINGS), "pad_token_id": tokenizer.pad_token_id}
    if is_tiny:
        kind, sizes = SIZES[arguments.classifier]
        own |= {"vocab_size": len(tokenizer), "eos_token_id": tokenizer.eos_token_id} | sizes
        if arguments.classifier == "bart":
            own |= {"bos_token_id": tokenizer.eos_token_id, "decoder_start_token_id": tokenizer.eos_token_id}
        if arguments.classifier in ("bart", "bert"):
            own |= {"max_position_embeddings": arguments.max_tokens + ROOM}
        model = AutoModelForSequenceClassification.from_config(AutoConfig.for_model(kind, **own))
    else:
        model = AutoModelForSequenceClassification.from_pretrained(arguments.model, **own)
    if arguments.lora_rank is not None:
        from peft import LoraConfig, get_peft_model

        rank = arguments.lora_rank
        config = LoraConfig(task_type="SEQ_CLS", r=rank, lora_alpha=2 * rank, target_modules="all-linear")
        model = get_peft_model(model, config)
        if arguments.gradient_checkpointing:
            model.enable_input_require_grads()
    return tokenizer, model


def classify(
    arguments: SentimentArguments,
    train: Sequence[tuple[str, str]],
    ratings: np.ndarray,
    test: Sequence[tuple[str, str]],
    folder: Path,
) -> np.ndarray:
    """Trains on profiles and texts with their ratings, and predicts those of others: (len(test),).

    Args:
        folder: to work in.
    """
    set_seed(arguments.seed)
    tokenizer, model = load_classifier(arguments)
    is_bf16 = arguments.mixed_precision == "bf16"
    options = TrainingArguments(
        str(folder),
        per_device_train_batch_size=arguments.batch_size,
        per_device_eval_batch_size=arguments.eval_batch_size,
        learning_rate=arguments.learning_rate,
        num_train_epochs=arguments.num_epochs,
        warmup_steps=arguments.warmup_ratio,  # below 1 it is a share
        activation_checkpointing=arguments.gradient_checkpointing,
        bf16=is_bf16,
        train_sampling_strategy="group_by_length",
        seed=arguments.seed,
        save_strategy="no",
        logging_strategy="epoch",
        report_to="none",
        disable_tqdm=True,
        dataloader_pin_memory=torch.cuda.is_available(),
    )
    encoded = encode(tokenizer, train, arguments.max_tokens) | {"labels": (ratings - RATINGS[0]).tolist()}
    trainer: Any = Trainer(model, options, DataCollatorWithPadding(tokenizer), Dataset.from_dict(encoded))
    trainer.train()
    trainer.args.train_sampling_strategy = "random"  # "group_by_length" would predict in an order of its own, too
    found = trainer.predict(Dataset.from_dict(encode(tokenizer, test, arguments.max_tokens))).predictions
    logits = found[0] if isinstance(found, tuple) else found  # T5 and BART give states too
    return logits.argmax(axis=-1) + RATINGS[0]


def encode(tokenizer, given: Sequence[tuple[str, str]], max_tokens: int) -> dict[str, list]:
    """Profiles and texts as tokens, `input_ids` and so on. Of a text as many tokens stay with a profile as without. It
    spells no special token: T5 and BART take one `</s>` an input."""
    plain = [text for _, text in given]
    for token in tokenizer.all_special_tokens:
        plain = [text.replace(token, " ") for text in plain]
    cut = tokenizer(
        plain, truncation=True, max_length=max_tokens, add_special_tokens=False, return_offsets_mapping=True
    )
    ends = [max((end for _, end in places), default=0) for places in cut["offset_mapping"]]
    shown = zip(given, plain, ends, strict=True)
    return dict(
        tokenizer([f"{profile}\n{text[:end]}" if profile else text[:end] for (profile, _), text, end in shown])
    )


if __name__ == "__main__":
    try:
        main()
    except ValueError as error:
        sys.exit(f"experiments.sentiment: {error}")
