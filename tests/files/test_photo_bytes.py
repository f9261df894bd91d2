"""Photos handed on as bytes are to the model what the processor makes of the photos, to the bit."""

import numpy as np
import pytest
import torch
from transformers import CLIPImageProcessorPil, SiglipImageProcessorPil, ViTImageProcessorPil

from files.photo_bytes import look_up, pixel_table, resized
from systems.presets import tiny_processor
from tests.tiny_corpus import SCHEMA

IMAGE_PROCESSORS = {
    "vit": ViTImageProcessorPil(size={"height": 12, "width": 20}),
    "smaller than a table": ViTImageProcessorPil(size={"height": 3, "width": 5}),
    "as it comes": ViTImageProcessorPil(size={"height": 16, "width": 16}, do_normalize=False, do_rescale=False),
    "other scale": ViTImageProcessorPil(size={"height": 9, "width": 9}, rescale_factor=0.01, image_std=[3, 2, 1]),
    "siglip": SiglipImageProcessorPil(size={"height": 30, "width": 30}),
    "clip": CLIPImageProcessorPil(size={"shortest_edge": 24}, crop_size={"height": 20, "width": 18}),
}


class Centred(ViTImageProcessorPil):
    """Takes each photo's mean away, which no table can."""

    def normalize(self, image, *arguments, **options):
        return image - image.mean()


class Smoothed(ViTImageProcessorPil):
    """Resizes to fractions of a byte."""

    def resize(self, *arguments, **options):
        return super().resize(*arguments, **options) + 0.5


def processor(image_processor):
    found = tiny_processor(["user likes a place"], SCHEMA, vocab_size=400)
    found.image_processor = image_processor
    return found


def photo(seed, size):
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)


def bytes_of(seed, size, reader):
    return torch.from_numpy(resized(photo(seed, size), reader))


@pytest.mark.parametrize("name", IMAGE_PROCESSORS)
def test_a_table_makes_the_pixel_values_of_the_processor(name):
    reader = processor(IMAGE_PROCESSORS[name])
    table = pixel_table(reader)
    for seed, size in enumerate([(40, 60), (61, 33), (5, 300)]):
        expected = reader.encode_images([[photo(seed, size)]])["pixel_values"][0, 0]
        found = look_up(bytes_of(seed, size, reader), table)
        assert found.dtype == expected.dtype and torch.equal(found, expected)


def test_a_batch_of_photos_keeps_its_shape():
    reader = processor(IMAGE_PROCESSORS["vit"])
    pixels = torch.stack([bytes_of(seed, (30, 30), reader) for seed in range(4)]).unflatten(0, (2, 2))
    photos = [photo(seed, (30, 30)) for seed in range(4)]
    expected = reader.encode_images([photos[:2], photos[2:]])["pixel_values"]
    assert torch.equal(look_up(pixels, pixel_table(reader)), expected)


@pytest.mark.parametrize(
    ("kind", "message"), [(Centred, "depend on more than its byte"), (Smoothed, "does not leave bytes")]
)
def test_a_processor_that_looks_at_more_than_a_byte_is_told(kind, message):
    with pytest.raises(ValueError, match=message):
        pixel_table(processor(kind(size={"height": 16, "width": 16})))
