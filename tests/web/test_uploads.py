"""Photos that strangers send to the page: read where they lie, bounded in size and number, and deleted."""

import os
import random
import socket
import time
import tracemalloc

import httpx
import pytest

pytest.importorskip("gradio", reason="the page needs gradio, see requirements-app.txt")

from tests.malformed_requests import photo  # noqa: E402
from tests.page_client import META, photos, sentence, serve  # noqa: E402
from tests.tiny_folder import save_tiny_folder  # noqa: E402
from web import requests  # noqa: E402
from web.requests import NOT_READ, TOO_LARGE, UPLOAD_BYTES  # noqa: E402


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    save_tiny_folder(folder)
    page, client = serve(folder)
    yield client
    page.close()


@pytest.mark.parametrize("way", ["call", "queue", "private function"])
def test_an_upload_is_read_and_shown_to_who_sent_it(client, way):
    content = photo(random.Random(2))
    path = client.upload(content, "our table.jpg")
    assert "our table.jpg" in client.ways[way](photos({"image": {"path": path, "meta": META}, "caption": None}))
    assert client.http.get(f"/gradio_api/file={path}").content == content
    os.unlink(path)
    assert "no longer here" in client.ways[way](photos({"image": {"path": path}}))


def test_what_stands_in_the_place_of_an_upload_is_not_opened(client, tmp_path):
    (tmp_path / "secret.jpg").write_bytes(photo(random.Random(0)))
    path = client.upload(photo(random.Random(3)))
    for make in (
        lambda: os.symlink(tmp_path / "secret.jpg", path),
        lambda: os.mkfifo(path),
        lambda: os.mkdir(path),
        lambda: os.symlink("/dev/zero", path),
    ):
        os.rmdir(path) if os.path.isdir(path) else os.unlink(path)
        make()
        assert "no longer here" in client.call(photos({"image": {"path": path}}))
    os.unlink(path)
    with open(path, "wb") as file:
        file.truncate(3_000_000_000)
    assert "is too large: a photo has up to 10 MB." in client.call(photos({"image": {"path": path}}))
    os.unlink(path)


def test_a_photo_that_is_too_large_is_refused_before_it_is_read(tmp_path):
    path = tmp_path / "folder" / "large.jpg"
    path.parent.mkdir()
    with open(path, "wb") as file:
        file.truncate(30 * UPLOAD_BYTES)
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="“large.jpg” is too large"):
            requests.read_upload(path, tmp_path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < UPLOAD_BYTES / 10


def test_a_folder_in_the_place_of_an_uploads_is_not_followed(client, tmp_path):
    (tmp_path / "secret.jpg").write_bytes(photo(random.Random(0)))
    path = client.upload(photo(random.Random(4)), "secret.jpg")
    folder = os.path.dirname(path)
    os.unlink(path)
    os.rmdir(folder)
    os.symlink(tmp_path, folder)
    assert os.path.isfile(path)
    assert "no longer here" in client.call(photos({"image": {"path": path}}))
    os.unlink(folder)


def test_uploads_are_bounded(client, monkeypatch):
    def send(**request) -> httpx.Response:
        return client.http.post("/gradio_api/upload", **request)

    before = set(os.listdir(client_folder(client)))
    assert sentence(send(files={"files": ("a.jpg", bytes(UPLOAD_BYTES + 1))})) == TOO_LARGE
    assert sentence(send(files=[("files", (f"{n}.jpg", b"x")) for n in range(65)])) == NOT_READ
    assert sentence(send(files={"files": (None, b"x" * 1000)})) == NOT_READ
    assert sentence(send(content=b"x")) == NOT_READ
    assert set(os.listdir(client_folder(client))) == before
    monkeypatch.setattr(requests, "FOLDER_BYTES", 10)
    assert sentence(send(files={"files": ("a.jpg", b"x")})) == requests.FULL


def test_an_upload_that_breaks_off_leaves_nothing(client):
    folder = client_folder(client)
    before = set(os.listdir(folder))
    head = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.jpg"\r\n\r\n'
    lines = ("POST /gradio_api/upload HTTP/1.1", "Host: x", "Content-Type: multipart/form-data; boundary=x")
    with socket.create_connection((client.http.base_url.host, client.http.base_url.port)) as visitor:
        visitor.sendall("\r\n".join([*lines, "Content-Length: 9000000", "", ""]).encode() + head + bytes(3_000_000))
        wait_until(lambda: set(os.listdir(folder)) != before)
    wait_until(lambda: set(os.listdir(folder)) == before)


def wait_until(true):
    for _ in range(200):
        if true():
            return
        time.sleep(0.05)
    raise AssertionError("it did not happen in ten seconds")


def test_folders_that_stand_empty_are_removed(client):
    path = client.upload(b"a photo of long ago")
    folder = os.path.dirname(path)
    os.unlink(path)
    client.upload(b"another")
    assert os.path.isdir(folder)  # where a photo may just be coming
    os.utime(folder, (0, 0))
    client.upload(b"a third")
    assert not os.path.exists(folder)


def client_folder(client) -> str:
    return os.path.dirname(os.path.dirname(client.upload(b"any")))
