"""The `user-profiling` pipeline.

    profiler = pipeline("user-profiling", model=repo, trust_remote_code=True)
    profiler({"reviews": ["Great pizza."], "images": ["pizza.jpg"], "captions": ["a pizza"]})

Shapes: batch = users, seq = tokens, images = photos of the user who has most.
"""

import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sized
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset
from transformers import AutoModelForSeq2SeqLM, Pipeline
from transformers.pipelines import PIPELINE_REGISTRY

from .texts_mmprofile import shown
from .user_histories_mmprofile import MOST_VIEWS

TASK = "user-profiling"
# What config.json says of this file, so that `pipeline` finds it.
CUSTOM_PIPELINES = {
    TASK: {
        "impl": "pipeline_mmprofile.UserProfilingPipeline",
        "pt": ["AutoModelForSeq2SeqLM"],
        "type": "multimodal",
    }
}
USER_FIELDS = ("reviews", "images", "captions")
MAX_EFFECTS = 24  # as of handler.py: searches of a user, each over all views


class UserProfilingPipeline(Pipeline):
    """Writes the profiles of users, each from `{"reviews": [...], "images": [...], "captions": [...]}`.

    Reviews stand newest first; the model reads all of them, a few at a time (`view_reviews` of its config), and the
    profile is that of all these views together. A review is a text, or an object with photos of its own,
    `{"text": ..., "images": [...], "captions": [...]}`; a user's `images` and `captions` are dealt out to the views.
    They may be left out. An image is a path, bytes, a PIL image, an array, or a dict as `datasets`
    has one that is not decoded; no URL is fetched. A row of pandas is a user too, and one of `datasets` in its format
    "pandas", "numpy" or "torch".
    Paths are the caller's: absolute ones and `..` are taken on purpose, so what strangers send goes in as bytes, as
    `handler.py` and `app.py` do. What the model was not trained to see (`sees` of its config) is not used. Parameters,
    of the constructor or of a call, are those of `generate_profiles`, with `views` a number, the newest views alone,
    64 by default, or "all", however many these are, and `draws`, so many further views of reviews drawn at random;
    `min_precision` and `decision` of `profile_users`; `max_text_tokens`, `batch_size`, of users, and `num_workers`;
    and `explain`, True for what each review and photo did: the profile is searched again without each of them (see the
    model's `explain_user`), up to `most_effects` times, for the first reviews and the first photos by turns.
    """

    # Of the checkpoint, with methods beyond those of transformers' classes.
    model: Any
    processor: Any

    _load_processor = True
    _load_tokenizer = False
    _load_image_processor = False
    _load_feature_extractor = False
    _load_video_processor = False

    def __call__(self, users: Mapping | Iterable[Mapping], **options) -> dict | list[dict] | Iterator[dict]:
        """The answer of the model's `profile_users` for one user; a list for what has a length, as a list, an array, a
        column, a view or a dataset of `datasets`; and an iterator for what has none, as a generator or a `map`, and
        for torch's `Dataset`. Lists, tuples and torch's datasets are read by `num_workers`.

        `image_weights` has a number for each image given, 0 for one that the model does not look at; `views` is how
        many were read. With `explain` there are `review_effects` and `photo_effects`, in the order given; None for
        those beyond `most_effects`, which `problems` say.

        Raises:
            ValueError: if a user's entries are not valid, with the position of the user among several; or if what the
                model computes of a single user is not finite, of several that one's answer is an `error`.
        """
        given: Any = _without_pandas(users)
        answer: Any = super().__call__
        if isinstance(given, np.ndarray | torch.Tensor) and not given.ndim:
            given = given.item()
        if isinstance(given, Mapping | Dataset):
            return answer(given, **options)
        if isinstance(given, str | bytes) or not isinstance(given, Iterable):
            raise ValueError(f"a user is a dict with {list(USER_FIELDS)}, several are a list, got {shown(given)}")
        if isinstance(given, list | tuple):
            return answer(list(given), **options) if given else []
        # Not by their positions: those of a pandas column are labels, and a view has none.
        answers = iter(answer((user for user in given), **options))
        return list(answers) if isinstance(given, Sized) else answers

    def _sanitize_parameters(
        self,
        max_text_tokens: int | None = None,
        views: int | str | None = None,
        draws: int | None = None,
        explain: bool | None = None,
        most_effects: int | None = None,
        **generation,
    ) -> tuple[dict, dict, dict]:
        if views not in (None, "all") and (type(views) is not int or views < 1):
            raise ValueError(f'views are a number of at least 1, or "all", got {shown(views)}')
        if explain is not None and type(explain) is not bool:
            raise ValueError(f"explain is True or False, got {shown(explain)}")
        if draws is not None and (type(draws) is not int or draws < 0):
            raise ValueError(f"draws are a number of at least 0, got {shown(draws)}")
        if draws and views == 1:
            raise ValueError(f"draws={draws} are of a history in several views, and views=1 reads one")
        if most_effects is not None and (type(most_effects) is not int or most_effects < 1):
            raise ValueError(f"most_effects are a number of at least 1, got {shown(most_effects)}")
        reading = {"max_text_tokens": max_text_tokens, "views": views, "draws": draws}
        reading |= {"explain": explain, "most_effects": most_effects}
        return {name: value for name, value in reading.items() if value is not None}, generation, {}

    def preprocess(
        self,
        user: Mapping,
        max_text_tokens: int | None = None,
        views: int | str = MOST_VIEWS,
        draws: int = 0,
        explain: bool = False,
        most_effects: int = MAX_EFFECTS,
    ) -> dict:
        """The user's `history`, as of `encode_history`, the number of images given, and whether to explain."""
        user = _without_pandas(user)
        if isinstance(user, list) and len(user) == 1:  # a row of `datasets` is a frame of one
            (user,) = user
        if not isinstance(user, Mapping) or "reviews" not in user or not set(user) <= set(USER_FIELDS):
            given = sorted(user, key=str) if isinstance(user, Mapping) else user
            raise ValueError(f"a user is a dict with reviews and perhaps images and captions, got {shown(given)}")
        fields = {name: user[name] for name in USER_FIELDS if name == "reviews" or not _is_null(user.get(name))}
        for name, values in fields.items():
            fields[name] = values = _as_list(name, values)
            if not isinstance(values, list | tuple):
                raise ValueError(f"a user's {name} are a list, got {type(values).__name__}: {shown(values)}")
        if draws and explain:
            raise ValueError(f"explained is what each review did, and with draws={draws} several views have it")
        config = self.model.config
        most = None if views == "all" else views
        cut = self.processor.cut_views(**fields, num_reviews=config.view_reviews, views=most, draws=draws)
        num_images = _num_images(fields)
        left_out = {"reviews_left_out": len(fields["reviews"]), "photos_left_out": num_images} if explain else {}
        left_out |= {"most_left_out": most_effects}
        history = self.processor.encode_history(config.sees, cut, max_text_tokens, **left_out)
        return {"history": history, "num_images": num_images, "explain": explain}

    def _forward(self, batch: dict, **generation) -> list[dict]:
        histories = batch["histories"]
        if batch["explain"]:  # one by one: each has many rows
            answers = [self.model.explain_user(history, self.processor, **generation) for history in histories]
        else:
            generation = {"views": batch["views"], **generation}
            answers = self.model.profile_users(batch["inputs"], self.processor.tokenizer, **generation)
        given = zip(answers, histories, batch["num_images"], strict=True)
        return [history.with_notes(answer, num_images) for answer, history, num_images in given]

    def run_single(self, user, preprocess_params, forward_params, postprocess_params) -> dict:
        batch = self._collate([self.preprocess(user, **preprocess_params)])
        answers: Any = self.forward(batch, **forward_params)
        answer = self.postprocess(answers[0], **postprocess_params)
        if "error" in answer:
            raise ValueError(answer["error"])
        return answer

    def postprocess(self, answer: dict) -> dict:
        return answer

    def get_iterator(self, users, num_workers, batch_size, preprocess_params, forward_params, postprocess_params):
        """Answers one after the other. The library's own iterator pads no photos."""
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # workers are forked
        if isinstance(users, Sized):
            encoded = _EncodedUsers(users, self.preprocess, preprocess_params)
        else:
            encoded, num_workers = _EncodedStream(users, self.preprocess, preprocess_params), 0
        for batch in DataLoader(encoded, batch_size, num_workers=num_workers, collate_fn=self._collate):
            answers: Any = self.forward(batch, **forward_params)
            for answer in answers:
                yield self.postprocess(answer, **postprocess_params)

    def _collate(self, users: list[dict]) -> dict:
        histories, num_images = [user["history"] for user in users], [user["num_images"] for user in users]
        if users[0]["explain"]:
            return {"explain": True, "histories": histories, "num_images": num_images}
        inputs = self.processor.pad_users([view for history in histories for view in history.rows])
        for history in histories:  # photos, which a worker sends on, are there once
            history.rows = [view | {"pixel_values": None} for view in history.rows]
        views = [history.views for history in histories]
        return {"explain": False, "histories": histories, "num_images": num_images, "inputs": inputs, "views": views}

    def save_pretrained(self, save_directory: str | os.PathLike, **kwargs):
        """Everything that `pipeline(TASK, model=save_directory, trust_remote_code=True)` loads."""
        self.model.save_pretrained(save_directory, **kwargs)
        self.processor.save_pretrained(save_directory, **kwargs)


class _EncodedUsers(Dataset):
    """Users encoded where they are read: in a data loader's workers, if there are any."""

    def __init__(self, users: Any, encode, parameters: Mapping):
        self.users, self.encode, self.parameters = users, encode, parameters

    def __len__(self) -> int:
        return len(self.users)

    def __getitem__(self, index: int) -> dict:
        with _named(index):
            return self.encode(self.users[index], **self.parameters)


class _EncodedStream(IterableDataset):
    def __init__(self, users: Iterable[Mapping], encode, parameters: Mapping):
        self.users, self.encode, self.parameters = users, encode, parameters

    def __iter__(self) -> Iterator[dict]:
        for index, user in enumerate(self.users):
            with _named(index):
                encoded = self.encode(user, **self.parameters)
            yield encoded


def _num_images(fields: Mapping) -> int:
    own = [review.get("images") or () for review in fields["reviews"] if isinstance(review, Mapping)]
    return len(fields.get("images", ())) + sum(map(len, own))


def _without_pandas(users):
    """A frame as a list of users, a row as one; anything else as it is."""
    pandas = sys.modules.get("pandas")  # which made it, if it is of pandas
    if pandas is not None and isinstance(users, pandas.DataFrame):
        return users.to_dict("records")
    if pandas is not None and isinstance(users, pandas.Series) and "reviews" in users.index:
        return users.to_dict()
    return users


def _is_null(value) -> bool:
    return value is None or (isinstance(value, float) and value != value)  # pandas' nan


def _as_list(name: str, values):
    """Arrays that stand for a list, as pandas and the formats of `datasets` have them, as one."""
    if isinstance(values, np.ndarray) and values.ndim == 1 and (values.dtype.kind in "OU" or not len(values)):
        return values.tolist()
    if name == "images" and isinstance(values, np.ndarray | torch.Tensor) and values.ndim == 4:  # photos of one size
        return list(values)
    return values


@contextmanager
def _named(index: int) -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise ValueError(f"user {index}: {error}") from error


# For `pipeline(TASK, model=<a model>, processor=<its processor>)`: of a model that is an object the library reads no
# `custom_pipelines`. Each checkpoint's code brings its own copy of this file, of which the last one stands.
PIPELINE_REGISTRY.supported_tasks.pop(TASK, None)
PIPELINE_REGISTRY.register_pipeline(
    TASK, pipeline_class=UserProfilingPipeline, pt_model=AutoModelForSeq2SeqLM, type="multimodal"
)
