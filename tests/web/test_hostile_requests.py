"""2,000 hostile requests to the page and its handler at once: nothing outside is opened, nothing connected to, little
memory taken, and every answer is a sentence."""

import json
import os
import random
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests import ROOT

pytest.importorskip("gradio", reason="the page needs gradio, see requirements-app.txt")

from tests.malformed_requests import JUNK, photo  # noqa: E402
from tests.page_client import FORM, META, Client, photos, sentence  # noqa: E402
from tests.photo_bombs import hostile, large  # noqa: E402
from tests.tiny_folder import save_tiny_folder  # noqa: E402

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="memory is read from /proc"),
]
COUNT = 1000  # to each of the two
WAYS = ("call", "queue", "private function", "run", "api", "run by number", "batched", "call of version 2", "stream")


def nested(rng: random.Random, depth: int = 5):
    if depth == 0 or rng.random() < 0.3:
        return rng.choice([item for item in JUNK if not isinstance(item, bytes)])
    if rng.random() < 0.5:
        return [nested(rng, depth - 1) for _ in range(rng.randrange(4))]
    names = ("path", "url", "image", "video", "meta", "caption", "data", "__class__")
    return {rng.choice(names): nested(rng, depth - 1) for _ in range(rng.randrange(4))}


def send(client: Client, number: int, secrets: list[str], bombs: list[bytes], big: list[bytes]) -> str:
    rng = random.Random(f"page/{number}")
    way = client.ways[rng.choice(WAYS)]
    place = rng.choice(secrets)
    file = {"path": place, "url": rng.choice([None, place]), "meta": rng.choice([META, {}, None])}

    def upload(content: bytes) -> str:
        # As a visitor would, of which nothing but the photo is wrong.
        path = client.upload(content, rng.choice(("a.jpg", "b.png", "<b>.gif", "x" * 200 + ".webp")))
        call = client.ways[rng.choice(WAYS[:3])]
        return call(photos({"image": {"path": path, "meta": META}, "caption": None}))

    def fetch() -> str:
        answer = client.http.get(f"/gradio_api/{rng.choice(('file=', 'proxy=', 'file/'))}{place}".replace("\0", "%00"))
        assert answer.status_code == 404
        return sentence(answer)

    kinds = [
        lambda: way(photos({rng.choice(("image", "video")): file, "caption": None})),
        lambda: way(rng.choice([photos(file), photos(place), [FORM[0], file, "", []], [file, *FORM[1:]]])),
        fetch,
        lambda: way(nested(rng)),
        lambda: way([FORM[0], nested(rng), "", nested(rng)]),
        lambda: way(photos({"image": nested(rng)})),
        lambda: upload(rng.choice(bombs)),
        lambda: sentence(
            client.http.post("/gradio_api/call/profile", content=rng.randbytes(rng.randrange(2_000_000)))
        ),
        lambda: sentence(client.http.post("/gradio_api/upload", files={"files": ("a.jpg", bytes(10_000_001))})),
        lambda: way(["word " * rng.randrange(20_001, 300_000), None, "", []]),
    ]
    return upload(big[number // 60 % len(big)]) if number % 60 == 7 else rng.choice(kinds)()


def test_2000_hostile_requests_open_nothing_and_take_little_memory(tmp_path, capsys):
    save_tiny_folder(tmp_path / "model")
    (tmp_path / "secret.png").write_bytes(photo(random.Random(0), "PNG"))
    (tmp_path / "link.png").symlink_to(tmp_path / "secret.png")
    os.mkfifo(tmp_path / "pipe")
    with open(tmp_path / "huge.png", "wb") as file:
        file.truncate(3_000_000_000)
    secrets = [str(tmp_path / name) for name in ("secret.png", "link.png", "pipe", "huge.png", "missing.png", "")]
    secrets += ["/etc/passwd", "/dev/zero", "../../etc/passwd", "file:///etc/passwd", "no\0name", "x" * 5000]
    secrets += ["http://127.0.0.1:9/a.png", "https://example.com/a.png", "http://169.254.169.254/latest/meta-data"]
    command = [sys.executable, "-m", "tests.hostile_server", str(tmp_path / "model"), str(COUNT)]
    options = {"cwd": ROOT, "text": True, "stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, stderr=(tmp_path / "log").open("w"), **options) as server:
        url = server.stdout.readline().strip()
        assert url.startswith("http"), (tmp_path / "log").read_text()[-2000:]
        client = Client(url)
        bombs, big = list(dict(hostile()).values()), list(dict(large()).values())
        with ThreadPoolExecutor(4) as visitors:
            page_said = list(visitors.map(lambda number: send(client, number, secrets, bombs, big), range(COUNT)))
        report = json.loads(server.communicate("done\n")[0].splitlines()[-1])
    assert report["outside"] == [] and report["connected"] == [] and report["opened"] > 0
    assert len(page_said) == len(report["said"]) == COUNT
    answered = [said for said in page_said if "<table" in said]
    told = [re.sub("<[^>]*>", "", said) for said in page_said if "<table" not in said]
    for said in [*told, *report["said"]]:
        assert 10 < len(said) < 500 and "\n" not in said and "Traceback" not in said, said
        assert not re.search(r"\\x|Error\b|\.py\b|object at 0x", said) and str(tmp_path) not in said, said
    assert all(said.endswith(".") for said in told)
    assert len(answered) > 30 and len(set(told)) > 12
    grown = report["peak"] - report["idle"]
    with capsys.disabled():
        print(
            f"\n{2 * COUNT} requests in {report['seconds']:.0f} s: {len(answered)} of the page's answered,"
            f" idle {report['idle']:.0f} MB, peak {grown:.0f} MB above, {report['opened']} files opened, none outside,"
            f" {len(report['connected'])} connections"
        )
    assert grown < 500
