"""From users to batches: tokenised, their photos decoded, what cannot be read left out and noted."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from .configuration_mmprofile import Profile
from .pipeline_mmprofile import SEES_IMAGES, encode_user, pad_users
from .prediction_inputs import DatasetUsers, LineUsers, User


@dataclass
class EncodedUser:
    """A user as a batch takes it; `inputs` is None where there can be no prediction.

    Attributes:
        positions: of the photos in `inputs`, among all photos of the user in the input.
        problems: why there is no prediction, or which photos were left out, as sentences.
        photos_left_out: how many photos could not be read, or were too many.
    """

    index: int
    inputs: dict | None = None
    positions: list[int] = field(default_factory=list)
    num_images: int = 0
    profile: Profile | None = None
    problems: list[str] = field(default_factory=list)
    photos_left_out: int = 0


class EncodedUsers(torch.utils.data.Dataset):
    """Users ready for a batch, `EncodedUser`s: read, tokenised, their photos decoded. Runs in a loader's workers."""

    def __init__(self, users: DatasetUsers | LineUsers, processor, paradigm: str):
        self.users, self.processor, self.paradigm = users, processor, paradigm

    def __len__(self) -> int:
        return len(self.users)

    def __getitem__(self, index: int) -> EncodedUser:
        encoded = EncodedUser(index)
        try:
            user = self.users[index]
            encoded.num_images, encoded.profile = user.num_images, user.profile
            photos = self._readable(user, encoded) if SEES_IMAGES[self.paradigm] else []
            encoded.inputs = encode_user(self.processor, self.paradigm, user.reviews, captions=user.captions)
        except ValueError as error:
            encoded.problems.append(str(error))
            return encoded
        if photos:
            encoded.inputs["pixel_values"] = torch.cat(photos)
        return encoded

    def _readable(self, user: User, encoded: EncodedUser) -> list[torch.Tensor]:
        """The photos that can be read, as many as the processor takes, each (1, 3, height, width)."""
        photos, limit = [], self.processor.max_images
        for position, image in zip(user.positions, user.images, strict=True):
            try:
                if len(photos) == limit:
                    raise ValueError(f"a user has at most {limit} photos (max_images)")
                photos.append(self.processor.encode_images([[image]])["pixel_values"][0])
                encoded.positions.append(position)
            except ValueError as error:
                encoded.problems.append(f"photo {position}: {error}")
                encoded.photos_left_out += 1
        return photos


@dataclass
class PredictionBatch:
    """`inputs` has a row for each of `users`; it is None where there is no user. `failed` have no prediction."""

    users: list[EncodedUser]
    failed: list[EncodedUser]
    inputs: dict[str, torch.Tensor] | None

    def pin_memory(self) -> "PredictionBatch":
        """Called by the data loader, for faster copies to a GPU."""
        if self.inputs is not None:
            self.inputs = {name: tensor.pin_memory() for name, tensor in self.inputs.items()}
        return self


class PredictionCollator:
    """`EncodedUser`s to a batch; what the batch holds, they hold no more."""

    def __init__(self, processor):
        self.processor = processor

    def __call__(self, encoded: Sequence[EncodedUser]) -> PredictionBatch:
        inputs = [user.inputs for user in encoded if user.inputs is not None]
        return PredictionBatch(
            users=[replace(user, inputs=None) for user in encoded if user.inputs is not None],
            failed=[user for user in encoded if user.inputs is None],
            inputs=pad_users(self.processor, inputs) if inputs else None,
        )


def bucketed_batches(lengths: np.ndarray, rows: range, batch_size: int) -> Iterator[list[int]]:
    """Rows in batches of like length, the longest first."""
    order = sorted(rows, key=lambda row: (-lengths[row], row))
    for start in range(0, len(order), batch_size):
        yield order[start : start + batch_size]
