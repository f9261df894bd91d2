"""From rows of the corpus to batches: which reviews and photos of a user are drawn, and the views made of them."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow.compute as pc
import torch
from datasets import Dataset, Features, Image
from datasets import List as ListFeature

from corpora.checks import review_fields
from mmprofile import EncodedText, Profile, ProfileSchema, Sees, cut_history, join_padded, photos_of_parts
from systems.system import target_classes
from training.forged_lines import LEADS, forge
from training.objectives import View, check_probability, mask_captions, mask_pixels, mask_profile, text_parts
from training.photo_cache import PhotoCache
from training.photo_check import DrawnPhoto, ReadablePhotos, UnreadablePhoto, photo_name


@dataclass
class Example:
    """What of a user goes into a batch, or of a view into a row of it. `captions` are the photos' own, None where a
    photo has none; `photos_of` says how many of the photos each review has."""

    user_id: str
    reviews: list[str]
    images: list
    captions: list[str | None]
    profile: Profile
    photos_of: list[int] = field(default_factory=list, repr=False)
    photo_names: list[str] = field(default_factory=list, repr=False)  # whose the images are, and which
    cache: PhotoCache | None = field(default=None, repr=False)  # that has the images' pixels
    pixels: list[torch.Tensor] | None = field(default=None, repr=False)  # of the images, where they are decoded
    vision_states: list[np.ndarray] | None = field(default=None, repr=False)  # of the images, where they are known
    rng: np.random.Generator | None = field(default=None, repr=False)
    epoch: int = 1  # that drew this

    def in_views(self, view_reviews: int | None, views: int | None = None) -> list["Example"]:
        """Of so many reviews each, see `cut_history`; None: all is one view."""
        if view_reviews is None:
            return [self]
        found, parts = [], cut_history(len(self.reviews), view_reviews, views)
        for part, photos in zip(parts, photos_of_parts(self.photos_of, parts), strict=True):
            of_photos = {
                name: value and [value[place] for place in photos]
                for name in OF_PHOTOS
                if (value := getattr(self, name)) is not None
            }
            reviews, counts = ([values[number] for number in part] for values in (self.reviews, self.photos_of))
            found.append(replace(self, reviews=reviews, photos_of=counts, **of_photos))
        return found


OF_PHOTOS = ("images", "captions", "photo_names", "pixels", "vision_states")  # fields of `Example`, in their order


def undecoded(dataset: Dataset) -> Dataset:
    """A dataset as `load_dataset` returns it, with photos as their files' bytes: only those drawn are decoded."""
    fields = dict(review_fields(dataset.features)) | {"images": ListFeature(Image(decode=False))}
    info = dataset.info.copy()
    info.features = Features(dict(dataset.features) | {"reviews": ListFeature(fields)})
    return Dataset(dataset.data, info=info, split=dataset.split)  # `cast` would write a second copy to the disk


def review_lengths(dataset: Dataset) -> list[list[int]]:
    """Characters of each user's reviews, read without the photos beside them."""
    lengths = []
    tables: Any = dataset.with_format("arrow").iter(1000)
    for table in tables:
        for reviews in table["reviews"].chunks:
            characters = pc.utf8_length(pc.struct_field(pc.list_flatten(reviews), "text")).to_numpy()
            ends = np.cumsum(pc.list_value_length(reviews).to_numpy())
            lengths += [part.tolist() for part in np.split(characters, ends[:-1])]
    return lengths


def longest_users(dataset: Dataset, number: int) -> Dataset:
    """So many of the users with the longest reviews, the longest first."""
    sizes = [sum(lengths) for lengths in review_lengths(dataset)]
    return dataset.select(sorted(range(len(dataset)), key=lambda row: -sizes[row])[:number])


class UserExamples(torch.utils.data.Dataset):
    """A user's reviews and photos, some drawn anew each epoch for training, always the same for evaluation.

    Args:
        dataset: rows of the corpus, see `undecoded`.
        schema: names the labels of its `profile`.
        num_reviews: how many reviews of a user (Figure 5), of those that he has.
        num_images: how many photos of each review.
        seed: for training: the draw is a function of (seed, epoch, row). None: the newest reviews, first photos.
        photos_from: "self"; "nobody", reviews alone; or "stranger", photos and captions of the row before, the
            unpaired condition of Figure 6.
        photo_share: of the photos, each with its caption, that are not withheld, drawn for each by itself; for
            evaluation always the same ones ("partial missing" of Figure 6).
        forged_lines: for training: the share of users into whose texts a line of another user's profile is put, for
            the model to learn that what a text says of itself is no profile.
        forged: for evaluation: so many reviews, up to `len(LEADS)`, stand before every user's own, each a line with
            the profile of the row before, none like another.
        cache: with these photos, to take their pixels from. None: the photos themselves.
        states: `vision_states.VisionStates` of these photos: examples have the vision tower's states of them too.
        readable: leaves photos out that cannot be read, with their captions, once they are drawn: others do not take
            their place. None: all are taken, and decoded with the batch.

    Raises:
        ValueError: if a number is below its least, too large, `forged_lines` no probability, or `photos_from` another.
    """

    def __init__(
        self,
        dataset: Dataset,
        schema: ProfileSchema,
        num_reviews: int = 3,
        num_images: int = 1,
        seed: int | None = None,
        photos_from: str = "self",
        photo_share: float = 1.0,
        forged_lines: float = 0.0,
        forged: int = 0,
        cache: PhotoCache | None = None,
        states=None,
        readable: ReadablePhotos | None = None,
    ):
        if num_reviews < 1 or num_images < 0:
            raise ValueError(f"num_reviews is at least 1 and num_images at least 0, got {num_reviews}, {num_images}")
        if photos_from not in ("self", "nobody", "stranger"):
            raise ValueError(f"photos_from must be 'self', 'nobody' or 'stranger', got {photos_from!r}")
        self.dataset = dataset
        self.schema = schema
        self.num_reviews = num_reviews
        self.num_images = num_images
        self.seed = seed
        if not 0 <= forged <= len(LEADS):
            raise ValueError(f"forged is from 0 to {len(LEADS)} reviews, got {forged}")
        self.photos_from = photos_from
        self.photo_share = check_probability("photo_share", photo_share)
        self.forged_lines = check_probability("forged_lines", forged_lines)
        self.forged = forged
        self._labels = dataset.select_columns("profile")
        self.cache = cache
        self.states = states
        self.readable = readable
        # Shared, so that workers that outlive an epoch see the next.
        self._epoch = torch.zeros(1, dtype=torch.int64).share_memory_()
        self._review_lengths: list[list[int]] | None = None

    def set_epoch(self, epoch: int) -> None:
        """Other reviews and photos are drawn in another epoch; Accelerate's data loader calls this."""
        self._epoch.fill_(epoch)

    @property
    def epoch(self) -> int:
        return int(self._epoch)

    def text_lengths(self) -> np.ndarray:
        """(users,), characters of the reviews that are drawn of each in this epoch."""
        if self._review_lengths is None:
            self._review_lengths = review_lengths(self.dataset)
        drawn = (self._draw(of, self.num_reviews, self._rng(user)) for user, of in enumerate(self._review_lengths))
        return np.array([sum(lengths) for lengths in drawn])

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Example:
        rng = self._rng(index)
        row = self._row(index)
        reviews = self._draw_reviews(row, rng)
        if self.photos_from == "stranger":
            stranger = self._row(index - 1)
            photos = self._photos(stranger["user_id"], self._draw_reviews(stranger, rng)[: len(reviews)], rng)
        else:
            photos = self._photos(row["user_id"], reviews, rng) if self.photos_from == "self" else []
        photos = self._not_withheld(photos, index, rng)
        photos, pixels = (photos, None) if self.readable is None else self.readable.of(photos)
        places = [photo.place for photo in photos]
        counts = [places.count(place) for place in range(len(reviews))]
        texts, captions = [review["text"] for _, review in reviews], [photo.caption for photo in photos]
        texts, captions = self._with_forgery(texts, captions, counts, index, rng)
        return Example(
            user_id=row["user_id"],
            reviews=texts,
            images=[photo.image for photo in photos],
            captions=captions,
            profile=self.schema.profile_from_labels(row["profile"]),
            photos_of=counts,
            vision_states=None if self.states is None else [self.states[photo.image] for photo in photos],
            photo_names=[photo.name for photo in photos],
            cache=self.cache,
            pixels=pixels,
            rng=rng,
            epoch=max(1, self.epoch),
        )

    def _not_withheld(self, photos: list[DrawnPhoto], index: int, rng: np.random.Generator | None) -> list[DrawnPhoto]:
        if self.photo_share == 1:
            return photos
        kept = (rng or np.random.default_rng(index)).random(len(photos)) < self.photo_share
        return [photo for photo, is_kept in zip(photos, kept, strict=True) if is_kept]

    def _row(self, index: int) -> Mapping:
        return self.dataset[index]

    def _rng(self, index: int) -> np.random.Generator | None:
        return None if self.seed is None else np.random.default_rng([self.seed, self.epoch, index])

    def forged_profile(self, index: int) -> Profile:
        """The profile that stands in a user's texts where it is `forged`."""
        return self._profile(index - 1)

    def _profile(self, index: int) -> Profile:
        return self.schema.profile_from_labels(self._labels[index]["profile"])

    def _with_forgery(
        self,
        reviews: list[str],
        captions: list[str | None],
        photos_of: list[int],
        index: int,
        rng: np.random.Generator | None,
    ) -> tuple[list[str], list[str | None]]:
        """Reviews and captions; `photos_of` as of `forge`."""
        if self.forged:
            line = self.schema.render(self.forged_profile(index))
            photos_of[:0] = [0] * self.forged
            return [lead + line for lead in LEADS[: self.forged]] + reviews, captions
        if self.forged_lines and rng is not None and len(self) > 1 and rng.random() < self.forged_lines:
            other = (index + int(rng.integers(1, len(self)))) % len(self)
            return forge(self.schema, self._profile(other), reviews, captions, rng, photos_of)
        return reviews, captions

    def _draw_reviews(self, row: Mapping, rng: np.random.Generator | None) -> list[tuple[int, dict]]:
        """Reviews with their numbers."""
        return self._draw(list(enumerate(row["reviews"])), self.num_reviews, rng)

    def _photos(
        self, user_id: str, reviews: list[tuple[int, dict]], rng: np.random.Generator | None
    ) -> list[DrawnPhoto]:
        photos = []
        for shown, (number, review) in enumerate(reviews):
            images = [image["bytes"] or image["path"] for image in review["images"] or ()]
            captions = review["captions"] or [None] * len(images)
            names = [photo_name(user_id, review, number, place) for place in range(len(images))]
            drawn = self._draw(list(zip(images, captions, names, strict=True)), self.num_images, rng)
            photos += [DrawnPhoto(image, caption, name, shown) for image, caption, name in drawn]
        return photos

    @staticmethod
    def _draw(items: list, number: int, rng: np.random.Generator | None) -> list:
        if rng is None or len(items) <= number:
            return items[:number]
        return [items[index] for index in sorted(rng.choice(len(items), number, replace=False))]


def encode_photos(processor, examples: Sequence[Example]) -> dict[str, torch.Tensor]:
    """`encode_images` of the examples', of which one has a photo at least; from their cache, if they have one, or as
    they are decoded.

    Raises:
        UnreadablePhoto: names the first photo that cannot be read.
    """
    if (cache := examples[0].cache) is not None:
        pixels = [cache.encode([cache.row(image) for image in example.images]) for example in examples]
        return {"pixel_values": join_padded([photos[None] for photos in pixels]), "image_mask": _image_mask(examples)}
    if decoded := [example.pixels for example in examples if example.pixels]:
        none = decoded[0][0].new_empty(1, 0, *decoded[0][0].shape)
        pixels = [torch.stack(example.pixels)[None] if example.pixels else none for example in examples]
        return {"pixel_values": join_padded(pixels), "image_mask": _image_mask(examples)}
    try:
        return processor.encode_images([example.images for example in examples])
    except ValueError:
        for example in examples:
            for image, name in zip(example.images, example.photo_names, strict=True):
                try:
                    processor.load_image(image)
                except ValueError as error:
                    raise UnreadablePhoto(f"{name}: {error}") from None
        raise


def _image_mask(examples: Sequence[Example]) -> torch.Tensor:
    """(batch, images), boolean."""
    counts = torch.tensor([len(example.images) for example in examples])
    return torch.arange(int(counts.max())) < counts[:, None]


def _draw_objective(names: Sequence[str], weights: Mapping[str, float], rng: np.random.Generator) -> str:
    chances = np.array([weights[name] for name in names])
    return names[rng.choice(len(names), p=chances / chances.sum())]


def _rng_of(example: Example) -> np.random.Generator:
    if example.rng is None:
        raise ValueError(f"user {example.user_id!r} is not of a seed, so nothing can be drawn or masked")
    return example.rng


def encode_targets(processor, examples: Sequence[Example], with_classes: bool) -> dict[str, torch.Tensor]:
    """`labels` and, if asked for, `classes` of `systems.system.target_classes`."""
    profiles = [example.profile for example in examples]
    targets = {"labels": processor.encode_targets(profiles)}
    return targets | ({"classes": target_classes(processor.profile_schema, profiles)} if with_classes else {})


class JointCollator:
    """Examples to the batch of `JointStep`: each text and each set of photos that a view names, once.

    Args:
        processor: `MMProfileProcessor`.
        views: of `objectives.select_views`.
        mask_probability: of a pixel or a caption's word, under `mask_image`.
        profile_mask_probability: of an attribute, under `mask_profile`.
        drawn_by: for each epoch, the last for those after: objective -> weight. Each batch is of one objective, drawn
            with a probability that is in proportion to its weight, so that the expected loss is the weighted mean.
            None: of all.
        with_classes: make targets of classes too.
        view_reviews: rows are views of so many reviews each, and `views` (users,) says how many each user has; None: a
            row is a user.

    Raises:
        ValueError: if a probability is not from 0 to 1.
    """

    def __init__(
        self,
        processor,
        views: dict[str, View],
        mask_probability: float,
        profile_mask_probability: float,
        drawn_by: Sequence[Mapping[str, float]] | None = None,
        with_classes: bool = False,
        view_reviews: int | None = None,
    ):
        self.processor = processor
        self.with_classes = with_classes
        self.view_reviews = view_reviews
        self.views = views
        self.drawn_by = drawn_by
        self.mask_probability = check_probability("mask_probability", mask_probability)
        self.profile_mask_probability = check_probability("profile_mask_probability", profile_mask_probability)

    def __call__(self, examples: Sequence[Example]) -> dict:
        batch: dict[str, Any] = dict(encode_targets(self.processor, examples, self.with_classes))
        views = self.views
        if self.drawn_by is not None:
            weights = self.drawn_by[min(examples[0].epoch, len(self.drawn_by)) - 1]
            batch["objectives"] = [_draw_objective(list(self.views), weights, _rng_of(examples[0]))]
            views = {name: views[name] for name in batch["objectives"]}
        ids: dict[str, list] = {name: [] for name in sorted({view.text for view in views.values()})}
        parts, rows = set().union(*(text_parts(name) for name in ids)), []
        for example in examples:
            of_user = example.in_views(self.view_reviews)
            captions = [self._masked_captions(row, parts) for row in of_user]
            # Of all rows of a user the same: one would else tell what another masks.
            masked = self._masked_attributes(example, parts)
            for row, its_captions in zip(of_user, captions, strict=True):
                texts = self.processor.encode_texts(
                    self._text_arguments(name, row, its_captions, masked) for name in ids
                )
                for name, text in zip(ids, texts, strict=True):
                    ids[name].append(text)
            rows.append(of_user)
        batch["texts"] = {name: self.processor.pad_text(texts) for name, texts in ids.items()}
        if self.view_reviews is not None:
            batch["views"] = torch.tensor([len(of_user) for of_user in rows])
        photos = {view.photos for view in views.values() if view.photos is not None}
        if photos and any(example.images for example in examples):
            batch |= self._encode_photos(photos, [row for of_user in rows for row in of_user])
        return batch

    def _masked_captions(self, example: Example, parts: Collection[str]) -> list[str]:
        """The example's, if a text needs them."""
        if "masked_captions" not in parts:
            return []
        captions = [caption for caption in example.captions if caption]
        return mask_captions(captions, self.mask_probability, self.processor.mask_token, _rng_of(example))

    def _masked_attributes(self, example: Example, parts: Collection[str]) -> list[str]:
        """Keys of the example's masked attributes, if a text needs them."""
        if "masked_profile" not in parts:
            return []
        return mask_profile(list(example.profile), self.profile_mask_probability, _rng_of(example))

    @staticmethod
    def _text_arguments(name: str, example: Example, masked_captions: list[str], masked_keys: list[str]) -> dict:
        parts = text_parts(name)
        arguments: dict = {"reviews": example.reviews} if "reviews" in parts else {}
        if "captions" in parts:
            arguments["captions"] = example.captions
        elif "masked_captions" in parts:
            arguments |= {"captions": masked_captions, "keep_masks": True}
        if "masked_profile" in parts:
            arguments |= {"profile": example.profile, "masked": masked_keys}
        return arguments

    def _encode_photos(self, views: set[str], examples: Sequence[Example]) -> dict[str, torch.Tensor]:
        batch = {}
        if examples[0].vision_states is not None:
            states = [state for example in examples for state in example.vision_states or ()]
            batch["image_mask"] = _image_mask(examples)
            batch["vision_states"] = torch.from_numpy(np.stack(states))
        if not batch or "masked_photos" in views:
            batch |= encode_photos(self.processor, examples)
        if "masked_photos" in views:
            batch["pixel_mask"] = self._pixel_mask(batch["pixel_values"], examples)
        return batch

    def _pixel_mask(self, pixel_values: torch.Tensor, examples: Sequence[Example]) -> torch.Tensor:
        _, images, _, height, width = pixel_values.shape
        mask = torch.zeros(len(examples), images, height, width, dtype=torch.bool)
        for row, example in zip(mask, examples, strict=True):
            shape = (len(example.images), height, width)
            row[: len(example.images)] = mask_pixels(shape, self.mask_probability, _rng_of(example))
        return mask


class EvaluationCollator:
    """Examples to the inputs of `generate`, with what of a user the model sees, and their labels.

    Args:
        processor, with_classes, view_reviews: as of `JointCollator`.
        views: of a user, so many at most; None: all.
    """

    def __init__(
        self,
        processor,
        sees: Sees,
        with_classes: bool = False,
        view_reviews: int | None = None,
        views: int | None = None,
    ):
        self.processor = processor
        self.sees = sees
        self.with_classes = with_classes
        self.view_reviews, self.views = view_reviews, views

    def __call__(self, examples: Sequence[Example]) -> dict:
        of_users = [example.in_views(self.view_reviews, self.views) for example in examples]
        rows = [row for of_user in of_users for row in of_user]
        texts = [self.processor.encode_text(row.reviews, self._captions(row)) for row in rows]
        batch = dict(self.processor.pad_text(texts))
        if self.view_reviews is not None:
            batch["views"] = torch.tensor([len(of_user) for of_user in of_users])
        batch |= encode_targets(self.processor, examples, self.with_classes)
        if self.sees.images and any(row.images for row in rows):
            batch |= encode_photos(self.processor, rows)
        return batch

    def encode_texts(self, example: Example) -> list[EncodedText]:
        """What the model reads of a user, view by view, with what of it is left out."""
        rows = example.in_views(self.view_reviews, self.views)
        return [self.processor.encode_sections(row.reviews, self._captions(row)) for row in rows]

    def _captions(self, example: Example) -> list[str | None]:
        return example.captions if self.sees.captions else []
