"""A target that answers from a hash, auditors that fail as told, and a small map to read positions with."""

from __future__ import annotations

import functools
import json
import random
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np

from eval_case import tiny_run
from personascope.corpus.dialogues import Domain
from personascope.corpus.dialogues._load import Topic, UserPersona
from personascope.dynamics.conversations import sample_scenarios
from personascope.dynamics.conversations._auditor import AuditorFailure, ScriptedAuditor, UserTurnRequest
from personascope.dynamics.conversations._scenarios import Scenario
from personascope.engines import Completion, EngineInfo, Request, request_seed
from personascope.mapping import MAP
from personascope.space import PersonaMap


@functools.cache
def tiny_map() -> PersonaMap:
    return PersonaMap.open(tiny_run() / MAP)


def domain(name: str, topics: int = 4, personas: int = 2, messages: int = 8, remarks: int = 12) -> Domain:
    return Domain(
        name,
        f"The user asks about {name}.",
        tuple(
            UserPersona(f"p{p}", f"You are person {p}.", tuple(f"Remark {r} of {p}." for r in range(remarks)))
            for p in range(personas)
        ),
        tuple(
            Topic(f"t{t}", f"Topic {t}.", tuple(f"Message {m} on {name} {t}." for m in range(messages)))
            for t in range(topics)
        ),
    )


def scenarios(*names: str, per_domain: int = 4) -> tuple[Scenario, ...]:
    return sample_scenarios([domain(name) for name in names or ("coding", "therapy")], per_domain)


class FakeTarget:
    """Completions that depend on the request's id, seed, prompt and plan alone, in scrambled order."""

    def __init__(self, *, context: int | None = None, dies_at: int | None = None) -> None:
        found = tiny_map()
        model = found.model
        self.persona_map = found
        self.info = EngineInfo(
            "fake",
            model.id,
            model.revision,
            model.n_layers,
            model.d_model,
            "float32",
            "chat",
            context=context,
        )
        self.dies_at = dies_at
        self.asked: Counter[str] = Counter()

    def count_tokens(self, conversation) -> int:
        return sum(len(message.content.split()) for message in conversation)

    def run(self, requests: Iterable[Request]) -> Iterator[Completion]:
        wanted = list(requests)
        random.shuffle(wanted)
        for request in wanted:
            if self.dies_at is not None and sum(self.asked.values()) >= self.dies_at:
                raise KeyboardInterrupt
            self.asked[request.id] += 1
            key = f"{request.id}{request.prompt}{request.plan and request.plan.digest}"
            rng = np.random.default_rng(request_seed(request.seed, key))
            tokens = int(rng.integers(2, 9))
            stream = rng.standard_normal((tokens, self.info.d_model)).astype(np.float32)
            yield Completion(
                request.id,
                f"Reply {int(rng.integers(1000))}.",
                tuple(range(tokens)),
                "stop",
                self.count_tokens(request.prompt),
                np.broadcast_to(stream.mean(0), (self.info.n_layers, self.info.d_model)),
                tokens,
                {probe.name: stream @ probe.direction for probe in request.probes},
                request.plan and request.plan.digest,
            )


class FailingAuditor(ScriptedAuditor):
    """Fails where ``fails(scene id, turn, times asked before)`` says so."""

    def __init__(self, fails) -> None:
        self.fails = fails
        self.asked: Counter[tuple[str, int]] = Counter()

    def answer(self, asked: Sequence[UserTurnRequest]):
        answers = super().answer(asked)
        for place, one in enumerate(asked):
            key = (one.scenario.id, one.turn)
            if self.fails(*key, self.asked[key]):
                answers[place] = AuditorFailure("told to fail")
            self.asked[key] += 1
        return answers


@contextmanager
def auditor_server(failing: float = 0.2, seed: int = 0) -> Iterator[tuple[str, Counter[str]]]:
    """Serve chat completions on this machine; a share of the calls fails in one of several ways."""
    rng, lock = random.Random(seed), threading.Lock()
    counts: Counter[str] = Counter()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if body["model"] != "m":
                counts["404"] += 1
                self.send_error(404)
                return
            with lock:
                fails = rng.random() < failing
                how = rng.choice(["500", "garbage", "empty", "closed"]) if fails else "ok"
                counts[how] += 1
            if how == "closed":
                self.close_connection = True
                self.connection.close()
                return
            said = body["messages"][-1]["content"]
            choice = {"index": 0, "message": {"role": "assistant", "content": f"And then? ({said[:20]})"}}
            reply = {"id": "x", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice]}
            if how == "empty":
                reply["choices"] = []
            data = b"<html>" if how == "garbage" else json.dumps(reply).encode()
            self.send_response(500 if how == "500" else 200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            return None

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1", counts
    finally:
        server.shutdown()
        server.server_close()
