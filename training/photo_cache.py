"""Photos decoded and resized once: a file of their pixels, mapped into memory, from which every epoch takes them."""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
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
    the processor's settings: its name is a digest of both, so that others get a file of their own. Beside it lies what
    could not be read, if anything, with the reasons; it is tried again when the cache is opened.

    Args:
        folder: of the cache; the file in it is made if it is not there.
        photos: bytes or paths, as `UserExamples` has them; the same photo may come many times. They are gone through
            again to write the file, and never held all at once.
        processor: `MMProfileProcessor`.
        skip: leave photos out that cannot be read.

    Attributes:
        unreadable: `digest` of a photo that is left out -> why it could not be read.

    Raises:
        ValueError: if a photo cannot be read and is not to be left out, not one can be, or what the processor makes of
            a pixel depends on more than its byte.
    """

    def __init__(self, folder: str | os.PathLike, photos: Iterable[bytes | str], processor, skip: bool = False):
        self._rows = {digest: row for row, digest in enumerate(sorted(set(map(digest, photos))))}
        settings = [processor.image_processor.to_dict(), processor.max_image_pixels]
        name = hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode())
        name.update(b"".join(self._rows))
        self.path = Path(folder) / f"{name.hexdigest()[:32]}.npy"
        self._pixels: np.ndarray | None = None
        self._table = pixel_table(processor)
        self._list = self.path.with_suffix(".json")
        self.unreadable: dict[bytes, str] = self._read_list()
        if self.unreadable and self._can_be_read_now(photos, processor):
            self.path.unlink(missing_ok=True)
        if self._rows and not self.path.exists():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            remove_unfinished(self.path.parent, ABANDONED)
            self.unreadable = {}
            self._write(photos, processor, skip)
        elif self.unreadable and not skip:
            raise ValueError(next(iter(self.unreadable.values())))

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

    def check(self, photo: bytes | str) -> None:
        """Raises a `ValueError` with the reason, if the photo could not be read."""
        if self.unreadable and (problem := self.unreadable.get(digest(photo))):
            raise ValueError(problem)

    def encode(self, rows: Sequence[int]) -> torch.Tensor:
        """`pixel_values` (rows, 3, height, width), float32, of the photos in some rows of `pixels`."""
        pixels = torch.from_numpy(self.pixels[np.asarray(rows, dtype=np.int64)])
        return look_up(pixels.movedim(3, 1), self._table)

    def __getstate__(self) -> dict:
        return vars(self) | {"_pixels": None}

    def _read_list(self) -> dict[bytes, str]:
        if not self._list.exists():
            return {}
        listed = json.loads(self._list.read_text(encoding="utf-8"))
        return {bytes.fromhex(key): problem for key, problem in listed.items()}

    def _can_be_read_now(self, photos: Iterable[bytes | str], processor) -> bool:
        """Whether any photo can that could not: a file may be there, or mended."""
        for photo in photos:
            if digest(photo) in self.unreadable:
                with suppress(ValueError):
                    processor.load_image(photo)
                    return True
        return False

    def _write(self, photos: Iterable[bytes | str], processor, skip: bool) -> None:
        missing, pixels = set(self._rows.values()), None
        with replacing(self.path) as temporary:
            for photo in photos:
                if (row := self.row(photo)) not in missing:
                    continue
                missing.remove(row)
                try:
                    read = resized(photo, processor).transpose(1, 2, 0)
                except ValueError as error:
                    if not skip:
                        raise
                    self.unreadable[digest(photo)] = str(error)
                    continue
                if pixels is None:
                    pixels = np.lib.format.open_memmap(temporary, "w+", np.uint8, (len(self), *read.shape))
                pixels[row] = read
            if pixels is None:
                raise ValueError(f"not one of {len(self)} photos can be read: {next(iter(self.unreadable.values()))}")
            pixels.flush()
            self._write_list()  # before the pixels are there: without a list, all are

    def _write_list(self) -> None:
        self._list.unlink(missing_ok=True)
        if self.unreadable:
            with replacing(self._list) as temporary:
                listed = {key.hex(): problem for key, problem in sorted(self.unreadable.items())}
                temporary.write_text(json.dumps(listed), encoding="utf-8")


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
