"""The `user-profiling` pipeline, and the way from users to answers that it shares with the programs.

    profiler = pipeline("user-profiling", model=repo, trust_remote_code=True)
    profiler({"reviews": ["Great pizza."], "images": ["pizza.jpg"], "captions": ["a pizza"]})

Shapes: batch = users, seq = tokens, images = photos of the user who has most.
"""

import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader, Dataset, IterableDataset
from transformers import AutoModelForSeq2SeqLM, Pipeline
from transformers.pipelines import PIPELINE_REGISTRY

from .texts_mmprofile import shown

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


class Sees(NamedTuple):
    """What a model was trained to see beside the reviews, and whether it was trained on users without a review."""

    images: bool
    captions: bool
    without_reviews: bool = False


def seen_by(trained) -> Sees:
    """What a model sees of a user, by its training (section 5 of the paper).

    Args:
        trained: has `paradigm` and `objectives`: a model's config, or the arguments of a training.
    """
    objectives = getattr(trained, "objectives", None)  # a checkpoint with older code has no such field
    if objectives is not None and set(objectives) == {"text"}:
        return Sees(images=False, captions=False)
    return Sees(
        images=trained.paradigm != "unimodal",
        captions=trained.paradigm != "multimodal",
        without_reviews=objectives is None or "mask_profile" in objectives,
    )


def encode_user(
    processor,
    sees: Sees,
    reviews: Sequence[str],
    images: Sequence = (),
    captions: Sequence[str | None] = (),
    max_text_tokens: int | None = None,
) -> dict:
    """What a model sees of one user.

    Args:
        processor: `MMProfileProcessor`.
        sees: of `seen_by`; what it does not is left out.
        reviews: at least one with a word in it.
        images: as `MMProfileProcessor.load_image` takes them.
        captions: of the photos; None and blank ones are left out.
        max_text_tokens: another limit than the processor's.

    Returns:
        `input_ids`, a list of int; `pixel_values` (images, 3, height, width), None without photos; and
        `tokens_left_out`, how many did not fit in, with `problems`, which says so in a sentence.

    Raises:
        ValueError: if there is no review with a word in it, there are too many photos, or an entry is not valid.
    """
    captions = captions if sees.captions else ()
    text = processor.encode_sections(reviews, captions, max_text_tokens=max_text_tokens)
    if not processor.has_words(reviews):
        raise ValueError(f"a user needs a review with words, got {shown(list(reviews))}")
    pixels = processor.encode_images([images])["pixel_values"][0] if images and sees.images else None
    return {"input_ids": text.ids, "pixel_values": pixels, **text.shortening}


def pad_users(processor, users: Sequence[Mapping]) -> dict[str, torch.Tensor]:
    """Users as `encode_user` returns them -> the model's inputs, `input_ids`, `attention_mask` (batch, seq),
    `pixel_values` (batch, images, 3, height, width) and `image_mask` (batch, images), the last two where there is a
    photo."""
    batch = processor.pad_text([user["input_ids"] for user in users])
    photos = [user["pixel_values"] for user in users]
    some = next((pixels for pixels in photos if pixels is not None), None)
    if some is not None:
        photos = [some[:0] if pixels is None else pixels for pixels in photos]
        batch["pixel_values"] = pad_sequence(photos, batch_first=True)
        masks = [torch.ones(len(pixels), dtype=torch.bool) for pixels in photos]
        batch["image_mask"] = pad_sequence(masks, batch_first=True)
    return batch


def profile_users(model, tokenizer, batch: Mapping[str, torch.Tensor], **options) -> list[dict]:
    """Profiles of a batch, as JSON has them.

    Args:
        model: on any device; the batch is moved there.
        tokenizer: the processor's.
        batch: as `pad_users` returns it.
        options: of `generate_profiles`: `num_return_profiles`, `min_coverage`, `max_calls` and others.

    Returns:
        For each user `profile` (attribute key -> value or list of values), its `text`, `log_probability` and whether
        it is `exact`; `probabilities` (key -> value -> probability, in schema order); the share `coverage` of the
        schema's probability mass that the profiles explored have; `runners_up`, each a `profile`, `text` and
        `log_probability`; `image_weights`, the photos' sparsemax attention (Eq. 6) averaged over the text's positions,
        summing to 1; and `gate`, the mean of Eq. 7's gate, see `ProfilePrediction`. A user of whom the model computes
        what is not finite has an `error` alone, a sentence.
    """
    inputs = {name: tensor.to(model.device, non_blocking=True) for name, tensor in batch.items()}
    problem = None
    try:
        predictions = model.generate_profiles(**inputs, tokenizer=tokenizer, output_fusion=True, **options)
    except ValueError as error:
        predictions = getattr(error, "predictions", None)  # of another copy of the class, where the model is of one
        if predictions is None:
            raise
        problem = error.problem
    schema = model.config.profile_schema
    return [{"error": problem} if found is None else _answer(found, schema) for found in predictions]


def _answer(found, schema) -> dict:
    return {
        "profile": found.profile,
        "text": found.text,
        "log_probability": found.log_probability,
        "exact": found.exact,
        "probabilities": found.probabilities,
        "coverage": found.coverage,
        "runners_up": [
            {"profile": profile, "text": schema.render(profile), "log_probability": score}
            for profile, score in found.runners_up
        ],
        "image_weights": found.image_weights,
        "gate": found.gate,
    }


class UserProfilingPipeline(Pipeline):
    """Writes the profiles of users, each from `{"reviews": [...], "images": [...], "captions": [...]}`.

    `images` and `captions` may be left out. An image is a path, bytes, a PIL image, an array, or a dict as `datasets`
    has one that is not decoded; no URL is fetched. A row of pandas is a user too, and one of `datasets` in its format
    "pandas", "numpy" or "torch".
    Paths are the caller's: absolute ones and `..` are taken on purpose, so what strangers send goes in as bytes, as
    `handler.py` and `app.py` do. What the model was not trained to see (`seen_by`) is not used. Parameters, of the
    constructor or of a call, are those of `generate_profiles`, `max_text_tokens`, `batch_size` and `num_workers`.
    """

    _load_processor = True
    _load_tokenizer = False
    _load_image_processor = False
    _load_feature_extractor = False
    _load_video_processor = False

    def __call__(self, users: Mapping | Iterable[Mapping], **options) -> dict | list[dict] | Iterator[dict]:
        """The answer of `profile_users` for one user; a list for what has a length, as a list, an array, a column, a
        view or a dataset of `datasets`; and an iterator for what has none, as a generator or a `map`, and for torch's
        `Dataset`. Lists, tuples and torch's datasets are read by `num_workers`.

        `image_weights` has a number for each image given, 0 for one that the model does not look at.

        Raises:
            ValueError: if a user's entries are not valid, with the position of the user among several; or if what the
                model computes of a single user is not finite, of several that one's answer is an `error`.
        """
        users = _without_pandas(users)
        if isinstance(users, np.ndarray | torch.Tensor) and not users.ndim:
            users = users.item()
        if isinstance(users, Mapping | Dataset):
            return super().__call__(users, **options)
        if isinstance(users, str | bytes) or not isinstance(users, Iterable):
            raise ValueError(f"a user is a dict with {list(USER_FIELDS)}, several are a list, got {shown(users)}")
        if isinstance(users, list | tuple):
            return super().__call__(list(users), **options) if users else []
        # Not by their positions: those of a pandas column are labels, and a view has none.
        answers = iter(super().__call__((user for user in users), **options))
        return list(answers) if isinstance(users, Sized) else answers

    def _sanitize_parameters(self, max_text_tokens: int | None = None, **generation) -> tuple[dict, dict, dict]:
        return {} if max_text_tokens is None else {"max_text_tokens": max_text_tokens}, generation, {}

    def preprocess(self, user: Mapping, max_text_tokens: int | None = None) -> dict:
        """`encode_user`'s fields, and the number of images given."""
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
        encoded = encode_user(self.processor, seen_by(self.model.config), **fields, max_text_tokens=max_text_tokens)
        return encoded | {"num_images": len(fields.get("images", ()))}

    def _forward(self, batch: dict, **generation) -> list[dict]:
        answers = profile_users(self.model, self.processor.tokenizer, batch["inputs"], **generation)
        return [answer | notes for answer, notes in zip(answers, batch["notes"], strict=True)]

    def run_single(self, user, preprocess_params, forward_params, postprocess_params) -> dict:
        batch = self._collate([self.preprocess(user, **preprocess_params)])
        answer = self.postprocess(self.forward(batch, **forward_params)[0], **postprocess_params)
        if "error" in answer:
            raise ValueError(answer["error"])
        return answer

    def postprocess(self, answer: dict) -> dict:
        num_images, weights = answer.pop("num_images"), answer.get("image_weights")
        if "error" in answer:
            return answer
        return answer | {"image_weights": [0.0] * num_images if weights == [] else weights}

    def get_iterator(self, users, num_workers, batch_size, preprocess_params, forward_params, postprocess_params):
        """Answers one after the other. The library's own iterator pads no photos."""
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # workers are forked
        if isinstance(users, Sized):
            encoded = _EncodedUsers(users, self.preprocess, preprocess_params)
        else:
            encoded, num_workers = _EncodedStream(users, self.preprocess, preprocess_params), 0
        for batch in DataLoader(encoded, batch_size, num_workers=num_workers, collate_fn=self._collate):
            for answer in self.forward(batch, **forward_params):
                yield self.postprocess(answer, **postprocess_params)

    def _collate(self, users: list[dict]) -> dict:
        notes = [{name: user[name] for name in ("num_images", "tokens_left_out", "problems")} for user in users]
        return {"inputs": pad_users(self.processor, users), "notes": notes}

    def save_pretrained(self, save_directory: str | os.PathLike, **kwargs):
        """Everything that `pipeline(TASK, model=save_directory, trust_remote_code=True)` loads."""
        self.model.save_pretrained(save_directory, **kwargs)
        self.processor.save_pretrained(save_directory, **kwargs)


class _EncodedUsers(Dataset):
    """Users encoded where they are read: in a data loader's workers, if there are any."""

    def __init__(self, users: Sequence[Mapping], encode, parameters: Mapping):
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
