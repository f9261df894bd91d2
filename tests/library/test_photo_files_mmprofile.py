"""Photos' files: which way is up, whatever the EXIF data are, and nothing read that could cost any memory or time."""

import io
import re
import struct
import time
import tracemalloc

import numpy as np
import pytest
from PIL import Image

from mmprofile.images_mmprofile import load_rgb, open_photo
from mmprofile.photo_files_mmprofile import MAX_BYTES, exif_orientation
from tests.photo_bombs import hostile, jpeg_of_scans, saved, segment, tiff_of_a_tile, with_segments

WIDE = Image.new("RGB", (48, 32), "teal")
HOSTILE = dict(hostile())
# What stands in them is left out, so that the picture is seen.
HARMLESS = ("JPEG of EXIF", "JPEG of a profile", "PNG of EXIF", "PNG of text", "PNG of texts", "PNG of a profile")
HARMLESS += ("PNG of more pixels", "WebP of EXIF")


def exif_of(*entries: bytes, order: str = "<", start: int = 8, count: int | None = None) -> bytes:
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", start)
    return head + struct.pack(f"{order}H", len(entries) if count is None else count) + b"".join(entries)


def entry(tag: int, kind: int, count: int, value: int, order: str = "<") -> bytes:
    return struct.pack(f"{order}HHI", tag, kind, count) + struct.pack(
        f"{order}{'HH' if kind == 3 else 'I'}", *[value, 0][: 2 if kind == 3 else 1]
    )


TURNED = entry(0x0112, 3, 1, 6)
BROKEN = {
    "nothing": b"",
    "no header": b"EXIF?",
    "cut off": exif_of(TURNED)[:-5],
    "starting beyond its end": exif_of(TURNED, start=999),
    "of more entries than there are": exif_of(entry(0x010F, 2, 4, 0), count=60_000),
    "of another kind": exif_of(entry(0x0112, 2, 1, 6)),
    "of many values": exif_of(entry(0x0112, 3, 900_000_000, 6)),
    "of no orientation there is": exif_of(entry(0x0112, 3, 1, 9)),
    "of zero": exif_of(entry(0x0112, 3, 1, 0)),
}


@pytest.mark.parametrize("name", BROKEN)
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "PIL"])
def test_a_photo_of_broken_exif_data_is_shown_as_it_lies(name, form):
    if form == "PIL":
        photo = WIDE.copy()
        photo.info["exif"] = BROKEN[name]
    else:
        photo = saved(WIDE, form, exif=b"Exif\0\0" * (form != "WEBP") + BROKEN[name] if BROKEN[name] else b"Exif\0\0")
    image = load_rgb(photo, 10_000)
    assert image.size == (48, 32)


@pytest.mark.parametrize("order", ["<", ">"])
def test_the_orientation_is_read_in_both_orders_behind_entries_that_are_broken(order):
    broken = entry(0x8769, 4, 1, 900_000_000, order), entry(0x010F, 2, 900_000_000, 900_000_000, order)
    exif = exif_of(*broken, entry(0x0112, 3, 1, 6, order), order=order)
    assert exif_orientation(exif) == exif_orientation(b"Exif\0\0" + exif) == 6
    assert exif_orientation(exif_of(entry(0x0112, 4, 1, 8, order), order=order)) == 8
    assert load_rgb(saved(WIDE, "JPEG", exif=b"Exif\0\0" + exif), 10_000).size == (32, 48)


def test_xmp_turns_a_photo_that_has_no_exif_data():
    xmp = b'<x:xmpmeta><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    jpeg = with_segments(saved(WIDE, "JPEG"), segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + xmp))
    for photo in (jpeg, saved(WIDE, "WEBP", xmp=xmp), Image.open(io.BytesIO(jpeg))):
        assert load_rgb(photo, 10_000).size == (32, 48)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_costs_little_and_is_refused_or_read_without_its_burden(name):
    content = HOSTILE[name]
    tracemalloc.start()
    start = time.process_time()
    try:
        if name in HARMLESS:
            assert load_rgb(content, 25_000_000).size == (64, 64)
        else:
            with pytest.raises(ValueError) as error:
                load_rgb(content, 25_000_000)
            assert type(error.value) is ValueError and len(str(error.value)) < 250 and "\\x" not in str(error.value)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 30_000_000 and time.process_time() - start < 5


@pytest.mark.parametrize(
    "start", [b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0", b"GIF89a", b"RIFF\x10\0\0\0WEBPVP8X", b"BM", b""]
)
def test_an_error_quotes_neither_a_files_bytes_nor_python(start):
    content = start + b"SECRET" * 40
    with pytest.raises(ValueError) as error:
        load_rgb(content, 10_000)
    said = str(error.value)
    assert re.fullmatch(rf"the image of {len(content)} bytes [\w ,.:;()-]+", said) and "SECRET" not in said


def test_an_image_that_is_opened_and_not_decoded_is_read_as_its_file():
    for content in (HOSTILE["BMP of runs"], jpeg_of_scans(64, 200)):
        with pytest.raises(ValueError, match="run-length encoded BMP|more than 100 scans"):
            load_rgb(Image.open(io.BytesIO(content)), 25_000_000)
    with pytest.raises(ValueError, match="of the format TIFF, none of JPEG"):
        load_rgb(Image.open(io.BytesIO(tiff_of_a_tile(64))), 25_000_000)
    decoded = Image.open(io.BytesIO(saved(WIDE, "TIFF")))
    decoded.load()
    assert load_rgb(decoded, 10_000).tobytes() == WIDE.tobytes()


def test_what_else_a_file_holds_does_not_change_its_pixels():
    plain = saved(WIDE, "JPEG", quality=95)
    burdened = with_segments(
        plain, segment(0xE2, b"ICC_PROFILE\0\1\1" + b"x" * 99) + segment(0xFE, b"a \xff\xda comment")
    )
    burdened += b"\xff\xd8 and a film after the picture \xff\xda" * 200
    progressive = saved(WIDE, "JPEG", quality=95, progressive=True)
    expected = load_rgb(plain, 10_000).tobytes()
    assert load_rgb(burdened, 10_000).tobytes() == expected == Image.open(io.BytesIO(plain)).tobytes()
    assert load_rgb(progressive, 10_000).tobytes() == Image.open(io.BytesIO(progressive)).convert("RGB").tobytes()
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "green")]
    gif = saved(frames[0], "GIF", save_all=True, append_images=frames[1:], comment=b"x" * 999, loop=3)
    assert load_rgb(gif, 10_000).tobytes() == frames[0].tobytes()


def test_a_file_is_not_read_before_its_size_is_looked_at(tmp_path):
    with open(tmp_path / "large.jpg", "wb") as file:
        file.truncate(3_000_000_000)
    with pytest.raises(ValueError, match=rf"has 3000000000 bytes; it may have up to {MAX_BYTES}"):
        load_rgb(tmp_path / "large.jpg", 10_000)


def test_a_webp_costs_half_as_much_again():
    assert open_photo(saved(WIDE, "JPEG")).cost == 48 * 32 and open_photo(saved(WIDE, "WEBP")).cost == 72 * 32


def test_what_follows_a_webp_is_none_of_it():
    assert open_photo(saved(WIDE, "WEBP") + b"\0" * 400_000).to_rgb(10_000).size == WIDE.size


def test_the_transparent_grey_of_16_bits_is_white_as_that_of_8():
    grey = np.full((4, 4), 30_000, np.uint16)
    grey[:2] = 0
    file = io.BytesIO()
    Image.fromarray(grey).save(file, "PNG", transparency=0)
    rgb = np.asarray(open_photo(file.getvalue()).to_rgb(10_000))
    assert rgb[:2].min() == 255 and (rgb[2:] == round(30_000 / 257)).all()
