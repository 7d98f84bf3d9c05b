"""A stand-in for the hub: a local server of the part of its HTTP interface that reading needs.

It serves a folder tree, ROOT/datasets/OWNER/NAME and ROOT/models/OWNER/NAME, to `huggingface_hub` and `datasets`. Both
read HF_ENDPOINT when they are imported, so what is tested runs in a process of its own, with `Hub.env`.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Literal
from urllib.parse import parse_qs, unquote, urlsplit

from http_server import QuietHandler, serve

Kind = Literal["datasets", "models"]
Repo = tuple[Kind, str]
"""A repository: datasets or models, and owner/name."""

_API = re.compile(
    r"/api/(datasets|models)/([^/]+/[^/]+)(?:/(revision|tree|paths-info|refs|auth-check)(?:/([^/]+)(.*))?)?"
)
_FILE = re.compile(r"/(datasets/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_CHUNK = 1 << 20
_IN_MEMORY = 1 << 24
"""Longer files are served from the folder as it is then, so their commits can't differ."""


@dataclass(frozen=True)
class Blob:
    """A file of a commit."""

    size: int
    content: bytes | Path

    @cached_property
    def oid(self) -> str:
        if isinstance(self.content, bytes):
            return hashlib.sha1(b"blob %d\0" % self.size + self.content).hexdigest()
        with self.content.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def chunks(self, start: int, end: int) -> Iterator[bytes]:
        """The bytes from `start` to before `end`."""
        if isinstance(self.content, bytes):
            yield self.content[start:end]
            return
        with self.content.open("rb") as file:
            file.seek(start)
            while chunk := file.read(min(_CHUNK, end - file.tell())):
                yield chunk


Files = dict[str, Blob]
"""The files of a commit by their path."""


class RefusedError(Exception):
    """An answer other than 200, with the hub's headers."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.headers = {"X-Error-Message": message} | ({"X-Error-Code": code} if code else {})


@dataclass
class Hub:
    """What the server serves, and what it was asked.

    A repository's first commit is made of its folder when it is first asked for. What the folder contains later is
    served after `commit`.
    """

    root: Path
    url: str = ""
    gated: dict[str, str] = field(default_factory=dict)
    """Repositories (owner/name) whose files need this token."""
    cut: set[str] = field(default_factory=set)
    """Repositories (owner/name) whose files end before they should."""
    requests: list[tuple[str, str]] = field(default_factory=list)
    """Method and path of each request, in order."""
    _commits: dict[Repo, dict[str, Files]] = field(default_factory=dict)
    _branches: dict[Repo, dict[str, str]] = field(default_factory=dict)
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def commit(self, name: str, kind: Kind = "datasets", *, branch: str = "main", sha: str | None = None) -> str:
        """Makes what the folder contains now a commit, and moves the branch to it. Older commits are served on.

        Args:
            name: owner/name.
            sha: the commit's hash, 40 hex digits; by default that of the files.

        Returns:
            The commit's hash.
        """
        folder = self.root / kind / name
        paths = sorted(p for p in folder.rglob("*") if p.is_file())
        files = {p.relative_to(folder).as_posix(): _blob(p) for p in paths}
        sha = sha or hashlib.sha1(json.dumps([(p, b.oid) for p, b in files.items()]).encode()).hexdigest()
        if not _COMMIT.fullmatch(sha):
            raise ValueError(f"{sha}: a commit has 40 hex digits")
        with self._lock:
            self._commits.setdefault((kind, name), {})[sha] = files
            self._branches.setdefault((kind, name), {})[branch] = sha
        return sha

    def env(self, home: Path, token: str | None = None) -> dict[str, str]:
        """Environment of a process that takes this server for the hub. Its caches are in the folder `home`."""
        unset = ("HF_", "HUGGING", "TRANSFORMERS_OFFLINE")
        env = {k: v for k, v in os.environ.items() if not k.startswith(unset) and not k.lower().endswith("_proxy")}
        env |= {"HF_ENDPOINT": self.url, "HF_HOME": str(home), "HF_DATASETS_CACHE": str(home / "datasets")}
        env |= {"HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "NO_PROXY": "127.0.0.1"}
        return env | ({"HF_TOKEN": token} if token else {})

    def branches(self, repo: Repo) -> dict[str, str]:
        """The branches and their commits."""
        with self._lock:
            if repo not in self._branches and (self.root / repo[0] / repo[1]).is_dir():
                self.commit(repo[1], repo[0])
            return dict(self._branches.get(repo, {}))

    def at(self, repo: Repo, revision: str) -> tuple[str, Files]:
        """The commit that a branch, a commit or the beginning of one means, and its files."""
        sha = self.branches(repo).get(revision, revision)
        for known, files in self._commits[repo].items():
            if known == sha or (len(sha) >= 7 and known.startswith(sha)):
                return known, files
        raise RefusedError(404, "RevisionNotFound", f"Invalid rev id: {revision}")


def _blob(path: Path) -> Blob:
    size = path.stat().st_size
    return Blob(size, path.read_bytes() if size <= _IN_MEMORY else path)


@contextmanager
def serve_hub(root: Path) -> Iterator[Hub]:
    """Serves the folder tree as a hub until the end of the block, on a free port."""
    hub = Hub(root)
    with serve(type("Handler", (_Handler,), {"hub": hub})) as url:
        hub.url = url
        yield hub


class _Handler(QuietHandler):
    """Answers as the hub does."""

    hub: ClassVar[Hub]

    def do_HEAD(self) -> None:
        self._handle()

    def do_GET(self) -> None:
        self._handle()

    def do_POST(self) -> None:
        self._handle()

    def _handle(self) -> None:
        url = urlsplit(self.path)
        path = unquote(url.path)
        self.hub.requests.append((self.command, path))
        try:
            if match := _FILE.fullmatch(url.path):
                datasets, name, revision, file = (unquote(part or "") for part in match.groups())
                self._file(("datasets" if datasets else "models", name), revision, file)
            elif match := _API.fullmatch(url.path):
                kind, name, what, revision, inside = (unquote(part or "") for part in match.groups())
                repo: Repo = ("datasets" if kind == "datasets" else "models", name)
                self._json(self._api(repo, what, revision, inside.strip("/"), parse_qs(url.query)))
            else:
                raise RefusedError(404, "", f"no such page: {path}")
        except RefusedError as error:
            self._send(error.status, json.dumps({"error": str(error)}).encode(), error.headers)

    def _api(self, repo: Repo, what: str, revision: str, inside: str, query: Mapping[str, list[str]]) -> object:
        """An answer about a repository. Gated ones tell their files' names to anyone, as the hub's do."""
        self._check_exists(repo)
        if what == "refs":
            named = self.hub.branches(repo).items()
            branches = [{"name": n, "ref": f"refs/heads/{n}", "targetCommit": sha} for n, sha in named]
            return {"branches": branches, "converts": [], "tags": []}
        if what == "auth-check":
            self._check_token(repo)
            return {}
        sha, files = self.hub.at(repo, revision or "main")
        if what == "tree":
            recursive = query.get("recursive", ["false"])[0].lower() == "true"
            return _tree(files, inside, recursive=recursive)
        if what == "paths-info":
            asked = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())["paths"]
            every = {entry["path"]: entry for entry in _tree(files, "", recursive=True)}
            return [every[path] for path in asked if path in every]
        siblings = [{"rfilename": path, "size": blob.size, "blobId": blob.oid} for path, blob in files.items()]
        gated = "manual" if repo[1] in self.hub.gated else False
        return {"_id": "0" * 24, "id": repo[1], "sha": sha, "private": False, "gated": gated, "siblings": siblings}

    def _file(self, repo: Repo, revision: str, path: str) -> None:
        self._check_exists(repo)
        self._check_token(repo)
        sha, files = self.hub.at(repo, revision)
        if path not in files:
            raise RefusedError(404, "EntryNotFound", "Entry not found")
        blob = files[path]
        headers = {"ETag": f'"{blob.oid}"', "X-Repo-Commit": sha, "Accept-Ranges": "bytes"}
        start, end = 0, blob.size
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if asked:
            start, end = int(asked[1]), min(int(asked[2] or end) + 1, end)
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{blob.size}"
        missing = 5 if repo[1] in self.hub.cut else 0
        self._start(206 if asked else 200, end - start + missing, headers)
        if self.command == "GET":
            for chunk in blob.chunks(start, end):
                self.wfile.write(chunk)

    def _check_exists(self, repo: Repo) -> None:
        if not self.hub.branches(repo):
            if "Authorization" in self.headers:
                raise RefusedError(404, "RepoNotFound", "Repository not found")
            raise RefusedError(401, "RepoNotFound", "Invalid username or password.")

    def _check_token(self, repo: Repo) -> None:
        kind, name = repo
        token = self.hub.gated.get(name)
        sent = self.headers.get("Authorization")
        if token is not None and sent != f"Bearer {token}":
            restricted = f"Access to {kind.removesuffix('s')} {name} is restricted"
            if sent is None:
                why = "You must have access to it and be authenticated to access it. Please log in."
                raise RefusedError(401, "GatedRepo", f"{restricted}. {why}")
            raise RefusedError(403, "GatedRepo", f"{restricted} and you are not in the authorized list.")

    def _json(self, body: object) -> None:
        self._send(200, json.dumps(body).encode(), {"Content-Type": "application/json"})

    def _send(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        self._start(status, len(body), headers)
        if self.command != "HEAD":
            self.wfile.write(body)

    def _start(self, status: int, length: int, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for key, value in {**headers, "Content-Length": str(length)}.items():
            self.send_header(key, value)
        self.end_headers()


def _tree(files: Files, inside: str, *, recursive: bool) -> list[dict[str, str | int]]:
    """The files and folders below a path (the root if empty), as the hub lists them."""
    start = f"{inside}/" if inside else ""
    below = {path.removeprefix(start): blob for path, blob in files.items() if path.startswith(start)}
    if not below and start:
        raise RefusedError(404, "EntryNotFound", f"{inside} does not exist")
    folders = {"/".join(p.split("/")[:depth]) for p in below for depth in range(1, p.count("/") + 1)}
    entries: list[dict[str, str | int]] = [
        {"type": "directory", "path": start + folder, "size": 0, "oid": hashlib.sha1(folder.encode()).hexdigest()}
        for folder in sorted(folders)
    ]
    entries += [{"type": "file", "path": start + p, "size": b.size, "oid": b.oid} for p, b in below.items()]
    return entries if recursive else [e for e in entries if "/" not in str(e["path"]).removeprefix(start)]
