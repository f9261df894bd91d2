"""Answers requests for profiles: the custom handler of Hugging Face's Inference Endpoints.

    {"inputs": {"reviews": ["Great pizza."], "images": ["<base64>"], "captions": ["a pizza"]},
     "parameters": {"num_return_profiles": 3, "without_photos": true}}

`inputs` is a user or a list of users. A user is such a dict, of which any part may be left out; a text, which is one
review; or a photo, as the server makes one of an image that is the body of a request. A photo is base64, with or
without `data:image/...;base64,` before it, bytes or a PIL image: no URL is fetched and no path opened.

What is wrong with a request is raised as a ValueError, which the server turns into status 400 and
`{"error": "inputs[1].images[0]: ..."}`. Calls may come from any number of threads.
"""

import base64
import binascii
import ctypes
import re
import reprlib
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields
from typing import Any

import torch
from PIL import Image
from transformers import AutoModelForSeq2SeqLM, AutoProcessor
from transformers.utils.versions import require_version

TRANSFORMERS = "transformers>=5.23,<6"  # as in requirements.txt
# What one request may ask for.
MAX_USERS = 16
MAX_TEXTS = 200  # reviews, or captions, of a user
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


@dataclass(frozen=True)
class Parameters:
    """The `parameters` of a request.

    Args:
        num_return_profiles: explore at least so many profiles; those behind the best are the `runners_up`.
        min_coverage: explore until the profiles have this share of the probability mass, 0 to 1.
        min_precision: the share of values, above 0 and below 1, that are to be right where one is decided.
        without_photos: answer as if there were none.
        without_captions: answer as if there were none.

    Raises:
        ValueError: if a value does not fit.
    """

    num_return_profiles: int = 5
    min_coverage: float = 0.0
    min_precision: float | None = None
    without_photos: bool = False
    without_captions: bool = False

    def __post_init__(self):
        number = self.num_return_profiles
        if type(number) is not int or not 1 <= number <= MAX_PROFILES:
            raise ValueError(f"num_return_profiles is an integer from 1 to {MAX_PROFILES}, got {_shown(number)}")
        if type(self.min_coverage) not in (int, float) or not 0 <= self.min_coverage <= 1:
            raise ValueError(f"min_coverage is a number from 0 to 1, got {_shown(self.min_coverage)}")
        precision = self.min_precision
        if precision is not None and (type(precision) not in (int, float) or not 0 < precision < 1):
            raise ValueError(f"min_precision is a number above 0 and below 1, got {_shown(precision)}")
        for name in ("without_photos", "without_captions"):
            if type(getattr(self, name)) is not bool:
                raise ValueError(f"{name} is true or false, got {_shown(getattr(self, name))}")

    @property
    def search(self) -> dict:
        """Arguments of the model's `profile_users`."""
        given = {name: value for name, value in asdict(self).items() if value is not None}
        options = {name: value for name, value in given.items() if not name.startswith("without_")}
        return options | {"max_calls": MAX_DECODER_CALLS}


@dataclass(frozen=True)
class User:
    """What a request holds of a user, photos not yet decoded; `place` is where it stands, for errors."""

    place: str
    reviews: list[str]
    images: list
    captions: list[str | None]


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
        """The processor and the model, by the code that came with them."""
        hub = {"revision": revision, "trust_remote_code": True}
        return AutoProcessor.from_pretrained(path, **hub), AutoModelForSeq2SeqLM.from_pretrained(path, **hub)

    def __call__(self, data: Mapping) -> dict | list[dict]:
        """The answer for a user, or a list of answers for a list of users, as JSON has them.

        Args:
            data: `{"inputs": ..., "parameters": {...}}`, the second optional, see above and `Parameters`.

        Returns:
            For each user `profile` (attribute key -> value or list of values), its `text`, `log_probability` and
            whether it is `exact`, proved the most probable; with `min_precision`, `decided`, the profile with None for
            what is not sure enough; `probabilities` (key -> value -> probability); the share `coverage` of the
            probability mass that the profiles explored have; `runners_up`; `image_weights`, a number for each photo
            sent, 0 for one that is not looked at (None with `fusion="concat"`); the mean `gate`; and `tokens_left_out`
            of a text that was too long, with a sentence in `problems`. Of several users, one of whom the model
            computes what is not finite has a sentence in `error` in place of a profile.

        Raises:
            ValueError: if the request is not valid or asks for too much, or a single user's numbers are not finite; it
                says where and why.
        """
        inputs, parameters = read_request(data)
        many = isinstance(inputs, list)
        places = [f"inputs[{index}]" for index in range(len(inputs))] if many else ["inputs"]
        users = [read_user(item, place) for item, place in zip(inputs if many else [inputs], places, strict=True)]
        self._check_photos(users)
        photos = [self._encode_photos(user, parameters) for user in users]
        texts, answers = self._running.submit(self._profile, users, photos, parameters).result()
        for user, text, answer in zip(users, texts, answers, strict=True):
            answer |= text.shortening
            if "error" in answer and not many:
                raise ValueError(f"{user.place}: {answer['error']}")
            if answer.get("image_weights") == []:
                answer["image_weights"] = [0.0] * len(user.images)
        return answers if many else answers[0]

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

    def _profile(self, users: list[User], photos: list[torch.Tensor | None], parameters: Parameters):
        texts = [self._encode_text(user, parameters) for user in users]
        encoded = [{"input_ids": text.ids, "pixel_values": pixels} for text, pixels in zip(texts, photos, strict=True)]
        batch = self.processor.pad_users(encoded)
        return texts, self.model.profile_users(batch, self.processor.tokenizer, **parameters.search)

    def _check_photos(self, users: list[User]):
        """Their numbers, before any is decoded."""
        for user in users:
            if len(user.images) > self.processor.max_images:
                raise ValueError(
                    f"{user.place}.images: a user has up to {self.processor.max_images} photos, got {len(user.images)}"
                )
        total = sum(len(user.images) for user in users)
        if total > MAX_PHOTOS:
            raise ValueError(f"inputs: a request has up to {MAX_PHOTOS} photos, got {total}")

    def _encode_photos(self, user: User, parameters: Parameters) -> torch.Tensor | None:
        """(images, 3, height, width), None where the model looks at no photo."""
        looks = self.sees.images and not parameters.without_photos
        places = [f"{user.place}.images[{index}]" for index in range(len(user.images))]
        pixels = [self._encode_photo(image, place, looks) for image, place in zip(user.images, places, strict=True)]
        seen = [photo for photo in pixels if photo is not None]
        return torch.stack(seen) if seen else None

    def _encode_photo(self, image, place: str, looks: bool) -> torch.Tensor | None:
        with self.decoded(image, place, decode=looks) as photo:
            return self.processor.encode_images([[photo]])["pixel_values"][0, 0] if looks else None

    def _encode_text(self, user: User, parameters: Parameters):
        """The processor's `EncodedText`.

        Without a review the text is a profile in which all values are masked: such texts, beside photos or captions,
        are what the model was trained on by the objective `mask_profile` (section 5.1).
        """
        captions = [] if parameters.without_captions or not self.sees.captions else user.captions
        if self.processor.has_words(user.reviews):
            return self.processor.encode_sections(user.reviews, captions)
        looks = user.images and self.sees.images and not parameters.without_photos
        if not self.sees.without_reviews or not (looks or self.processor.has_words(captions)):
            others = ["photos"] * self.sees.images + ["captions"] * self.sees.captions
            sources = ["reviews with words"] + others * self.sees.without_reviews
            raise ValueError(f"{user.place}: there is nothing to read; this model takes {' or '.join(sources)}")
        schema = self.processor.profile_schema
        profile = {a.key: list(a.values[: a.count]) if a.count > 1 else a.values[0] for a in schema.attributes}
        return self.processor.encode_sections((), captions, profile, masked=schema.keys)


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
    lists: dict[str, Any] = {name: [] if item.get(name) is None else item[name] for name in USER_FIELDS}
    for name, values in lists.items():
        if not isinstance(values, list):
            raise ValueError(f"{place}.{name}: a list is needed, got {_shown(values)}")
        if name != "images" and len(values) > MAX_TEXTS:
            raise ValueError(f"{place}.{name}: a user has up to {MAX_TEXTS}, got {len(values)}")
    for name, kinds in (("reviews", str), ("captions", str | None)):
        for index, text in enumerate(lists[name]):
            if not isinstance(text, kinds):
                raise ValueError(f"{place}.{name}[{index}]: a text is needed, got {_shown(text)}")
    characters = sum(len(text or "") for text in lists["reviews"] + lists["captions"])
    if characters > MAX_CHARACTERS:
        raise ValueError(f"{place}: reviews and captions have up to {MAX_CHARACTERS} characters, got {characters}")
    return User(place, **lists)


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
