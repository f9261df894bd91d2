"""Photos of any source and mode become the RGB pixels that a person sees; what is no photo is a `ValueError`."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.toy_processor import toy_processor

R, G, B, W, K = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0)
PIXELS = [[R, G], [B, W]]  # rows of pixels


def picture(mode: str = "RGB", pixels: list | None = None) -> Image.Image:
    pixels = PIXELS if pixels is None else pixels
    image = Image.new(mode, (len(pixels[0]), len(pixels)))
    for y, row in enumerate(pixels):
        for x, value in enumerate(row):
            image.putpixel((x, y), value)
    return image


def palette(transparent: int | None = None) -> Image.Image:
    image = picture("P", [[0, 1], [2, 3]])
    image.putpalette([*R, *G, *B, *W])
    if transparent is not None:
        image.info["transparency"] = transparent
    return image


def encoded(image: Image.Image, form: str = "PNG", **options) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def rows(image: Image.Image) -> list:
    assert image.mode == "RGB"
    return [[image.getpixel((x, y)) for x in range(image.width)] for y in range(image.height)]


def load(image, **options) -> list:
    return rows(toy_processor(**options).load_image(image))


def grey(*values) -> list:
    return [[(value, value, value) for value in values]]


MODES = {
    "RGB": (picture(), PIXELS),
    "grey": (picture("L", [[0, 128, 255]]), grey(0, 128, 255)),
    "black and white": (picture("1", [[0, 255]]), grey(0, 255)),
    "grey and alpha on white": (picture("LA", [[(0, 255), (0, 0), (100, 128)]]), grey(0, 255, 177)),
    "RGBA on white": (picture("RGBA", [[(*R, 255), (*R, 0), (0, 0, 0, 51)]]), [[R, W, (204, 204, 204)]]),
    "palette": (palette(), PIXELS),
    "palette with a transparent colour": (palette(transparent=0), [[W, G], [B, W]]),
    "CMYK": (picture("CMYK", [[(0, 255, 255, 0), (0, 0, 0, 255), (0, 0, 0, 0)]]), [[R, K, W]]),
    "16 bits": (picture("I;16", [[0, 257, 32896, 65535]]), grey(0, 1, 128, 255)),
    "16 bits, big-endian": (picture("I;16B", [[0, 257, 32896, 65535]]), grey(0, 1, 128, 255)),
    "16 bits in 32": (picture("I", [[-5, 0, 32896, 65535, 70000]]), grey(0, 0, 128, 255, 255)),
    "HSV": (picture("HSV", [[(0, 255, 255), (0, 0, 255)]]), [[R, W]]),
}


@pytest.mark.parametrize("name", MODES)
def test_every_mode_becomes_the_colours_that_one_sees(name):
    image, expected = MODES[name]
    assert load(image) == expected


@pytest.mark.parametrize("name", ["RGB", "grey", "black and white", "RGBA on white", "palette", "16 bits"])
def test_a_mode_read_from_a_file_is_the_same(name, tmp_path):
    image, expected = MODES[name]
    image.save(tmp_path / "photo.png")
    assert load(tmp_path / "photo.png") == expected
    assert load(str(tmp_path / "photo.png")) == expected
    assert load((tmp_path / "photo.png").read_bytes()) == expected


def test_a_transparent_colour_of_a_file_is_white():
    assert load(encoded(palette(), transparency=2)) == [[R, G], [W, W]]
    assert load(encoded(picture(), transparency=G)) == [[R, W], [B, W]]


@pytest.mark.parametrize(
    ("orientation", "expected"),
    [(1, PIXELS), (2, [[G, R], [W, B]]), (3, [[W, B], [G, R]]), (6, [[B, R], [W, G]]), (8, [[G, W], [R, B]])],
)
def test_a_photo_is_turned_as_its_exif_data_say(orientation, expected):
    exif = Image.Exif()
    exif[0x0112] = orientation
    assert load(encoded(picture(), exif=exif)) == expected
    assert load(Image.open(io.BytesIO(encoded(picture(), exif=exif)))) == expected
    assert load(encoded(picture(), "WEBP", lossless=True, exif=exif)) == expected


def test_of_an_animation_the_first_frame_counts():
    frames = [picture(pixels=[[colour]]) for colour in (R, G, B)]
    for form in ("GIF", "PNG", "WEBP"):
        options = {"lossless": True} if form == "WEBP" else {}
        assert load(encoded(frames[0], form, save_all=True, append_images=frames[1:], **options)) == [[R]]


def test_arrays_are_images_with_channels_first_or_last():
    array = np.array(PIXELS, dtype=np.uint8)  # (2, 2, 3)
    assert load(array) == PIXELS
    assert load(torch.from_numpy(array)) == PIXELS
    assert load(array.transpose(2, 0, 1)) == PIXELS
    assert load(torch.from_numpy(array).permute(2, 0, 1) / 255) == PIXELS
    assert load(torch.tensor(array / 255, dtype=torch.bfloat16, requires_grad=True)) == PIXELS
    assert load(np.array([[0.0, 0.5, 1.0]])) == grey(0, 128, 255)
    assert load(np.array([[[7], [8]]], dtype=np.uint8)) == grey(7, 8)
    assert load(np.array([[[*R, 255], [*R, 0]]], dtype=np.uint8)) == [[R, W]]
    assert load(np.array([[R], [G], [B]], dtype=np.uint8)) == [[R], [G], [B]]  # (3, 1, 3): channels last


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((2, 2, 2), np.uint8), r"got \(2, 2, 2\)"),
        (np.zeros((2,), np.uint8), r"got \(2,\)"),
        (np.zeros((0, 5, 3), np.uint8), r"got \(0, 5, 3\)"),
        (torch.zeros(1, 3, 2, 2), r"got \(1, 3, 2, 2\)"),
        (np.zeros((2, 2), np.int64), "uint8, or floats in 0..1, got int64"),
        (np.array([["a"]], dtype=object), "got object"),
        (np.array([[0.0, 255.0]]), r"lies in 0\.\.1, got 0\.0 to 255\.0"),
        (np.array([[-0.1, 0.5]]), "got -0.1 to 0.5"),
        (np.array([[np.nan, 0.5]]), "got nan to nan"),
    ],
)
def test_other_arrays_are_refused(array, message):
    with pytest.raises(ValueError, match=message):
        toy_processor().load_image(array)


def png_header(width: int, height: int) -> bytes:
    """A PNG that says it is that large and holds no pixels."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    header = struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    return b"\x89PNG\r\n\x1a\n" + header + b"\0\0\0\0IDAT"


NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8))


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (b"", "the image of 0 bytes is empty"),
        (b"<!DOCTYPE html><html>", "the image of 21 bytes is none of JPEG, PNG, WEBP, GIF, BMP$"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "is none of"),
        (encoded(NOISE, "JPEG")[:-300], "is broken: .*truncated"),
        (encoded(NOISE)[:-300], "is broken: "),
        (encoded(NOISE, "GIF")[:-300], "is broken: "),
        (encoded(NOISE, "WEBP")[:-300], "is broken"),
        (png_header(10_000, 10_000), r"has 10000 x 10000 pixels; it may have 1 to 64000000"),
        (png_header(100_000, 100_000), "is broken or too large: .*decompression bomb"),
        (Image.new("RGB", (0, 5)), "the RGB image has 0 x 5 pixels"),
        (Image.new("1", (8001, 8000)), "the 1 image has 8001 x 8000 pixels"),
        ("no/such.jpg", "there is no local image file 'no/such.jpg'"),
        (Path("no/such.jpg"), "there is no local image file 'no/such.jpg'"),
        ("nul\0byte" + "x" * 5000, "there is no local image file"),
        (str(Path(__file__).parent), "there is no local image file"),
        ("https://example.com/photo.jpg", "no address is fetched, got 'https://example.com/photo.jpg'$"),
        (Path("https://example.com/photo.jpg"), "no address is fetched, got 'https:/example.com/photo.jpg'$"),
        ("data:image/png;base64,AAAA", "no address is fetched, got 'data:image/png;base64'$"),
        ("QUJD" * 99, "there is no local image file of 396 characters$"),
        ({"bytes": None, "path": "no/such.jpg"}, "there is no local image file 'no/such.jpg'"),
        ({"bytes": None, "path": None}, r"there is no photo, but null \(None\) in its place; leave it out$"),
        (None, r"there is no photo, but null \(None\) in its place; leave it out$"),
        ({"path": "no/such.jpg"}, "an image is a PIL image, a path, bytes or an array, got dict"),
        ([picture()], "got list"),
    ],
)
@pytest.mark.filterwarnings("ignore:Image size")
def test_what_is_no_photo_is_refused_with_the_reason(image, message):
    with pytest.raises(ValueError, match=message) as caught:
        toy_processor().load_image(image)
    assert type(caught.value) is ValueError


def test_a_file_that_is_no_photo_is_named(tmp_path):
    (tmp_path / "page.jpg").write_text("<html>not found</html>")
    (tmp_path / "empty.jpg").touch()
    with pytest.raises(ValueError, match=r"image '.*page\.jpg' is none of"):
        toy_processor().load_image(tmp_path / "page.jpg")
    with pytest.raises(ValueError, match=r"image '.*empty\.jpg' is empty"):
        toy_processor().load_image(str(tmp_path / "empty.jpg"))


def test_the_limit_of_pixels_is_the_processors_and_inclusive():
    assert load(encoded(picture()), max_image_pixels=4) == PIXELS
    for image in (encoded(picture()), picture(), np.array(PIXELS, dtype=np.uint8)):
        with pytest.raises(ValueError, match=r"2 x 2 pixels; it may have 1 to 3 \(max_image_pixels\)"):
            toy_processor(max_image_pixels=3).load_image(image)
