"""Requests that the endpoint handler must refuse, as many as are asked for, the same for a seed."""

import base64
import io
import random
import struct
import zlib
from collections.abc import Iterator

import numpy as np
from PIL import Image

JUNK = (None, True, 7, -1.5, float("nan"), [], {}, "text", [[]], {"a": {"b": [None]}}, b"", [None, 3], 10**40)


def photo(rng: random.Random, image_format: str = "JPEG", size: int = 40) -> bytes:
    pixels = np.random.default_rng(rng.getrandbits(32)).integers(0, 256, (size, size, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, image_format)
    return file.getvalue()


def base64_photo(rng: random.Random) -> str:
    return base64.b64encode(photo(rng, rng.choice(("JPEG", "PNG", "WEBP")))).decode()


def bomb(rng: random.Random) -> bytes:
    """A PNG of a few bytes that says it has up to ten thousand million pixels, or whose text unpacks to 300 MB."""
    side = rng.choice((6_000, 20_000, 100_000))

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    if rng.random() < 0.3:
        side, text = 30, chunk(b"zTXt", b"Comment\0\0" + TEXT_BOMB)
    else:
        text = b""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + text + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b"")


def zeros_packed(megabytes: int) -> bytes:
    packer = zlib.compressobj()
    return b"".join(packer.compress(bytes(1_000_000)) for _ in range(megabytes)) + packer.flush()


TEXT_BOMB = zeros_packed(300)


def truncated(rng: random.Random) -> str:
    whole = base64_photo(rng)
    return whole[: rng.randrange(1, len(whole) * 3 // 4)]


def no_photo(rng: random.Random):
    kinds = (
        lambda: truncated(rng),
        lambda: rng.choice(("http://127.0.0.1/a.jpg", "file:///etc/passwd", "/etc/passwd", "../../etc/passwd")),
        lambda: base64.b64encode(rng.randbytes(rng.randrange(1, 400))).decode(),
        lambda: "data:image/png;base64," + "A" * rng.randrange(1, 50) + "=",
        lambda: rng.choice(("", b"", "A" * 14_000_001, bytes(10_000_001))),
        lambda: rng.randbytes(50),
        lambda: bomb(rng),
        lambda: base64.b64encode(bomb(rng)).decode(),
        lambda: rng.choice([item for item in JUNK if not isinstance(item, bytes)]),
        lambda: Image.new("1", (5_001, 5_000)),
    )
    return rng.choice(kinds)()


def wrong_user(rng: random.Random):
    """What stands where a user should."""
    kinds = (
        lambda: rng.choice([None, True, 7, -1.5, [[]], [None, 3], [["nested"]], {"a": {}}, 10**40]),
        lambda: {"reviews": ["good"], rng.choice(("image", "photo", "text", "", "__class__")): []},
        lambda: {"reviews": rng.choice(["good", 7, True, {"0": "good"}, {"reviews": []}])},
        lambda: {"reviews": ["good", rng.choice([None, 7, ["good"], {"text": 7}, {"review": "good"}, {}, b"good"])]},
        lambda: wrong_review(rng),
        lambda: {"reviews": ["good"], "captions": rng.choice(["a cake", 7, [7], [["a cake"]], {"a": "cake"}])},
        lambda: {"reviews": ["good"], "images": rng.choice(["AAAA", 7, {"0": "AAAA"}, True])},
        lambda: {"reviews": ["good"] * rng.randrange(201, 999)},
        lambda: {"reviews": ["word " * rng.randrange(20_001, 999_999)]},
        lambda: {"reviews": ["good"], "captions": ["\ud83d" * 100_000]},
        lambda: {"reviews": ["good"], "images": [base64_photo(rng)] * rng.choice((5, 200))},
        lambda: {"reviews": ["good"], "images": [no_photo(rng)]},
        lambda: {"images": [base64_photo(rng), no_photo(rng)]},
        lambda: rng.choice(["", " \n\t", {}, {"reviews": []}, {"reviews": None}, {"captions": [None, " "]}]),
        lambda: rng.choice((b"", bomb(rng))),
    )
    return rng.choice(kinds)()


def wrong_review(rng: random.Random) -> dict:
    """A user with a review that is an object, which is wrong."""
    image = base64_photo(rng)
    kinds = (
        lambda: {"text": rng.choice([item for item in JUNK if not isinstance(item, str)])},
        lambda: {"text": "good", rng.choice(("image", "reviews", "", "__class__")): []},
        lambda: {"text": "good", rng.choice(("images", "captions")): rng.choice(["AAAA", 7, True, {"0": "AAAA"}])},
        lambda: {"text": "good", "images": [image], "captions": rng.choice([[7], ["a", "b"], [["a"]], [{}]])},
        lambda: {"text": "good", "captions": rng.choice([["a"], ["\ud83d" * 200_000], [None] * 201])},
        lambda: {"text": "good", "images": [no_photo(rng)]},
        lambda: {"text": "good", "images": [image] * rng.choice((5, 200))},
        lambda: {"text": rng.choice(["", " \n"]), "images": []},
        lambda: {"text": "word " * rng.randrange(20_001, 99_999)},
    )
    wrong = rng.choice(kinds)()
    return rng.choice(
        [
            {"reviews": [wrong]},
            {"reviews": [{"text": " "}, wrong]},
            {"reviews": [wrong] * rng.randrange(201, 5_000)},
            {"reviews": [{"text": "good", "images": [image]}], "images": [image]},
            {"reviews": [{"text": "good"}], "captions": ["a cake"]},
        ]
    )


def wrong_parameters(rng: random.Random):
    return rng.choice(
        [
            rng.choice([True, 7, -1.5, "text", ["num_return_profiles"], [[]], 10**40]),
            {rng.choice(("max_calls", "expand_per_call", "Without_photos", "", "self")): 1},
            {"num_return_profiles": rng.choice([0, -3, 51, 10**40, 2.0, "2", None, True, [2]])},
            {"min_coverage": rng.choice([-0.1, 1.1, float("nan"), float("inf"), "0.5", None, True, {}])},
            {"decision": rng.choice(["", "Joint", "beam", None, 1, True, ["joint"], {"joint": 1}, float("nan")])},
            {"min_precision": rng.choice([0, 1, -0.5, 10**40, "0.9", True, [0.9], {}, float("nan"), float("inf")])},
            {rng.choice(("without_photos", "without_captions", "explain")): rng.choice([0, 1, "true", None, [], {}])},
            {"views": rng.choice([0, 9, -1, 10**40, 2.0, "2", "All", "", None, True, [1], {}, float("nan")])},
        ]
    )


def too_much(rng: random.Random) -> dict:
    """Users who are each fine, and together more than a request may ask for."""
    history = {"reviews": ["good", {"text": "cold soup"}] * rng.randrange(12, 100)}
    return rng.choice(
        [
            {"inputs": [history] * rng.randrange(9, 17)},
            {"inputs": ["good", history], "parameters": {"explain": True}},
        ]
    )


def wrong_request(rng: random.Random):
    kinds = (
        lambda: rng.choice([*JUNK, {"input": "good"}, {"inputs": "good", "options": {}}, [{"inputs": "good"}]]),
        lambda: {"inputs": {"reviews": ["good"]}, "parameters": wrong_parameters(rng)},
        lambda: {"inputs": rng.choice([[], ["good"] * 17, ["good", wrong_user(rng)], [wrong_user(rng), "good"]])},
        lambda: {"inputs": [{"images": [base64_photo(rng)] * 4}] * 15 + [{"images": [no_photo(rng)] * 5}]},
        lambda: {"inputs": wrong_user(rng)},
        lambda: too_much(rng),
    )
    return rng.choices(kinds, weights=(2, 2, 2, 1, 6, 1))[0]()


def malformed_requests(count: int, seed: int = 0) -> Iterator[object]:
    for number in range(count):
        yield wrong_request(random.Random(f"{seed}/{number}"))
