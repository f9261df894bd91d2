"""`handler.py` under requests that are wrong, and many at once."""

import json
import random
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.malformed_requests import base64_photo, malformed_requests
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
