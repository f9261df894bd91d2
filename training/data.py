"""The corpus that train.py reads, and the loaders that draw batches from it."""

import copy
from collections.abc import Iterator
from typing import Any

import torch
from accelerate import Accelerator, PartialState
from datasets import Dataset, DatasetDict
from torch.utils.data import DataLoader

from baselines.table import find_system
from cli.logs import told, told_anywhere
from corpora.checks import COLUMNS, check_content, check_rows, labels_schema
from corpora.digest import corpus_digest
from corpora.opening import open_beside_stream, open_corpus, photo_folder
from corpora.shards import Shards
from mmprofile import ProfileSchema, cut_history, seen_by
from training.agreement import Agreement, CheckedLoader
from training.arguments import JointTrainingArguments
from training.batching import EvaluationCollator, JointCollator, UserExamples, review_lengths
from training.photo_cache import PhotoCache, Photos
from training.photo_check import ReadablePhotos, UnreadablePhoto, check_photos, known_problems
from training.streaming import StreamedExamples, StreamedOrder, StreamedUsers
from training.user_order import UserOrder
from training.vision_states import VisionStates

SPLITS = ("train", "validation", "test")
TOKENIZER_USERS = 5000  # of a streamed split, in the order of its files


def load_corpus(arguments: JointTrainingArguments) -> DatasetDict:
    """The corpus' three splits, photos undecoded, cut to the numbers of users asked for.

    With `streaming` the training split is a `StreamedUsers`: its labels are read here, its reviews and photos while it
    is trained on.

    Raises:
        ValueError: if there is none, a split or a column is missing, captions are needed and there are none, a user's
            row cannot be read, or a flag is not for streaming.
    """
    streamed: dict[str, Any] = {}
    if arguments.streaming:
        corpus, streamed["train"] = _open_streamed(arguments)
    else:
        corpus = open_corpus(arguments.dataset, arguments.dataset_config, arguments.dataset_revision)
    if missing := set(SPLITS) - set(corpus) - set(streamed):
        raise ValueError(f"{arguments.dataset!r} needs the splits {list(SPLITS)}, {sorted(missing)} missing")
    needs_captions = any("captions" in view.text for view in arguments.views.values())
    splits = DatasetDict()
    splits.update(streamed)
    for name in (name for name in SPLITS if name not in streamed):
        split, schema = corpus[name], labels_schema(corpus[name].features)
        check_content(split, needs_captions)
        limits = {"train": arguments.max_train_users, "test": arguments.test_users}
        limit = limits.get(name, arguments.max_eval_users)
        splits[name] = checked_split(name, split, schema, limit)
    return splits


def checked_split(name: str, split: Dataset, schema: ProfileSchema, limit: int | None) -> Dataset:
    """The first so many users of a split, all without a limit.

    Raises:
        ValueError: names the split, and the user whose row cannot be read.
    """
    cut = split.select(range(min(limit or len(split), len(split))))
    try:
        check_rows(cut, schema)
    except ValueError as error:
        raise ValueError(f"split {name!r}: {error}") from None
    return cut


def _open_streamed(arguments: JointTrainingArguments) -> tuple[DatasetDict, StreamedUsers]:
    """The splits that are not streamed, and the one that is."""
    if arguments.shuffle_buffer < 1:
        raise ValueError(f"shuffle_buffer is at least 1, got {arguments.shuffle_buffer}")
    needing = {"photo_cache": "photos", "group_by_length": "reviews", "auto_batch_size": "reviews"}
    for flag, what in needing.items():
        if value := getattr(arguments, flag):
            raise ValueError(
                f"--{flag} {str(value).lower() if value is True else value} reads the {what} of all users before the"
                " first step, which --streaming true does without: leave one of the two out"
            )
    splits, shards = open_shards(arguments)
    return splits, StreamedUsers(shards, arguments.shuffle_buffer, arguments.batch_size, arguments.seed)


def open_shards(arguments: JointTrainingArguments) -> tuple[DatasetDict, Shards]:
    """The splits that are read whole, and the files of the training split.

    Raises:
        NotStreamable: as of `open_beside_stream`.
        ValueError: names the file that does not fit.
    """
    opened = open_beside_stream(arguments.dataset, arguments.dataset_config, arguments.dataset_revision)
    limit, folder = arguments.max_train_users, photo_folder(arguments.dataset)
    try:
        return opened.splits, Shards(opened.files, folder, opened.features, limit)
    except ValueError as error:
        raise ValueError(f"split 'train': {error}") from None


def split_digest(split: Dataset | StreamedUsers) -> str:
    """64 hexadecimal digits that tell splits apart: by what their users have or, streamed, by their files' footers."""
    return split.shards.digest() if isinstance(split, StreamedUsers) else corpus_digest(split, COLUMNS)


def corpus_texts(split: Dataset | StreamedUsers) -> Iterator[str]:
    """Every review and caption of a split, or of a streamed one's beginning, for the tiny preset's tokenizer."""
    for reviews in split.first_reviews(TOKENIZER_USERS) if isinstance(split, StreamedUsers) else split["reviews"]:
        for review in reviews:
            yield review["text"]
            yield from (caption for caption in review["captions"] or () if caption)


def check_corpus_photos(corpus: DatasetDict, processor, arguments: JointTrainingArguments) -> None:
    """Reads all photos before the first step but those of a streamed split, where the flags ask for it, photos are
    seen, and no cache is to read them. Of what cannot be read and is to be skipped it tells in the error stream.

    Raises:
        ValueError: names the first of those that cannot be read, and the flags; or not one can be.
    """
    if not arguments.check_photos or arguments.photo_cache is not None or not photos_are_seen(arguments):
        return
    try:
        read = {name: split for name, split in corpus.items() if not isinstance(split, StreamedUsers)}
        check_photos(read, processor)
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
    if not arguments.freeze_vision:
        return cache, None
    if not hasattr(model, "photo_states"):
        told.warning(f"{arguments.system} keeps no states of photos: its frozen vision tower reads them in each epoch")
        return cache, None
    return cache, VisionStates(cache, model, device)


def _say_what_is_left_out(problems: str) -> None:
    told_anywhere.warning(f"{problems}. Left out with the captions (--on_bad_photo skip)")


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
    split: Dataset | StreamedUsers,
    processor,
    arguments: JointTrainingArguments,
    cache: PhotoCache | None = None,
    states: VisionStates | None = None,
) -> DataLoader:
    """Batches of `JointStep`, in a new order and newly drawn each epoch; caches as of `open_caches`."""
    drawn: dict[str, Any] = {
        "num_reviews": arguments.num_reviews,
        "num_images": arguments.num_images,
        "seed": arguments.seed,
        "photos_from": arguments.photos_from,
        "photo_share": arguments.photo_share,
    }
    drawn["forged_lines"] = arguments.forged_lines
    drawn["readable"] = readable_photos(processor, arguments, cache)
    users_a_step = arguments.batch_size * arguments.batches_a_step * PartialState().num_processes
    if isinstance(split, StreamedUsers):
        users: Any = split
        examples = StreamedExamples(users, processor.profile_schema, **drawn)
        order = StreamedOrder(examples)
    else:
        examples = UserExamples(split, processor.profile_schema, **drawn, cache=cache, states=states)
        order = UserOrder(examples, arguments.seed, users_a_step if arguments.group_by_length else None)
    return DataLoader(
        examples,
        arguments.batch_size,
        sampler=order,
        collate_fn=JointCollator(
            processor,
            arguments.views,
            arguments.mask_probability,
            arguments.profile_mask_probability,
            drawn_by=arguments.drawn_by,
            with_classes=find_system(arguments.system).needs_classes,
            view_reviews=arguments.trained_view,
        ),
        **worker_options(arguments),
    )


def evaluation_loader(
    split: Dataset,
    processor,
    arguments: JointTrainingArguments,
    photos_from: str | None = None,
    cache: PhotoCache | None = None,
    forged: int = 0,
    history: bool = False,
) -> DataLoader:
    """Batches for generation, in the split's order; whose photos, by default the flag's, and how often forged: see
    `UserExamples`.

    Args:
        history: read users' histories in `eval_views` views, in place of `num_reviews` reviews in one; then
            `eval_batch_size` is of views, of which nine of ten users have no more.
    """
    schema, photos = processor.profile_schema, {"cache": cache, "forged": forged, "photo_share": arguments.photo_share}
    readable, system = readable_photos(processor, arguments, cache), find_system(arguments.system)
    number, views, batch_size, size = arguments.num_reviews, None, arguments.eval_batch_size, arguments.trained_view
    if history:
        size = int(arguments.view_reviews or number)
        views = None if arguments.eval_views == "all" else arguments.eval_views
        number = max(map(len, review_lengths(split)))
        counts = sorted(history_views(split, arguments))
        batch_size = max(1, batch_size // counts[len(counts) * 9 // 10])  # a few have more
    whose = photos_from or arguments.photos_from
    examples = UserExamples(
        split, schema, number, arguments.num_images, photos_from=whose, **photos, readable=readable
    )
    collator = EvaluationCollator(processor, seen_by(arguments), system.needs_classes, size, views)
    return DataLoader(examples, batch_size, collate_fn=collator, **worker_options(arguments))


def history_views(split: Dataset, arguments: JointTrainingArguments) -> list[int]:
    """How many views are read of each user's history, at least one."""
    size = int(arguments.view_reviews or arguments.num_reviews)
    most = None if arguments.eval_views == "all" else arguments.eval_views
    return [max(1, len(cut_history(len(of_user), size, most))) for of_user in review_lengths(split)]


def checked_loader(
    split: Dataset,
    processor,
    arguments: JointTrainingArguments,
    accelerator: Accelerator,
    agreement: Agreement | None = None,
    **shown,
) -> Any:
    """`evaluation_loader`, prepared, whose batches every process asks for alike.

    Args:
        agreement: of a run that may be stopped.
        shown: further arguments of `evaluation_loader`.
    """
    loader = accelerator.prepare(evaluation_loader(split, processor, arguments, **shown))
    return CheckedLoader(loader, agreement) if agreement else loader


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
    of_users = [loader.collate_fn.encode_texts(examples[row]) for row in range(len(examples))]
    shortened = [any(text.shortening["tokens_left_out"] for text in of_user) for of_user in of_users]
    found: dict[str, float] = {"users": sum(shortened)}
    texts = [text for of_user in of_users for text in of_user]
    for kind in ("reviews", "captions"):
        read, there = (sum(getattr(text, kind)[place] for text in texts) for place in (0, 1))
        if there:
            found[f"{kind}_read"] = read / there
    return found
