"""Photos as people have them, of any source and mode, to upright RGB images; broken and oversized ones are refused."""

import io
import os
import struct
import zlib
from contextlib import nullcontext

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError

Photo = Image.Image | np.ndarray | torch.Tensor | str | os.PathLike | bytes

# Formats of photos. Of Pillow's others, some run programs (EPS) and most hold no photos.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "JPEG2000", "AVIF")
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


def load_rgb(photo: Photo, max_pixels: int) -> Image.Image:
    """A photo as an upright RGB image.

    Args:
        photo: a PIL image; the path of a local file or the bytes of one (of an animation the first frame counts); or
            an array as `image_from_array` takes it. A URL is never fetched.
        max_pixels: the most pixels, compared with the header before anything is decoded.

    Raises:
        ValueError: if it is none of these, there is no such file, its content is no photo or a broken one, or it has
            no pixels or too many.
    """
    if isinstance(photo, np.ndarray | torch.Tensor):
        photo = image_from_array(photo)
    if isinstance(photo, Image.Image):
        return _decode(photo, f"the {photo.mode} image", max_pixels)
    if isinstance(photo, bytes | bytearray | memoryview):
        name, opening = f"the image of {len(photo)} bytes", nullcontext(io.BytesIO(photo))
    elif not isinstance(photo, str | os.PathLike):
        raise ValueError(f"an image is a PIL image, a path, bytes or an array, got {type(photo).__name__}")
    elif not os.path.isfile(photo):  # nor is a folder, a device or a URL
        raise ValueError(f"there is no local image file {os.fspath(photo)!r}")
    else:
        name, opening = f"image {os.fspath(photo)!r}", _open_file(photo)
    with opening as file:
        return _decode(_identify(file, name), name, max_pixels)


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


def _open_file(path: str | os.PathLike) -> io.BufferedReader:
    try:
        return open(path, "rb")
    except OSError as error:
        raise ValueError(f"image {os.fspath(path)!r} cannot be opened: {error.strerror}") from None


def _identify(file: io.BufferedIOBase, name: str) -> Image.Image:
    """Reads the header."""
    start = file.read(16)
    if not start:
        raise ValueError(f"{name} is empty")
    try:
        return Image.open(file, formats=FORMATS)
    except UnidentifiedImageError:
        raise ValueError(f"{name} is none of {', '.join(FORMATS)}: it starts with {start!r}") from None
    except DECODER_ERRORS as error:
        raise ValueError(f"{name} is broken or too large: {error}") from None


def _decode(image: Image.Image, name: str, max_pixels: int) -> Image.Image:
    if not 0 < image.width * image.height <= max_pixels:
        raise ValueError(
            f"{name} has {image.width} x {image.height} pixels; it may have 1 to {max_pixels} (max_image_pixels)"
        )
    try:
        return _to_rgb(image)
    except DECODER_ERRORS as error:
        raise ValueError(f"{name} is broken: {error}") from None


def _to_rgb(image: Image.Image) -> Image.Image:
    """Turned upright, 16 bits scaled to 8, and what is transparent on white."""
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):  # Pillow's own conversion clips these at 255
        image = Image.fromarray((np.clip(np.asarray(image), 0, 65535) / 257).round().astype(np.uint8))
    elif image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")
