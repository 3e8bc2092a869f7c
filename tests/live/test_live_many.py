"""Many streams at once: each is its run alone, and clients that go away leave nothing."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from live_case import CHAT, KEY, Served, body, serving, text_of, unit, upload_of

from personascope.chat import Message
from personascope.engines import Request, Sampling, TransformersEngine
from personascope.interventions import Cap, Plan, Steer
from tiny import load_tiny

STREAMS, PLANS = 64, 16
LENGTH = 16


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    model = TransformersEngine(load_tiny("llama"), max_batch=STREAMS)
    with serving(tmp_path_factory.mktemp("many"), model=model) as found:
        yield found


def made_plans(width: int) -> list[Plan]:
    """Return sixteen plans that differ in what they do."""
    return [
        Plan((Cap(1 + n % 2, unit(width, n), floor=1.0 + n / 8),), None, f"cap {n}")
        if n % 2
        else Plan((Steer(n % 3, unit(width, n), 2.0 + n / 4),), None, f"steer {n}")
        for n in range(PLANS)
    ]


def test_64_streams_with_16_plans_are_each_their_run_alone(served: Served, tmp_path: Path) -> None:
    plans = made_plans(served.mapped.persona_map.d_model)
    for number, plan in enumerate(plans):
        sent = upload_of(plan, tmp_path / f"{number}")
        assert served.http("POST", "/v1/personascope/plans", json=sent).status_code == 200
    # A quarter of the streams is plain; each plan has three of the others.
    chosen = [None if n % 4 == 0 else plans[(n - n // 4 - 1) % PLANS] for n in range(STREAMS)]
    together = threading.Barrier(STREAMS)
    most = 0

    def one(number: int) -> tuple[str, str | None]:
        nonlocal most
        plan = chosen[number]
        together.wait(60)
        field = {"plan": None if plan is None else plan.digest}
        chunks = served.stream(f"{number}: what is rain?", field, max_tokens=LENGTH + number % 5)
        most = max(most, served.service.running)
        return text_of(chunks), chunks[-2]["personascope"]["plan"]

    with ThreadPoolExecutor(STREAMS) as pool:
        found = list(pool.map(one, range(STREAMS)))
    assert most > STREAMS // 4, "few of the streams ran together"
    assert len({plan.digest for plan in chosen if plan is not None}) == PLANS
    assert sum(plan is None for plan in chosen) == STREAMS // 4
    alone = TransformersEngine(load_tiny("llama"), max_batch=1)
    for number, (text, digest) in enumerate(found):
        plan = chosen[number]
        asked = Request(
            f"{number}",
            (Message("user", f"{number}: what is rain?"),),
            Sampling(0.0, 1.0, LENGTH + number % 5),
            plan=plan,
        )
        (done,) = alone.run([asked])
        assert text == done.text, number
        assert digest == (None if plan is None else plan.digest)
    served.idle()


def test_100_clients_that_go_away_leave_nothing(served: Served) -> None:
    headers = {"Authorization": f"Bearer {KEY}"}

    def one(number: int) -> int:
        """Begin a stream, or a reply that is not streamed, and go before it ends."""
        asked = body(f"{number}?", {"plan": "high floor", "space": True}, max_tokens=400)
        if number % 5 == 0:
            try:
                httpx.post(f"{served.url}{CHAT}", json=asked, headers=headers, timeout=0.05 + number / 500)
            except httpx.TimeoutException:
                return 0
            return 1
        read = 0
        with httpx.stream(
            "POST", f"{served.url}{CHAT}", json=asked | {"stream": True}, headers=headers, timeout=60
        ) as answer:
            for line in answer.iter_lines():
                read += line.startswith("data: {")
                if read > number % 9:
                    break
        return read

    with ThreadPoolExecutor(50) as pool:
        list(pool.map(one, range(100)))
    served.idle()
    stats = served.http("GET", "/v1/personascope/stats").json()
    assert (stats["under_way"], stats["running"]) == (0, 0), json.dumps(stats)
    worker = served.service._worker
    assert not worker._tickets and not worker._batch._live and not worker._batch._waiting
    assert worker._batch._batch is None
    assert served.chat()["choices"][0]["message"]["content"]
