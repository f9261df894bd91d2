"""Photos of a build: the files' own bytes, or made small where that is asked for."""

import io

import datasets
import numpy as np
import pytest
from PIL import Image

from dataset_script.mmprofile_yelp import build
from dataset_script.photos import shrink
from mmprofile.images_mmprofile import load_rgb
from tests.raw_corpus import hand_written, jpeg


def opened(content):
    return Image.open(io.BytesIO(content))


@pytest.mark.parametrize(
    ("size", "small"), [((400, 300), (100, 75)), ((10, 1000), (1, 100)), ((101, 101), (100, 100))]
)
def test_a_photo_is_made_small_in_its_shape(size, small):
    photo = opened(shrink(jpeg((200, 30, 40), size), 100))
    assert photo.format == "JPEG" and photo.size == small
    assert all(abs(a - b) < 4 for a, b in zip(photo.getpixel((0, 0)), (200, 30, 40), strict=True))


@pytest.mark.parametrize("size", [(1, 1), (100, 100), (100, 7)])
def test_a_photo_that_is_small_keeps_its_bytes(size):
    content = jpeg((1, 2, 3), size)
    assert shrink(content, 100) is content


@pytest.mark.parametrize("mode", ["RGBA", "P", "L", "CMYK", "1"])
def test_a_photo_of_any_mode_becomes_rgb(mode):
    buffer = io.BytesIO()
    Image.new(mode, (64, 32)).save(buffer, "JPEG" if mode == "CMYK" else "PNG")
    small = opened(shrink(buffer.getvalue(), 16))
    assert (small.mode, small.size) == ("RGB", (16, 8))


def sixteen_bits() -> Image.Image:
    return Image.fromarray(np.tile(np.linspace(0, 65535, 64).astype(np.uint16), (32, 1)))


@pytest.mark.parametrize(
    "photo", [Image.new("RGBA", (64, 32), (255, 0, 0, 0)), Image.new("LA", (64, 32), (9, 90)), sixteen_bits()]
)
def test_a_small_photo_is_what_a_model_would_see_of_the_large_one(photo):
    buffer = io.BytesIO()
    photo.save(buffer, "PNG")
    expected = load_rgb(buffer.getvalue(), 10_000).resize((16, 8), Image.Resampling.BICUBIC)
    small = opened(shrink(buffer.getvalue(), 16))
    assert np.abs(np.asarray(small).astype(int) - np.asarray(expected)).mean() < 4


def test_a_photo_that_lies_on_its_side_is_stood_up():
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned by a quarter
    buffer = io.BytesIO()
    Image.new("RGB", (64, 32)).save(buffer, "JPEG", exif=exif)
    small = opened(shrink(buffer.getvalue(), 32))
    assert small.size == (16, 32) and not small.getexif().get(0x0112)


def test_a_build_with_an_image_size_holds_no_larger_photo(tmp_path):
    raw = hand_written()
    raw.files = {photo: jpeg((9, 9, 9), (40, 30)) for photo in raw.files} | {"slice-0": jpeg((7, 7, 7), (5, 5))}
    folder = raw.write(tmp_path / "raw")
    build(folder, tmp_path / "small", image_size=16)
    build(folder, tmp_path / "whole")
    sizes = {}
    for name in ("small", "whole"):
        rows = datasets.load_dataset(str(tmp_path / name), split="train", cache_dir=str(tmp_path / "hf"))
        reviews = [review for row in rows for review in row["reviews"]]
        photos = [(i, p) for r in reviews for i, p in zip(r["photo_ids"], r["images"], strict=True)]
        sizes[name] = {(photo_id == "slice-0", photo.size) for photo_id, photo in photos}
    assert sizes == {"small": {(False, (16, 12)), (True, (5, 5))}, "whole": {(False, (40, 30)), (True, (5, 5))}}
