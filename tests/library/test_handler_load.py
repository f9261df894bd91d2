"""`handler.py` under requests that are wrong, and many at once."""

import json
import random
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests import ROOT
from tests.malformed_requests import base64_photo, malformed_requests
from tests.photo_memory import CLEAR_REFS, megabytes
from tests.served_model import served, user_with_photos


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


@pytest.mark.slow
@pytest.mark.skipif(not CLEAR_REFS.exists(), reason="memory is read from /proc")
def test_the_largest_photos_take_a_bounded_memory_one_by_one_and_at_once_and_hostile_ones_little(tmp_path, capsys):
    command = [sys.executable, "-m", "tests.photo_memory", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    took = {name: most for kind in ("large", "hostile") for name, (most, _) in found[kind].items()}
    together = found["together"]
    with capsys.disabled():
        print("\nMB at most:", ", ".join(f"{name} {most:.0f}" for name, most in took.items()), together)
    assert len(found["large"]) > 10 and len(found["hostile"]) > 15
    assert max(most for most, _ in found["large"].values()) < 420
    assert {answer[:6] for _, answer in found["large"].values()} == {"Mood: "}
    assert max(most for most, _ in found["hostile"].values()) < 80
    assert together["answered"] == 2 * together["photos"]
    assert together["most"] < 450
    assert together["kept"] < 150  # freed memory went back to the system


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
