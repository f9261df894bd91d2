"""What the tests' Hub holds: repositories, their commits and the files in them."""

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import NamedTuple


class HubError(Exception):
    """An answer that is an error: its status, message and X-Error-Code."""


@dataclass(frozen=True)
class Blob:
    content: bytes
    lfs: bool = False

    @property
    def oid(self) -> str:
        """What preupload compares: SHA-256 of a large file, git's SHA-1 of another."""
        if self.lfs:
            return hashlib.sha256(self.content).hexdigest()
        return hashlib.sha1(b"blob %d\0" % len(self.content) + self.content).hexdigest()

    def entry(self, path: str) -> dict:
        entry = {"type": "file", "path": path, "size": len(self.content), "oid": self.oid[:40]}
        return entry | ({"lfs": {"oid": self.oid, "size": entry["size"], "pointerSize": 128}} if self.lfs else {})


class Commit(NamedTuple):
    oid: str
    files: dict[str, Blob]

    def entries(self) -> dict[str, dict]:
        """Path -> what the Hub tells of it, folders too."""
        folders = {str(parent) for path in self.files for parent in PurePosixPath(path).parents} - {"."}
        entries = {path: {"type": "directory", "path": path, "size": 0, "oid": self.oid} for path in sorted(folders)}
        return entries | {path: blob.entry(path) for path, blob in sorted(self.files.items())}


@dataclass
class Repo:
    kind: str
    id: str
    private: bool
    commits: dict[str, Commit] = field(default_factory=dict)
    branches: dict[str, Commit] = field(default_factory=dict)

    def at(self, revision: str) -> Commit:
        known = self.commits | self.branches
        if revision not in known:
            raise HubError(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return known[revision]

    def commit(self, branch: str, files: dict[str, Blob]) -> Commit:
        state = json.dumps([len(self.commits), self.id, {path: blob.oid for path, blob in files.items()}])
        commit = Commit(hashlib.sha1(state.encode()).hexdigest(), files)
        self.commits[commit.oid] = self.branches[branch] = commit
        return commit
