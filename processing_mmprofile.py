"""`MMProfileProcessor`: a user's reviews, captions, photos and profile -> tensors, and generated tokens -> profiles.

Shapes: batch = users, seq = tokens of the longest text, images = photos of the user who has most.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Unpack

import numpy as np
import torch
from huggingface_hub.errors import StrictDataclassError
from PIL import Image
from transformers import BatchFeature, ProcessorMixin
from transformers.processing_utils import ImagesKwargs, TextKwargs

from .configuration_mmprofile import NAME_SEPARATOR, Profile, ProfileSchema, Sees
from .images_mmprofile import OpenedPhoto, Photo, load_rgb, open_photo
from .sections_mmprofile import EncodedText, SectionTokenizer
from .texts_mmprofile import (
    MASK_TOKEN,
    SECTION_MARKS,
    clean_text,
    count_users,
    padded_length,
    positive,
    shown,
    shows_something,
    special_tokens,
    users_of_text,
)
from .user_deletions_mmprofile import EncodedHistory, encode_deletions
from .user_histories_mmprofile import UserView, split_reviews, user_views

IGNORED_LABEL = -100  # what torch's cross entropy leaves out
# Of a call's options those that are read, and what others may say, as it is so in any case; the rest may say no.
READ_OPTIONS = {"padding", "max_length", "pad_to_multiple_of", "return_tensors"}
FIXED_OPTIONS = {
    "add_special_tokens": (True,),
    "padding_side": ("right",),
    "return_attention_mask": (True,),
    "truncation": (True, "longest_first"),
    "verbose": (True, False),
    "data_format": ("channels_first",),
    "input_data_format": ("channels_last",),
}


class CallOptions(TextKwargs, ImagesKwargs, total=False):
    """What a call takes beside its inputs, in transformers' words: alone, or in a dict of their kind.

    Those of `ImagesKwargs` are the image processor's. Of `TextKwargs` these are read: `padding` (True or "longest",
    "max_length", or False where the texts are of one length), `max_length` (the most tokens of a text, in place of
    `max_text_tokens`, and what "max_length" pads to), `pad_to_multiple_of`, and `return_tensors` ("pt" or "np").
    """

    text_kwargs: TextKwargs
    images_kwargs: ImagesKwargs
    common_kwargs: dict


class MMProfileProcessor(ProcessorMixin):
    r"""Prepares the model's inputs and labels, and reads profiles from what it generates.

    Args:
        image_processor: any image processor with one size of output.
        tokenizer: a fast tokenizer with T5's sentinels, which appends `</s>`.
        profile_schema: `ProfileSchema`, or its list of attributes; default: the paper's six.
        max_text_tokens: the most tokens of a user's text, `</s>` included (paper, section 6.1: 600).
        max_images: the most photos of a user; of one whose history is read in views, of each view.
        max_image_pixels: the most pixels of a photo, checked before it is decoded.
        section_marks: what begins a review, a caption and a profile in the text, see `SECTION_MARKS`: "sentinels",
            which no user's text can imitate, or "words", the form of checkpoints whose settings name none.

    Raises:
        ValueError: if the tokenizer lacks a sentinel, padding or `</s>` or cannot spell the schema, the schema is not
            valid, the section marks are of another form, or a limit is not a positive integer.
    """

    profile_schema: ProfileSchema
    text_kwargs: TextKwargs = {"padding": True, "return_tensors": "pt"}

    def __init__(
        self,
        image_processor,
        tokenizer,
        profile_schema: ProfileSchema | list | None = None,
        max_text_tokens: int = 600,
        max_images: int = 30,
        max_image_pixels: int = 64_000_000,
        section_marks: str = "sentinels",
    ):
        super().__init__(image_processor, tokenizer)
        self.profile_schema = ProfileSchema(profile_schema)
        self.max_text_tokens = positive("max_text_tokens", max_text_tokens)
        self.max_images = positive("max_images", max_images)
        self.max_image_pixels = positive("max_image_pixels", max_image_pixels)
        if section_marks not in SECTION_MARKS:
            raise ValueError(f"section_marks must be one of {list(SECTION_MARKS)}, got {section_marks!r}")
        self.section_marks = section_marks
        for token in (MASK_TOKEN, *(SECTION_MARKS["sentinels"].values() if section_marks == "sentinels" else ())):
            if tokenizer.convert_tokens_to_ids(token) in (None, tokenizer.unk_token_id):
                raise ValueError(f"the tokenizer needs T5's sentinel {token}, got {type(tokenizer).__name__} without")
        if tokenizer.pad_token_id is None or tokenizer("").input_ids != [tokenizer.eos_token_id]:
            raise ValueError(
                f"the tokenizer must have a padding token and append </s>, got {type(tokenizer).__name__}"
            )
        _check_spelling(tokenizer, self.profile_schema)

    @classmethod
    def from_args_and_dict(cls, args, processor_dict: dict, **kwargs):
        """Settings that were saved before sections had marks of their own stand for words."""
        if "profile_schema" in processor_dict:
            processor_dict = {"section_marks": "words"} | processor_dict
        return super().from_args_and_dict(args, processor_dict, **kwargs)

    def __setattr__(self, name, value):
        super().__setattr__(name, ProfileSchema(value) if name == "profile_schema" else value)

    def __call__(
        self,
        images=None,
        text: str | list[str] | None = None,
        *,
        reviews: list | None = None,
        captions: list | None = None,
        profiles: Mapping | list | None = None,
        masked: Collection | None = None,
        targets: Mapping | list | None = None,
        **options: Unpack[CallOptions],
    ) -> BatchFeature:
        """The model's inputs for one user, or for a batch of users, where each argument is a list of theirs.

        Args:
            images: the user's photos, each as `load_image` takes it.
            text: in place of `reviews`, as transformers' own pipelines have it: one review, or a list of one for each
                user. `images` may then be a photo of the one user, or a list of one, or of a list, for each.
            reviews: the user's reviews, texts. A batch: a list of such lists.
            captions: captions of photos; None and blank ones are left out.
            profiles: a profile that is part of the text (the paper's masked profile, section 5.1).
            masked: the keys of this profile's attributes that are masked.
            targets: the profile to generate: labels.
            options: of `CallOptions`. The tokenizer's own `padding`, `max_length` to pad to, and `pad_to_multiple_of`
                hold where a call gives none.

        Returns:
            `input_ids`, `attention_mask` (batch, seq); `pixel_values` (batch, images, 3, height, width) and
            `image_mask` (batch, images), both left out where no user has a photo; `labels` (batch, label seq), padded
            with -100, where `targets` are given. Always with a batch dimension.

        Raises:
            TypeError: if an option is unknown.
            ValueError: if a user has neither a review with a word in it nor a profile, the arguments' lengths differ,
                or an entry or an option is not valid.
        """
        if text is not None:
            if reviews is not None:
                raise ValueError(
                    f"text stands in place of reviews, got reviews={shown(reviews)} and text={shown(text)}"
                )
            reviews, images = users_of_text(text, images)
        text_options, image_options = self._read_options(options)
        one, users = count_users(reviews, profiles)
        arguments = {"reviews": reviews, "captions": captions, "profiles": profiles, "masked": masked}
        columns = [_per_user(name, values, one, users) for name, values in arguments.items()]
        texts, limit = [], self._limit(text_options["limit"])
        for index, (stories, notes, profile, keys) in enumerate(zip(*columns, strict=True)):
            reader = SectionTokenizer(self.tokenizer, self.section_marks, limit)
            encoded = self._encode(reader, limit, stories or (), notes or (), profile, keys or ())
            if profile is None and not encoded.reviews[1]:
                raise ValueError(f"user {index} needs a review with words, or a profile, got {shown(stories)}")
            texts.append(encoded.ids)
        data = self.pad_text(texts, padded_length(texts, text_options, self.max_text_tokens))
        if images is not None:
            data |= self.encode_images(_per_user("images", images, one, users), **image_options)
        if targets is not None:
            data["labels"] = self.encode_targets(_per_user("targets", targets, one, users))
        return BatchFeature(data, tensor_type=text_options["return_tensors"])

    def encode_text(
        self,
        reviews: Sequence[str] = (),
        captions: Sequence[str | None] = (),
        profile: Mapping | None = None,
        max_text_tokens: int | None = None,
        **more,
    ) -> list[int]:
        """One user's token ids; all arguments are those of `encode_sections`."""
        text = {"reviews": reviews, "captions": captions, "profile": profile, **more}
        return self.encode_texts([text], max_text_tokens)[0]

    def encode_texts(self, texts: Iterable[Mapping], max_text_tokens: int | None = None) -> list[list[int]]:
        """Token ids of several texts of one user. What they share is tokenised once, and of a very long review no more
        than can be kept.

        Args:
            texts: arguments of `encode_sections` by name, for each text, but `max_text_tokens`.

        Raises:
            ValueError: as of `encode_sections`.
        """
        limit = self._limit(max_text_tokens)
        reader = SectionTokenizer(self.tokenizer, self.section_marks, limit)
        return [self._encode(reader, limit, **text).ids for text in texts]

    def encode_sections(
        self,
        reviews: Sequence[str] = (),
        captions: Sequence[str | None] = (),
        profile: Mapping | None = None,
        masked: Collection[str] = (),
        max_text_tokens: int | None = None,
        keep_masks: bool = False,
    ) -> EncodedText:
        """One user's text: profile, reviews and captions, each tokenised by itself behind a mark, and `</s>`.

        In a text that is too long reviews and captions are shortened, see `share_tokens`, a profile never. Special
        tokens that are spelled in a review or caption are left out, and a text that then shows nothing is none.

        Args:
            keep_masks: the captions are masked ones, in which the mask stays.

        Raises:
            ValueError: if a text is not a str, the profile or `masked` is not valid, or the profile alone is too long.
        """
        reader = SectionTokenizer(self.tokenizer, self.section_marks)
        return self._encode(reader, self._limit(max_text_tokens), reviews, captions, profile, masked, keep_masks)

    def _limit(self, max_text_tokens: int | None) -> int:
        return self.max_text_tokens if max_text_tokens is None else positive("max_text_tokens", max_text_tokens)

    def _encode(
        self,
        reader: SectionTokenizer,
        limit: int,
        reviews: Sequence[str] = (),
        captions: Sequence[str | None] = (),
        profile: Mapping | None = None,
        masked: Collection[str] = (),
        keep_masks: bool = False,
    ) -> EncodedText:
        text = None
        if profile is not None:
            text = self.profile_schema.render(profile, masked, MASK_TOKEN)
        elif masked:
            raise ValueError(f"masked={masked!r} needs a profile, got None")
        return reader.encode(reviews, captions, text, limit, keep_masks)

    def has_words(self, texts: Iterable[str | None]) -> bool:
        """Whether there is anything to read in the texts, as `encode_text` reads them."""
        special = special_tokens(self.tokenizer)
        return any(shows_something(clean_text(text), special) for text in texts)

    def pad_text(self, token_ids: list[list[int]], length: int = 0) -> dict[str, torch.Tensor]:
        """`input_ids` and `attention_mask` (batch, seq), int64, padded on the right; seq is at least `length`."""
        rows = [torch.tensor([row], dtype=torch.int64) for row in token_ids]
        return {
            "input_ids": join_padded(rows, self.tokenizer.pad_token_id, length),
            "attention_mask": join_padded([torch.ones_like(row) for row in rows], 0, length),
        }

    def encode_user(
        self,
        sees: Sees,
        reviews: Sequence[str],
        images: Sequence = (),
        captions: Sequence[str | None] = (),
        max_text_tokens: int | None = None,
    ) -> dict:
        """What a model sees of one user.

        Args:
            sees: the model's `config.sees`; what it does not is left out.
            reviews: at least one with a word in it.
            images: as `load_image` takes them.
            captions: of the photos; None and blank ones are left out.
            max_text_tokens: another limit than the processor's.

        Returns:
            `input_ids`, a list of int; `pixel_values` (images, 3, height, width), None without photos; and
            `tokens_left_out`, how many did not fit in, with `problems`, which says so in a sentence.

        Raises:
            ValueError: if there is no review with a word in it, there are too many photos, or an entry is not valid.
        """
        view = UserView(list(reviews), list(images), list(captions), list(range(len(images))))
        encoded = self._encode_view(
            SectionTokenizer(self.tokenizer, self.section_marks), sees, view, {}, max_text_tokens
        )
        if encoded is None:
            raise ValueError(f"a user needs a review with words, got {shown(list(reviews))}")
        del encoded["positions"]
        return encoded

    def _encode_view(
        self,
        reader: SectionTokenizer,
        sees: Sees,
        view: UserView,
        photos: dict[int, torch.Tensor],
        max_text_tokens: int | None,
        masked_profile: bool = False,
    ) -> dict | None:
        """A row of `encode_history`; None where no review has a word, or with `masked_profile`, a text in which all
        values are masked, there is neither a photo nor a caption."""
        captions = view.captions if sees.captions else ()
        masked = self._masked_profile if masked_profile else {}
        text = self._encode(reader, self._limit(max_text_tokens), view.reviews, captions, **masked)
        looks = bool(view.positions) and sees.images
        if not (text.captions[1] or looks if masked_profile else text.reviews[1]):
            return None
        pixels = None
        if looks:
            if any(position not in photos for position in view.positions):
                seen = self.encode_images([view.images])["pixel_values"][0]
                photos.update(zip(view.positions, seen, strict=True))
            pixels = torch.stack([photos[position] for position in view.positions])
        positions = list(view.positions) if looks else []
        return {"input_ids": text.ids, "pixel_values": pixels, "positions": positions, **text.shortening}

    @property
    def _masked_profile(self) -> dict:
        schema = self.profile_schema
        profile = {a.key: list(a.values[: a.count]) if a.count > 1 else a.values[0] for a in schema.attributes}
        return {"profile": profile, "masked": schema.keys}

    def cut_views(
        self,
        reviews: Sequence,
        images: Sequence = (),
        captions: Sequence[str | None] = (),
        *,
        num_reviews: int,
        views: int | None = None,
        draws: int = 0,
    ) -> list[UserView]:
        """A user's history, cut in views, see `user_views`; arguments and errors as of `encode_views`, and `draws`, so
        many further views of reviews drawn at random."""
        photos_of = None
        if (split := split_reviews(reviews)) is not None:
            if images or captions:
                raise ValueError("images and captions are the user's or the reviews', not both")
            reviews, images, captions, photos_of = split
        return user_views(reviews, images, captions, photos_of, num_reviews, views, draws)

    def encode_views(
        self,
        sees: Sees,
        reviews: Sequence,
        images: Sequence = (),
        captions: Sequence[str | None] = (),
        *,
        num_reviews: int,
        views: int | None = None,
        max_text_tokens: int | None = None,
    ) -> list[dict]:
        """What a model sees of one user's history, view by view, see `user_views`.

        Args:
            sees, max_text_tokens: as of `encode_user`.
            reviews: newest first, texts or objects with photos of their own, see `split_reviews`.
            images, captions: of a user whose reviews have none of their own; they are dealt out to the views.
            num_reviews: of a view.
            views: so many at most, the newest; None: the whole history.

        Returns:
            For each view what `encode_user` returns, and `positions`, of its photos among all of the user's. A view
            without a word is left out, and another's `problems` say so.

        Raises:
            ValueError: as of `encode_user` and `split_reviews`, or both user and reviews have photos.
        """
        cut = self.cut_views(reviews, images, captions, num_reviews=num_reviews, views=views)
        return self.encode_history(sees, cut, max_text_tokens).rows

    def encode_history(
        self,
        sees: Sees,
        views: Sequence[UserView],
        max_text_tokens: int | None = None,
        *,
        photos: dict[int, torch.Tensor] | None = None,
        without_reviews: bool = False,
        reviews_left_out: int = 0,
        photos_left_out: int = 0,
        most_left_out: int | None = None,
    ) -> EncodedHistory:
        """What a model sees of one user's views, and of the user without one of the reviews or photos.

        Args:
            sees, max_text_tokens: as of `encode_user`.
            views: of `cut_views`.
            photos: position among the user's photos -> (3, height, width), of those that are encoded already; others
                are added.
            without_reviews: where no review has a word, the text is a profile in which all values are masked: such
                texts, beside photos or captions, are what the objective `mask_profile` trains on (section 5.1).
            reviews_left_out, photos_left_out, most_left_out: `reviews`, `photos` and `most` of `encode_deletions`.

        Raises:
            ValueError: as of `encode_views`.
        """
        reader, photos = SectionTokenizer(self.tokenizer, self.section_marks), {} if photos is None else photos
        masked = without_reviews and not self.has_words(text for view in views for text in view.reviews)
        if masked:
            views = [_without_reviews(views)]
        encoded = encode_deletions(
            views,
            lambda view: self._encode_view(reader, sees, view, photos, max_text_tokens, masked),
            reviews_left_out,
            photos_left_out,
            most_left_out,
        )
        if not encoded.views:
            given = [text for view in views for text in view.reviews]
            raise ValueError(f"a user needs a review with words, got {shown(given)}")
        notes = encoded.rows[0]["problems"]
        if encoded.views < len(views):
            wordless = [len(view.reviews) for view in views if not self.has_words(view.reviews)]
            several = "{} reviews without words are left out, with their photos"
            one = "a review without words is left out, with its photos"
            notes = [*notes, *(one if number == 1 else several.format(number) for number in wordless)]
        if missing := encoded.not_asked:
            sent = reviews_left_out + photos_left_out
            notes = [*notes, f"effects are told of {sent - missing} of {sent} reviews and photos, the first of each"]
        encoded.rows[0]["problems"] = notes
        return encoded

    def pad_users(self, users: Sequence[Mapping]) -> dict[str, torch.Tensor]:
        """Users as `encode_user` returns them -> the model's inputs, `input_ids`, `attention_mask` (batch, seq),
        `pixel_values` (batch, images, 3, height, width) and `image_mask` (batch, images), the last two where there is
        a photo."""
        batch, photos = self.pad_text([user["input_ids"] for user in users]), [user["pixel_values"] for user in users]
        some = next((pixels for pixels in photos if pixels is not None), None)
        if some is not None:
            batch |= _pad_photos([some[:0] if pixels is None else pixels for pixels in photos])
        return batch

    def encode_targets(self, profiles: Sequence[Mapping]) -> torch.Tensor:
        """Labels (batch, seq): each profile's text and `</s>`, padded with -100.

        Raises:
            ValueError: if a profile is not valid.
        """
        texts = [self.profile_schema.render(profile) for profile in profiles]
        rows = [torch.tensor([row], dtype=torch.int64) for row in self.tokenizer(texts).input_ids]
        return join_padded(rows, IGNORED_LABEL)

    def encode_images(self, images: Sequence[Sequence | None], **options) -> dict[str, torch.Tensor]:
        """`pixel_values` (batch, images, 3, height, width), zeros where there is no photo, and `image_mask`
        (batch, images), True for a photo. Without any photo: an empty dict.

        Args:
            options: the image processor's, in place of its own settings.

        Raises:
            ValueError: if a user has more than `max_images` photos, a photo cannot be read, or the image processor
                leaves photos of several sizes.
        """
        users = [() if photos is None else photos for photos in images]
        for index, photos in enumerate(users):
            if not isinstance(photos, list | tuple):
                raise ValueError(f"user {index}'s photos must be a list, got {type(photos).__name__}")
            if len(photos) > self.max_images:
                raise ValueError(f"user {index} has {len(photos)} photos, more than max_images={self.max_images}")
        # One at a time: decoded photos are large, the processed ones small.
        pixels = [self._pixels(self.load_image(photo), **options) for photos in users for photo in photos]
        if not pixels:
            return {}
        if len(sizes := {tuple(photo.shape[1:]) for photo in pixels}) > 1:
            raise ValueError(f"an image processor must make all photos of one size, got {sorted(sizes)}")
        return _pad_photos(torch.stack(pixels).split([len(photos) for photos in users]))

    def open_image(self, image: Photo) -> OpenedPhoto:
        """A photo whose header alone is read; errors as of `load_image`."""
        return open_photo(image)

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
            raise ValueError(f"token ids have the shape (batch, seq), got {shown(token_ids)}")
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

    def _read_options(self, options: Mapping) -> tuple[dict, dict]:
        """A call's options, with the tokenizer's and `text_kwargs` where it gives none: the text's and the photos'.

        `limit` among the text's is the `max_length` of the call alone.
        """
        own = getattr(self.image_processor, "valid_kwargs", ImagesKwargs)
        names = {"text_kwargs": set(TextKwargs.__annotations__)}
        names["images_kwargs"] = set(ImagesKwargs.__annotations__).union(own.__annotations__)
        names["common_kwargs"] = names["text_kwargs"] | names["images_kwargs"]
        given: dict[str, Any] = {kind: options.get(kind, {}) for kind in names}
        for kind, its in given.items():
            if not isinstance(its, Mapping):
                raise ValueError(f"{kind} are options by name, got {its!r}")
        if "return_tensors" in given["images_kwargs"]:
            raise ValueError("return_tensors is of a call as a whole, it was given in images_kwargs")
        alone = {name: value for name, value in options.items() if name not in names}
        unknown = (alone.keys() - names["common_kwargs"]).union(*(given[kind].keys() - names[kind] for kind in names))
        if unknown:
            raise TypeError(f"unexpected keyword arguments: {', '.join(sorted(unknown))}")
        asked = given["common_kwargs"] | given["images_kwargs"] | given["text_kwargs"] | alone
        for name in sorted(asked.keys() & (names["text_kwargs"] - READ_OPTIONS | FIXED_OPTIONS.keys())):
            fits = FIXED_OPTIONS.get(name, (False,))
            if asked[name] not in (None, *fits):
                raise ValueError(f"{name} must be {' or '.join(map(repr, fits))} here, got {asked[name]!r}")
        try:
            merged = self._merge_kwargs(tokenizer_init_kwargs=self.tokenizer.init_kwargs, **options)
        except StrictDataclassError as error:
            raise ValueError(str(error)) from error
        limit = asked.get("max_length")
        text = merged["text_kwargs"] | {"limit": limit if limit is None else positive("max_length", limit)}
        return text, {name: value for name, value in merged["images_kwargs"].items() if name != "return_tensors"}

    def _pixels(self, image: Image.Image, **options) -> torch.Tensor:
        """(3, height, width), float32: without rescaling and normalisation an image processor gives bytes."""
        return self.image_processor(image, **options, return_tensors="pt")["pixel_values"][0].float()


def _check_spelling(tokenizer, schema: ProfileSchema) -> None:
    """A value of which the tokenizer does not know a letter could be neither learned nor read back."""
    texts = [a.name + NAME_SEPARATOR + value for a in schema.attributes for value in a.values]
    rows = tokenizer(texts).input_ids
    spelled = tokenizer.batch_decode(rows, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    if wrong := [(text, read) for text, read in zip(texts, spelled, strict=True) if text != read]:
        raise ValueError(f"the tokenizer reads {wrong[0][0]!r} of the schema back as {wrong[0][1]!r}")


def _without_reviews(views: Sequence[UserView]) -> UserView:
    """One view of the photos and captions of all, in the order given."""
    captions = [caption for view in views for caption in view.captions]
    positions = [position for view in views for position in view.positions]
    images = [image for view in views for image in view.images]
    order = sorted(range(len(positions)), key=positions.__getitem__)
    if len(captions) == len(images):
        captions = [captions[place] for place in order]
    return UserView([], [images[place] for place in order], captions, [positions[place] for place in order])


def max_profile_tokens(processor) -> int:
    """Tokens of the longest profile of the processor's schema, `</s>` included."""
    profile: Profile = {}
    for attribute in processor.profile_schema.attributes:
        longest = sorted(attribute.values, key=lambda value: -len(processor.tokenizer(value).input_ids))
        profile[attribute.key] = longest[0] if attribute.count == 1 else longest[: attribute.count]
    return processor.encode_targets([profile]).shape[1]


def _per_user(name: str, values, one: bool, users: int) -> list:
    if one or values is None:
        return [values] * users
    if not isinstance(values, list | tuple) or len(values) != users:
        given = len(values) if isinstance(values, list | tuple) else type(values).__name__
        raise ValueError(f"{name} must be a list with one entry for each of {users} users, got {given}")
    return list(values)


def join_padded(batches: Sequence[torch.Tensor], value: int = 0, length: int = 0, device=None) -> torch.Tensor:
    """Batches as one, (users, seq or images, ...), padded on the right up to the longest.

    Args:
        batches: each (users, seq or images, ...), of one dtype.
        value: of the padding.
        length: the least length.
        device: of the joined batch; None: that of the first.

    Raises:
        ValueError: if there is none.
    """
    if not batches:
        raise ValueError("a batch has at least one user, got none")
    shape = sum(map(len, batches)), max(length, *(batch.shape[1] for batch in batches)), *batches[0].shape[2:]
    joined, start = batches[0].new_full(shape, value, device=device), 0
    for batch in batches:
        joined[start : start + len(batch), : batch.shape[1]].copy_(batch, non_blocking=True)
        start += len(batch)
    return joined


def _pad_photos(users: Sequence[torch.Tensor]) -> dict[str, torch.Tensor]:
    """Each user's (images, 3, height, width), perhaps none -> `pixel_values` and `image_mask`."""
    masks = [torch.ones(1, len(photos), dtype=torch.bool) for photos in users]
    return {"pixel_values": join_padded([photos[None] for photos in users]), "image_mask": join_padded(masks)}


MMProfileProcessor.register_for_auto_class()
