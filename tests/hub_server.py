"""A small Hugging Face Hub on loopback, for tests: what huggingface_hub, transformers and datasets ask of it.

    with HubServer() as hub:
        api = HfApi(hub.endpoint, token=hub.token)
        subprocess.run([...], env=hub.environment(home))

Repositories live in memory. Large files travel by plain LFS, so the client must run with Xet off, as `environment` and
`use_in_process` set it. Faults: `fail_next`, `drop_connection`, `down` and `up`.
"""

import os
import re
import threading
from collections import Counter
from dataclasses import dataclass, field
from http.server import ThreadingHTTPServer
from pathlib import Path

from huggingface_hub import HfFileSystem

from tests.hub_repos import Repo
from tests.hub_routes import HubHandler


@dataclass
class Fault:
    match: str
    times: int
    status: int = 0  # 0: the connection is cut half-way
    headers: dict[str, str] = field(default_factory=dict)
    body: str = '{"error": "a fault of the test"}'


class HubServer:
    """The Hub of `user` (token `hf_user`) and of `other` (`hf_other`), on 127.0.0.1 from `with` on.

    `user` is of the organization `lab`, and has a token that may only read, `hf_reader`.
    `requests` holds each "METHOD /path?query" that came in, in order, `sent` the bytes that were sent of each file, by
    its path. While a test holds `lock`, the Hub hangs.
    """

    token = "hf_user"
    users = {"hf_user": "user", "hf_other": "other", "hf_reader": "user"}
    organizations = {"user": ["lab"], "other": []}
    readers = {"hf_reader"}

    def __init__(self):
        self.repos: dict[tuple[str, str], Repo] = {}  # (kind, user/name)
        self.large_files: dict[str, bytes] = {}  # by SHA-256
        self.requests: list[str] = []
        self.sent: Counter[str] = Counter()
        self.lock = threading.RLock()
        self.port = 0
        self.faults: list[Fault] = []
        self.server: ThreadingHTTPServer | None = None

    def __enter__(self) -> "HubServer":
        self.up()
        return self

    def __exit__(self, *exception) -> None:
        self.down()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def environment(self, home: Path, **more: str) -> dict[str, str]:
        """The environment in which a subprocess takes this server for the Hub, with its caches under `home`."""
        ours = {"HF_ENDPOINT": self.endpoint, "HF_TOKEN": self.token, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1"}
        quiet = {"HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
        others = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "TRANSFORMERS_"))}
        return others | ours | quiet | more

    def use_in_process(self, monkeypatch) -> None:
        """Makes this server the Hub of huggingface_hub and datasets in this process; caches stay where they are."""
        resolve = self.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", self.endpoint)
        monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", resolve)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        monkeypatch.setattr("datasets.config.HF_ENDPOINT", self.endpoint)
        monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", False)
        HfFileSystem.clear_instance_cache()  # which knows the Hub of a test before
        monkeypatch.setattr("transformers.utils.hub._hf_api", None, raising=False)  # its client for all calls
        monkeypatch.setenv("HF_TOKEN", self.token)

    def files(self, repo_id: str, kind: str = "model") -> dict[str, bytes]:
        """Path -> content on main, without the .gitattributes that the Hub adds; empty without a repository."""
        with self.lock:  # between a repository and its first commit there is no main
            files = self.repos[kind, repo_id].at("main").files if (kind, repo_id) in self.repos else {}
        return {path: blob.content for path, blob in files.items() if path != ".gitattributes"}

    def up(self) -> None:
        """Starts to listen, after `down` on the same port."""
        if self.server is None:
            self.server = ThreadingHTTPServer(("127.0.0.1", self.port), type("Handler", (HubHandler,), {"hub": self}))
            self.port = self.server.server_port
            threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def down(self) -> None:
        """Refuses connections from now on and answers no request under way."""
        if self.server is not None:
            self.server.shutdown()
            self.server.server_close()
            self.server = None

    def fail_next(self, match: str, status: int, times: int = 1, **fault) -> None:
        """Answers `status` to the next `times` requests whose "METHOD /path?query" the pattern `match` is found in.

        `headers` (dict) and `body` (str) of the answer may be given too.
        """
        self.faults.append(Fault(match, times, status, **fault))

    def drop_connection(self, match: str, times: int = 1) -> None:
        """Cuts the next `times` matching connections half-way: a reset in the body sent, an early end in an answer."""
        self.faults.append(Fault(match, times))

    def take_fault(self, request: str) -> Fault | None:
        with self.lock:
            self.requests.append(request)
            for fault in self.faults:
                if fault.times > 0 and re.search(fault.match, request):
                    fault.times -= 1
                    return fault
        return None
