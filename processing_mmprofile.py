"""`MMProfileProcessor`: a user's reviews, captions, photos and profile -> tensors, and generated tokens -> profiles.

Shapes: batch = users, seq = tokens of the longest text, images = photos of the user who has most.
"""

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import torch
from PIL import Image
from transformers import BatchFeature, ProcessorMixin

from .configuration_mmprofile import NAME_SEPARATOR, Profile, ProfileSchema
from .images_mmprofile import Photo, load_rgb

REVIEW_PREFIX = "Review:"
CAPTION_PREFIX = "Photo:"
PROFILE_PREFIX = "Profile:"
MASK_TOKEN = "<extra_id_0>"
IGNORED_LABEL = -100  # what torch's cross entropy leaves out


def truncate_evenly(segments: Sequence[list[int]], budget: int) -> list[list[int]]:
    """Cuts the longest segments to one length, the greatest with which all fit in; shorter ones stay whole.

    Args:
        segments: token ids.
        budget: how many tokens there may be in all.
    """
    remaining = budget
    for index, length in enumerate(sorted(map(len, segments))):
        share = remaining // (len(segments) - index)
        if length > share:
            return [segment[:share] for segment in segments]
        remaining -= length
    return list(segments)


class MMProfileProcessor(ProcessorMixin):
    r"""Prepares the model's inputs and labels, and reads profiles from what it generates.

    Args:
        image_processor: any image processor with one size of output.
        tokenizer: a fast tokenizer with T5's sentinel `<extra_id_0>`, which appends `</s>`.
        profile_schema: `ProfileSchema`, or its list of attributes; default: the paper's six.
        max_text_tokens: the most tokens of a user's text, `</s>` included (paper, section 6.1: 600).
        max_images: the most photos of a user.
        max_image_pixels: the most pixels of a photo, checked before it is decoded.

    Raises:
        ValueError: if the tokenizer lacks the sentinel, padding or `</s>` or cannot spell the schema, the schema is
            not valid, or a limit is not a positive integer.
    """

    def __init__(
        self,
        image_processor,
        tokenizer,
        profile_schema: ProfileSchema | list | None = None,
        max_text_tokens: int = 600,
        max_images: int = 30,
        max_image_pixels: int = 64_000_000,
    ):
        super().__init__(image_processor, tokenizer)
        if not isinstance(profile_schema, ProfileSchema):
            profile_schema = ProfileSchema(None if profile_schema is None else tuple(profile_schema))
        self.profile_schema = profile_schema
        self.max_text_tokens = _positive("max_text_tokens", max_text_tokens)
        self.max_images = _positive("max_images", max_images)
        self.max_image_pixels = _positive("max_image_pixels", max_image_pixels)
        if tokenizer.convert_tokens_to_ids(MASK_TOKEN) in (None, tokenizer.unk_token_id):
            raise ValueError(f"the tokenizer needs T5's sentinel {MASK_TOKEN}, got {type(tokenizer).__name__} without")
        if tokenizer.pad_token_id is None or tokenizer("").input_ids != [tokenizer.eos_token_id]:
            raise ValueError(
                f"the tokenizer must have a padding token and append </s>, got {type(tokenizer).__name__}"
            )
        _check_spelling(tokenizer, profile_schema)
        # A text may hold unknown words, but no other special token.
        self._special_ids = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
        self._special_ids = self._special_ids.union(tokenizer.all_special_ids) - {tokenizer.unk_token_id}

    def __call__(
        self,
        reviews: list | None = None,
        images: list | None = None,
        captions: list | None = None,
        profiles: Mapping | list | None = None,
        masked: Collection | None = None,
        targets: Mapping | list | None = None,
        max_text_tokens: int | None = None,
        return_tensors: str = "pt",
    ) -> BatchFeature:
        """The model's inputs for one user, or for a batch of users, where each argument is a list of theirs.

        Args:
            reviews: the user's reviews, texts. A batch: a list of such lists.
            images: the user's photos, each as `load_image` takes it.
            captions: captions of photos; None and blank ones are left out.
            profiles: a profile that is part of the text (the paper's masked profile, section 5.1).
            masked: the keys of this profile's attributes that are masked.
            targets: the profile to generate: labels.
            max_text_tokens: another limit than the processor's.
            return_tensors: "pt" or "np".

        Returns:
            `input_ids`, `attention_mask` (batch, seq); `pixel_values` (batch, images, 3, height, width) and
            `image_mask` (batch, images), both left out where no user has a photo; `labels` (batch, label seq), padded
            with -100, where `targets` are given. Always with a batch dimension.

        Raises:
            ValueError: if a user has neither a review with a word in it nor a profile, the arguments' lengths differ,
                or an entry is not valid.
        """
        one, users = _count_users(reviews, profiles)
        arguments = {"reviews": reviews, "captions": captions, "profiles": profiles, "masked": masked}
        columns = [_per_user(name, values, one, users) for name, values in arguments.items()]
        texts = []
        for index, (stories, notes, profile, keys) in enumerate(zip(*columns, strict=True)):
            if profile is None and not _clean_texts("review", stories or ()):
                raise ValueError(f"user {index} needs a review with words, or a profile, got {stories!r}")
            texts.append(self.encode_text(stories or (), notes or (), profile, keys or (), max_text_tokens))
        data = self.pad_text(texts)
        if images is not None:
            data |= self.encode_images(_per_user("images", images, one, users))
        if targets is not None:
            data["labels"] = self.encode_targets(_per_user("targets", targets, one, users))
        return BatchFeature(data, tensor_type=return_tensors)

    def encode_text(
        self,
        reviews: Sequence[str] = (),
        captions: Sequence[str | None] = (),
        profile: Mapping | None = None,
        masked: Collection[str] = (),
        max_text_tokens: int | None = None,
    ) -> list[int]:
        """One user's token ids: profile, reviews and captions, each tokenised by itself, and `</s>`.

        A text that is too long has its longest reviews cut to one length; where captions and profile alone are too
        long, no review is left and the captions are cut in the same way. Special tokens that are spelled in a review
        or caption are left out, the mask in captions apart.

        Raises:
            ValueError: if a text is not a str, the profile or `masked` is not valid, or the profile alone is too long.
        """
        limit = self.max_text_tokens if max_text_tokens is None else _positive("max_text_tokens", max_text_tokens)
        reviews, captions = _clean_texts("review", reviews), _clean_texts("caption", captions)
        review_ids = self._tokenize(REVIEW_PREFIX, reviews, self._special_ids)
        special_ids = self._special_ids - {self.tokenizer.convert_tokens_to_ids(MASK_TOKEN)}
        caption_ids = self._tokenize(CAPTION_PREFIX, captions, special_ids)
        profile_ids = []
        if profile is not None:
            text = self.profile_schema.render(profile, masked, MASK_TOKEN)
            profile_ids = self._tokenize(PROFILE_PREFIX, [text], special_ids)
        elif masked:
            raise ValueError(f"masked={masked!r} needs a profile, got None")
        budget = limit - 1 - sum(map(len, profile_ids))
        if budget < 0:
            raise ValueError(f"a profile of {limit - budget} tokens does not fit in max_text_tokens={limit}")
        caption_ids = truncate_evenly(caption_ids, budget)
        review_ids = truncate_evenly(review_ids, budget - sum(map(len, caption_ids)))
        segments = profile_ids + review_ids + caption_ids
        return [token for segment in segments for token in segment] + [self.tokenizer.eos_token_id]

    def pad_text(self, token_ids: list[list[int]]) -> dict[str, torch.Tensor]:
        """`input_ids` and `attention_mask` (batch, seq), int64, padded on the right."""
        mask = [[1] * len(row) for row in token_ids]
        return {"input_ids": _pad(token_ids, self.tokenizer.pad_token_id), "attention_mask": _pad(mask, 0)}

    def encode_targets(self, profiles: Sequence[Mapping]) -> torch.Tensor:
        """Labels (batch, seq): each profile's text and `</s>`, padded with -100.

        Raises:
            ValueError: if a profile is not valid.
        """
        texts = [self.profile_schema.render(profile) for profile in profiles]
        return _pad(self.tokenizer(texts).input_ids, IGNORED_LABEL)

    def encode_images(self, images: Sequence[Sequence | None]) -> dict[str, torch.Tensor]:
        """`pixel_values` (batch, images, 3, height, width), zeros where there is no photo, and `image_mask`
        (batch, images), True for a photo. Without any photo: an empty dict.

        Raises:
            ValueError: if a user has more than `max_images` photos, or a photo cannot be read.
        """
        users = [() if photos is None else photos for photos in images]
        for index, photos in enumerate(users):
            if not isinstance(photos, list | tuple):
                raise ValueError(f"user {index}'s photos must be a list, got {type(photos).__name__}")
            if len(photos) > self.max_images:
                raise ValueError(f"user {index} has {len(photos)} photos, more than max_images={self.max_images}")
        # One at a time: decoded photos are large, the processed ones small.
        pixels = [self._pixels(self.load_image(photo)) for photos in users for photo in photos]
        if not pixels:
            return {}
        counts = torch.tensor([len(photos) for photos in users])
        image_mask = torch.arange(int(counts.max())) < counts[:, None]  # (batch, images)
        pixel_values = torch.zeros(*image_mask.shape, *pixels[0].shape)
        pixel_values[image_mask] = torch.stack(pixels)
        return {"pixel_values": pixel_values, "image_mask": image_mask}

    def load_image(self, image: Photo) -> Image.Image:
        """A photo as an upright RGB image; see `load_rgb` for what it may be.

        Raises:
            ValueError: if it cannot be read, or has more than `max_image_pixels`.
        """
        return load_rgb(image, self.max_image_pixels)

    def decode_profiles(self, token_ids: torch.Tensor | np.ndarray | list, strict: bool = False) -> list[Profile]:
        """Generated token ids or labels (batch, seq) -> profiles.

        Args:
            token_ids: special tokens and padding, also that of labels, do not matter.
            strict: if False, an attribute that was not understood is None; if True, it is an error.

        Raises:
            ValueError: if `strict` and a text is no valid profile's, or the ids are no batch.
        """
        if isinstance(token_ids, torch.Tensor | np.ndarray):
            token_ids = token_ids.tolist()
        if not all(isinstance(row, list | tuple) for row in token_ids):
            raise ValueError(f"token ids have the shape (batch, seq), got {token_ids!r}")
        rows = [[token for token in row if token >= 0] for row in token_ids]
        texts = self.tokenizer.batch_decode(rows, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return [self.profile_schema.parse(text, strict) for text in texts]

    @property
    def black(self) -> torch.Tensor:
        """The value (3,) in `pixel_values` of a black pixel, which the image processor has normalised."""
        pixels = self._pixels(Image.new("RGB", (32, 32)))
        return pixels[:, pixels.shape[1] // 2, pixels.shape[2] // 2]

    @property
    def mask_token(self) -> str:
        """What a masked value or caption word is replaced by: T5's first sentinel, the paper's `<mask>`."""
        return MASK_TOKEN

    @property
    def model_input_names(self) -> list[str]:
        return ["input_ids", "attention_mask", "pixel_values", "image_mask"]

    def to_dict(self) -> dict:
        return super().to_dict() | {"profile_schema": self.profile_schema.to_list()}

    def _tokenize(self, prefix: str, texts: list[str], left_out: set[int]) -> list[list[int]]:
        """Token ids of each text behind the prefix, without those of special tokens that are spelled in it."""
        if not texts:
            return []
        texts = [f"{prefix} {text}" for text in texts]
        rows = self.tokenizer(texts, add_special_tokens=False, verbose=False).input_ids
        return [[token for token in row if token not in left_out] for row in rows]

    def _pixels(self, image: Image.Image) -> torch.Tensor:
        """(3, height, width), float32: without rescaling and normalisation an image processor gives bytes."""
        return self.image_processor(image, return_tensors="pt")["pixel_values"][0].float()


def _positive(name: str, value: int) -> int:
    if type(value) is not int or value < 1:
        raise ValueError(f"{name} is a positive integer, got {value!r}")
    return value


def _check_spelling(tokenizer, schema: ProfileSchema) -> None:
    """A value of which the tokenizer does not know a letter could be neither learned nor read back."""
    texts = [a.name + NAME_SEPARATOR + value for a in schema.attributes for value in a.values]
    rows = tokenizer(texts).input_ids
    spelled = tokenizer.batch_decode(rows, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    if wrong := [(text, read) for text, read in zip(texts, spelled, strict=True) if text != read]:
        raise ValueError(f"the tokenizer reads {wrong[0][0]!r} of the schema back as {wrong[0][1]!r}")


def _count_users(reviews: list | None, profiles: Mapping | list | None) -> tuple[bool, int]:
    """Whether the arguments of a call are one user's rather than a batch's, and the number of users."""
    if reviews is not None and not isinstance(reviews, list | tuple):
        raise ValueError(f"reviews are a list of texts, or of such lists, got {type(reviews).__name__}: {reviews!r}")
    if reviews is None and not isinstance(profiles, Mapping | list | tuple):
        raise ValueError(f"reviews or profiles are needed, got reviews=None and profiles={profiles!r}")
    if reviews:
        batched = any(isinstance(review, list | tuple) for review in reviews)
    else:
        batched = isinstance(profiles, list | tuple)
    return not batched, len(reviews or profiles) if batched else 1


def _per_user(name: str, values, one: bool, users: int) -> list:
    if one or values is None:
        return [values] * users
    if not isinstance(values, list | tuple) or len(values) != users:
        given = len(values) if isinstance(values, list | tuple) else type(values).__name__
        raise ValueError(f"{name} must be a list with one entry for each of {users} users, got {given}")
    return list(values)


def _clean_texts(kind: str, texts: Sequence[str | None]) -> list[str]:
    """The texts with single blanks between words, those left out that have no words; a caption may be None."""
    if not isinstance(texts, list | tuple):
        raise ValueError(f"a user's {kind}s are a list of texts, got {type(texts).__name__}: {texts!r}")
    cleaned = []
    for text in texts:
        if not isinstance(text, str) and not (text is None and kind == "caption"):
            raise ValueError(f"a {kind} is a text, got {type(text).__name__}: {text!r}")
        # Half of a surrogate pair, as JSON cut in the middle of an emoji leaves it, is no text for the tokenizer.
        cleaned.append(" ".join((text or "").encode("utf-8", "replace").decode("utf-8").split()))
    return [text for text in cleaned if text]


def _pad(rows: Sequence[Sequence[int]], value: int) -> torch.Tensor:
    """(batch, seq), int64, padded on the right."""
    if not rows:
        raise ValueError(f"a batch has at least one user, got {rows!r}")
    length = max(map(len, rows))
    return torch.tensor([[*row, *[value] * (length - len(row))] for row in rows], dtype=torch.int64)


MMProfileProcessor.register_for_auto_class()
