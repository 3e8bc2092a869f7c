"""Replies of the server: those of the engine, with plans, positions and projections per request."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from live_case import CHAT, FLOOR, KEY, Served, body, serving, text_of, tokens_of, unit

from eval_case import engine
from personascope.chat import Message
from personascope.engines import Completion, Probe, Request, Sampling

WORDS = ("rain", "the sea", "a lighthouse", "letters", "noon", "an old accountant", "me", "it")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(tmp_path_factory.mktemp("serve")) as found:
        yield found


@pytest.fixture(scope="module")
def reference():
    return engine()


def alone(reference, served: Served, question: str = "What is rain?", **changes: Any) -> Completion:
    """Return the engine's own completion of a request."""
    at = served.mapped.persona_map.middle_layer
    probes = (Probe("axis", at, served.mapped.persona_map.unit_axis(at)),)
    options = {"sampling": Sampling(0.0, 1.0, 12), "probes": probes, "seed": 0} | changes
    (done,) = reference.run([Request("chat", (Message("user", question),), **options)])
    return done


def test_a_reply_is_the_engines_with_its_position(served: Served, reference) -> None:
    found = served.chat(seed=0)
    done = alone(reference, served)
    assert found["choices"][0]["message"] == {"role": "assistant", "content": done.text}
    assert found["choices"][0]["finish_reason"] == done.finish_reason
    assert found["usage"] == {
        "prompt_tokens": done.prompt_tokens,
        "completion_tokens": len(done.token_ids),
        "total_tokens": done.prompt_tokens + len(done.token_ids),
    }
    told, persona_map = found["personascope"], served.mapped.persona_map
    assert told["plan"] is None and "tokens" not in told and told["layer"] == persona_map.middle_layer
    mean = float(done.projections["axis"].mean())
    wanted = persona_map.to_units(mean, persona_map.middle_layer)
    assert told["answer"]["position"] == pytest.approx(wanted, abs=2e-3)
    assert told["answer"]["before"] == told["answer"]["position"]
    assert told["answer"]["percentile"] == pytest.approx(
        persona_map.percentile(mean, persona_map.middle_layer), abs=0.2
    )


def test_a_plan_by_digest_short_digest_name_and_folder(served: Served, reference) -> None:
    done = alone(reference, served, plan=served.plan)
    digest = served.plan.digest
    for name in (digest, digest[:8], "high floor", "floor-folder"):
        found = served.chat(field={"plan": name})
        told = found["personascope"]
        assert found["choices"][0]["message"]["content"] == done.text
        assert (told["plan"], told["plan_name"]) == (digest, "high floor")
        assert told["firing"]["capped_tokens"] == done.cap_stats.capped_tokens > 0
    assert served.chat(field={"plan": "none", "positions": True})["personascope"]["plan"] is None


def test_tokens_carry_positions_before_and_after_the_cap(served: Served) -> None:
    capped = served.chat(field={"plan": "high floor"})
    tokens = capped["personascope"]["tokens"]
    floor = served.mapped.persona_map.to_units(FLOOR, served.mapped.persona_map.middle_layer)
    assert len(tokens) == capped["usage"]["completion_tokens"]
    assert "".join(token["text"] for token in tokens) == capped["choices"][0]["message"]["content"]
    for token in tokens:
        assert token["part"] == "answer" and token["position"] == pytest.approx(floor, abs=1e-3)
        assert token["before"] != token["position"]
    answer = capped["personascope"]["answer"]
    assert answer["before"] == pytest.approx(np.mean([token["before"] for token in tokens]), abs=1e-3)


def test_a_stream_is_the_reply_in_pieces(served: Served) -> None:
    whole = served.chat(field={"plan": "high floor"}, max_tokens=24)
    chunks = served.stream(
        field={"plan": "high floor"}, max_tokens=24, stream_options={"include_usage": True}
    )
    assert chunks[-1] == "[DONE]" and chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert text_of(chunks) == whole["choices"][0]["message"]["content"]
    assert tokens_of(chunks) == whole["personascope"]["tokens"]
    assert len([chunk for chunk in chunks[:-1] if chunk.get("personascope", {}).get("tokens")]) > 3
    totals = chunks[-2]["personascope"]
    assert chunks[-2]["choices"] == [] and chunks[-3]["usage"] == whole["usage"]
    for name in ("plan", "answer", "firing"):
        assert totals[name] == whole["personascope"][name]


def test_probes_and_the_mean(served: Served, reference) -> None:
    width = served.mapped.persona_map.d_model
    sent = [
        {"name": name, "layer": n + 1, "direction": unit(width, n).tolist()} for n, name in enumerate("ab")
    ]
    digest = served.http("POST", "/v1/personascope/probes", json=sent).json()["digest"]
    probes = tuple(Probe(one["name"], one["layer"], np.float32(one["direction"])) for one in sent)
    done = alone(reference, served, probes=probes)
    told = served.chat(field={"probes": digest, "pool": True})["personascope"]
    assert told["probes"] == digest and told["projected_tokens"] == len(done.token_ids)
    chunks = served.stream(field={"probes": digest})
    for name in "ab":
        np.testing.assert_allclose(told["projections"][name], done.projections[name], atol=1e-4)
        parts = [c["personascope"]["projections"][name] for c in chunks[:-1] if "personascope" in c]
        np.testing.assert_allclose(np.concatenate(parts), done.projections[name], atol=1e-4)
    assert told["pooled"]["shape"] == [served.mapped.persona_map.n_layers, width]
    assert told["pooled"]["tokens"] == len(done.token_ids)


@pytest.mark.parametrize("temperature", [0.0, 0.9])
def test_eight_clients_at_once_get_what_each_gets_alone(
    served: Served, reference, temperature: float
) -> None:
    """Each with its own question, seed, length and plan: the same reply as the engine's, run alone."""

    def one(number: int) -> dict[str, Any]:
        field = {"plan": "high floor"} if number % 2 else None
        return served.chat(
            f"Tell me about {WORDS[number]}.",
            field,
            temperature=temperature,
            top_p=0.8,
            seed=number,
            max_tokens=20 + 3 * number,
        )

    most = 0
    watching = threading.Event()

    def watch() -> None:
        nonlocal most
        while not watching.wait(0.005):
            most = max(most, served.service.running)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(one, range(8)))
    finally:
        watching.set()
        watcher.join()
    assert most > 1, "the requests ran one after another"
    for number, reply in enumerate(found):
        done = alone(
            reference,
            served,
            f"Tell me about {WORDS[number]}.",
            sampling=Sampling(temperature, 0.8, 20 + 3 * number),
            plan=served.plan if number % 2 else None,
            seed=number,
        )
        assert reply["choices"][0]["message"]["content"] == done.text
        assert reply["personascope"]["seed"] == number


def test_the_seed_alone_decides_the_draws(served: Served) -> None:
    first, again, other = (served.chat(temperature=1.0, seed=seed, max_tokens=24) for seed in (5, 5, 6))
    assert first["choices"] == again["choices"] != other["choices"]
    drawn = served.chat(temperature=1.0, max_tokens=24)
    repeated = served.chat(temperature=1.0, max_tokens=24, seed=drawn["personascope"]["seed"])
    assert drawn["choices"] == repeated["choices"]


def test_a_stop_text_is_no_part_of_the_reply_and_is_never_sent(served: Served) -> None:
    whole = served.chat(max_tokens=24)["choices"][0]["message"]["content"]
    stop = whole[len(whole) // 2 : len(whole) // 2 + 3]
    cut = whole[: whole.index(stop)]
    for found in (served.chat(max_tokens=24, stop=stop), served.chat(max_tokens=24, stop=[stop, "xyzzy"])):
        assert found["choices"][0]["message"]["content"] == cut
        assert found["choices"][0]["finish_reason"] == "stop"
    chunks = served.stream(max_tokens=24, stop=stop, field={"positions": True})
    assert text_of(chunks) == cut
    assert "".join(token["text"] for token in tokens_of(chunks)) == cut


def test_text_completions(served: Served, reference) -> None:
    asked = {"prompt": "The keeper of the", "max_tokens": 8, "temperature": 0}
    found = served.http("POST", "/v1/completions", json=asked).json()
    ids = reference.encode("The keeper of the", special=True)
    (done,) = reference.run([Request("chat", ids, Sampling(0.0, 1.0, 8))])
    assert found["object"] == "text_completion" and found["choices"][0]["text"] == done.text
    same = served.http("POST", "/v1/completions", json=asked | {"prompt": list(ids)}).json()
    assert same["choices"] == found["choices"] and "answer" in found["personascope"]


def test_inline_plans_are_those_of_the_map(served: Served) -> None:
    from personascope.api import make_cap_plan, make_steering_plan

    n_layers = served.mapped.persona_map.n_layers
    cap = make_cap_plan(served.mapped, layers=f"1:{n_layers - 1}", axis_percentile=75, anyway=True)
    steer = make_steering_plan(served.mapped, -0.2, anyway=True)
    inline = {"cap": {"percentile": 75, "layers": [1, n_layers - 1]}}
    assert served.chat(field={"plan": inline})["personascope"]["plan"] == cap.digest
    assert served.chat(field={"plan": {"steer": -0.2}})["personascope"]["plan"] == steer.digest
    both = served.chat(field={"plan": {**inline, "steer": -0.2}})["personascope"]
    assert both["plan"] == (steer + cap).digest


def test_the_default_plan_is_that_of_stock_clients(tmp_path: Path) -> None:
    with serving(tmp_path, default="high floor", key=None) as served:
        stock = served.chat()["personascope"]
        assert stock["plan_name"] == "high floor" and stock["firing"]["share"] == 1.0
        assert served.stream()[-2]["personascope"]["plan"] == served.plan.digest
        assert served.chat(field={"plan": None, "positions": True})["personascope"]["plan"] is None
        assert served.chat(field={"positions": True})["personascope"]["plan"] == served.plan.digest


def test_without_a_map_a_stock_reply_is_openais_alone(tmp_path: Path) -> None:
    with serving(tmp_path, with_map=False) as served:
        assert "personascope" not in served.chat()
        chunks = served.stream()
        assert not any("personascope" in chunk for chunk in chunks[:-1])
        assert chunks[-2]["choices"][0]["finish_reason"] in ("length", "stop")
        assert served.chat(field={"plan": "high floor"})["personascope"]["plan"] == served.plan.digest
        assert "map" in served.refused(400, json=body("x", {"positions": True}))
        assert "map" in served.refused(400, json=body("x", {"plan": {"steer": 0.1}}))


def test_a_client_that_goes_frees_its_row(served: Served) -> None:
    served.idle()
    headers = {"Authorization": f"Bearer {KEY}"}
    long = body("What is rain?", {"positions": True}, max_tokens=200, min_tokens=None)
    with httpx.stream(
        "POST", f"{served.url}{CHAT}", json=long | {"stream": True}, headers=headers, timeout=60
    ) as answer:
        for number, _ in enumerate(answer.iter_lines()):
            if number > 6:
                break
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{served.url}{CHAT}", json=long, headers=headers, timeout=0.05)
    served.idle()
    assert served.chat()["choices"][0]["message"]["content"]
