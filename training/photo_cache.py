"""Photos decoded and resized once: a file of their pixels, mapped into memory, from which every epoch takes them."""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from datasets import Dataset

from files.output_files import remove_unfinished, replacing
from files.photo_bytes import look_up, pixel_table, resized

ABANDONED = 24 * 3600.0  # seconds; what nobody has written to for so long is of a killed run


class PhotoCache:
    """The pixels of photos by the photos' content, uint8 (height, width, 3), as the processor's resizing leaves them.

    `encode` makes of them what the processor makes of the photos, to the bit. The file belongs to the photos and to
    the processor's settings: its name is a digest of both, so that others get a file of their own.

    Args:
        folder: of the cache; the file in it is made if it is not there.
        photos: bytes or paths, as `UserExamples` has them; the same photo may come many times. They are gone through
            again to write the file, and never held all at once.
        processor: `MMProfileProcessor`.

    Raises:
        ValueError: if a photo cannot be read, or what the processor makes of a pixel depends on more than its byte.
    """

    def __init__(self, folder: str | os.PathLike, photos: Iterable[bytes | str], processor):
        self._rows = {digest: row for row, digest in enumerate(sorted(set(map(digest, photos))))}
        settings = [processor.image_processor.to_dict(), processor.max_image_pixels]
        name = hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode())
        name.update(b"".join(self._rows))
        self.path = Path(folder) / f"{name.hexdigest()[:32]}.npy"
        self._pixels: np.ndarray | None = None
        self._table = pixel_table(processor)
        if self._rows and not self.path.exists():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            remove_unfinished(self.path.parent, ABANDONED)
            self._write(photos, processor)

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def pixels(self) -> np.ndarray:
        """Of all photos, (photos, height, width, 3)."""
        if self._pixels is None:  # opened by each worker for itself
            pixels: np.ndarray = np.load(self.path, mmap_mode="r")
            self._pixels = pixels
        return self._pixels

    def row(self, photo: bytes | str) -> int:
        """Of a photo in `pixels`."""
        return self._rows[digest(photo)]

    def encode(self, rows: Sequence[int]) -> torch.Tensor:
        """`pixel_values` (rows, 3, height, width), float32, of the photos in some rows of `pixels`."""
        pixels = torch.from_numpy(self.pixels[np.asarray(rows, dtype=np.int64)])
        return look_up(pixels.movedim(3, 1), self._table)

    def __getstate__(self) -> dict:
        return vars(self) | {"_pixels": None}

    def _write(self, photos: Iterable[bytes | str], processor) -> None:
        first = resized(next(iter(photos)), processor).transpose(1, 2, 0)
        with replacing(self.path) as temporary:
            pixels = np.lib.format.open_memmap(temporary, "w+", np.uint8, (len(self), *first.shape))
            missing = set(self._rows.values())
            for photo in photos:
                if (row := self.row(photo)) in missing:
                    pixels[row] = resized(photo, processor).transpose(1, 2, 0)
                    missing.remove(row)
            pixels.flush()


class Photos:
    """Every photo of some splits as `batching.undecoded` has them, one after the other, as often as asked."""

    def __init__(self, *splits: Dataset):
        self.splits = splits

    def __iter__(self) -> Iterator[bytes | str]:
        for split in self.splits:
            for reviews in split["reviews"]:
                for review in reviews:
                    yield from (image["bytes"] or image["path"] for image in review["images"] or ())


def digest(photo: bytes | str) -> bytes:
    """Of a photo's content, or path, 16 bytes."""
    return hashlib.blake2b(photo if isinstance(photo, bytes) else photo.encode(), digest_size=16).digest()
