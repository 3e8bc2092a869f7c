"""A chat-completions server on 127.0.0.1 that answers as a script says, and counts its calls."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Answer:
    """What goes over the wire: after `delay` seconds, the first `cut` bytes of the body.

    With `chunks`, those are sent instead, one after another, without a length said before.
    """

    body: str | bytes
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    delay: float = 0.0
    cut: int | None = None
    chunks: Callable[[], Iterator[bytes]] | None = None


def completion(
    content: object, *, prompt: int = 100, reply: int = 10, finish: str = "stop", **message: object
) -> Answer:
    said = {"role": "assistant", "content": content, **message}
    choice = {"index": 0, "finish_reason": finish, "message": said}
    usage = {"prompt_tokens": prompt, "completion_tokens": reply}
    return Answer(json.dumps({"choices": [choice], "usage": usage}))


def error(
    status: int, message: str = "no", *, headers: dict[str, str] | None = None, **fields: str
) -> Answer:
    return Answer(json.dumps({"error": {"message": message, **fields}}), status, headers or {})


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, script: Callable[[int, dict[str, Any]], Answer]) -> None:
        self.script = script
        self.bodies: list[dict[str, Any]] = []
        self.paths: list[str] = []
        self.headers_seen: list[dict[str, str]] = []
        self.at_once = 0
        self.most_at_once = 0
        self.lock = threading.Lock()
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def calls(self) -> int:
        return len(self.bodies)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"


class _Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            number = len(self.server.bodies)
            self.server.bodies.append(body)
            self.server.paths.append(self.path)
            self.server.headers_seen.append({k.lower(): v for k, v in self.headers.items()})
            self.server.at_once += 1
            self.server.most_at_once = max(self.server.most_at_once, self.server.at_once)
        try:
            if not self.path.partition("?")[0].endswith("/chat/completions"):
                self._write(error(404, f"no such path {self.path}"))
            else:
                self._write(self.server.script(number, body))
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True
        finally:
            with self.server.lock:
                self.server.at_once -= 1

    def _write(self, answer: Answer) -> None:
        time.sleep(answer.delay)
        data = answer.body.encode() if isinstance(answer.body, str) else answer.body
        headers = {"Content-Type": "application/json", **answer.headers}
        if answer.chunks is None:
            headers["Content-Length"] = str(len(data))
        self.send_response(answer.status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if answer.chunks is None:
            self.wfile.write(data[: answer.cut])
            return
        self.close_connection = True
        for chunk in answer.chunks():
            self.wfile.write(chunk)
            self.wfile.flush()

    def log_message(self, format: str, *args: Any) -> None:
        """Keep the test's output clean."""


@contextmanager
def serving(script: Callable[[int, dict[str, Any]], Answer]) -> Iterator[Server]:
    server = Server(script)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
