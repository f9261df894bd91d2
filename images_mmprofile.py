"""Photos as people have them, of any source and mode, to upright RGB images; broken and oversized ones are refused."""

import io
import os
import re
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, ImageFile

from .photo_files_mmprofile import FORMATS, MAX_BYTES, exif_orientation, read_photo_file, webp_size

Photo = Image.Image | np.ndarray | torch.Tensor | str | os.PathLike | bytes | Mapping

# Resizing holds numbers for each pixel of a side.
MAX_SIDE = 65_535
SHOWN_PATH = 300  # characters; what is longer may be a file's content
# A path may hold colons; pathlib makes one slash of two.
ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+:/|data:", re.IGNORECASE)
STRIP_PIXELS = 1_000_000
WEBP_COST = 1.5  # the memory that decoding takes, of that of the others; measured
# EXIF orientation -> what makes the photo upright.
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# Pillow lets through whatever its decoders meet in a broken file.
DECODER_ERRORS = (
    OSError,
    ValueError,
    RuntimeError,
    SyntaxError,
    EOFError,
    LookupError,
    TypeError,
    ArithmeticError,
    MemoryError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
    Warning,  # where the user made them errors
)


@dataclass(frozen=True)
class OpenedPhoto:
    """A photo whose header is read.

    Args:
        image: as Pillow has it, decoded or not; of a WebP its file, as Pillow's opening one takes the memory.
        name: what errors call it.
        orientation: EXIF's, 1 to 8.
        size: width and height.
    """

    image: Image.Image | bytes
    name: str
    orientation: int
    size: tuple[int, int]

    @property
    def cost(self) -> int:
        """Pixels whose decoding takes as much memory, about 15 bytes each. A WebP's library holds two more photos."""
        return int(self.size[0] * self.size[1] * (WEBP_COST if isinstance(self.image, bytes) else 1))

    def to_rgb(self, max_pixels: int) -> Image.Image:
        """Decoded and upright; errors as of `load_rgb`."""
        name, (width, height) = self.name, self.size
        if not 0 < width * height <= max_pixels or max(width, height) > MAX_SIDE:
            raise ValueError(
                f"{name} has {width} x {height} pixels; it may have 1 to {max_pixels} (max_image_pixels) and"
                f" {MAX_SIDE} on a side"
            )
        image = self.image if isinstance(self.image, Image.Image) else _open(self.image, name)
        if image.size != self.size:
            raise ValueError(f"{name} is broken: its header contradicts itself")
        try:
            rgb = _to_rgb(image)
        except DECODER_ERRORS as error:
            raise ValueError(f"{name} is broken{_reason(error)}") from None
        return rgb.transpose(TURNS[self.orientation]) if self.orientation in TURNS else rgb


def load_rgb(photo: Photo, max_pixels: int) -> Image.Image:
    """A photo as an upright RGB image.

    Args:
        photo: a PIL image; the path of a local file or the bytes of one (of an animation the first frame counts); or
            an array as `image_from_array` takes it; or `{"bytes": ..., "path": ...}`, as `datasets` has a photo that
            is not decoded, in which the path counts where there are no bytes. A URL is never fetched. A path may be
            absolute or hold `..`, on purpose: it is the caller's, never a stranger's. Files are of `FORMATS`, of up to
            `MAX_BYTES`.
        max_pixels: the most pixels, compared with the header before anything is decoded.

    Raises:
        ValueError: if it is none of these, there is no such file, its content is no photo or a broken one, or it has
            no pixels or too many. No bytes of the file are quoted.
    """
    return open_photo(photo).to_rgb(max_pixels)


def open_photo(photo: Photo) -> OpenedPhoto:
    """The photo, its header read; arguments and errors as of `load_rgb`."""
    if isinstance(photo, Mapping) and set(photo) == {"bytes", "path"}:
        photo = photo["path"] if photo["bytes"] is None else photo["bytes"]
    if photo is None:
        raise ValueError("there is no photo, but null (None) in its place; leave it out")
    if isinstance(photo, np.ndarray | torch.Tensor):
        photo = image_from_array(photo)
    if isinstance(photo, Image.Image):
        name = f"the {photo.mode} image"
        content = _undecoded(photo, name)
        if content is None:
            orientation = exif_orientation(photo.info.get("exif"), photo.info.get("xmp"))
            return OpenedPhoto(photo, name, orientation, photo.size)
    elif isinstance(photo, bytes | bytearray | memoryview):
        name, content = f"the image of {len(photo)} bytes", bytes(photo)
    elif not isinstance(photo, str | os.PathLike):
        raise ValueError(f"an image is a PIL image, a path, bytes or an array, got {type(photo).__name__}")
    elif not os.path.isfile(photo):  # nor is a folder or a device
        path = os.fsdecode(photo)
        if is_address(path):
            raise ValueError(f"an image is a local file or its bytes, no address is fetched, got {shown_path(path)}")
        raise ValueError(f"there is no local image file {shown_path(path)}")
    else:
        name, content = f"image {os.fspath(photo)!r}", _read_file(photo)
    return _identify(content, name)


def image_from_array(array: np.ndarray | torch.Tensor) -> Image.Image:
    """An array (height, width), (height, width, 1, 3 or 4) or (3, height, width) as a PIL image.

    Args:
        array: uint8, or floats from 0 to 1. Where channels may stand first or last, they stand last.

    Raises:
        ValueError: if shape, type or range is another.
    """
    if isinstance(array, torch.Tensor):
        array = array.detach().cpu()
        array = (array.float() if array.is_floating_point() else array).numpy()  # NumPy has no bfloat16
    shape = array.shape
    if array.ndim == 3 and shape[0] == 3 and shape[2] not in (1, 3, 4):
        array = array.transpose(1, 2, 0)
    if array.size == 0 or array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 3, 4)):
        raise ValueError(
            "an image array has the shape (height, width), (height, width, 1, 3 or 4) or (3, height, width),"
            f" got {tuple(shape)}"
        )
    if np.issubdtype(array.dtype, np.floating):
        if not (array.min() >= 0 and array.max() <= 1):  # nor is nan
            raise ValueError(f"an image array of floats lies in 0..1, got {array.min()} to {array.max()}")
        array = (array.astype(np.float32) * 255).round().astype(np.uint8)
    if array.dtype != np.uint8:
        raise ValueError(f"an image array is uint8, or floats in 0..1, got {array.dtype}")
    return Image.fromarray(np.ascontiguousarray(array[..., 0] if array.shape[2:] == (1,) else array))


def is_address(path: str) -> bool:
    """Whether it is a URL, of the web or of data, and no path."""
    return ADDRESS.match(path) is not None


def shown_path(path: str) -> str:
    """A path or an address, for an error; without what may be a photo itself, in base64."""
    if path[:5].lower() == "data:":
        path = path.partition(",")[0]
    return repr(path) if len(path) <= SHOWN_PATH else f"of {len(path)} characters"


def _read_file(path: str | os.PathLike) -> bytes:
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size > MAX_BYTES:
                raise ValueError(f"image {os.fspath(path)!r} has {size} bytes; it may have up to {MAX_BYTES}")
            return file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ValueError(f"image {os.fspath(path)!r} cannot be opened: {error.strerror}") from None


def _undecoded(image: Image.Image, name: str) -> bytes | None:
    """The file of an image that was opened and not yet decoded, so that it is read as any other file; None of what is
    decoded, or a later frame of an animation."""
    if not isinstance(image, ImageFile.ImageFile) or not image.tile or not image.fp:
        return None
    if image.format not in (*FORMATS, "MPO"):
        raise ValueError(
            f"{name} is of the format {image.format}, none of {', '.join(FORMATS)}; what is decoded, by its method"
            " load(), may be of any"
        )
    if image.tell():
        return None
    try:
        place = image.fp.tell()
        image.fp.seek(0)
        content = image.fp.read(MAX_BYTES + 1)
        image.fp.seek(place)
    except (OSError, ValueError):
        raise ValueError(f"{name} cannot be read, its file is closed") from None
    return content


def _identify(content: bytes, name: str) -> OpenedPhoto:
    if not content:
        raise ValueError(f"{name} is empty")
    if len(content) > MAX_BYTES:
        raise ValueError(f"{name} has more than {MAX_BYTES} bytes")
    try:
        content, orientation = read_photo_file(content)
        if content.startswith(b"RIFF"):
            return OpenedPhoto(content, name, orientation, webp_size(content))
    except ValueError as error:
        raise ValueError(f"{name} is {error}") from None
    image = _open(content, name)
    return OpenedPhoto(image, name, orientation, image.size)


def _open(content: bytes, name: str) -> Image.Image:
    try:
        return Image.open(io.BytesIO(content), formats=FORMATS)
    except DECODER_ERRORS as error:
        raise ValueError(f"{name} is broken or too large{_reason(error)}") from None


def _reason(error: Exception) -> str:
    """Pillow's, where it is a plain sentence: what quotes of the file has quotes and backslashes."""
    text = " ".join(str(error).split())
    return f": {text}" if re.fullmatch(r"[\w ,.():;-]{1,120}", text) else ""


def _to_rgb(image: Image.Image) -> Image.Image:
    """16 bits scaled to 8, and what is transparent on white. Converted in strips, so that beside the decoded photo and
    the result nothing large is held."""
    image.load()
    if image.mode == "RGB" and not image.has_transparency_data:
        return image
    rgb = Image.new("RGB", image.size)
    rows = max(1, STRIP_PIXELS // image.width)
    for top in range(0, image.height, rows):
        strip = image.crop((0, top, image.width, min(top + rows, image.height)))
        if strip.mode.startswith("I"):  # Pillow's own conversion clips these at 255
            grey = np.clip(np.asarray(strip), 0, 65535)
            white = grey == image.info.get("transparency", -1)
            strip = Image.fromarray(np.where(white, 255, (grey / 257).round()).astype(np.uint8))
        elif strip.has_transparency_data:
            strip = strip.convert("RGBA")
            strip = Image.alpha_composite(Image.new("RGBA", strip.size, "white"), strip)
        rgb.paste(strip.convert("RGB"), (0, top))
    return rgb
