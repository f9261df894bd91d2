"""Strangers at the page: no file but an upload is opened, no address is looked up, and every answer is a sentence."""

import http.server
import json
import os
import random
import sys
import threading

import pytest

pytest.importorskip("gradio", reason="the page needs gradio, see requirements-app.txt")

from starlette.exceptions import HTTPException  # noqa: E402

from tests.malformed_requests import photo  # noqa: E402
from tests.page_client import FORM, META, photos, sentence, serve  # noqa: E402
from tests.tiny_folder import save_tiny_folder  # noqa: E402
from web.requests import BODY_BYTES, NOT_HERE, NOT_READ, NOT_UPLOADED, TOO_LARGE, read_body  # noqa: E402

WAYS = (
    *("call", "queue", "private function", "run", "api", "run by number"),
    *("batched", "call of version 2", "stream", "component"),
)
opened = []  # paths and addresses, while a test listens
listening = threading.Event()


def note(event: str, arguments: tuple):
    # At the interpreter's end its globals are gone.
    if listening is not None and listening.is_set() and event in ("open", "socket.connect", "socket.getaddrinfo"):
        opened.append((event, str(arguments[1] if event == "socket.connect" else arguments[0])))


sys.addaudithook(note)


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    save_tiny_folder(folder)
    page, client = serve(folder)
    yield client
    page.close()


@pytest.fixture
def elsewhere(monkeypatch):
    """A server on loopback, which Gradio takes for a public one, and the paths that it was asked for."""
    asked = []

    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(photo(random.Random(0)))

        do_HEAD = do_GET
        log_message = staticmethod(lambda *args: None)

    monkeypatch.setattr("gradio.processing_utils.PUBLIC_HOSTNAME_WHITELIST", ["127.0.0.1", "localhost"])
    monkeypatch.setattr("safehttpx.is_public_ip", lambda ip: True)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()
    server.server_close()


@pytest.fixture
def secrets(tmp_path, client):
    """Paths outside of the upload folder, there and not there, and of things that are no files."""
    (tmp_path / "secret.png").write_bytes(photo(random.Random(0), "PNG"))
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link.png").symlink_to(tmp_path / "secret.png")
    mine = client.upload(photo(random.Random(1)))
    return [
        *(str(tmp_path / name) for name in ("secret.png", "missing.png", "pipe", "link.png", "", "no\0name")),
        *("/etc/passwd", "/dev/zero", "file:///etc/passwd", "secret.png", "", "~/.ssh/id_rsa", "\ud800"),
        f"{os.path.dirname(mine)}/../../{tmp_path.name}/secret.png",
        f"{os.path.dirname(mine)}/./{os.path.basename(mine)}",
        os.path.dirname(mine),
        *(f"{os.path.dirname(os.path.dirname(mine))}/{folder}/secret.png" for folder in ("..", ".", "", "deep_links")),
        "x" * 100_000,
    ]


def items(path: str) -> list:
    """A photo as one may write it."""
    return [
        {"image": {"path": path}, "caption": None},
        {"image": {"path": path, "meta": META}},
        {"image": {"path": path, "url": path, "meta": META, "orig_name": "a.png", "mime_type": "image/png"}},
        {"image": {"path": "a.png", "url": path, "meta": META}, "caption": "a"},
        {"image": {"path": path, "is_stream": True, "meta": META}},
    ]


@pytest.mark.parametrize("way", WAYS)
def test_a_path_outside_of_the_uploads_is_not_opened_and_tells_nothing(client, secrets, way):
    opened.clear()
    listening.set()
    try:
        answers = {client.ways[way](photos(item)) for path in secrets for item in items(path)[:2]}
        others = {client.ways[way](photos(item)) for item in items(secrets[0])[2:]}
        bare = {client.ways[way](photos(form)) for form in (secrets[0], [secrets[0], None], {"video": META})}
    finally:
        listening.clear()
    assert len(answers) == 1 and others == answers and answers | bare <= {NOT_UPLOADED, NOT_READ, NOT_HERE}
    touched = {path for event, path in opened if event == "open"} & {*secrets, f"{secrets[0]}.png"}
    assert touched == set()


@pytest.mark.parametrize("way", WAYS)
def test_an_address_is_not_looked_up(client, elsewhere, way):
    url, asked = elsewhere
    file = {"path": f"{url}/a.png", "url": f"{url}/a.png", "meta": META}
    forms = [photos(item) for item in items(f"{url}/a.png")]
    forms += [photos({"video": file}), photos(file), photos([file]), [file, *FORM[1:]], [FORM[0], file, *FORM[2:]]]
    forms += [[*FORM[:2], file, []], [*FORM[:3], [file]], [*FORM[:3], {"path": file["path"], "meta": META}]]
    answers = [client.ways[way](form) for form in forms]
    assert asked == [] and set(answers) <= {NOT_UPLOADED, NOT_READ, NOT_HERE}


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_no_route_shows_a_file_or_an_address_of_elsewhere(client, elsewhere, secrets, method):
    url, asked = elsewhere
    places = [*secrets[:12], f"{url}/a.png", f"{url}/a.png#.hf.space"]
    paths = [f"/gradio_api/{route}{place}" for route in ("file=", "file/", "proxy=") for place in places]
    paths += ["/gradio_api/deep_link?session_hash=x", "/gradio_api/runs", "/monitoring", "/gradio_api/openapi.json"]
    quoted = [path.replace("\0", "%00").replace("#", "%23").replace("\ud800", "%ED%A0%80") for path in paths]
    answers = [client.http.request(method, path) for path in quoted]
    assert asked == [] and {answer.status_code for answer in answers} == {404}
    if method == "GET":
        assert {sentence(answer) for answer in answers} == {NOT_HERE}


NESTED = 0
for _ in range(500):
    NESTED = [NESTED]


@pytest.mark.parametrize("way", WAYS)
def test_junk_gets_a_sentence(client, way):
    forms = [None, 7, {}, [], [None], ["a"] * 4, [FORM[0], NESTED, "", []], [{}, None, "", []], [*FORM[:3], ["x"]]]
    forms += [[7, None, "", []], [*FORM[:3], [7]], [*FORM, 1], photos(None), photos({}), photos({"image": None})]
    forms += [photos({"image": {"path": None}}), photos({"image": {"path": {"path": "x"}}}), photos([[]] * 99)]
    assert {client.ways[way](form) for form in forms} <= {NOT_READ, NOT_HERE, NOT_UPLOADED}


def test_a_body_that_is_no_request_gets_a_sentence(client):
    route = "/gradio_api/call/profile"
    bodies = (
        b"",
        b"{",
        b"null",
        b"7",
        b"[" * 100_000,
        b"\xff",
        b'{"data": 1e999}',
        b'{"data": [' + b"9" * 9999 + b"]}",
    )
    assert {sentence(client.http.post(route, content=body)) for body in bodies} == {NOT_READ}
    assert sentence(client.http.post(route, content=b" " * (BODY_BYTES + 1))) == TOO_LARGE
    wrong = ({"session_hash": 7}, {"session_hash": "../x"}, {"fn_index": "1"}, {"fn_index": -1}, {"event_id": [1]})
    assert {client.post("/gradio_api/queue/join", {"data": FORM, **fields}) for fields in wrong} == {NOT_READ}


WRONG = (7, {"path": "a.png"}, [7], [None], [[[]]], [{"video": META}], [{"image": "a.png"}], ["a.png"] * 65)


@pytest.mark.parametrize("value", WRONG)
def test_gradio_gets_no_value_of_a_shape_that_the_form_has_not(value):
    assert read_body(json.dumps({"data": FORM}).encode()) == {"data": FORM}
    with pytest.raises(HTTPException):
        read_body(json.dumps({"data": [FORM[0], value, *FORM[2:]]}).encode())


def test_functions_and_answers_that_are_not_there_are_not_found(client):
    unknown = {"data": FORM, "fn_index": 999, "session_hash": "x"}
    answers = [client.send("/gradio_api/queue/join", unknown)]
    answers += [client.send(f"/gradio_api/{way}/no_such", {"data": FORM}) for way in ("call", "run", "api")]
    event = client.send("/gradio_api/call/profile", {"data": FORM}).json()["event_id"]
    assert "event: complete" in client.http.get(f"/gradio_api/call/profile/{event}").text
    answers += [client.http.get(f"/gradio_api/call/{name}") for name in ("profile/unknown", f"no_such/{event}")]
    assert [answer.status_code for answer in answers] == [404] * 6
    assert {sentence(answer) for answer in answers} == {NOT_HERE}
