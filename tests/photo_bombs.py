"""Files that are small and would take much memory or time, of every format that is accepted, and some that are not."""

import io
import struct
import zlib
from collections.abc import Iterator

from PIL import Image

SIDE, WEBP_SIDE = 5000, 4080  # of the largest photos that the handler takes


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(*chunks: bytes, side: int = 64, pixels: bytes | None = None) -> bytes:
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
    data = png_chunk(b"IDAT", pixels or zlib.compress(b"\0" * (side * (3 * side + 1))))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + data + png_chunk(b"IEND", b"")


def zeros_packed(megabytes: int) -> bytes:
    packer = zlib.compressobj()
    return b"".join(packer.compress(bytes(1_000_000)) for _ in range(megabytes)) + packer.flush()


def exif_of_itself(entries: int, size: int) -> bytes:
    """EXIF data each entry of which says that it is as large as all of them."""
    rows = [struct.pack("<HHII", 0x0200 + number, 7, size - 20, 10) for number in range(entries)]
    return (b"II*\0" + struct.pack("<IH", 8, entries) + b"".join(rows)).ljust(size, b"\0")


def saved(image: Image.Image, form: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def segment(kind: int, data: bytes = b"") -> bytes:
    return bytes([0xFF, kind]) + struct.pack(">H", len(data) + 2) + data


def jpeg_of_scans(side: int, scans: int) -> bytes:
    """A progressive JPEG that goes over the pixels again and again and says nothing new."""
    whole = saved(Image.new("L", (side, side)), "JPEG", progressive=True)
    blocks = (side // 8) ** 2
    # A table of one code, which says that the next 2^14 blocks and more hold nothing.
    table = segment(0xC4, b"\x10" + bytes([1] + [0] * 15) + b"\xe0")
    scan = segment(0xDA, bytes([1, 1, 0, 1, 63, 0]))
    data = b"".join(b"\x00\x00" for _ in range(blocks // 2**14 + 1))
    empty = (scan + data) * scans
    return whole[:-2] + table + empty + b"\xff\xd9"


def with_segments(jpeg: bytes, segments: bytes) -> bytes:
    return jpeg[:2] + segments + jpeg[2:]


def rotated(orientation: int = 6) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def large() -> Iterator[tuple[str, bytes]]:
    """Photos as large as the handler takes, in the forms that cost most; they are answered."""
    yield "JPEG", saved(Image.new("RGB", (SIDE, SIDE), "teal"), "JPEG", exif=rotated())
    yield (
        "progressive JPEG",
        saved(Image.new("RGB", (SIDE, SIDE)), "JPEG", progressive=True, subsampling=0, exif=rotated()),
    )
    yield "JPEG of noise", saved(Image.effect_noise((SIDE, SIDE), 40).convert("RGB"), "JPEG", quality=45)
    yield "JPEG of CMYK", saved(Image.new("CMYK", (SIDE, SIDE)), "JPEG", progressive=True, exif=rotated())
    yield "PNG", saved(Image.new("RGB", (SIDE, SIDE)), "PNG", compress_level=1, exif=rotated())
    yield "PNG of RGBA", saved(Image.new("RGBA", (SIDE, SIDE)), "PNG", compress_level=1, exif=rotated())
    yield "PNG of 16 bits", saved(Image.new("I;16", (SIDE, SIDE)), "PNG", compress_level=1)
    yield "PNG of a palette", saved(Image.new("P", (SIDE, SIDE)), "PNG", compress_level=1, transparency=0)
    yield "GIF", saved(Image.new("P", (SIDE, SIDE)), "GIF", transparency=0)
    yield "WebP", saved(Image.new("RGB", (WEBP_SIDE, WEBP_SIDE)), "WEBP", method=0, exif=rotated())
    yield (
        "lossless WebP",
        saved(Image.new("RGBA", (WEBP_SIDE, WEBP_SIDE)), "WEBP", lossless=True, method=0, exif=rotated()),
    )
    yield "BMP", saved(Image.new("1", (SIDE, SIDE)), "BMP")
    frames = [Image.new("RGB", (SIDE // 2, SIDE // 2), colour) for colour in ("red", "green", "blue") * 3]
    for form in ("GIF", "WEBP", "PNG"):
        yield f"{form} of frames", saved(frames[0], form, save_all=True, append_images=frames[1:])


def hostile() -> Iterator[tuple[str, bytes]]:
    """Files that cost much more than they say, or whose cost cannot be known."""
    small = saved(Image.new("RGB", (64, 64)), "JPEG")
    yield "JPEG of segments", with_segments(small, segment(0xE5) * 1_000_000)
    yield "JPEG of comments", with_segments(small, segment(0xFE, b"x") * 1_000_000)
    yield "JPEG of scans", jpeg_of_scans(2000, 20_000)
    yield "JPEG of EXIF", with_segments(small, segment(0xE1, b"Exif\0\0" + exif_of_itself(5_000, 65_500)) * 100)
    yield "JPEG of a profile", with_segments(small, segment(0xE2, b"ICC_PROFILE\0\1\1" + bytes(65_000)) * 140)
    yield "PNG of EXIF", png(png_chunk(b"eXIf", exif_of_itself(60_000, 5_000_000)))
    yield "PNG of text", png(png_chunk(b"zTXt", b"Comment\0\0" + zeros_packed(300)))
    yield "PNG of texts", png(png_chunk(b"iTXt", b"a\0\1\0\0\0" + zeros_packed(1)) * 3_000)
    yield "PNG of a profile", png(png_chunk(b"iCCP", b"a\0\0" + zeros_packed(300)))
    yield "PNG of chunks", png(png_chunk(b"prIv", b"x") * 600_000)
    yield "PNG of more pixels", png(pixels=zeros_packed(3000))
    gif = saved(Image.new("P", (64, 64)), "GIF")
    head = 13 + (3 << (gif[10] & 7) + 1 if gif[10] & 0x80 else 0)
    yield "GIF of a comment", gif[:head] + b"!\xfe" + (b"\xff" + b"x" * 255) * 35_000 + b"\0" + gif[head:]
    yield "GIF of comments", gif[:head] + b"!\xfe\1x\0" * 1_500_000 + gif[head:]
    yield (
        "GIF whose picture is larger",
        b"GIF89a"
        + struct.pack("<HHBBB", 1, 1, 0, 0, 0)
        + struct.pack("<BHHHHB", 44, 0, 0, 65535, 65535, 0)
        + b"\x08\x02\x01\x00\x00;",
    )
    yield "WebP of EXIF", saved(Image.new("RGB", (64, 64)), "WEBP", exif=exif_of_itself(60_000, 5_000_000))
    vp8l = struct.pack("<BI", 0x2F, 16382 | 16382 << 14)
    yield "WebP of a header", b"RIFF" + struct.pack("<I", 22) + b"WEBPVP8L" + struct.pack("<I", 5) + vp8l + b"\0" * 5
    yield "wide BMP", saved(Image.new("1", (25_000_000, 1)), "BMP")
    yield "wide PNG", saved(Image.new("1", (25_000_000, 1)), "PNG")
    header = struct.pack("<IiiHHIIiiII", 40, 20_000, 1_000, 1, 8, 1, 0, 0, 0, 256, 0)
    runs = b"\0\2\0\xff" * 3 + b"\0\1"
    yield (
        "BMP of runs",
        b"BM" + struct.pack("<IHHI", 54 + 1024 + len(runs), 0, 0, 54 + 1024) + header + bytes(1024) + runs,
    )
    yield "TIFF of a tile", tiff_of_a_tile(12_000)
    yield "AVIF", b"\0\0\0\x20ftypavif\0\0\0\0avifmif1miaf" + bytes(100)


def tiff_of_a_tile(side: int) -> bytes:
    """64 x 64, of one deflated tile that is larger."""
    pixels = zlib.compress(bytes(side * side))
    entries = [(256, 64), (257, 64), (258, 8), (259, 8), (262, 1), (277, 1), (322, side), (323, side), (324, 8)]
    entries += [(325, len(pixels))]
    rows = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in entries)
    start = 8 + len(pixels)
    return b"II*\0" + struct.pack("<I", start) + pixels + struct.pack("<H", len(entries)) + rows + bytes(4)
