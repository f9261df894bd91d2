"""Answers requests for profiles: the custom handler of Hugging Face's Inference Endpoints.

    {"inputs": {"reviews": ["Great pizza."], "images": ["<base64>"], "captions": ["a pizza"]},
     "parameters": {"num_return_profiles": 3, "without_photos": true}}

`inputs` is a user or a list of users. A user is such a dict, of which any part may be left out; a text, which is one
review; or a photo, as the server makes one of an image that is the body of a request. A photo is base64, with or
without `data:image/...;base64,` before it, bytes or a PIL image: no URL is fetched and no path opened.

Reviews stand newest first. The model reads all of them, a few at a time, and answers for these views together; of a
long history the newest views. A review is a text, or an object with photos of its own,
`{"text": "Great pizza.", "images": ["<base64>"], "captions": ["a pizza"]}`; a user's `images` and `captions` are dealt
out to the views.

On a CPU the environment variable QUANTIZATION makes answers faster: "int8", "bfloat16", or "fastest", what of these
the CPU has instructions for; see `from_pretrained` of the model.

What is wrong with a request is raised as a ValueError, which the server turns into status 400 and
`{"error": "inputs[1].images[0]: ..."}`. Calls may come from any number of threads.
"""

import base64
import binascii
import ctypes
import os
import re
import reprlib
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, fields
from typing import Any

import torch
from PIL import Image
from transformers import AutoModelForSeq2SeqLM, AutoProcessor
from transformers.utils.versions import require_version

QUANTIZATION = "QUANTIZATION"  # variable of the environment
TRANSFORMERS = "transformers>=5.23,<6"  # as in requirements.txt
# What one request may ask for.
MAX_USERS = 16
MAX_TEXTS = 200  # reviews, or captions, of a user
MAX_VIEWS = 8  # of a user, the newest; at base size and on two CPU cores each takes a second
MAX_VIEWS_TOGETHER = 64  # of all users
VIEWS_AT_A_TIME = 16  # whose keys and values are held at once: at base size 40 MB each
MAX_EFFECTS = 24  # reviews and photos without which the profile is searched again, and as many views each time
MAX_CHARACTERS = 100_000  # of a user's reviews and captions; the model reads a few thousand
MAX_PHOTOS = 64  # of all users; one user's are bounded by the processor's max_images
MAX_PHOTO_BYTES = 10_000_000
# Of a photo, read from its header, and of all that are decoded at a time: at most 430 MB. A WebP's count half as much
# again.
MAX_PIXELS = 25_000_000
MAX_PROFILES = 50
MAX_DECODER_CALLS = 100  # far: of the demo's users none needs over 12, or 37 for half of the mass. `exact` tells
# glibc learns to keep freed blocks of up to 32 MB, each thread by itself: 24 large photos on four threads left 1 GB.
# A fixed limit stops this, and a photo in one block, not Pillow's of 16 MB, is mostly above it. A lower limit would
# make a model's layers slower.
M_MMAP_THRESHOLD, KEPT_BLOCK = -3, 30_000_000  # the first of malloc.h
PHOTO_BLOCK = 2**30
LARGE_PIXELS = 1_000_000  # of a photo after which memory is returned
DECODERS = 2  # photos read at a time, whatever the number of threads: each is there as base64, as bytes and as a file

DATA_URL = re.compile(r"data:[^,]{0,100};base64,")
USER_FIELDS = ("reviews", "images", "captions")
REVIEW_FIELDS = ("text", "images", "captions")
DECISIONS = ("joint", "marginal", "weighted")


@dataclass(frozen=True)
class Parameters:
    """The `parameters` of a request.

    Args:
        num_return_profiles: explore at least so many profiles; those behind the best are the `runners_up`.
        min_coverage: explore until the profiles have this share of the probability mass, 0 to 1.
        decision: "joint", the profile that is most probable as a whole; "marginal", of each attribute what is most
            probable by itself; or "weighted", that by what was fitted for more Macro-F1.
        min_precision: the share of values, above 0 and below 1, that are to be right where one is decided.
        without_photos: answer as if there were none.
        without_captions: answer as if there were none.
        views: of a user at most, the newest: a number, or "all".
        explain: of a single user, tell what each review and photo did: search again without each of them.

    Raises:
        ValueError: if a value does not fit.
    """

    num_return_profiles: int = 5
    min_coverage: float = 0.0
    decision: str = "joint"
    min_precision: float | None = None
    without_photos: bool = False
    without_captions: bool = False
    views: int | str = "all"
    explain: bool = False

    def __post_init__(self):
        number = self.num_return_profiles
        if type(number) is not int or not 1 <= number <= MAX_PROFILES:
            raise ValueError(f"num_return_profiles is an integer from 1 to {MAX_PROFILES}, got {_shown(number)}")
        if type(self.min_coverage) not in (int, float) or not 0 <= self.min_coverage <= 1:
            raise ValueError(f"min_coverage is a number from 0 to 1, got {_shown(self.min_coverage)}")
        if self.views != "all" and (type(self.views) is not int or not 1 <= self.views <= MAX_VIEWS):
            raise ValueError(f'views are an integer from 1 to {MAX_VIEWS}, or "all", got {_shown(self.views)}')
        if type(self.decision) is not str or self.decision not in DECISIONS:
            raise ValueError(f"decision is one of {', '.join(DECISIONS)}, got {_shown(self.decision)}")
        precision = self.min_precision
        if precision is not None and (type(precision) not in (int, float) or not 0 < precision < 1):
            raise ValueError(f"min_precision is a number above 0 and below 1, got {_shown(precision)}")
        for name in ("without_photos", "without_captions", "explain"):
            if type(getattr(self, name)) is not bool:
                raise ValueError(f"{name} is true or false, got {_shown(getattr(self, name))}")

    @property
    def search(self) -> dict:
        """Arguments of the model's `profile_users`."""
        decided = {} if self.decision == "joint" else {"decision": self.decision}
        decided |= {} if self.min_precision is None else {"min_precision": self.min_precision}
        return {
            "num_return_profiles": self.num_return_profiles,
            "min_coverage": self.min_coverage,
            "max_calls": MAX_DECODER_CALLS,
            **decided,
        }


@dataclass(frozen=True)
class User:
    """What a request holds of a user, photos not yet decoded.

    Args:
        place: where it stands, for errors.
        reviews: texts, or objects whose `images` are numbers of `images`.
        images: in the order sent, those of the reviews too.
        captions: of a user whose reviews have no photos of their own.
        photo_places: where each photo stands.
        own: whether photos are the reviews'.
    """

    place: str
    reviews: list
    images: list
    captions: list[str | None]
    photo_places: list[str]
    own: bool = False


@dataclass(frozen=True)
class History:
    """What is read of a user: `views`, as the processor cuts them, and `problems`, about what is left out."""

    user: User
    views: list
    problems: list[str] = field(default_factory=list)


class EndpointHandler:
    """Answers requests with a model and its processor, in a process that is for it: cuDNN's attention is switched off.

    Args:
        path: the folder of the model's repository, with its code, or its Hub name.
        revision: the branch, tag or commit of a Hub name, of the code as well; default: main.

    Raises:
        ImportError: if transformers is too old or too new; it says which version is needed.
    """

    def __init__(self, path: str = "", revision: str | None = None):
        require_version(TRANSFORMERS, "The requirements.txt of the model's repository installs it.")
        self.processor, model = self.load(str(path) or ".", revision)
        self.processor.max_image_pixels = min(self.processor.max_image_pixels, MAX_PIXELS)
        _keep_little_memory()
        torch.backends.cuda.enable_cudnn_sdp(False)  # it plans for each new shape, and each request has its own
        device = "cuda" if torch.cuda.is_available() else "cpu"
        self.model = model.to(device)
        self.sees = self.model.config.sees
        self._reading, self._decoding = threading.BoundedSemaphore(DECODERS), _Budget(MAX_PIXELS)
        # The tokenizer and the model. One thread: each that computes has helpers and buffers of its own, for good.
        self._running = ThreadPoolExecutor(1, "mmprofile")
        self({"inputs": "Good."})  # what cannot answer fails here, not at a user's request

    def load(self, path: str, revision: str | None) -> tuple[Any, Any]:
        """The processor and the model, by the code that came with them; quantized as the environment has it."""
        hub = {"revision": revision, "trust_remote_code": True}
        options = {"quantization": os.environ[QUANTIZATION]} if os.environ.get(QUANTIZATION) else {}
        model = AutoModelForSeq2SeqLM.from_pretrained(path, **hub, **options)
        return AutoProcessor.from_pretrained(path, **hub), model

    def __call__(self, data: Mapping) -> dict | list[dict]:
        """The answer for a user, or a list of answers for a list of users, as JSON has them.

        Args:
            data: `{"inputs": ..., "parameters": {...}}`, the second optional, see above and `Parameters`.

        Returns:
            For each user `profile` (attribute key -> value or list of values), its `text`, `log_probability` (None
            where it was decided by attributes and is not among the profiles explored) and whether it is `exact`,
            proved the most probable as a whole; with `min_precision`, `decided`, the profile with None for
            what is not sure enough; `probabilities` (key -> value -> probability); the share `coverage` of the
            probability mass that the profiles explored have; `runners_up`; `image_weights`, a number for each photo
            sent, 0 for one that is not looked at (None with `fusion="concat"`); the mean `gate`; `views`, how many
            were read together; and `tokens_left_out` of texts that were too long, with a sentence in `problems`, as of
            reviews that were not read. Of several users, one of whom the model computes what is not finite has a
            sentence in `error` in place of a profile. With `explain` also `review_effects` and `photo_effects`, one
            for each sent: by how much the profile's `log_probability` falls without it, its `share` of all falls, by
            how much the `probabilities` of the chosen values fall, and which values are `changed`; where nothing would
            be left to read an `error` alone; None for those beyond so many, which `problems` say.

        Raises:
            ValueError: if the request is not valid or asks for too much, or a single user's numbers are not finite; it
                says where and why.
        """
        inputs, parameters = read_request(data)
        many = isinstance(inputs, list)
        places = [f"inputs[{index}]" for index in range(len(inputs))] if many else ["inputs"]
        users = [read_user(item, place) for item, place in zip(inputs if many else [inputs], places, strict=True)]
        if parameters.explain and len(users) > 1:
            raise ValueError(f"parameters: explain is for one user, inputs have {len(users)}")
        self._check_photos(users)
        histories = [self.cut(user, parameters) for user in users]
        if (views := sum(len(history.views) for history in histories)) > MAX_VIEWS_TOGETHER:
            raise ValueError(
                f"inputs: the users' reviews are {views} views, a request has up to {MAX_VIEWS_TOGETHER}; send fewer"
                " users or reviews, or ask for fewer views"
            )
        photos = [self._encode_photos(history, parameters) for history in histories]
        answers = self._running.submit(self._profile, histories, photos, parameters).result()
        for user, answer in zip(users, answers, strict=True):
            if "error" in answer and not many:
                raise ValueError(f"{user.place}: {answer['error']}")
        return answers if many else answers[0]

    def cut(self, user: User, parameters: Parameters) -> History:
        """The views of a user that are read."""
        number, cut = self.model.config.view_reviews, self.processor.cut_views
        most = MAX_VIEWS if parameters.views == "all" else parameters.views
        numbers = [] if user.own else list(range(len(user.images)))
        views = cut(user.reviews, numbers, user.captions, num_reviews=number, views=most)
        left_out = len(user.reviews) - sum(len(view.reviews) for view in views)
        if not left_out or parameters.views != "all":
            return History(user, views)
        whose = ", with their photos" if user.own else ""
        note = f"the {left_out} oldest reviews were not read{whose}: a user has up to {MAX_VIEWS} views of {number}"
        return History(user, views, [note])

    @contextmanager
    def decoded(self, image, place: str, decode: bool = True) -> Iterator[Image.Image | None]:
        """A photo of a request, upright and in RGB, while there is memory for it.

        Args:
            image: as a request has it.
            place: where it stands, for errors.
            decode: if False only its form is checked, None comes.

        Raises:
            ValueError: if it is not valid, broken or too large.
        """
        with self._reading:
            try:
                content = read_photo(image)
                if not decode:
                    yield None
                    return
                opened = self.processor.open_image(content)
                cost, (width, height) = opened.cost, opened.size
                if cost > MAX_PIXELS:
                    raise ValueError(
                        f"{opened.name} has {width} x {height} pixels; a photo has up to {MAX_PIXELS}, a WebP a third"
                        " less"
                    )
                with self._decoding.take(cost):
                    photo = opened.to_rgb(self.processor.max_image_pixels)
                    del opened
                    try:
                        yield photo
                    finally:
                        if photo is not content:  # whoever still holds it: its pixels make room for the next
                            photo.close()
                        if cost > LARGE_PIXELS:
                            _return_memory()
            except ValueError as error:
                raise ValueError(f"{place}: {error}") from None

    def _profile(self, histories: list[History], photos: list[dict], parameters: Parameters) -> list[dict]:
        encoded = [
            self._encode_history(history, seen, parameters) for history, seen in zip(histories, photos, strict=True)
        ]
        if parameters.explain:
            answers = [self.model.explain_user(encoded[0], self.processor, **parameters.search)]
        else:
            answers, first = [], 0
            while first < len(encoded):
                rows, views = [], []
                for item in encoded[first:]:
                    if rows and len(rows) + item.views > VIEWS_AT_A_TIME:
                        break
                    rows += item.rows
                    views.append(item.views)
                batch, first = self.processor.pad_users(rows), first + len(views)
                options = parameters.search if len(rows) == len(views) else parameters.search | {"views": views}
                answers += self.model.profile_users(batch, self.processor.tokenizer, **options)
        noted = [
            item.with_notes(answer, len(history.user.images))
            for answer, history, item in zip(answers, histories, encoded, strict=True)
        ]
        for answer, history in zip(noted, histories, strict=True):
            answer["problems"] += history.problems
        return noted

    def _check_photos(self, users: list[User]):
        """Their numbers, before any is decoded."""
        most = self.processor.max_images
        for user in users:
            if len(user.images) > most:
                place = f"{user.place}.{'reviews' if user.own else 'images'}"
                raise ValueError(f"{place}: a user has up to {most} photos, got {len(user.images)}")
        total = sum(len(user.images) for user in users)
        if total > MAX_PHOTOS:
            raise ValueError(f"inputs: a request has up to {MAX_PHOTOS} photos, got {total}")

    def _encode_photos(self, history: History, parameters: Parameters) -> dict[int, torch.Tensor]:
        """Number of a photo -> (3, height, width), of those that the model looks at. The others' form is checked."""
        user, looks = history.user, self.sees.images and not parameters.without_photos
        read = {position for view in history.views for position in view.positions} if looks else set()
        pixels = [
            self._encode_photo(image, place, number in read)
            for number, (image, place) in enumerate(zip(user.images, user.photo_places, strict=True))
        ]
        return {number: photo for number, photo in enumerate(pixels) if photo is not None}

    def _encode_photo(self, image, place: str, looks: bool) -> torch.Tensor | None:
        with self.decoded(image, place, decode=looks) as photo:
            return self.processor.encode_images([[photo]])["pixel_values"][0, 0] if looks else None

    def _encode_history(self, history: History, photos: dict[int, torch.Tensor], parameters: Parameters):
        """The processor's `EncodedHistory`. Without a review the text is a profile in which all values are masked."""
        user, views = history.user, history.views
        sees = self.sees._replace(
            images=self.sees.images and not parameters.without_photos,
            captions=self.sees.captions and not parameters.without_captions,
        )
        if not self.processor.has_words(text for view in views for text in view.reviews):
            captions = [text for view in views for text in view.captions] if sees.captions else []
            if not sees.without_reviews or not (photos or self.processor.has_words(captions)):
                others = ["photos"] * self.sees.images + ["captions"] * self.sees.captions
                sources = ["reviews with words"] + others * self.sees.without_reviews
                raise ValueError(f"{user.place}: there is nothing to read; this model takes {' or '.join(sources)}")
        options = {"photos": photos, "without_reviews": True}
        if parameters.explain:
            options |= {"reviews_left_out": len(user.reviews), "photos_left_out": len(user.images)}
            options |= {"most_left_out": MAX_EFFECTS}
        return self.processor.encode_history(sees, views, **options)


def _keep_little_memory():
    with suppress(OSError, AttributeError, TypeError):  # another C library has no such switch, or no need
        ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, KEPT_BLOCK)
    with suppress(AttributeError):  # another Pillow
        Image.core.set_block_size(PHOTO_BLOCK)


def _return_memory():
    """Has what is free go back to the system."""
    with suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


class _Budget:
    """So many pixels at a time, given in turn, so that a large photo's turn comes."""

    def __init__(self, pixels: int):
        self.free, self.turn, self.given_back = pixels, threading.Lock(), threading.Condition()

    @contextmanager
    def take(self, pixels: int) -> Iterator[None]:
        with self.turn, self.given_back:
            self.given_back.wait_for(lambda: self.free >= pixels)
            self.free -= pixels
        try:
            yield
        finally:
            with self.given_back:
                self.free += pixels
                self.given_back.notify_all()


# ---------------------------------------------------------------------------------------------------------------------
# Requests


def read_request(data: Mapping) -> tuple[object, Parameters]:
    """The `inputs` and `parameters` of a request.

    Raises:
        ValueError: if it has other fields or parameters, or there are no users, or too many.
    """
    if not isinstance(data, Mapping) or "inputs" not in data or not set(data) <= {"inputs", "parameters"}:
        given = list(data) if isinstance(data, Mapping) else data
        raise ValueError(f'a request is {{"inputs": ..., "parameters": {{...}}}}, got {_shown(given)}')
    parameters = {} if data.get("parameters") is None else data["parameters"]
    names = [field.name for field in fields(Parameters)]
    if not isinstance(parameters, Mapping) or not set(parameters) <= set(names):
        given = list(parameters) if isinstance(parameters, Mapping) else parameters
        raise ValueError(f"parameters: only {', '.join(names)} are known, got {_shown(given)}")
    inputs = data["inputs"]
    if isinstance(inputs, list) and not 1 <= len(inputs) <= MAX_USERS:
        raise ValueError(f"inputs: a request has 1 to {MAX_USERS} users, got {len(inputs)}")
    return inputs, Parameters(**parameters)


def read_user(item, place: str) -> User:
    """A user of a request.

    Raises:
        ValueError: if it is none, or its texts are too many or too long.
    """
    if isinstance(item, str):
        item = {"reviews": [item]}
    elif isinstance(item, bytes | bytearray | Image.Image):
        item = {"images": [item]}
    if not isinstance(item, Mapping) or not set(item) <= set(USER_FIELDS):
        given = list(item) if isinstance(item, Mapping) else item
        raise ValueError(f"{place}: a user is an object with {', '.join(USER_FIELDS)}, got {_shown(given)}")
    reviews, images, captions = (_list_of(item, name, f"{place}.{name}") for name in USER_FIELDS)
    places = [f"{place}.images[{index}]" for index in range(len(images))]
    own = any(isinstance(review, Mapping) for review in reviews)
    if own:
        if images or captions:
            raise ValueError(f"{place}: images and captions are the user's or the reviews', not both")
        reviews = [_read_review(review, f"{place}.reviews[{number}]") for number, review in enumerate(reviews)]
        for number, review in enumerate(reviews):
            sent = review["images"]
            review["images"] = list(range(len(images), len(images) + len(sent)))
            images = images + sent
            places += [f"{place}.reviews[{number}].images[{index}]" for index in range(len(sent))]
        texts = [text for review in reviews for text in (review["text"], *review["captions"])]
    else:
        _check_texts(reviews, str, f"{place}.reviews")
        _check_texts(captions, str | None, f"{place}.captions")
        texts = reviews + captions
    characters = sum(len(text or "") for text in texts)
    if characters > MAX_CHARACTERS:
        raise ValueError(f"{place}: reviews and captions have up to {MAX_CHARACTERS} characters, got {characters}")
    return User(place, reviews, images, captions, places, own)


def _read_review(item, place: str) -> dict:
    """A review, text or object, as an object with lists of its own."""
    if isinstance(item, str):
        return {"text": item, "images": [], "captions": []}
    if not isinstance(item, Mapping):
        raise ValueError(f"{place}: a text is needed, got {_shown(item)}")
    if not set(item) <= set(REVIEW_FIELDS) or not isinstance(item.get("text"), str):
        given = item.get("text") if set(item) <= set(REVIEW_FIELDS) and "text" in item else list(item)
        raise ValueError(
            f"{place}: a review is a text, or an object with a text and perhaps images and captions, got"
            f" {_shown(given)}"
        )
    images, captions = (_list_of(item, name, f"{place}.{name}") for name in REVIEW_FIELDS[1:])
    _check_texts(captions, str | None, f"{place}.captions")
    if captions and len(captions) != len(images):
        raise ValueError(f"{place}: there are {len(images)} photos and {len(captions)} captions; each has one or none")
    return {"text": item["text"], "images": images, "captions": captions}


def _list_of(item: Mapping, name: str, place: str) -> list:
    """A part of a user or a review, perhaps empty."""
    values = [] if item.get(name) is None else item[name]
    if not isinstance(values, list):
        raise ValueError(f"{place}: a list is needed, got {_shown(values)}")
    if name != "images" and len(values) > MAX_TEXTS:
        raise ValueError(f"{place}: a user has up to {MAX_TEXTS}, got {len(values)}")
    return values


def _check_texts(texts: list, kind: Any, place: str) -> None:
    for index, text in enumerate(texts):
        if not isinstance(text, kind):
            raise ValueError(f"{place}[{index}]: a text is needed, got {_shown(text)}")


def read_photo(image) -> bytes | bytearray | Image.Image:
    """A photo of a request, base64 decoded.

    Raises:
        ValueError: if it is neither base64, bytes nor a PIL image, or too large.
    """
    if isinstance(image, str):
        header = DATA_URL.match(image)
        start = header.end() if header else 0
        # A third more than the bytes; lines of base64 may be broken.
        if len(image) - start > 1.4 * MAX_PHOTO_BYTES:
            raise ValueError(f"a photo has up to {MAX_PHOTO_BYTES} bytes, got {len(image)} characters of base64")
        try:  # in bytes: the words of what is mostly spaces would take twenty times its memory
            image = base64.b64decode(image[start:].encode("ascii").translate(None, b" \t\r\n\f\v"), validate=True)
        except (binascii.Error, ValueError):
            raise ValueError(f"a photo is base64, no URL or path, got {len(image)} characters that are not") from None
    if not isinstance(image, bytes | bytearray | Image.Image):
        raise ValueError(f"a photo is base64, bytes or a PIL image, got {_shown(image)}")
    if not isinstance(image, Image.Image) and len(image) > MAX_PHOTO_BYTES:
        raise ValueError(f"a photo has up to {MAX_PHOTO_BYTES} bytes, got {len(image)}")
    return image


class _Shown(reprlib.Repr):
    def repr_bytes(self, value: bytes, level: int) -> str:
        return f"{len(value)} bytes"

    repr_bytearray = repr_bytes


def _shown(value) -> str:
    """A value of a request in an error: never more than a line of it, and of a file's bytes only their number."""
    text = _Shown().repr(value)
    return text if len(text) <= 80 else text[:76] + " ..."
