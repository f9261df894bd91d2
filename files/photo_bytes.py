"""Photos as bytes, a quarter of `pixel_values`, and the table that makes these of them, to the bit."""

import numpy as np
import torch
from PIL import Image

from mmprofile import Photo


def resized(photo: Photo, processor) -> np.ndarray:
    """(3, height, width), uint8: a photo as the processor's resizing leaves it.

    Args:
        photo: as `MMProfileProcessor.load_image` takes it.
        processor: `MMProfileProcessor`.

    Raises:
        ValueError: if the photo cannot be read, or what resizing leaves are no bytes.
    """
    image = processor.load_image(photo)
    pixels = processor.image_processor(image, do_rescale=False, do_normalize=False, return_tensors="np")
    pixels = pixels["pixel_values"][0]
    if pixels.dtype != np.uint8 and not np.array_equal(pixels, pixels.astype(np.uint8)):
        raise ValueError(f"{type(processor.image_processor).__name__} does not leave bytes when it resizes")
    return pixels.astype(np.uint8)


def pixel_table(processor) -> torch.Tensor:
    """(3, 256), float32: the `pixel_values` of each byte of each channel, once a photo is resized.

    Args:
        processor: `MMProfileProcessor`. That the table is right is tried on a photo.

    Raises:
        ValueError: if a pixel's value depends on more than its byte.
    """
    ramp = Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16)).convert("RGB")
    values = processor.image_processor(ramp, do_resize=False, do_center_crop=False, return_tensors="pt")
    table = values["pixel_values"][0].flatten(1).float()
    photo = np.random.default_rng(0).integers(0, 256, (31, 47, 3), dtype=np.uint8)
    expected = processor.encode_images([[photo]])["pixel_values"][0, 0]
    pixels = torch.from_numpy(resized(photo, processor))
    if table.shape != (3, 256) or not torch.equal(look_up(pixels, table), expected):
        name = type(processor.image_processor).__name__
        raise ValueError(f"the values that {name} gives a pixel depend on more than its byte")
    return table


def look_up(pixels: torch.Tensor, table: torch.Tensor) -> torch.Tensor:
    """`pixel_values` of bytes.

    Args:
        pixels: (..., 3, height, width), uint8.
        table: (3, 256), on the same device.

    Returns:
        (..., 3, height, width), float32.
    """
    channel = torch.arange(3, dtype=torch.int32, device=pixels.device)[:, None, None]
    places = 256 * channel + pixels
    return table.flatten().index_select(0, places.flatten()).view(pixels.shape)
