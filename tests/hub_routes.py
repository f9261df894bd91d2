"""What the tests' Hub answers, route by route."""

import base64
import hashlib
import json
import re
import socket
import struct
from fnmatch import fnmatch
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, unquote, urlsplit

from tests.hub_repos import Blob, HubError, Repo

if TYPE_CHECKING:
    from tests.hub_server import HubServer

LFS_PATTERNS = ("*.safetensors", "*.parquet", "*.bin", "*.pt", "*.arrow", "*.zip")
INLINE_LIMIT = 10 * 2**20  # bytes; a larger file is LFS whatever its name
DATE = "2026-01-01T00:00:00.000Z"
PREFIX = {"model": "", "dataset": "datasets/", "space": "spaces/"}

# Method, path, name of the handler's method; the groups become its arguments, `kind` and `repo_id` a Repo.
API = r"/api/(?P<kind>model|dataset|space)s/(?P<repo_id>[^/]+/[^/]+)"
GIT = r"/(?P<kind>datasets/|spaces/)?(?P<repo_id>[^/]+/[^/]+)"
ROUTES = [
    ("GET", r"/api/whoami-v2", "whoami"),
    ("POST", r"/api/validate-yaml", "validate_yaml"),
    ("POST", r"/api/repos/create", "create_repo"),
    ("GET", API + r"(/revision/(?P<revision>[^/]+))?", "info"),
    ("GET", API + r"/auth-check/write", "auth_check_write"),
    ("GET", API + r"/tree/(?P<revision>[^/]+)(/(?P<path>.+))?", "tree"),
    ("POST", API + r"/paths-info/(?P<revision>[^/]+)", "paths_info"),
    ("GET", API + r"/refs", "refs"),
    ("POST", API + r"/preupload/(?P<revision>[^/]+)", "preupload"),
    ("POST", API + r"/commit/(?P<revision>[^/]+)", "commit"),
    ("POST", GIT + r"\.git/info/lfs/objects/batch", "lfs_batch"),
    ("PUT", r"/lfs-storage/(?P<oid>[0-9a-f]{64})", "lfs_put"),
    ("GET", GIT + r"/resolve/(?P<revision>[^/]+)/(?P<path>.+)", "resolve"),
]


class HubHandler(BaseHTTPRequestHandler):
    """One connection. A route's method returns what is sent as JSON, or None where it has answered itself."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # 40 ms an answer
    hub: "HubServer"

    def log_message(self, format: str, *args) -> None:
        """Silence: `HubServer.requests` is the log."""

    def serve(self) -> None:
        fault = self.hub.take_fault(f"{self.command} {self.path}")
        self.cut = fault is not None and not fault.status
        length = int(self.headers.get("Content-Length", 0))
        if self.cut and length:
            self.rfile.read(length // 2)
            return self.drop()
        self.body = self.rfile.read(length)
        if self.hub.server is None:
            return self.drop()
        if fault is not None and fault.status:
            return self.answer(fault.status, fault.body.encode(), fault.headers)
        try:
            answer = self.route()
        except HubError as error:
            status, message, code = error.args
            headers = {"X-Error-Code": code, "X-Error-Message": message}
            return self.answer(status, json.dumps({"error": message}).encode(), headers)
        if answer is not None:
            self.answer(200, json.dumps(answer).encode(), {"Content-Type": "application/json"})

    do_GET = do_HEAD = do_POST = do_PUT = serve

    def answer(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content[: len(content) // 2] if self.cut else content)
        self.close_connection = self.close_connection or self.cut

    def drop(self) -> None:
        """Ends the connection with a reset, as a network does that breaks."""
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()

    def route(self) -> dict | list | None:
        url = urlsplit(self.path)
        for method, pattern, name in ROUTES:
            if method == self.command.replace("HEAD", "GET") and (found := re.fullmatch(pattern, url.path)):
                arguments = {key: unquote(value) for key, value in found.groupdict().items() if value is not None}
                with self.hub.lock:
                    if "repo_id" in arguments:
                        kind = arguments.pop("kind", "model").rstrip("/s")
                        writes = method != "GET" and name != "paths_info"
                        arguments["repo"] = self.repo(kind, arguments.pop("repo_id"), writes)
                    return getattr(self, name)(**arguments)
        raise HubError(404, f"no route {self.command} {url.path}", "")

    # Who may do what

    def user(self) -> str | None:
        """The name behind the request's token, None without one."""
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if token and token not in self.hub.users:
            raise HubError(401, "Invalid credentials in Authorization header", "")
        return self.hub.users.get(token)

    def owns(self, namespace: str) -> bool:
        user = self.user()
        return user is not None and namespace in (user, *self.hub.organizations[user])

    def role(self) -> str:
        return "read" if self.headers.get("Authorization", "").removeprefix("Bearer ") in self.hub.readers else "write"

    def need_write(self, namespace: str) -> None:
        if self.user() is None:
            raise HubError(401, "Invalid username or password.", "")
        if not self.owns(namespace) or self.role() == "read":
            raise HubError(403, f"You don't have the rights to write under the namespace {namespace!r}", "")

    def repo(self, kind: str, repo_id: str, writes: bool) -> Repo:
        repo, user, owner = self.hub.repos.get((kind, repo_id)), self.user(), repo_id.split("/")[0]
        if repo is None or (repo.private and not self.owns(owner)):
            raise HubError(404 if user else 401, "Repository not found", "RepoNotFound")
        if writes:
            self.need_write(owner)
        return repo

    # Routes

    def whoami(self) -> dict:
        if (user := self.user()) is None:
            raise HubError(401, "Invalid username or password.", "")
        organizations = [{"type": "org", "name": name} for name in self.hub.organizations[user]]
        token = {"accessToken": {"displayName": "test", "role": self.role()}, "type": "access_token"}
        return {"type": "user", "name": user, "fullname": user, "orgs": organizations, "auth": token}

    def validate_yaml(self) -> dict:
        return {"errors": [], "warnings": []}

    def create_repo(self) -> dict | None:
        asked = json.loads(self.body)
        kind, namespace = asked.get("type", "model"), asked.get("organization") or self.user()
        self.need_write(namespace)
        repo_id = f"{namespace}/{asked['name']}"
        answer = {"url": f"{self.hub.endpoint}/{PREFIX[kind]}{repo_id}", "name": repo_id}
        if (kind, repo_id) in self.hub.repos:
            return self.answer(409, json.dumps(answer | {"error": "You already created this repo"}).encode(), {})
        repo = self.hub.repos[kind, repo_id] = Repo(kind, repo_id, asked.get("visibility") == "private")
        attributes = "".join(f"{pattern} filter=lfs diff=lfs merge=lfs -text\n" for pattern in LFS_PATTERNS)
        repo.commit("main", {".gitattributes": Blob(attributes.encode())})
        return answer

    def info(self, repo: Repo, revision: str = "main") -> dict:
        commit, author = repo.at(revision), repo.id.split("/")[0]
        siblings = [{"rfilename": path, "size": len(blob.content)} for path, blob in sorted(commit.files.items())]
        info = {"_id": commit.oid[:24], "id": repo.id, "author": author, "sha": commit.oid, "private": repo.private}
        dates = {"createdAt": DATE, "lastModified": DATE}
        return info | dates | {"downloads": 0, "likes": 0, "tags": [], "gated": False, "siblings": siblings}

    def auth_check_write(self, repo: Repo) -> dict:
        self.need_write(repo.id.split("/")[0])
        return {}

    def tree(self, repo: Repo, revision: str, path: str = "") -> list[dict]:
        entries, start = repo.at(revision).entries(), f"{path}/" if path else ""
        if path and path not in entries:
            raise HubError(404, f"{path} is not on {revision}", "EntryNotFound")
        recursive = "recursive=true" in self.path.lower()
        below = [entry for name, entry in entries.items() if name.startswith(start)]
        return [entry for entry in below if recursive or "/" not in entry["path"].removeprefix(start)]

    def paths_info(self, repo: Repo, revision: str) -> list[dict]:
        paths = parse_qs(self.body.decode())["paths"]
        return [entry for path, entry in repo.at(revision).entries().items() if path in paths]

    def refs(self, repo: Repo) -> dict:
        heads = ((name, commit.oid) for name, commit in repo.branches.items())
        branches = [{"name": name, "ref": f"refs/heads/{name}", "targetCommit": oid} for name, oid in heads]
        return {"branches": branches, "tags": [], "converts": []}

    def preupload(self, repo: Repo, revision: str) -> dict:
        known, answers = repo.at(revision).files, []
        for path, size in ((file["path"], file["size"]) for file in json.loads(self.body)["files"]):
            large = size > INLINE_LIMIT or any(fnmatch(path, pattern) for pattern in LFS_PATTERNS)
            oid = known[path].oid if path in known else None
            mode = "lfs" if large else "regular"
            answers.append({"path": path, "uploadMode": mode, "shouldIgnore": False, "oid": oid})
        return {"files": answers}

    def lfs_batch(self, repo: Repo) -> dict:
        objects = [{"oid": asked["oid"], "size": asked["size"]} for asked in json.loads(self.body)["objects"]]
        for missing in (entry for entry in objects if entry["oid"] not in self.hub.large_files):
            missing["actions"] = {"upload": {"href": f"{self.hub.endpoint}/lfs-storage/{missing['oid']}"}}
        return {"transfer": "basic", "objects": objects}

    def lfs_put(self, oid: str) -> dict:
        if hashlib.sha256(self.body).hexdigest() != oid:
            raise HubError(400, "the content is not that of its SHA-256", "")
        self.hub.large_files[oid] = self.body
        return {}

    def commit(self, repo: Repo, revision: str) -> dict:
        lines = [(line["key"], line["value"]) for line in map(json.loads, self.body.splitlines())]
        head, files = repo.at(revision), dict(repo.at(revision).files)
        if dict(lines)["header"].get("parentCommit", head.oid) != head.oid:
            raise HubError(412, "A commit has happened since. Please refresh and try again.", "")
        for key, value in lines:
            if key == "file":
                files[value["path"]] = Blob(base64.b64decode(value["content"], validate=True))
            elif key == "lfsFile":
                if value["oid"] not in self.hub.large_files:
                    raise HubError(400, f"LFS pointer of {value['path']} points to a file that does not exist", "")
                files[value["path"]] = Blob(self.hub.large_files[value["oid"]], lfs=True)
            elif key != "header":  # deletedFile, deletedFolder
                path = value["path"].rstrip("/")
                left = {name: blob for name, blob in files.items() if not f"{name}/".startswith(f"{path}/")}
                if len(left) == len(files):
                    raise HubError(404, "A file with this name doesn't exist", "EntryNotFound")
                files = left
        made = repo.commit(revision, files)
        url = f"{self.hub.endpoint}/{PREFIX[repo.kind]}{repo.id}/commit/{made.oid}"
        return {"success": True, "commitOid": made.oid, "commitUrl": url}

    def resolve(self, repo: Repo, revision: str, path: str) -> None:
        commit = repo.at(revision)
        if path not in commit.files:
            raise HubError(404, f"{path} is not on {commit.oid}", "EntryNotFound")
        content, etag, status = commit.files[path].content, f'"{commit.files[path].oid}"', 200
        headers = {"ETag": etag, "X-Repo-Commit": commit.oid, "Accept-Ranges": "bytes"}
        if commit.files[path].lfs:
            headers |= {"X-Linked-Etag": etag, "X-Linked-Size": str(len(content))}
        if asked := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")):
            first, last = int(asked[1]), min(int(asked[2] or len(content)), len(content) - 1)
            if first > last:
                return self.answer(416, b"", headers | {"Content-Range": f"bytes */{len(content)}"})
            headers["Content-Range"] = f"bytes {first}-{last}/{len(content)}"
            content, status = content[first : last + 1], 206
        self.hub.sent[path] += len(content) if self.command == "GET" else 0
        self.answer(status, content, headers)
