"""Files of photos -> what a decoder needs of them, and which way is up.

The formats are those whose header tells how large the decoded photo is. What else a file holds (comments, profiles,
previews, animations) is left out before Pillow reads it: such parts can be made to cost any memory and time.
"""

import re
import struct

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP")
MAX_BYTES = 200_000_000
MAX_PARTS = 20_000  # segments of a JPEG, chunks of a PNG or WebP, blocks before a GIF's first picture
MAX_SCANS = 100  # of a JPEG, each of which goes over all pixels; encoders write ten

# JPEG: what ends a scan's data; 0 and restart marks are in them.
MARK = re.compile(rb"\xff+[^\x00\xd0-\xd7\xff]")
STAND_ALONE = (0x01, *range(0xD0, 0xD9))
START_OF_SCAN, END_OF_IMAGE, EXIF_OR_XMP, COMMENT = 0xDA, 0xD9, 0xE1, 0xFE
APPLICATION = range(0xE0, 0xF0)
COLOURS = (0xE0, 0xEE)  # JFIF's and Adobe's, which tell the colour space

PNG_START = b"\x89PNG\r\n\x1a\n"
PNG_PIXELS = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")
RUN_LENGTHS = (1, 2)  # of a BMP: what a run leaves out is not bounded by the number of pixels
ORIENTATION = 0x0112
XMP_ORIENTATION = re.compile(rb"tiff:Orientation(?:=[\"']|>)([1-8])")


def read_photo_file(content: bytes) -> tuple[bytes, int]:
    """A photo's file without what it holds beside the first picture's pixels, and its EXIF orientation, 1 to 8. Where
    the EXIF data are broken the photo is upright as it lies.

    Raises:
        ValueError: if it is of none of `FORMATS`, has too many parts, or a part that is decoded without a bound.
    """
    try:
        if content.startswith(b"\xff\xd8\xff"):
            return _read_jpeg(content)
        if content.startswith(PNG_START):
            return _read_png(content)
        if content.startswith(b"RIFF") and content[8:12] == b"WEBP":
            return content, _webp_orientation(content)
        if content.startswith((b"GIF87a", b"GIF89a")):
            return _read_gif(content), 1
        if content.startswith(b"BM"):
            return _read_bmp(content), 1
    except (struct.error, IndexError):
        raise ValueError("broken: its header is truncated") from None
    raise ValueError(f"none of {', '.join(FORMATS)}")


def exif_orientation(exif: bytes | None, xmp: bytes | str | None = None) -> int:
    """1 to 8, of EXIF data or else of XMP; 1 where they are broken or do not tell.

    Nothing but this entry is read: the others may say that they are as large as all of the file, each.
    """
    exif = (exif or b"").removeprefix(b"Exif\0\0")
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(exif[:4])
    if order:
        try:
            (start,) = struct.unpack_from(f"{order}I", exif, 4)
            (entries,) = struct.unpack_from(f"{order}H", exif, start)
            for place in range(start + 2, start + 2 + 12 * entries, 12):
                tag, kind, count = struct.unpack_from(f"{order}HHI", exif, place)
                if tag == ORIENTATION and kind in (3, 4) and count == 1:
                    (value,) = struct.unpack_from(f"{order}{'H' if kind == 3 else 'I'}", exif, place + 8)
                    return value if 1 <= value <= 8 else 1
        except struct.error:
            return 1
    xmp = xmp.encode("utf-8", "replace") if isinstance(xmp, str) else xmp
    found = XMP_ORIENTATION.search(xmp or b"")
    return int(found[1]) if found else 1


def _read_jpeg(content: bytes) -> tuple[bytes, int]:
    kept, place, scans, exif, xmp = [b"\xff\xd8"], 2, 0, None, None
    for _ in range(MAX_PARTS):
        mark = MARK.search(content, place)
        if not mark:
            return b"".join(kept), exif_orientation(exif, xmp)
        kind, place = content[mark.end() - 1], mark.end()
        if kind == END_OF_IMAGE:
            return b"".join([*kept, b"\xff\xd9"]), exif_orientation(exif, xmp)
        if kind in STAND_ALONE:
            continue
        end = place + max(2, *struct.unpack_from(">H", content, place))
        if kind == EXIF_OR_XMP:
            if exif is None and content.startswith(b"Exif\0\0", place + 2):
                exif = content[place + 2 : end]
            elif xmp is None and content.startswith(b"http://ns.adobe.com/xap/1.0/\0", place + 2):
                xmp = content[place + 2 : end]
        if kind == START_OF_SCAN:
            scans += 1
            if scans > MAX_SCANS:
                raise ValueError(f"a JPEG of more than {MAX_SCANS} scans")
            following = MARK.search(content, end)
            end = following.start() if following else len(content)
        if kind not in APPLICATION and kind != COMMENT or kind in COLOURS:
            kept += [bytes([0xFF, kind]), content[place:end]]
        place = end
    raise ValueError(f"a JPEG of more than {MAX_PARTS} segments")


def _read_png(content: bytes) -> tuple[bytes, int]:
    kept, place, exif, xmp = [PNG_START], len(PNG_START), None, None
    for _ in range(MAX_PARTS):
        size, kind = struct.unpack_from(">I4s", content, place) if place + 8 <= len(content) else (0, b"IEND")
        end = place + 12 + size
        if kind in PNG_PIXELS:
            kept.append(content[place:end])
        elif kind == b"eXIf" and exif is None:
            exif = content[place + 8 : end - 4]
        elif kind == b"iTXt" and content.startswith(b"XML:com.adobe.xmp\0", place + 8):
            xmp = content[place + 8 : end - 4]
        if kind == b"IEND":
            return b"".join(kept), exif_orientation(exif, xmp)
        place = end
    raise ValueError(f"a PNG of more than {MAX_PARTS} chunks")


def _webp_orientation(content: bytes) -> int:
    place, exif, xmp = 12, None, None
    end = min(len(content), 8 + struct.unpack_from("<I", content, 4)[0])  # what follows is none of the photo's
    for _ in range(MAX_PARTS):
        if place + 8 > end:
            return exif_orientation(exif, xmp)
        kind, size = struct.unpack_from("<4sI", content, place)
        if kind == b"EXIF" and exif is None:
            exif = content[place + 8 : place + 8 + size]
        elif kind == b"XMP ":
            xmp = content[place + 8 : place + 8 + size]
        place += 8 + size + size % 2
    raise ValueError(f"a WebP of more than {MAX_PARTS} chunks")


def webp_size(content: bytes) -> tuple[int, int]:
    """Width and height of a WebP, from its first chunk, as its library reads them.

    Raises:
        ValueError: if they are not there.
    """
    kind, data = content[12:16], content[20:30]
    if kind == b"VP8X" and len(data) == 10:
        return 1 + int.from_bytes(data[4:7], "little"), 1 + int.from_bytes(data[7:10], "little")
    if kind == b"VP8L" and len(data) >= 5:
        bits = int.from_bytes(data[1:5], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if kind == b"VP8 " and len(data) == 10:
        width, height = struct.unpack_from("<HH", data, 6)
        return width & 0x3FFF, height & 0x3FFF
    raise ValueError("broken: its header is truncated")


def _read_gif(content: bytes) -> bytes:
    """The first picture, on the canvas and with the transparent colour that the file says."""
    place = 13 + (3 << (content[10] & 7) + 1 if content[10] & 0x80 else 0)
    screen, control = content[:place], b""
    for _ in range(MAX_PARTS):
        if content[place] != 0x21:  # no extension: the picture, or what Pillow refuses
            return screen + control + content[place:]
        start, label, place = place, content[place + 1], place + 2
        for _ in range(MAX_PARTS):
            size, place = content[place], place + content[place] + 1
            if not size:
                break
        else:
            raise ValueError(f"a GIF of more than {MAX_PARTS} blocks in a comment")
        if label == 0xF9:
            control = content[start:place]
    raise ValueError(f"a GIF of more than {MAX_PARTS} extensions")


def _read_bmp(content: bytes) -> bytes:
    (size,) = struct.unpack_from("<I", content, 14)
    if size >= 40 and struct.unpack_from("<I", content, 30)[0] in RUN_LENGTHS:
        raise ValueError("a run-length encoded BMP")
    return content
