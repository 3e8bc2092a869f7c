"""Projecting transcripts: a turn's figures, runs that are killed, and what cannot be projected."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from personascope.chat import Conversation, Message
from personascope.directions import parse_probes
from personascope.dynamics.projection import Counted, Projected, Projector, read_projections, run_projection
from personascope.dynamics.projection import _run as project_module
from personascope.dynamics.projection import _summary as summary_module
from personascope.dynamics.projection._records import ProjectedTurn, Reading, _from_rows
from personascope.dynamics.projection._run import project_transcripts
from personascope.engines import Capture, TransformersEngine
from personascope.errors import EngineError, StoreError, UsageError
from personascope.interop import Transcript
from personascope.interventions import Plan, Steer
from personascope.space import (
    MapMeta,
    MapModel,
    PersonaMap,
    Quantiles,
    build_space,
    projection_quantiles,
)
from space.space_sums import PlantedSums
from tiny import load_tiny

TALK: Conversation = (
    Message("system", "Be brief."),
    Message("user", "What is your name?"),
    Message("assistant", "I am the keeper of the lighthouse."),
    Message("user", "And what do you do there?"),
    Message("assistant", ""),
)


@pytest.fixture(scope="module")
def engine() -> TransformersEngine:
    # Its template knows no system role, and refuses a system message after the beginning.
    return TransformersEngine(load_tiny("gemma2"))


@pytest.fixture(scope="module")
def found(engine: TransformersEngine, tmp_path_factory: pytest.TempPathFactory) -> PersonaMap:
    info = engine.info
    sums = PlantedSums(n_roles=6, n_layers=info.n_layers, d=info.d_model)
    space = build_space(sums, min_fully=4, n_boot=5, n_splits=3)
    sample = np.random.default_rng(0).normal(size=(40, info.n_layers, info.d_model))
    quantiles = projection_quantiles(space.axis, [sample])
    model = MapModel(
        info.model_id, info.model_revision, info.dtype, info.n_layers, info.d_model, info.chat_digest
    )
    meta = MapMeta(model, "c0", {}, "map", np.ones(info.n_layers), Quantiles(quantiles, quantiles))
    folder = tmp_path_factory.mktemp("map") / "map"
    PersonaMap.save(folder, space, meta)
    return PersonaMap.open(folder)


def chats(folder: Path) -> Path:
    """Write ten chats, of which one cannot be read, one is refused, one too long and one repairs."""
    entries: list[dict[str, Any]] = []
    for n in range(10):
        asked = {"from": "human", "value": f"What is {n} and {n + 1}?"}
        said = {"from": "gpt", "value": f"It is {2 * n + 1}, the old accountant says."}
        entries.append({"id": f"c{n}", "conversations": [asked, said]})
    entries[1]["conversations"][0]["value"] = None
    entries[4]["conversations"].append({"from": "system", "value": "Stop."})
    entries[6]["conversations"].append({"from": "human", "value": "number " * 1100})
    entries[7]["conversations"].insert(0, {"from": "gpt", "value": "Welcome back."})
    path = folder / "chats.jsonl"
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries), encoding="utf-8")
    return path


def tree(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }


class Recording:
    """An engine that counts its passes, and is killed or fails at one of them."""

    def __init__(
        self,
        inner: TransformersEngine,
        ends_at: int | None = None,
        error: type[BaseException] = KeyboardInterrupt,
    ) -> None:
        self.inner, self.ends_at, self.error, self.passes = inner, ends_at, error, 0

    def observe(self, *args: Any, **more: Any) -> Any:
        self.passes += 1
        if self.passes == self.ends_at:
            raise self.error("no more")
        return self.inner.observe(*args, **more)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


def test_a_turn_lies_where_its_mean_activation_does(engine: TransformersEngine, found: PersonaMap) -> None:
    layer = found.middle_layer
    other = (layer + 1) % found.n_layers
    role = found.roles[2]
    probes = parse_probes(found, [f"axis@{other}", "pc2", f"role:{role}@0", "axis"], layer)
    projector = Projector(engine, found, probes=probes, tokens=True)
    done = projector.project(Transcript("t", TALK, {"topic": 3}, where="here"), 5)
    assert (done.number, done.id, done.status, done.metadata) == (5, "t", "projected", {"topic": 3})
    toward = found.role_vector(role)[0] - found.default_vector[0]
    expected = {
        "axis": (layer, found.unit_axis(layer)),
        f"axis@{other}": (other, found.unit_axis(other)),
        "pc2": (layer, found.components(layer)[1]),
        f"role:{role}@0": (0, toward / np.linalg.norm(toward)),
    }
    pooled = engine.observe(TALK, capture=Capture())
    rendered = engine.chat.render_with_spans(TALK)  # type: ignore[union-attr]
    assert [turn.role for turn in done.turns] == [message.role for message in TALK]
    for turn, mean, span in zip(done.turns, pooled, rendered.spans, strict=True):
        assert list(turn.readings) == list(expected)
        assert turn.text == TALK[turn.turn].content and turn.token_count == mean.token_count
        assert turn.token_ids == rendered.token_ids[span.start : span.end]
        for name, (at, direction) in expected.items():
            reading = turn.readings[name]
            assert reading.tokens is not None and len(reading.tokens) == turn.token_count
            if mean.pooled is None:
                assert math.isnan(reading.projection) and math.isnan(turn.axis.percentile)
                continue
            assert reading.projection == pytest.approx(float(mean.pooled[at] @ direction), rel=1e-4, abs=1e-4)
            assert reading.projection == pytest.approx(float(reading.tokens.mean()), rel=1e-4, abs=1e-5)
            if name.startswith("axis"):
                assert reading.position == pytest.approx(found.to_units(reading.projection, at))
                assert reading.percentile == found.percentile(reading.projection, at)
            else:
                assert math.isnan(reading.position) and math.isnan(reading.percentile)


def test_what_cannot_be_projected_is_said_in_its_place(
    engine: TransformersEngine, found: PersonaMap, tmp_path: Path
) -> None:
    assert engine.info.context == 1024
    done = list(project_transcripts(engine, found, chats(tmp_path)))
    assert [entry.number for entry in done] == list(range(10))
    wrong = {entry.number: entry for entry in done if entry.status != "projected"}
    assert {number: entry.status for number, entry in wrong.items()} == {
        1: "unreadable",
        4: "refused",
        6: "too long",
    }
    assert "without a text" in wrong[1].reason and wrong[1].where == "chats.jsonl: line 2"
    assert "late system message" in wrong[4].reason and wrong[4].id == "chats.jsonl:c4"
    assert "and the model reads 1024" in wrong[6].reason
    assert done[7].repairs == "1 answer before the first question left out" and len(done[7].turns) == 2


def test_a_long_conversation_is_cut_to_whole_messages(
    engine: TransformersEngine, found: PersonaMap, tmp_path: Path
) -> None:
    whole = list(project_transcripts(engine, found, chats(tmp_path)))
    cut = list(project_transcripts(engine, found, chats(tmp_path), max_tokens=600))
    assert cut[6].status == "projected"
    assert cut[6].repairs == "the last 1 of 3 messages left out to keep within 600 tokens"
    assert [turn.role for turn in cut[6].turns] == ["user", "assistant"]
    assert [turn.axis.projection for turn in cut[5].turns] == [t.axis.projection for t in whole[5].turns]
    assert cut[5].repairs == ""
    long = tuple(Message("user" if n % 2 == 0 else "assistant", f"number {n} " * 12) for n in range(14))
    for most in (1, 60, 200, 500, 1024):
        done = Projector(engine, found, max_tokens=most).project(Transcript("t", long))
        kept = len(done.turns)
        if not kept:
            assert done.status == "too long" and engine.count_tokens(long[:1]) > most
            continue
        assert engine.count_tokens(long[:kept]) <= most
        assert kept == len(long) or engine.count_tokens(long[: kept + 1]) > most
    with pytest.raises(UsageError, match="max_tokens is 4096"):
        Projector(engine, found, max_tokens=4096)


def test_a_killed_run_ends_like_an_undisturbed_one(
    engine: TransformersEngine, found: PersonaMap, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(project_module, "UNIT", 3)
    source = chats(tmp_path)
    options: dict[str, Any] = {"probes": parse_probes(found, ["pc1"], found.middle_layer), "tokens": True}
    calm = Recording(engine)
    states: list[tuple[int, int, str]] = []
    run = run_projection(
        calm, found, source, out=tmp_path / "calm", **options,
        progress=lambda state: states.append((state.done, state.total, state.note)),
    )  # fmt: skip
    assert calm.passes == 7
    assert [state[:2] for state in states] == [(done, 10) for done in range(1, 11)]
    assert states[-1][2] == "3 not projected"
    for killed_at, kept in ((3, 3), (7, 9)):
        out = tmp_path / f"killed{killed_at}"
        with pytest.raises(KeyboardInterrupt):
            run_projection(Recording(engine, killed_at), found, source, out=out, **options)
        partial = read_projections(out)
        assert len(list(partial)) == kept and not partial.summary
        rest = Recording(engine)
        run_projection(rest, found, source, out=out, **options)
        assert rest.passes == sum(entry.status == "projected" for entry in list(run)[kept:])
        assert tree(out) == tree(tmp_path / "calm")
    again = Recording(engine)
    run_projection(again, found, source, out=tmp_path / "calm", **options)
    assert again.passes == 0


def test_what_is_read_back_is_what_was_projected(
    engine: TransformersEngine, found: PersonaMap, tmp_path: Path
) -> None:
    source = chats(tmp_path)
    probes = parse_probes(found, ["axis@1", "pc1"], 3)
    out = tmp_path / "run"
    run = run_projection(engine, found, source, out=out, layer=3, probes=probes, tokens=True)
    assert (run.layer, run.probes) == (3, ("axis", "axis@1", "pc1"))
    fresh = project_transcripts(engine, found, source, layer=3, probes=probes, tokens=True)
    for kept, made in zip(run, fresh, strict=True):
        for name in ("number", "id", "where", "status", "reason", "repairs", "metadata"):
            assert getattr(kept, name) == getattr(made, name)
        for one, other in zip(kept.turns, made.turns, strict=True):
            for name in ("turn", "role", "text", "token_count", "token_ids"):
                assert getattr(one, name) == getattr(other, name)
            for probe in run.probes:
                for name in ("projection", "position", "percentile", "tokens"):
                    a, b = getattr(one.readings[probe], name), getattr(other.readings[probe], name)
                    np.testing.assert_array_equal(a, b)
    with (out / "projections.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    turns = [(entry, turn) for entry in run for turn in entry.turns]
    assert len(rows) == len(turns) + 3
    assert [row["reason"] for row in rows if not row["turn"]] == [e.reason for e in run if not e.turns]
    for row, (entry, turn) in zip((row for row in rows if row["turn"]), turns, strict=True):
        assert (row["id"], row["role"], row["text"]) == (entry.id, turn.role, turn.text)
        assert float(row["axis@1 position"]) == turn.readings["axis@1"].position
        assert float(row["projection"]) == turn.axis.projection
    summary = run.summary
    positions = [turn.axis.position for _, turn in turns if turn.role == "assistant"]
    assert summary["reply_position"]["estimate"] == pytest.approx(np.mean(positions))
    assert (summary["reply_position"]["n"], summary["reply_position"]["n_clusters"]) == (7, 7)
    assert [low["position"] for low in summary["lowest_replies"]] == sorted(positions)[:5]
    assert (summary["entries"], summary["projected"], summary["repairs"]) == (10, 7, 1)
    assert [problem["status"] for problem in summary["problems"]] == ["unreadable", "refused", "too long"]


def test_repairs_are_read_under_the_name_of_earlier_versions() -> None:
    row = dict.fromkeys(("number", "id", "where", "status", "reason", "metadata", "turn"))
    assert _from_rows([{**row, "mended": "2 answers left out"}], ()).repairs == "2 answers left out"


def test_another_run_is_refused_by_what_differs(
    engine: TransformersEngine, found: PersonaMap, tmp_path: Path
) -> None:
    source, out = chats(tmp_path), tmp_path / "run"
    run_projection(engine, found, source, out=out, limit=2)
    with pytest.raises(StoreError, match="layer is"):
        run_projection(engine, found, source, out=out, limit=2, layer=0)
    with pytest.raises(StoreError, match="limit is 2 there and 3 here"):
        run_projection(engine, found, source, out=out, limit=3)
    with pytest.raises(StoreError, match="probes is"):
        run_projection(engine, found, source, out=out, limit=2, probes=parse_probes(found, ["pc1"], 0))
    source.write_text(source.read_text().replace("accountant", "pirate"), encoding="utf-8")
    with pytest.raises(StoreError, match="source is"):
        run_projection(engine, found, source, out=out, limit=2)
    assert len(list(run_projection(engine, found, source, out=out, limit=3, restart=True))) == 4
    with pytest.raises(UsageError, match="its own source"):
        run_projection(engine, found, tmp_path, out=tmp_path / "new")
    (tmp_path / "other").mkdir()
    with pytest.raises(StoreError):
        read_projections(tmp_path / "other")


def test_a_plan_moves_the_reply(engine: TransformersEngine, found: PersonaMap) -> None:
    layer = found.middle_layer
    push = Plan((Steer(layer, found.unit_axis(layer), 3.0, tokens="response"),))
    short = Transcript("t", TALK[:3])
    plain, pushed = (Projector(engine, found, plan=plan).project(short) for plan in (None, push))
    *before, reply = (
        b.axis.projection - a.axis.projection for a, b in zip(plain.turns, pushed.turns, strict=True)
    )
    assert reply == pytest.approx(3.0, abs=1e-3) and before == pytest.approx([0.0, 0.0], abs=1e-4)
    late = Plan((Steer(layer, found.unit_axis(layer), 3.0, tokens="turn:4"),))
    done = Projector(engine, found, plan=late).project(short)
    assert (done.status, done.reason) == ("refused", "the plan acts from turn 4 on, and there are 3")


def test_an_engine_that_fails_ends_the_run(
    engine: TransformersEngine, found: PersonaMap, tmp_path: Path
) -> None:
    failing = Recording(engine, 2, EngineError)
    with pytest.raises(EngineError, match="no more"):
        run_projection(failing, found, chats(tmp_path), out=tmp_path / "run")
    assert list(read_projections(tmp_path / "run")) == []


def test_counting_holds_the_lowest_and_the_first_problems() -> None:
    def entries(values: np.ndarray) -> Iterator[Projected]:
        for number, value in enumerate(values):
            turn = ProjectedTurn(1, "assistant", "x" * 500, 3, {"axis": Reading(value, value, 50.0)})
            yield Projected(number, f"c{number}", "", "projected", turns=(turn,))

    values = np.random.default_rng(1).normal(size=300).round(1)
    counted = Counted("here", 2)
    for entry in entries(values):
        counted.add(entry)
    for number in range(summary_module.LISTED + 7):
        counted.add(Projected(300 + number, "x", "x", "unreadable", "is empty"))
    order = np.lexsort((np.arange(300), values))[:5]
    assert [low.id for low in counted.lowest] == [f"c{n}" for n in order]
    summary = counted.summary()
    mean = summary["reply_position"]
    assert mean["estimate"] == pytest.approx(values.mean()) and mean["low"] < mean["estimate"] < mean["high"]
    assert (len(summary["problems"]), summary["problems_not_listed"]) == (summary_module.LISTED, 7)
    assert max(len(low["text"]) for low in summary["lowest_replies"]) == 200
    assert Counted("here", 2).summary()["reply_position"]["estimate"] is None
