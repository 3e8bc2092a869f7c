"""A stand-in of the Hugging Face hub on 127.0.0.1: the endpoints that huggingface_hub calls for a data set.

It keeps commits in memory. Files of tensors go over LFS whatever their size, as large ones do without Xet.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

TOKEN = "hf_" + "abcDEF0123456789" * 2


def blob_id(data: bytes) -> str:
    """Return the git hash of a file."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


@dataclass
class Repo:
    """A data set: commits, each all of its files, and branches."""

    private: bool = False
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)

    def commit(self, branch: str, files: dict[str, bytes]) -> str:
        digest = hashlib.sha1(repr((len(self.commits), branch, sorted(files.items()))).encode()).hexdigest()
        self.commits[digest] = files
        self.branches[branch] = digest
        return digest

    def at(self, revision: str) -> str | None:
        found = self.branches.get(revision, revision)
        return found if found in self.commits else None

    @property
    def head(self) -> dict[str, bytes]:
        return self.commits[self.branches["main"]]

    def change(self, name: str, data: bytes | None) -> str:
        """Change a file behind everybody's back, in a new commit."""
        files = {key: value for key, value in self.head.items() if key != name}
        return self.commit("main", files if data is None else files | {name: data})


class Hub(ThreadingHTTPServer):
    """The server, with its repositories.

    Attributes:
        repos: Owner and name -> data set.
        models: Model -> licence on its card.
        calls: Method and path of every call.
        fetched: Paths of the files that were sent.
        stall: Set to make uploads of large files wait for `go`.
        write: Status of every answer to a call that writes; 200 for none.
    """

    daemon_threads = True

    def __init__(self) -> None:
        self.repos: dict[str, Repo] = {}
        self.models: dict[str, str] = {}
        self.lfs: dict[str, bytes] = {}
        self.calls: list[tuple[str, str]] = []
        self.fetched: list[str] = []
        self.tokens: set[str] = set()
        self.stall = threading.Event()
        self.stalled = threading.Event()
        self.go = threading.Event()
        self.write = 200
        self.cut = ""
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def make(self, name: str, files: dict[str, bytes] | None = None, *, private: bool = False) -> Repo:
        """Make a data set, with one commit."""
        repo = self.repos[name] = Repo(private)
        repo.commit("main", {".gitattributes": b"", **(files or {})})
        return repo


_API = re.compile(r"/api/datasets/(?P<repo>[^/]+/[^/]+)(?:/(?P<verb>\w+)(?:/(?P<rest>.+))?)?")
_RESOLVE = re.compile(r"/datasets/(?P<repo>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<name>.+)")
_LFS = re.compile(r"/datasets/(?P<repo>[^/]+/[^/]+)\.git/info/lfs/objects/batch")


class _Handler(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *args: Any) -> None:
        """Say nothing."""

    def _json(self, value: Any, status: int = 200, **headers: str) -> None:
        self._send(json.dumps(value).encode(), status, {"Content-Type": "application/json", **headers})

    def _send(self, body: bytes, status: int, headers: dict[str, str], *, head: bool = False) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        if "Content-Length" not in headers:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if not head:
            self.wfile.write(body)

    def _missing(self, code: str) -> None:
        self._json({"error": code}, 404, X_Error_Code=code, X_Error_Message=code)

    def _repo(self, name: str) -> Repo | None:
        """Return a data set that the caller may see; answer as the hub does for others."""
        repo = self.server.repos.get(name)
        if repo is None or (repo.private and not self._token()):
            status = 404 if self._token() else 401
            self._json({"error": "Repository not found"}, status, X_Error_Code="RepoNotFound")
            return None
        return repo

    def _token(self) -> str:
        found = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if found:
            self.server.tokens.add(found)
        return found

    def _may_write(self) -> bool:
        if self.server.write == 200:
            return True
        said = {401: "Invalid credentials in Authorization header", 403: "Forbidden"}[self.server.write]
        self._json({"error": said}, self.server.write, X_Error_Message=said)
        return False

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            parts = []
            while size := int(self.rfile.readline(), 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def do_HEAD(self) -> None:
        self.do_GET(head=True)

    def do_GET(self, head: bool = False) -> None:
        url = urlsplit(self.path)
        path = unquote(url.path)
        self.server.calls.append((self.command, path))
        if found := _RESOLVE.fullmatch(url.path):
            return self._resolve(found, head)
        if path.startswith("/api/models/"):
            name = path.removeprefix("/api/models/")
            licence = self.server.models.get(name)
            if licence is None:
                return self._missing("RepoNotFound")
            return self._json({"id": name, "tags": [], "cardData": {"license": licence}})
        found = _API.fullmatch(url.path)
        if found is None:
            return self._missing("EntryNotFound")
        repo = self._repo(found["repo"])
        if repo is None:
            return None
        rest = unquote(found["rest"] or "main")
        commit = repo.at(rest.split("/")[0] if found["verb"] == "tree" else rest)
        if commit is None:
            return self._missing("RevisionNotFound")
        if found["verb"] == "tree":
            wanted = parse_qs(url.query)
            assert wanted.get("recursive") in (["True"], ["true"]), wanted
            return self._json([self._entry(name, data) for name, data in repo.commits[commit].items()])
        return self._json({"id": found["repo"], "sha": commit, "private": repo.private, "tags": []})

    def _entry(self, name: str, data: bytes) -> dict[str, Any]:
        entry: dict[str, Any] = {"type": "file", "path": name, "size": len(data), "oid": blob_id(data)}
        if name.endswith(".safetensors"):
            digest = hashlib.sha256(data).hexdigest()
            entry["lfs"] = {"oid": digest, "size": len(data), "pointerSize": 134}
        return entry

    def _resolve(self, found: re.Match[str], head: bool) -> None:
        repo = self._repo(found["repo"])
        if repo is None:
            return
        commit, name = repo.at(unquote(found["revision"])), unquote(found["name"])
        if commit is None:
            self._missing("RevisionNotFound")
            return
        data = repo.commits[commit].get(name)
        if data is None:
            self._missing("EntryNotFound")
            return
        if not head:
            self.server.fetched.append(name)
        lfs = name.endswith(".safetensors")
        etag = hashlib.sha256(data).hexdigest() if lfs else blob_id(data)
        headers = {"ETag": f'"{etag}"', "X-Repo-Commit": commit, "Content-Length": str(len(data))}
        if lfs:
            headers |= {"X-Linked-Etag": f'"{etag}"', "X-Linked-Size": str(len(data))}
        if self.server.cut == name and not head:
            data = data[: len(data) // 2]
            self.close_connection = True
        self._send(data, 200, headers, head=head)

    def do_PUT(self) -> None:
        self.server.calls.append((self.command, self.path))
        data = self._body()
        if self.server.stall.is_set():
            self.server.stalled.set()
            self.server.go.wait(60)
        self.server.lfs[self.path.rsplit("/", 1)[1]] = data
        self._send(b"", 200, {})

    def do_POST(self) -> None:
        url = urlsplit(self.path)
        path = unquote(url.path)
        self.server.calls.append((self.command, path))
        data = self._body()
        self._token()
        if path == "/api/validate-yaml":
            content = json.loads(data)["content"]
            assert content.startswith("---\n"), content[:80]
            return self._json({"errors": [], "warnings": []})
        if not self._may_write():
            return None
        if path == "/api/repos/create":
            wanted = json.loads(data)
            name = f"{wanted['organization']}/{wanted['name']}"
            assert wanted["type"] == "dataset"
            if name in self.server.repos:
                return self._json({"error": "exists", "url": f"{self.server.url}/datasets/{name}"}, 409)
            self.server.make(
                name, private=wanted.get("visibility") == "private" or wanted.get("private") is True
            )
            return self._json({"url": f"{self.server.url}/datasets/{name}"})
        if found := _LFS.fullmatch(path):
            objects = json.loads(data)["objects"]
            for one in objects:
                if one["oid"] not in self.server.lfs:
                    one["actions"] = {"upload": {"href": f"{self.server.url}/lfs/{one['oid']}"}}
            return self._json({"transfer": "basic", "objects": objects})
        found = _API.fullmatch(url.path)
        if found is None:
            return self._missing("EntryNotFound")
        repo = self._repo(found["repo"])
        if repo is None:
            return None
        branch = unquote(found["rest"] or "main")
        if found["verb"] == "branch":
            if branch in repo.branches:
                return self._json({"error": "Reference already exists"}, 409)
            repo.branches[branch] = repo.branches["main"]
            return self._json({})
        if branch not in repo.branches:
            return self._missing("RevisionNotFound")
        if found["verb"] == "preupload":
            return self._preupload(repo, branch, json.loads(data))
        assert found["verb"] == "commit", path
        return self._commit(found["repo"], repo, branch, [json.loads(line) for line in data.splitlines()])

    def _preupload(self, repo: Repo, branch: str, wanted: dict[str, Any]) -> None:
        there = repo.commits[repo.branches[branch]]
        answer = []
        for one in wanted["files"]:
            held = there.get(one["path"])
            lfs = one["path"].endswith(".safetensors")
            oid = None
            if held is not None:
                oid = hashlib.sha256(held).hexdigest() if lfs else blob_id(held)
            mode = "lfs" if lfs else "regular"
            answer.append({"path": one["path"], "uploadMode": mode, "shouldIgnore": False, "oid": oid})
        self._json({"files": answer})

    def _commit(self, name: str, repo: Repo, branch: str, lines: list[dict[str, Any]]) -> None:
        header = lines[0]["value"]
        if header.get("parentCommit") not in (None, repo.branches[branch]):
            self._json({"error": "A commit has happened since. Please refresh and try again."}, 412)
            return
        files = dict(repo.commits[repo.branches[branch]])
        for line in lines[1:]:
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.server.lfs[value["oid"]]
            else:
                assert line["key"] == "deletedFile", line
                del files[value["path"]]
        commit = repo.commit(branch, files)
        url = f"{self.server.url}/datasets/{name}/commit/{commit}"
        self._json({"success": True, "commitOid": commit, "commitUrl": url})


@contextmanager
def hub() -> Iterator[Hub]:
    """Start the server, and stop it."""
    server = Hub()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.go.set()
        server.shutdown()
        server.server_close()
