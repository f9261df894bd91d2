"""The page of `app.py` on a tiny model, and a client that knows every way into it."""

import json
import uuid

import httpx

import app

META = {"_type": "gradio.FileData"}
FORM = ["great pizza", None, "", []]


class Client:
    """Sends requests as they are; each answer is the page's sentence or its results."""

    def __init__(self, url: str):
        self.http = httpx.Client(base_url=url, timeout=60)
        config = self.http.get("/config").json()
        functions = [entry for entry in config["dependencies"] if len(entry["inputs"]) == len(FORM)]
        self.public = next(entry["id"] for entry in functions if entry["api_name"] == "profile")
        self.private = next(entry["id"] for entry in functions if entry["api_visibility"] == "private")
        self.ways = {
            "call": lambda data: self.call(data),
            "queue": lambda data: self.join(self.public, data),
            "private function": lambda data: self.join(self.private, data),
            "run": lambda data: self.post("/gradio_api/run/profile", {"data": data}),
            "api": lambda data: self.post("/gradio_api/api/profile", {"data": data}),
            "run by number": lambda data: self.post("/gradio_api/run/x", {"data": data, "fn_index": self.private}),
            "batched": lambda data: self.post("/gradio_api/run/profile", {"data": [data], "batched": True}),
            "call of version 2": lambda data: self.post("/gradio_api/call/v2/profile", {"reviews": data}),
            "stream": lambda data: self.post("/gradio_api/stream/x", {"data": data}),
            "component": lambda data: self.post(
                "/gradio_api/component_server",
                {"data": data, "component_id": 1, "session_hash": "x", "fn_name": "preprocess"},
            ),
        }

    def call(self, data) -> str:
        answer = self.send("/gradio_api/call/profile", {"data": data})
        if answer.status_code != 200:
            return sentence(answer)
        events = self.http.get(f"/gradio_api/call/profile/{answer.json()['event_id']}").text
        return told(json.loads(events.rstrip().rpartition("data: ")[2]))

    def join(self, function: int, data) -> str:
        session = uuid.uuid4().hex
        answer = self.send("/gradio_api/queue/join", {"data": data, "fn_index": function, "session_hash": session})
        if answer.status_code != 200:
            return sentence(answer)
        with self.http.stream("GET", "/gradio_api/queue/data", params={"session_hash": session}) as events:
            for line in events.iter_lines():
                message = json.loads(line.removeprefix("data: ")) if line else {}
                if message.get("msg") == "process_completed":
                    output = message["output"]
                    return told(output["data"] if message["success"] else output)
        raise AssertionError("no answer")

    def post(self, path: str, body) -> str:
        return sentence(self.send(path, body))

    def send(self, path: str, body) -> httpx.Response:
        """JSON, lone surrogates and numbers that are none included."""
        return self.http.post(path, content=json.dumps(body), headers={"content-type": "application/json"})

    def upload(self, content: bytes, name: str = "photo.jpg") -> str:
        """The path that the page answers."""
        answer = self.http.post("/gradio_api/upload", files={"files": (name, content)})
        answer.raise_for_status()
        return answer.json()[0]


def sentence(answer: httpx.Response) -> str:
    """What an answer other than 200 says."""
    if answer.status_code == 200:
        return told(answer.json().get("data"))
    if answer.headers["content-type"].startswith("text/plain"):
        return answer.text
    body = answer.json()
    assert set(body) == {"error", "detail"} and body["error"] == body["detail"], body
    return body["error"]


def told(output) -> str:
    return output[0] if isinstance(output, list) else output["error"]


def photos(*items) -> list:
    """The form with these in its gallery."""
    return [FORM[0], list(items), *FORM[2:]]


def serve(folder) -> tuple[app.Page, Client]:
    page = app.build_app(str(folder))
    _, url, _ = app.launch(page, prevent_thread_lock=True, quiet=True)
    return page, Client(url)
