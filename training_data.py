"""The corpus that train.py reads, and the loaders that draw batches from it."""

from collections.abc import Iterator
from itertools import chain

import torch
from accelerate import Accelerator, PartialState
from accelerate.utils import broadcast_object_list
from datasets import Dataset, DatasetDict, load_dataset
from torch.utils.data import DataLoader, Sampler

from .batching import EvaluationCollator, JointCollator, UserExamples, check_columns, undecoded
from .photo_cache import PhotoCache, photos_of
from .training_arguments import JointTrainingArguments

SPLITS = ("train", "validation", "test")


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


class SharedShuffle(Sampler):
    """A new order for each pass, drawn by the main process for all: the same for any number of processes."""

    def __init__(self, length: int):
        self.length = length

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[int]:
        # The second of two numbers, as with `shuffle=True`, where the loader draws the first for its workers.
        seed = torch.empty(2, dtype=torch.int64).random_().tolist()[1:]
        if PartialState().num_processes > 1:
            broadcast_object_list(seed)
        yield from torch.randperm(self.length, generator=torch.Generator().manual_seed(seed[0])).tolist()


def open_photo_cache(corpus: DatasetDict, processor, arguments: JointTrainingArguments) -> PhotoCache | None:
    """The cache of all splits' photos, if there is to be one and photos are seen at all."""
    if arguments.photo_cache is None or not any(view.photos for view in arguments.views.values()):
        return None
    return PhotoCache(arguments.photo_cache, chain.from_iterable(map(photos_of, corpus.values())), processor)


def token_share(labels: torch.Tensor, accelerator: Accelerator) -> torch.Tensor | float:
    """What this process' mean loss counts for in the mean of the processes' losses, by its share of the tokens: so
    that several processes have the loss and gradient that one has of all their users together."""
    if accelerator.num_processes == 1:
        return 1.0
    tokens = (labels >= 0).sum().float()
    return tokens / accelerator.reduce(tokens.clone(), "mean")


def training_loader(
    split: Dataset, processor, arguments: JointTrainingArguments, cache: PhotoCache | None = None
) -> DataLoader:
    """Batches of `JointTrainingModel`, in a new order and newly drawn each epoch."""
    schema = processor.profile_schema
    weights = arguments.weights or dict.fromkeys(arguments.views, 1.0)
    return DataLoader(
        UserExamples(split, schema, arguments.num_reviews, arguments.num_images, seed=arguments.seed, cache=cache),
        arguments.batch_size,
        sampler=SharedShuffle(len(split)),
        generator=torch.Generator(),  # of its own: workers that persist would draw less from the common one
        collate_fn=JointCollator(
            processor,
            arguments.views,
            arguments.mask_probability,
            arguments.profile_mask_probability,
            drawn_by=weights if arguments.objective_schedule == "sampled" else None,
        ),
        num_workers=arguments.num_workers,
        persistent_workers=arguments.num_workers > 0,
    )


def evaluation_loader(
    split: Dataset,
    processor,
    arguments: JointTrainingArguments,
    photos_from: str = "self",
    cache: PhotoCache | None = None,
) -> DataLoader:
    """Batches for generation, in the split's order; whose photos: see `UserExamples`."""
    schema, photos = processor.profile_schema, {"photos_from": photos_from, "cache": cache}
    examples = UserExamples(split, schema, arguments.num_reviews, arguments.num_images, **photos)
    collator = EvaluationCollator(processor, arguments.paradigm)
    return DataLoader(examples, arguments.eval_batch_size, collate_fn=collator, num_workers=arguments.num_workers)
