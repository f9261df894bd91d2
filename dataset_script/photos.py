"""The photos of a raw folder: read from inside it alone, proved to decode in parallel, kept or made small."""

import io
import struct
import warnings
import zlib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from hashlib import blake2b
from itertools import islice

import datasets
import numpy as np
import PIL.Image
import PIL.ImageOps
from datasets.utils import tqdm

from .raw_files import Ledger, RawFolder
from .raw_folder import ALLOW_LINKS

# Formats whose decoders are Pillow's own; others start programs (EPS) or need plug-ins on the reader's machine.
PHOTO_FORMATS = ("JPEG", "PNG", "WEBP", "GIF")

# Photos that wait for a thread at most.
PROVED_TOGETHER = 10_000

# What Pillow's decoders raise on damaged bytes.
DECODING_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    EOFError,
    MemoryError,
    AttributeError,
    RuntimeError,
    struct.error,
    zlib.error,
)


class Rejected(ValueError):
    """A photo that cannot be used; its message is the reason that the report counts."""


def read_photo(raw: RawFolder, photo_id: str, max_bytes: int) -> bytes:
    """Returns the file's own bytes; raises `Rejected` where there is no such file inside the raw folder, or behind a
    link out of it that is allowed."""
    try:
        path = (raw.photo_folder / f"{photo_id}{raw.extension}").resolve()
        if not raw.allow_links and not path.is_relative_to(str(raw.root)):
            raise Rejected(f"photo leads outside the raw folder; {ALLOW_LINKS}")
        if not path.is_file():
            raise Rejected("photo has no file")
        if path.stat().st_size > max_bytes:
            raise Rejected("photo file has too many bytes")
        return path.read_bytes()
    except (OSError, RuntimeError):  # RuntimeError: a symbolic link that leads to itself
        raise Rejected("photo cannot be read") from None


def prove_decodable(content: bytes, max_pixels: int) -> None:
    """Raises `Rejected` unless `content` decodes as `datasets.Image` will decode it for the reader of a row.

    The pixels are counted from the header, before anything is decoded.
    """
    try:
        with PIL.Image.open(io.BytesIO(content), formats=PHOTO_FORMATS) as header:
            width, height = header.size
        if width * height <= max_pixels:
            datasets.Image().decode_example({"bytes": content, "path": None})
    except PIL.Image.DecompressionBombError:
        raise Rejected("photo has too many pixels") from None
    except DECODING_ERRORS:
        raise Rejected("photo does not decode") from None
    if width * height > max_pixels:
        raise Rejected("photo has too many pixels")


def shrink(content: bytes, side: int) -> bytes:
    """The photo with at most `side` pixels a side, as a JPEG; its own bytes where it is no larger."""
    with PIL.Image.open(io.BytesIO(content), formats=PHOTO_FORMATS) as photo:
        if max(photo.size) <= side:
            return content
        small = _upright_rgb(photo)
    small.thumbnail((side, side))
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def _upright_rgb(photo: PIL.Image.Image) -> PIL.Image.Image:
    """16 bits scaled to 8, and what is transparent on white: as the model's processor, which a loading script cannot
    import, sees a photo that is not shrunk."""
    photo = PIL.ImageOps.exif_transpose(photo)
    if photo.mode.startswith("I"):
        photo = PIL.Image.fromarray((np.clip(np.asarray(photo), 0, 65535) / 257).round().astype(np.uint8))
    elif photo.has_transparency_data:
        photo = photo.convert("RGBA")
        photo = PIL.Image.alpha_composite(PIL.Image.new("RGBA", photo.size, "white"), photo)
    return photo.convert("RGB")


class Album:
    """The photos of a build: each is proved to decode once, and is the same file when a row takes it in."""

    def __init__(self, raw: RawFolder, max_bytes: int, max_pixels: int, side: int = 0) -> None:
        """`side` 0 keeps the files' own bytes; else see `shrink`."""
        self._raw, self._max_bytes, self._max_pixels, self._side = raw, max_bytes, max_pixels, side
        self._proofs: dict[str, tuple[int, bytes] | Rejected] = {}

    @property
    def usable(self) -> list[str]:
        """The photos that are proved."""
        return [photo_id for photo_id, proof in self._proofs.items() if not isinstance(proof, Rejected)]

    def prove(self, photo_ids: Iterable[str], number: int, threads: int, ledger: Ledger) -> list[str]:
        """Opens and decodes each photo, unless it has been, in `threads`; counts those that cannot be used, and
        returns their ids.

        Args:
            photo_ids: of so many photos as `number` says, each once.
        """
        bad, photo_ids = [], iter(photo_ids)
        # Pillow decodes without the lock of the interpreter. Warnings are the process's own, hence silenced out here.
        with (
            warnings.catch_warnings(),
            ThreadPoolExecutor(threads) as pool,
            tqdm(desc="photos", total=number, unit=" photos") as bar,
        ):
            warnings.simplefilter("ignore")
            while some := list(islice(photo_ids, PROVED_TOGETHER)):
                new = [photo_id for photo_id in some if photo_id not in self._proofs]
                bar.update(len(some) - len(new))
                for photo_id, proof in zip(new, pool.map(self._proof, new), strict=True):
                    self._proofs[photo_id] = proof
                    bar.update()
                for photo_id in some:
                    if isinstance(proof := self._proofs[photo_id], Rejected):
                        ledger.drop("photos", str(proof))
                        bad.append(photo_id)
        return bad

    def _proof(self, photo_id: str) -> tuple[int, bytes] | Rejected:
        try:
            content = read_photo(self._raw, photo_id, self._max_bytes)
            prove_decodable(content, self._max_pixels)
        except Rejected as rejected:
            return rejected
        return _size_and_digest(content)

    def size(self, photo_id: str) -> int:
        """The bytes of the file of a proved photo."""
        proof = self._proofs[photo_id]
        assert not isinstance(proof, Rejected)
        return proof[0]

    def content(self, photo_id: str) -> bytes:
        """The bytes of a photo of a row, from the same file that was proved to decode.

        Raises:
            ValueError: if the file is no longer the one that was proved.
        """
        try:
            content = read_photo(self._raw, photo_id, self._max_bytes)
        except Rejected as rejected:
            raise ValueError(f"photo {photo_id} was there when the build began, now: {rejected}") from None
        if _size_and_digest(content) != self._proofs[photo_id]:
            raise ValueError(f"the file of photo {photo_id} changed since the build began")
        return shrink(content, self._side) if self._side else content


def _size_and_digest(content: bytes) -> tuple[int, bytes]:
    return len(content), blake2b(content, digest_size=16).digest()
