"""What strangers may send to the page of `app.py`, checked before Gradio sees it.

Gradio's own preprocessing opens any path and fetches any address that stands in a request, and its errors tell what is
there. So only the routes that the page itself uses are open, a request's data have the form's shape or are refused,
photos are files that were uploaded here, and whatever goes wrong is answered by a sentence.
"""

import json
import logging
import os
import re
import stat
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import gradio as gr
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException

UPLOAD_BYTES = 10_000_000  # of a photo, as in handler.py
BODY_BYTES = 1_300_000  # of any other request: as many characters as the handler reads, written as \ud83d\ude00
FOLDER_BYTES = 2_000_000_000  # of all photos that wait to be deleted
UPLOADS = 8  # at a time
EMPTY_SECONDS = 7200  # after which an empty folder is removed
MAX_PHOTOS = 64  # of a request, of any model

GET = re.compile(
    r"/|/(config|theme\.css|robots\.txt|favicon\.ico|manifest\.json|pwa_icon(/\d+)?)/?|/(assets|static|svelte)/.*"
    r"|/gradio_api/(info|app_id|startup-events|theme\.css|queue/data|queue/status|upload_progress"
    r"|heartbeat/[\w-]+|call/\w+/[\w-]+|file=.*)/?"
)
POST = re.compile(r"/gradio_api/(queue/join|call/\w+|run/\w+|api/\w+|cancel|reset|upload)/?")
FILE, UPLOAD = "/gradio_api/file=", "/gradio_api/upload"
# A function by its name, and the answer of one that was called so.
NAMED, EVENT = re.compile(r"/gradio_api/(?:call|run|api)/(\w+)/?"), re.compile(r"/gradio_api/call/(\w+)/([\w-]+)/?")
NAME = re.compile(r"[\w-]{1,64}")  # of a session or an event

NOT_READ = "This is no request that the page can read."
NOT_HERE = "There is nothing at this address."
NOT_UPLOADED = "A photo of this request was not uploaded to this page; no address and no path of another is opened."
TOO_LARGE = f"This is too large: a photo has up to {UPLOAD_BYTES // 1_000_000} MB, and the form's texts up to 1 MB."
FULL = "Too many visitors are here at the moment; come back in a minute."
FAILED = "The page could not answer this; try again in a minute."
SENTENCES = {403: NOT_HERE, 404: NOT_HERE, 405: NOT_HERE, 413: TOO_LARGE, 503: FULL}


class Page(gr.Blocks):
    """Blocks whose functions get the form's values and nothing else.

    Args:
        uploads: the folder of the visitors' photos.
        options: as of `gr.Blocks`.
    """

    def __init__(self, uploads: str | os.PathLike, **options):
        self.uploads = Path(uploads)
        super().__init__(**options)

    async def preprocess_data(self, block_fn, inputs, state, explicit_call=False) -> list:
        """In place of Gradio's. Photos become paths of the upload folder, which are not looked at here."""
        try:
            return read_form(block_fn.inputs, inputs, self.uploads)
        except ValueError as error:
            raise gr.Error(str(error), print_exception=False) from None

    async def process_api(self, *args, **options) -> dict:
        try:
            return await super().process_api(*args, **options)
        except gr.Error:
            raise
        except Exception:  # for the owner's log, not for a visitor
            logging.getLogger(__name__).exception("a request failed")
            raise gr.Error(FAILED, print_exception=False) from None


def read_form(components: Sequence, values, uploads: Path) -> list:
    """What a function of the page is called with.

    Args:
        components: the function's inputs.
        values: of a request, as JSON has them.
        uploads: the folder of the visitors' photos.

    Raises:
        ValueError: if a value is none of its component's; the sentence tells nothing of the file system.
    """
    if not isinstance(values, list) or len(values) != len(components):
        raise ValueError(NOT_READ)
    return [_read_value(component, value, uploads) for component, value in zip(components, values, strict=True)]


def read_upload(path: Path, uploads: Path) -> bytes:
    """The bytes of a photo, whose size is looked at first.

    Raises:
        ValueError: if there is no such file in the upload folder, or it is larger than an upload may be.
    """
    gone = ValueError(f"The photo “{shown_name(path)}” is no longer here; add it again.")  # see DELETED
    if not is_upload(str(path), uploads):
        raise ValueError(NOT_UPLOADED)
    try:
        if os.path.realpath(path.parent) != os.path.join(os.path.realpath(uploads), path.parent.name):
            raise gone
        # A link is not followed, and opening a pipe does not wait for who writes to it.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
    except (OSError, ValueError):  # the latter of a name that no file can have
        raise gone from None
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode):
        os.close(descriptor)
        raise gone
    with open(descriptor, "rb") as file:
        content = file.read(UPLOAD_BYTES + 1) if found.st_size <= UPLOAD_BYTES else None
    if content is None or len(content) > UPLOAD_BYTES:
        raise ValueError(
            f"The photo “{shown_name(path)}” is too large: a photo has up to {UPLOAD_BYTES // 1_000_000} MB."
        )
    return content


def shown_name(path: Path) -> str:
    """A photo's name as text that can be sent, whatever it is."""
    return path.name.encode("utf-8", "replace").decode("utf-8")


def is_upload(path: str, uploads: Path) -> bool:
    """Whether a path is spelled as Gradio spells an upload's, a folder named by the content and a name in it. The file
    system is not asked."""
    parts = path.removeprefix(f"{uploads}{os.sep}").split(os.sep)
    return (
        path.startswith(f"{uploads}{os.sep}")
        and len(parts) == 2
        and not {"", ".", "..", "deep_links"} & set(parts)
        and "\0" not in path
        and len(path) < 4096
    )


class Gate:
    """ASGI middleware in front of Gradio.

    Args:
        app: what answers a request that passes.
        page: whose app it is.
        max_photos: of an upload.
    """

    def __init__(self, app, page: Page, max_photos: int = MAX_PHOTOS):
        self.app, self.page, self.uploads, self.max_photos, self.uploading = app, page, page.uploads, max_photos, 0
        self.names = {fn.api_name for fn in page.fns.values() if fn.api_visibility == "public"}

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http":
            return await self.app(scope, receive, send) if scope["type"] == "lifespan" else None
        answer = _Answer(scope, send)
        try:
            await self._pass(scope, receive, answer)
        except HTTPException as error:
            await answer.refuse(error.status_code)
        except Exception:
            logging.getLogger(__name__).exception("a request failed")
            await answer.refuse(500)

    async def _pass(self, scope, receive, answer):
        path, method = scope["path"].removeprefix(scope.get("root_path", "")), scope["method"]
        if not (POST if method == "POST" else GET).fullmatch(path) or method not in ("GET", "HEAD", "POST"):
            raise HTTPException(404)
        if path.startswith(FILE) and not is_upload(path.removeprefix(FILE), self.uploads):
            raise HTTPException(404)
        if path.startswith(UPLOAD) and method == "POST":
            return await self._pass_upload(scope, receive, answer)
        if (named := NAMED.fullmatch(path) or EVENT.fullmatch(path)) and named[1] not in self.names:
            raise HTTPException(404)
        if (event := EVENT.fullmatch(path)) and not self._is_waiting(event[2]):
            raise HTTPException(404)
        if method == "POST":
            body = read_body(await _receive_all(receive, BODY_BYTES))
            if body.get("fn_index", 0) not in self.page.fns:
                raise HTTPException(404)
            scope = scope | {"headers": [(b"content-type", b"application/json"), *_headers(scope, b"content-")]}
            receive = _replay(body, receive)
        await self.app(scope, receive, answer)

    def _is_waiting(self, event: str) -> bool:
        """Whether an answer is computed, or has not been fetched yet; Gradio keeps these by event or by session."""
        queue = self.page._queue
        waiting = [queue.event_ids_to_events, queue.pending_messages_per_session]
        return any(event in ids for ids in (*waiting, *queue.pending_event_ids_session.values()))

    async def _pass_upload(self, scope, receive, answer):
        limit = self.max_photos * (UPLOAD_BYTES + 10_000)
        if self.uploading >= UPLOADS or _bytes_in(self.uploads) > FOLDER_BYTES:
            raise HTTPException(503)
        parts, taken = _Parts(dict(scope["headers"]).get(b"content-type", b""), self.max_photos), 0

        async def receive_part():
            nonlocal taken
            message = await receive()
            if message["type"] == "http.disconnect":  # Gradio deletes what it wrote for this error only
                raise MultiPartException(NOT_READ)
            taken += len(message.get("body", b""))
            if taken > limit:
                answer.status = 413
                raise MultiPartException(TOO_LARGE)
            parts.feed(message.get("body", b""))
            return message

        self.uploading += 1
        try:
            await self.app(scope, receive_part, answer)
        finally:
            self.uploading -= 1


def read_body(body: bytes) -> dict:
    """What of a JSON request Gradio gets to see.

    Raises:
        HTTPException: 400 if it has another shape than the page's own.
    """
    try:
        request = json.loads(body)
    except (ValueError, RecursionError):
        raise HTTPException(400) from None
    if not isinstance(request, dict):
        raise HTTPException(400)
    read = {}
    for name, fits in (
        ("fn_index", lambda value: type(value) is int and 0 <= value < 1000),
        ("trigger_id", lambda value: type(value) is int and 0 <= value < 1000),
        ("session_hash", lambda value: isinstance(value, str) and NAME.fullmatch(value)),
        ("event_id", lambda value: isinstance(value, str) and NAME.fullmatch(value)),
        ("data", lambda value: isinstance(value, list) and len(value) < 10 and all(map(_is_value, value))),
    ):
        value = request.get(name)
        if value is not None:
            if not fits(value):
                raise HTTPException(400)
            read[name] = value
    return read


def _is_value(value) -> bool:
    """Whether it has the shape of a text, a choice or photos."""
    if not isinstance(value, list):
        return value is None or isinstance(value, str)
    return len(value) <= MAX_PHOTOS and all(isinstance(item, str) or _photo_path(item) is not None for item in value)


def _photo_path(item) -> str | None:
    """The path of a gallery's item; None if it has another shape."""
    image = item.get("image") if isinstance(item, dict) else None
    path = image.get("path") if isinstance(image, dict) else None
    return path if isinstance(path, str) else None


def _read_value(component, value, uploads: Path):
    if isinstance(component, gr.Gallery):
        items = value if isinstance(value, list) else []
        paths = [path for item in items if (path := _photo_path(item)) is not None]
        if value is not None and not isinstance(value, list) or len(paths) < len(items):
            raise ValueError(NOT_READ)
        if not all(is_upload(path, uploads) for path in paths):
            raise ValueError(NOT_UPLOADED)
        return [(path, None) for path in paths]
    if isinstance(component, gr.CheckboxGroup):
        known = {choice for _, choice in component.choices}
        if value is not None and not (
            isinstance(value, list) and all(isinstance(v, str) and v in known for v in value)
        ):
            raise ValueError(NOT_READ)
        return value or []
    if value is not None and not isinstance(value, str):
        raise ValueError(NOT_READ)
    return value or ""


class _Answer:
    """Sends an answer on, or in place of one that says that something failed, a sentence."""

    def __init__(self, scope, send):
        self.plain = scope["path"].rstrip("/").endswith(UPLOAD)  # the page shows it as it comes
        self.send, self.status, self.started, self.ended = send, None, False, False

    async def __call__(self, message):
        if message["type"] == "http.response.start" and not self.started:
            status = self.status or message["status"]
            if status >= 400:
                return await self.refuse(status)
            self.started = True
        if self.status is None:
            self.ended = message["type"] == "http.response.body" and not message.get("more_body")
            await self.send(message)

    async def refuse(self, status: int):
        """A sentence if nothing was sent yet; what was begun is ended."""
        if self.started:
            if not self.ended:
                self.ended = True
                await self.send({"type": "http.response.body", "body": b""})
            return
        self.started, self.status = True, status
        sentence = SENTENCES.get(status, NOT_READ if status < 500 else FAILED)
        body = sentence if self.plain else json.dumps({"error": sentence, "detail": sentence})
        kind = b"text/plain; charset=utf-8" if self.plain else b"application/json"
        headers = [(b"content-type", kind), (b"content-length", str(len(body.encode())).encode())]
        await self.send({"type": "http.response.start", "status": status, "headers": headers})
        self.ended = True
        await self.send({"type": "http.response.body", "body": body.encode()})


class _Parts:
    """Reads along with an upload: each part is a file, as Gradio keeps any other in memory."""

    def __init__(self, content_type: bytes, most: int):
        kind, options = parse_options_header(content_type)
        if kind != b"multipart/form-data" or not options.get(b"boundary"):
            raise HTTPException(400)
        self.most, self.parts, self.field, self.value, self.names = most, 0, b"", b"", False
        self.parser = MultipartParser(
            options[b"boundary"],
            {
                "on_part_begin": self._begin,
                "on_header_field": lambda data, start, end: setattr(self, "field", self.field + data[start:end]),
                "on_header_value": lambda data, start, end: setattr(self, "value", self.value + data[start:end]),
                "on_header_end": self._end_header,
                "on_headers_finished": self._check,
            },
        )

    def feed(self, content: bytes):
        try:
            self.parser.write(content)
        except ValueError:  # python_multipart's own
            raise MultiPartException(NOT_READ) from None

    def _begin(self):
        self.parts += 1
        self.field, self.value, self.names = b"", b"", False

    def _end_header(self):
        if self.field.lower() == b"content-disposition":
            self.names = b"filename" in parse_options_header(self.value)[1]
        self.field = self.value = b""

    def _check(self):
        if self.parts > self.most or not self.names:
            raise MultiPartException(NOT_READ)


async def _receive_all(receive, limit: int) -> bytes:
    content = bytearray()
    while True:
        message = await receive()
        content += message.get("body", b"")
        if len(content) > limit:
            raise HTTPException(413)
        if not message.get("more_body"):
            return bytes(content)


def _replay(body: dict, receive):
    messages = iter([{"type": "http.request", "body": json.dumps(body).encode(), "more_body": False}])

    async def receive_again():
        return next(messages, None) or await receive()

    return receive_again


def _headers(scope, without: bytes) -> list:
    return [(name, value) for name, value in scope["headers"] if not name.lower().startswith(without)]


def _bytes_in(folder: Path) -> int:
    """Of all files there; what folders Gradio has emptied are removed, a while later."""
    total = 0
    for root, folders, names in os.walk(folder):
        with suppress(OSError):  # deleted meanwhile
            total += sum(os.lstat(os.path.join(root, name)).st_size for name in names)
            if not names and not folders and time.time() - os.stat(root).st_mtime > EMPTY_SECONDS:
                os.rmdir(root)
    return total
