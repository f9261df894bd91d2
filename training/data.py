"""The corpus that train.py reads, and the loaders that draw batches from it."""

import copy
import sys
from collections.abc import Iterator
from typing import Any

import torch
from accelerate import Accelerator, PartialState
from datasets import Dataset, DatasetDict
from torch.utils.data import DataLoader

from corpora.checks import check_content, check_rows, labels_schema
from corpora.opening import open_corpus
from mmprofile import seen_by
from training.arguments import JointTrainingArguments
from training.batching import EvaluationCollator, JointCollator, UserExamples
from training.photo_cache import PhotoCache, Photos
from training.photo_check import ReadablePhotos, UnreadablePhoto, check_photos, known_problems
from training.user_order import UserOrder
from training.vision_states import VisionStates

SPLITS = ("train", "validation", "test")


def load_corpus(arguments: JointTrainingArguments) -> DatasetDict:
    """The corpus' three splits, photos undecoded, cut to the numbers of users asked for.

    Raises:
        ValueError: if there is none, a split or a column is missing, captions are needed and there are none, or a
            user's row cannot be read.
    """
    corpus = open_corpus(arguments.dataset, arguments.dataset_config, arguments.dataset_revision)
    if missing := set(SPLITS) - set(corpus):
        raise ValueError(f"{arguments.dataset!r} needs the splits {list(SPLITS)}, {sorted(missing)} missing")
    needs_captions = any("captions" in view.text for view in arguments.views.values())
    splits = DatasetDict()
    for name in SPLITS:
        split, schema = corpus[name], labels_schema(corpus[name].features)
        check_content(split, needs_captions)
        limit = arguments.max_train_users if name == "train" else arguments.max_eval_users
        splits[name] = split.select(range(min(limit or len(split), len(split))))
        try:
            check_rows(splits[name], schema)
        except ValueError as error:
            raise ValueError(f"split {name!r}: {error}") from None
    return splits


def corpus_texts(split: Dataset) -> Iterator[str]:
    """Every review and caption of a split, for the tiny preset's tokenizer."""
    for reviews in split["reviews"]:
        for review in reviews:
            yield review["text"]
            yield from (caption for caption in review["captions"] or () if caption)


def check_corpus_photos(corpus: DatasetDict, processor, arguments: JointTrainingArguments) -> None:
    """Reads all photos before the first step, where the flags ask for it, photos are seen, and no cache is to read
    them. Of what cannot be read and is to be skipped it tells in the error stream.

    Raises:
        ValueError: names the first of those that cannot be read, and the flags; or not one can be.
    """
    if not arguments.check_photos or arguments.photo_cache is not None or not photos_are_seen(arguments):
        return
    try:
        check_photos(corpus, processor)
    except UnreadablePhoto as error:
        if arguments.on_bad_photo == "skip":
            _say_what_is_left_out(str(error))
            return
        raise ValueError(
            f"{error}. Leave them out of the corpus, or --on_bad_photo skip does; or with --check_photos false a run"
            " ends where it meets one"
        ) from None


def photos_are_seen(arguments: JointTrainingArguments) -> bool:
    return arguments.num_images > 0 and any(view.photos for view in arguments.views.values())


def open_caches(
    corpus: DatasetDict, model, processor, arguments: JointTrainingArguments, device: torch.device
) -> tuple[PhotoCache | None, VisionStates | None]:
    """The cache of all splits' photos, if there is to be one and photos are seen at all; with a frozen vision tower
    that of its states too.

    Raises:
        ValueError: names the first of the photos that cannot be read; or there is no cache for such a processor.
    """
    if arguments.photo_cache is None or not photos_are_seen(arguments):
        return None, None
    try:
        skip = arguments.on_bad_photo == "skip"
        cache = PhotoCache(arguments.photo_cache, Photos(*corpus.values()), processor, skip)
    except ValueError:
        check_photos(corpus, processor)
        raise
    if PartialState().is_main_process and (problems := known_problems(corpus, cache)):
        _say_what_is_left_out(problems)
    return cache, VisionStates(cache, model, device) if arguments.freeze_vision else None


def _say_what_is_left_out(problems: str) -> None:
    print(f"{problems}. Left out with the captions (--on_bad_photo skip)", file=sys.stderr)


def readable_photos(
    processor, arguments: JointTrainingArguments, cache: PhotoCache | None = None
) -> ReadablePhotos | None:
    """What leaves photos out of the examples that cannot be read, where the flags ask for it."""
    if arguments.on_bad_photo != "skip" or not photos_are_seen(arguments):
        return None
    return ReadablePhotos(processor, cache, aloud=cache is None and not arguments.check_photos)


def tokens_of_step(batches: list[dict], accelerator: Accelerator) -> tuple[list[torch.Tensor], torch.Tensor]:
    """The target tokens of each batch of a step, and of all its batches in all processes together."""
    tokens = [(batch["labels"] >= 0).sum().float() for batch in batches]
    total: Any = accelerator.reduce(torch.stack(tokens).sum(), "sum")
    return tokens, total


def training_loader(
    split: Dataset,
    processor,
    arguments: JointTrainingArguments,
    cache: PhotoCache | None = None,
    states: VisionStates | None = None,
) -> DataLoader:
    """Batches of `JointTrainingModel`, in a new order and newly drawn each epoch; caches as of `open_caches`."""
    weights = arguments.weights or dict.fromkeys(arguments.views, 1.0)
    drawn: dict[str, Any] = {
        "num_reviews": arguments.num_reviews,
        "num_images": arguments.num_images,
        "seed": arguments.seed,
    }
    drawn["forged_lines"] = arguments.forged_lines
    drawn["readable"] = readable_photos(processor, arguments, cache)
    examples = UserExamples(split, processor.profile_schema, **drawn, cache=cache, states=states)
    users_a_step = arguments.batch_size * arguments.batches_a_step * PartialState().num_processes
    return DataLoader(
        examples,
        arguments.batch_size,
        sampler=UserOrder(examples, arguments.seed, users_a_step if arguments.group_by_length else None),
        collate_fn=JointCollator(
            processor,
            arguments.views,
            arguments.mask_probability,
            arguments.profile_mask_probability,
            drawn_by=weights if arguments.objective_schedule == "sampled" else None,
        ),
        **worker_options(arguments),
    )


def evaluation_loader(
    split: Dataset,
    processor,
    arguments: JointTrainingArguments,
    photos_from: str = "self",
    cache: PhotoCache | None = None,
    forged: int = 0,
) -> DataLoader:
    """Batches for generation, in the split's order; whose photos, and how often forged: see `UserExamples`."""
    schema, photos = processor.profile_schema, {"photos_from": photos_from, "cache": cache, "forged": forged}
    readable = readable_photos(processor, arguments, cache)
    examples = UserExamples(split, schema, arguments.num_reviews, arguments.num_images, **photos, readable=readable)
    collator = EvaluationCollator(processor, seen_by(arguments))
    return DataLoader(examples, arguments.eval_batch_size, collate_fn=collator, **worker_options(arguments))


def worker_options(arguments: JointTrainingArguments) -> dict:
    """Of a loader: workers that outlive an epoch, and memory from which a GPU copies while it computes."""
    return {
        "num_workers": arguments.num_workers,
        "persistent_workers": arguments.num_workers > 0,
        "pin_memory": torch.cuda.is_available(),
        "generator": torch.Generator(),  # of its own: workers that persist would draw less from the common one
    }


def shortened_texts(loader: DataLoader) -> dict[str, float]:
    """How long texts fare in the limit of tokens.

    Args:
        loader: of `evaluation_loader`.

    Returns:
        `users` whose texts were shortened, and the shares `reviews_read` and `captions_read` of all users' tokens,
        from 0 to 1; the latter where there are captions.
    """
    examples: Any = copy.copy(loader.dataset)
    if not loader.collate_fn.sees.captions:  # nor do photos matter, which would be decoded where bad ones are skipped
        examples.photos_from = "nobody"
    texts = [loader.collate_fn.encode_text(examples[row]) for row in range(len(examples))]
    found: dict[str, float] = {"users": sum(text.shortening["tokens_left_out"] > 0 for text in texts)}
    for kind in ("reviews", "captions"):
        read, there = (sum(getattr(text, kind)[place] for text in texts) for place in (0, 1))
        if there:
            found[f"{kind}_read"] = read / there
    return found
