"""From users to batches: tokenised, their photos decoded, what cannot be read left out and noted.

A batch is read in parts, by several workers at once: the first one is there sooner, and what waits in shared memory is
small however large the batches are. Photos wait there as bytes, which the device turns into `pixel_values`.
"""

import os
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from files.photo_bytes import look_up, pixel_table, resized
from files.unreadable_photos import UnreadablePhoto
from mmprofile import Photo, Profile, Sees, join_padded
from prediction.encodings import KeptEncodings
from prediction.inputs import DatasetUsers, LineUsers, User

PART = 16  # users


@dataclass
class EncodedUser:
    """A user as a batch takes it; `inputs` is None where there can be no prediction.

    Attributes:
        inputs: of each view, as the processor's `encode_user` returns them.
        num_views: how many there are.
        positions: of the photos in `inputs`, among all photos of the user in the input.
        problems: why there is no prediction, which photos were left out and what of the text, as sentences.
        photos_left_out: how many photos could not be read, or were too many.
        tokens_left_out: how many tokens of the text did not fit in.
        keys: of each view, where encodings are kept, what it is found by; None for one that is not kept.
        kept: of each view, what is kept of it, see `KeptEncodings.load`; None where it is to be encoded.
        notes: of each view, what is kept beside its encoding.
    """

    index: int
    user_id: str = ""
    inputs: list[dict] | None = None
    num_views: int = 0
    positions: list[int] = field(default_factory=list)
    num_images: int = 0
    profile: Profile | None = None
    problems: list[str] = field(default_factory=list)
    photos_left_out: int = 0
    tokens_left_out: int = 0
    keys: list[str | None] = field(default_factory=list)
    kept: list[dict | None] = field(default_factory=list)
    notes: list[dict] = field(default_factory=list)


class EncodedUsers(torch.utils.data.Dataset):
    """Users ready for a batch, `EncodedUser`s: read, tokenised, their photos decoded. Runs in a loader's workers.

    Args:
        on_bad_photo: "skip": a photo that cannot be read is left out, with its caption if there is one for each, and
            noted with the user; "stop": it is an `UnreadablePhoto`.
        encodings: views that are among these are neither tokenised nor their photos decoded.

    Attributes:
        table: of `pixel_table`, for photos that are bytes; None where they are `pixel_values`, as there is no table
            for the processor.
    """

    def __init__(
        self,
        users: DatasetUsers | LineUsers,
        processor,
        sees: Sees,
        on_bad_photo: str = "skip",
        encodings: KeptEncodings | None = None,
    ):
        self.users, self.processor, self.sees, self.on_bad_photo = users, processor, sees, on_bad_photo
        self.encodings = encodings
        self.table: torch.Tensor | None = None
        if sees.images:
            try:
                self.table = pixel_table(processor)
            except Exception as error:  # whatever an image processor of somebody else says to what it was not made for
                warnings.warn(f"photos are handed on at four times the size: {error!r}", stacklevel=2)

    def __len__(self) -> int:
        return len(self.users)

    def __getitem__(self, index: int) -> EncodedUser:
        encoded, size = EncodedUser(index), self.users.view_reviews
        try:
            user = self.users[index]
        except ValueError as error:
            encoded.problems.append(str(error))
            return encoded
        encoded.user_id, encoded.num_images, encoded.profile = user.user_id, user.num_images, user.profile
        views = [user] if size is None else user.in_views(size, self.users.views, self.users.draws)
        if self.encodings is None:
            found = [self._encode(view, encoded) for view in views]
        else:
            keys = [self.encodings.key(view) for view in views]
            there = self.encodings.load(user.user_id, keys)
            found = [
                self._encode_or_take(view, encoded, key, there.get(key)) for view, key in zip(views, keys, strict=True)
            ]
        encoded.inputs = [inputs for inputs in found if inputs is not None] or None
        encoded.num_views = len(encoded.inputs or ())
        return encoded

    def _encode_or_take(self, view: User, encoded: EncodedUser, key: str, kept: dict | None) -> dict | None:
        """`_encode`, or {} where the view is kept; one with a photo left out is not: the photo's number may change."""
        if kept is not None:
            encoded.positions += view.positions if self.sees.images else []
            encoded.tokens_left_out += kept["tokens_left_out"]
            encoded.problems += kept["problems"]
            inputs, its_key = {}, key
        else:
            before = encoded.photos_left_out
            if (inputs := self._encode(view, encoded)) is None:
                return None
            its_key = key if encoded.photos_left_out == before else None
        encoded.keys.append(its_key)
        encoded.kept.append(kept)
        encoded.notes.append({name: (kept or inputs)[name] for name in ("problems", "tokens_left_out")})
        return inputs

    def _encode(self, user: User, encoded: EncodedUser) -> dict | None:
        """A view's inputs, None where there are none; `encoded` is told why."""
        before = len(encoded.positions)
        try:
            photos, captions = self._readable(user, encoded) if self.sees.images else ([], user.captions)
            inputs = self.processor.encode_user(self.sees, user.reviews, captions=captions)
        except UnreadablePhoto:
            raise
        except ValueError as error:
            encoded.problems.append(str(error))
            del encoded.positions[before:]
            return None
        encoded.tokens_left_out += inputs["tokens_left_out"]
        encoded.problems += inputs["problems"]
        if photos:
            inputs["pixel_values"] = torch.stack(photos)
        return inputs

    def _readable(self, user: User, encoded: EncodedUser) -> tuple[list[torch.Tensor], list[str | None]]:
        """The photos of a view that can be read, as many as the processor takes, each (3, height, width), and the
        captions without those of photos that cannot be."""
        photos, limit, unreadable = [], self.processor.max_images, set()
        for place, (position, image) in enumerate(zip(user.positions, user.images, strict=True)):
            problem = f"a view has at most {limit} photos (max_images)"
            if len(photos) < limit:
                try:
                    photos.append(self._pixels(image))
                    encoded.positions.append(position)
                    continue
                except ValueError as error:
                    problem = self._as_named(str(error), image)
                    if self.on_bad_photo == "stop":
                        raise UnreadablePhoto(f"user {user.user_id!r}, photo {position}: {error}") from None
                    unreadable.add(place)
            encoded.problems.append(f"photo {position}: {problem}")
            encoded.photos_left_out += 1
        if len(user.captions) != len(user.images):  # of a JSONL file's user, whose they are is not known
            return photos, user.captions
        return photos, [caption for place, caption in enumerate(user.captions) if place not in unreadable]

    def _as_named(self, problem: str, image: Photo) -> str:
        """What is wrong with a photo, called as the input calls it: where that lies is not told who reads answers."""
        if self.users.relative_to is None or not isinstance(image, str):
            return problem
        return problem.replace(repr(image), repr(image.removeprefix(f"{self.users.relative_to}{os.sep}")))

    def _pixels(self, image: Photo) -> torch.Tensor:
        if self.table is None:
            return self.processor.encode_images([[image]])["pixel_values"][0, 0]
        return torch.from_numpy(resized(image, self.processor))


@dataclass
class PredictionBatch:
    """`inputs` are the model's for `users`, in parts as `pad_users` returns them. `failed` have no prediction.

    Attributes:
        table: for photos that are bytes, see `EncodedUsers`; `join_parts` adds it.
    """

    users: list[EncodedUser]
    failed: list[EncodedUser]
    inputs: list[dict[str, torch.Tensor]]
    table: torch.Tensor | None = None

    def pin_memory(self) -> "PredictionBatch":
        """Called by the data loader, for faster copies to a GPU."""
        self.inputs = [{name: tensor.pin_memory() for name, tensor in part.items()} for part in self.inputs]
        return self

    def joined_inputs(self, pad_token_id: int, device: torch.device) -> dict[str, torch.Tensor]:
        """What `pad_users` returns for all `users`, on the device, `pixel_values` as the processor makes them."""
        joined: dict[str, torch.Tensor] = {}
        for name in {name: None for part in self.inputs for name in part}:
            some = next(part[name] for part in self.inputs if name in part)
            # A part may be without photos.
            tensors = [
                part.get(name, some.new_empty(len(part["input_ids"]), 0, *some.shape[2:])) for part in self.inputs
            ]
            joined[name] = join_padded(tensors, pad_token_id if name == "input_ids" else 0, device=device)
        if self.table is not None and "pixel_values" in joined:
            pixels = look_up(joined["pixel_values"], self.table.to(device))
            # A byte of padding has a value too.
            joined["pixel_values"] = pixels.masked_fill_(~joined["image_mask"][:, :, None, None, None], 0)
        return joined


class PredictionCollator:
    """`EncodedUser`s to a batch of one part; what the batch holds, they hold no more."""

    def __init__(self, processor):
        self.processor = processor

    def __call__(self, encoded: Sequence[EncodedUser]) -> PredictionBatch:
        inputs = [view for user in encoded for view in user.inputs or () if view]  # without those that are kept
        return PredictionBatch(
            users=[replace(user, inputs=None) for user in encoded if user.inputs is not None],
            failed=[user for user in encoded if user.inputs is None],
            inputs=[self.processor.pad_users(inputs)] if inputs else [],
        )


def bucketed_batches(
    lengths: np.ndarray, rows: Iterable[int], batch_size: int, view_counts: np.ndarray | None = None
) -> Iterator[list[int]]:
    """Rows in batches of like length, the longest first.

    Args:
        view_counts: how many views each row has: a batch has at most `batch_size` of them, or one user's.
    """
    batch, views = [], 0
    for row in sorted(rows, key=lambda row: (-lengths[row], row)):
        its = 1 if view_counts is None else int(view_counts[row])
        if batch and views + its > batch_size:
            yield batch
            batch, views = [], 0
        batch.append(row)
        views += its
    if batch:
        yield batch


def batch_parts(batches: Iterable[list[int]]) -> list[list[int]]:
    """The rows of batches as they are read, at most `PART` at a time."""
    return [batch[start : start + PART] for batch in batches for start in range(0, len(batch), PART)]


def join_parts(
    parts: Iterable[PredictionBatch], batches: Iterable[list[int]], table: torch.Tensor | None
) -> Iterator[PredictionBatch]:
    """What was read for `batch_parts` of the batches, batch after batch; `table` is that of `EncodedUsers`."""
    parts = iter(parts)
    for batch in batches:
        joined = PredictionBatch([], [], [], table)
        while len(joined.users) + len(joined.failed) < len(batch):
            part = next(parts)
            joined.users += part.users
            joined.failed += part.failed
            joined.inputs += part.inputs
        yield joined
