"""`handler.py` under requests that are wrong, and many at once."""

import base64
import json
import random
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.malformed_requests import base64_photo, malformed_requests
from tests.photo_bombs import hostile, large
from tests.served_model import served, user_with_photos

STATUS, CLEAR_REFS = Path("/proc/self/status"), Path("/proc/self/clear_refs")


@pytest.fixture(scope="module")
def handler(tmp_path_factory):
    return served(tmp_path_factory.mktemp("hub"))


def test_a_thousand_malformed_requests_get_an_error_each_and_do_no_harm(handler):
    before, refused = handler({"inputs": user_with_photos()}), []
    if CLEAR_REFS.exists():
        CLEAR_REFS.write_text("5")  # the peak begins anew
    memory = megabytes("VmRSS")
    for number, request in zip(range(1000), malformed_requests(1000), strict=True):
        with pytest.raises(ValueError) as error:
            handler(request)
            pytest.fail(f"request {number} was answered: {str(request)[:300]}")
        refused.append(str(error.value))
    peak = megabytes("VmHWM")
    assert len(refused) == 1000 and len({message.split(",")[0] for message in refused}) > 50
    assert all(10 < len(message) < 400 and "\n" not in message for message in refused)
    json.dumps(refused).encode()
    assert peak - memory < 250, f"{memory} MB grew to {peak} MB"
    assert handler({"inputs": user_with_photos()}) == before


def megabytes(field: str) -> float:
    """What the system says of this process' memory; 0 where it says nothing."""
    lines = STATUS.read_text().splitlines() if CLEAR_REFS.exists() else []
    return sum(int(line.split()[1]) / 1000 for line in lines if line.startswith(field + ":"))


@pytest.mark.slow
@pytest.mark.skipif(not CLEAR_REFS.exists(), reason="memory is read from /proc")
def test_the_largest_photos_of_every_format_take_a_bounded_memory_and_hostile_ones_little(handler, capsys):
    took = {}
    for photos, fits in ((large(), 420), (hostile(), 80)):
        for name, content in photos:
            CLEAR_REFS.write_text("5")
            before = megabytes("VmRSS")
            try:
                answer = handler({"inputs": {"reviews": ["good"], "images": [content]}})["text"]
            except ValueError as error:
                answer = str(error)
            took[name] = megabytes("VmHWM") - before
            assert took[name] < fits and (fits == 80 or answer.startswith("Mood: ")), (name, took[name], answer)
    assert len(took) > 30
    with capsys.disabled():
        print("\nMB at most:", ", ".join(f"{name} {megabytes:.0f}" for name, megabytes in took.items()))


@pytest.mark.slow
@pytest.mark.skipif(not CLEAR_REFS.exists(), reason="memory is read from /proc")
def test_large_photos_at_once_take_no_more_than_one(handler):
    photos = [base64.b64encode(content).decode() for _, content in large()]
    handler({"inputs": {"images": [photos[0]]}})
    CLEAR_REFS.write_text("5")
    before = megabytes("VmRSS")
    with ThreadPoolExecutor(16) as clients:
        answers = list(clients.map(lambda content: handler({"inputs": {"images": [content]}}), photos * 2))
    assert len(answers) == 2 * len(photos) and all("profile" in answer for answer in answers)
    assert megabytes("VmHWM") - before < 450
    assert megabytes("VmRSS") - before < 150  # freed memory went back to the system


def test_32_clients_at_once_get_the_answers_that_each_gets_alone(handler):
    rng = random.Random(3)
    words = ("great", "cold", "pizza", "soup", "loud", "kind", "staff", "music")
    requests = [
        {"inputs": {"reviews": [" ".join(rng.choices(words, k=1 + number))], "images": [base64_photo(rng)]}}
        for number in range(32)
    ]
    alone = [handler(request) for request in requests]
    start = threading.Barrier(32)

    def call(request):
        start.wait()
        return [handler(request) for _ in range(3)]

    with ThreadPoolExecutor(32) as clients:
        together = list(clients.map(call, requests))
    assert together == [[answer] * 3 for answer in alone]
    assert len({json.dumps(answer) for answer in alone}) == 32
