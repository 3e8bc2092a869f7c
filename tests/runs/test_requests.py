"""Completions of a batch: each once, each under its own plan."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np
import pytest

from eval_case import engine
from personascope.chat import Message
from personascope.engines import Completion, Request, Sampling
from personascope.errors import EngineError
from personascope.interventions import Plan, Steer
from personascope.runs._requests import run_requests


class Changed:
    """An engine whose completions are changed on their way out."""

    def __init__(self, change) -> None:
        self.change = change

    def run(self, requests: Iterable[Request]) -> Iterator[Completion]:
        yield from self.change(list(engine().run(requests)))


def requests() -> list[Request]:
    plan = Plan((Steer(1, np.eye(engine().info.d_model, dtype=np.float32)[0], 1.0),))
    talk = (Message("user", "What is rain?"),)
    return [
        Request(f"r{n}", talk, Sampling(temperature=0, max_new_tokens=2), plan=plan if n % 2 else None)
        for n in range(4)
    ]


def test_every_completion_comes_once() -> None:
    got = [completion.id for completion in run_requests(engine(), iter(requests()))]
    assert sorted(got) == ["r0", "r1", "r2", "r3"]
    assert list(run_requests(engine(), [])) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda done: done[:-1], "returned nothing for 1 of 4 requests, such as 'r"),
        (lambda done: [*done, done[0]], "was not .or no longer. asked for"),
        (lambda done: [replace(done[0], id="other"), *done[1:]], "'other', which was not"),
        (lambda done: [replace(one, plan_digest=None) for one in done], "asked for the plan .* no plan"),
        (lambda done: [replace(one, plan_digest="f" * 64) for one in done], "applied the plan ffffffffffff"),
    ],
)
def test_a_batch_that_is_not_what_was_asked_is_refused(change, message: str) -> None:
    with pytest.raises(EngineError, match=message):
        list(run_requests(Changed(change), requests()))  # pyright: ignore[reportArgumentType]
