"""The reading of vLLM's replies: of the same tokens it tells what the other server tells."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from live_case import Served, serving

from eval_case import engine
from personascope.chat import Message
from personascope.engines import Capture, Completion, LiveEnd, LiveTokens, Request, Sampling
from personascope.errors import UsageError
from personascope.live import MapReader, open_reader

LENGTH = 14
QUESTION = "What is rain?"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(tmp_path_factory.mktemp("served")) as found:
        yield found


@pytest.fixture(scope="module")
def reader(served: Served) -> MapReader:
    return open_reader(str(served.mapped.persona_map.folder), "", "")


def generated(asked: Request) -> tuple[list[int], list[list[float]], Completion]:
    """Return tokens, projections after and before in one row, and the completion, as the engine has them."""
    batch = engine().open_batch()
    batch.submit(asked)
    rows = list[list[float]]()
    while len(batch):
        for event in batch.step():
            if isinstance(event, LiveTokens):
                rows += [
                    [*after, *before] for after, before in zip(event.projections, event.before, strict=True)
                ]
            elif isinstance(event, LiveEnd):
                assert event.completion is not None
                return list(event.completion.token_ids), rows, event.completion
    raise AssertionError("no end")


@pytest.mark.parametrize("step", [1, 3, 50], ids=["stream", "chunks", "whole"])
@pytest.mark.parametrize("planned", [False, True])
@pytest.mark.parametrize("more", [{}, {"space": True, "layers": True}], ids=["positions", "everything"])
def test_it_tells_what_the_other_server_tells(
    served: Served, reader: MapReader, step: int, planned: bool, more: dict[str, Any]
) -> None:
    field = {"plan": "high floor" if planned else None, **more}
    reading = reader.reading(field)
    width = len(reading.probes)
    asked = Request(
        "chat",
        (Message("user", QUESTION),),
        Sampling(0.0, 1.0, LENGTH),
        plan=served.plan if planned else None,
        probes=reading.probes,
        capture=None if reading.mean_layer is None else Capture((reading.mean_layer,)),
        tokens="response",
    )
    ids, rows, done = generated(asked)
    # A worker sends no second half for a request without a plan.
    sent = rows if planned else [row[:width] for row in rows]
    reply = reader.begin(reading, engine().loaded.tokenizer, None, [], width=width, moved=planned)
    told: list[dict[str, Any]] = []
    for first in range(0, len(ids), step):
        reply.feed(ids[first : first + step])
        # A projection comes with the token after it.
        reply.project(sent[max(0, first - 1) : min(first + step, len(ids)) - 1])
        told += reply.told()
    reply.project(sent[len(ids) - 1 :])
    reply.end("length", None)
    told += reply.told()
    want = served.chat(QUESTION, field, max_tokens=LENGTH)["personascope"]
    # A reply that is cut inside a character ends before it in vLLM.
    texts = [
        [(one["text"].rstrip("\ufffd"), one["part"]) for one in tokens] for tokens in (told, want["tokens"])
    ]
    assert texts[0] == texts[1]
    for mine, theirs in zip(told, want["tokens"], strict=True):
        for name in ("position", "before", "percentile", "layers", "layers_before"):
            assert mine.get(name) == pytest.approx(theirs.get(name), abs=2e-3)
    totals = reply.totals(None if done.pooled is None else done.pooled[0])
    for name in ("position", "before", "tokens", "space", "space_before", "layers", "layers_before"):
        assert totals["answer"].get(name) == pytest.approx(want["answer"].get(name), abs=2e-3), name
    assert totals["layer"] == want["layer"]
    assert [one["name"] for one in totals.get("nearest", {}).get("roles", ())] == [
        one["name"] for one in want.get("nearest", {}).get("roles", ())
    ]


def test_the_last_token_and_the_one_that_ends_a_reply(reader: MapReader) -> None:
    reading, tokenizer = reader.reading({"plan": None}), engine().loaded.tokenizer
    ids = engine().encode("The keeper of the lamp.")
    rows = [[0.1 * n] for n in range(len(ids))]

    def made(**kind: Any) -> Any:
        options: dict[str, Any] = {"width": 1, "moved": False} | kind
        found = reader.begin(reading, tokenizer, None, options.pop("stops", []), **options)
        found.feed(ids)
        return found

    cut = made()
    cut.project(rows[:-1])
    assert len(cut.told()) == len(ids) - 1
    cut.end("length", None)
    (last,) = cut.told()
    assert (last["position"], last["before"], last["percentile"]) == (None, None, None)
    assert cut.totals(None)["answer"]["tokens"] == len(ids) - 1
    ended = made()
    ended.feed([tokenizer.eos_token_id])
    ended.project(rows)
    ended.end("stop", None)
    told = ended.told()
    assert len(told) == len(ids) and all(one["position"] is not None for one in told)
    after_alone = made(moved=True)
    after_alone.project(rows)
    after_alone.end("length", None)
    assert all(one["before"] is None and one["position"] is not None for one in after_alone.told())
    assert after_alone.totals(None)["answer"]["before"] is None
    stopped = made(stops=["lamp"])
    stopped.project(rows)
    stopped.end("stop", "lamp")
    assert "".join(one["text"] for one in stopped.told()) == "The keeper of the "
    assert stopped.totals(None)["answer"]["tokens"] < len(ids)


def test_a_reader_needs_a_map_for_layer_and_monitor(served: Served) -> None:
    empty = open_reader()
    assert empty.reading({"plan": None}).probes == () and empty.widest() == ()
    assert {route.path for route in empty.routes()} >= {"/", "/page/main.js"}
    with pytest.raises(UsageError, match="needs positions"):
        open_reader("", "2", "")
    at = served.mapped.persona_map.middle_layer
    found = open_reader(str(served.mapped.persona_map.folder), str(at + 1), "")
    assert found.positions is not None and found.positions.layer == at + 1
    assert replace(found, positions=None).reading(None).probes == ()
