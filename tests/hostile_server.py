"""The page and its handler in a process that counts what it opens and connects to, and what memory it takes.

    python -m tests.hostile_server MODEL_FOLDER COUNT

Prints the page's address as a line, answers hostile requests to the handler while the page gets its own, and when a
line comes on the standard input prints what it found as JSON.
"""

import base64
import json
import random
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import gradio
import torch

import app
from tests import ROOT
from tests.malformed_requests import malformed_requests
from tests.page_client import FORM, Client
from tests.photo_bombs import hostile, large

opened, connected = set(), []


def note(event: str, arguments: tuple):
    if event == "open" and isinstance(arguments[0], str | bytes):
        opened.add(arguments[0] if isinstance(arguments[0], str) else arguments[0].decode("utf-8", "replace"))
    elif event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname"):
        connected.append(str(arguments[1] if event == "socket.connect" else arguments[0]))


def megabytes(field: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1000 for line in lines if line.startswith(field + ":"))


def requests_of_bombs(rng: random.Random, bombs: dict[str, bytes]):
    while True:
        content = bombs[rng.choice(list(bombs))]
        photo = base64.b64encode(content).decode() if rng.random() < 0.5 else content
        yield {"inputs": {"reviews": ["good"], "images": [photo]}}


def costly(rng: random.Random, bombs: dict[str, bytes]):
    """As much as a request may ask for, for the most of it valid."""
    texts = [rng.choice(("good", "cold soup", "\ud83d", "a\u0300" * 400, "word " * 90)) for _ in range(200)]
    while True:
        photo = bombs[rng.choice(list(bombs))]
        reviews: list = texts[: rng.choice((1, 24, 200))]
        if rng.random() < 0.5:
            reviews = [{"text": text} for text in reviews]
            reviews[rng.choice((0, -1))]["images"] = [photo]
        explain = rng.random() < 0.5
        users = [{"reviews": reviews}] * (1 if explain else rng.randrange(1, 9))
        yield {"inputs": users, "parameters": {"explain": explain, "views": rng.choice(("all", 1, 8))}}


def hostile_requests(count: int, bombs: dict[str, bytes], bombs_that_are_large: dict[str, bytes]):
    rng = random.Random(1)
    small, big = requests_of_bombs(rng, bombs), requests_of_bombs(rng, bombs_that_are_large)
    large_ones = costly(rng, bombs)
    for number, request in enumerate(malformed_requests(count, seed=1)):
        if number % 50 == 7:
            request = next(large_ones)
        yield next(big if number % 50 == 3 else small) if number % 10 == 3 else request


def ask(handler, requests, clients: int = 4) -> list[str]:
    """What the handler said to each of them."""
    turn, end = threading.Lock(), object()  # a request may be None

    def call(_) -> list[str]:
        said = []
        while True:
            with turn:
                request = next(requests, end)
            if request is end:
                return said
            try:
                answer = handler(request)
                said.append((answer[0] if isinstance(answer, list) else answer)["text"])
            except ValueError as error:
                said.append(str(error))

    with ThreadPoolExecutor(clients) as threads:
        return [text for said in threads.map(call, range(clients)) for text in said]


def main(folder: str, count: int) -> None:
    torch.set_num_threads(1)
    page = app.build_app(folder)
    _, url, _ = app.launch(page, prevent_thread_lock=True, quiet=True)
    profiler = next(fn.fn for fn in page.fns.values() if isinstance(fn.fn, app.Profiler))
    bombs, bombs_that_are_large = dict(hostile()), dict(large())
    profiler.handler({"inputs": {"reviews": ["good"], "images": [bombs["PNG of text"]]}})
    Client(url).call(FORM)  # what the first request loads
    sys.addaudithook(note)
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    idle, start = megabytes("VmRSS"), time.time()
    print(url, flush=True)
    said = ask(profiler.handler, hostile_requests(count, bombs, bombs_that_are_large))
    sys.stdin.readline()
    seconds = time.time() - start
    peak = megabytes("VmHWM")
    allowed = [str(path) for path in (page.uploads, ROOT, Path(sys.prefix).resolve(), Path(sys.base_prefix))]
    allowed += [str(Path(gradio.__file__).resolve().parent), "/proc/self/", sys.prefix]
    outside = sorted(path for path in opened if not path.startswith(tuple(allowed)))
    report = {"said": said, "idle": idle, "peak": peak, "outside": outside, "connected": connected}
    print(json.dumps(report | {"seconds": seconds, "opened": len(opened)}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
