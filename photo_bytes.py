"""Photos as bytes, a quarter of `pixel_values`, and the table that makes these of them, to the bit."""

import numpy as np
import torch


def resized(photo, processor) -> np.ndarray:
    """(height, width, 3), uint8: a photo as the processor's resizing leaves it.

    Args:
        photo: as `MMProfileProcessor.load_image` takes it.
        processor: `MMProfileProcessor`.

    Raises:
        ValueError: if the photo cannot be read.
    """
    image = processor.load_image(photo)
    pixels = processor.image_processor(image, do_rescale=False, do_normalize=False, return_tensors="np")
    return pixels["pixel_values"][0].transpose(1, 2, 0).astype(np.uint8)


class PixelTable:
    """What a processor makes of each byte of a channel, once a photo is resized.

    Args:
        processor: `MMProfileProcessor`.

    Raises:
        ValueError: if it is one whose values are of more than a byte each.
    """

    def __init__(self, processor):
        ramp = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, axis=2)
        values = processor.image_processor(ramp, do_resize=False, do_center_crop=False, return_tensors="pt")
        self.values = values["pixel_values"][0].flatten(1).float()  # (3, 256)
        photo = np.random.default_rng(0).integers(0, 256, (61, 97, 3), dtype=np.uint8)
        pixels = resized(photo, processor)
        expected = processor.encode_images([[photo]])["pixel_values"][0, 0]
        if not torch.equal(self(torch.from_numpy(pixels.transpose(2, 0, 1))), expected):
            raise ValueError(f"{type(processor.image_processor).__name__} makes more of photos than of their bytes")

    def __call__(self, pixels: torch.Tensor) -> torch.Tensor:
        """`pixel_values` (..., 3, height, width), float32, of bytes of this shape, on their device."""
        self.values = self.values.to(pixels.device)
        channel = torch.arange(3, dtype=torch.int32, device=pixels.device)[:, None, None]
        places = 256 * channel + pixels
        return self.values.flatten().index_select(0, places.flatten()).view(pixels.shape)
