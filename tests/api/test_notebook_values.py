"""Directions, plans and values of a notebook: their arithmetic, units, cards, and what is refused."""

from __future__ import annotations

import importlib.util
import socket
import sys
from pathlib import Path

import numpy as np
import pytest
import transformers
from notebook_case import CHAT

import personascope as ps
from cli.cli_case import save_model
from personascope import api
from personascope.api.notebook import Model, Server
from personascope.api.notebook._plans import map_of
from personascope.corpus import load_corpus
from personascope.engines import ServeCommand
from personascope.errors import EngineError, SharingError, SpaceError, StoreError, UsageError


def test_directions_have_arithmetic(pmap: ps.PersonaMap) -> None:
    axis, second = pmap.axis(), pmap.direction("pc2")
    mixed = 0.7 * axis - 0.3 * second
    at = pmap.middle_layer
    expected = 0.7 * pmap.arrays.unit_axis(at) - 0.3 * pmap.arrays.components(at)[1]
    np.testing.assert_allclose(mixed.at(), expected / np.linalg.norm(expected), atol=1e-6)
    assert mixed.name == "0.7*axis - 0.3*pc2"
    assert mixed.cosine(mixed * 3) == pytest.approx(1.0) and (-mixed).cosine(mixed) == pytest.approx(-1.0)
    assert (axis - (-second)).name == "axis + pc2" and (axis / 2).cosine(axis) == pytest.approx(1.0)
    plan = pmap.steer(0.5, direction=mixed, layer=2, tokens="response")
    (op,) = plan.ops
    np.testing.assert_allclose(op.direction, mixed.at(2), atol=1e-6)
    assert (op.layer, op.tokens) == (2, "response") and plan.name == "0.7*axis - 0.3*pc2 +0.5 at layer 2"
    with pytest.raises(UsageError, match="is zero at layer"):
        (axis - axis).at(1)
    with pytest.raises(UsageError, match="multiplied by nan"):
        axis * float("nan")
    with pytest.raises(UsageError, match="did you mean"):
        pmap.direction("axes")


def test_a_cap_has_one_floor_in_units_that_are_named(pmap: ps.PersonaMap) -> None:
    cap = pmap.cap(position=0.5, layers=range(1, 4))
    for op in cap.ops:
        assert isinstance(op, ps.Cap) and op.floor is not None
        assert float(pmap.arrays.to_units(op.floor, op.layer)) == pytest.approx(0.5, abs=1e-5)
    same = api.make_cap_plan(pmap.mapped(), layers="1:3", axis_percentile=75, anyway=True)
    assert pmap.cap(percentile=75, layers="1:3").digest == same.digest
    along = pmap.cap(percentile=75, layers=(1, 3), direction=pmap.axis())
    for one, other in zip(along.ops, same.ops, strict=True):
        assert isinstance(one, ps.Cap) and isinstance(other, ps.Cap)
        assert one.floor == pytest.approx(other.floor, rel=1e-5)
        np.testing.assert_allclose(one.direction, other.direction, atol=1e-6)
    assert all(op.tokens == "response" for op in pmap.cap(mean_plus_sd=1, tokens="response").ops)
    for wrong in ({}, {"percentile": 75, "position": 0.0}):
        with pytest.raises(UsageError, match="a cap needs one floor"):
            pmap.cap(**wrong)
    with pytest.raises(UsageError, match="no band of layers"):
        pmap.cap(position=0, layers=(3, 99))
    with pytest.raises(UsageError, match="no positions"):
        pmap.cap(position=0, direction="pc1")


def test_a_map_without_an_axis_acts_only_if_it_is_meant(place: Path, pmap: ps.PersonaMap) -> None:
    careful = ps.open(place / "run")
    assert pmap.verdict().axis.grade == "not found"
    for act in (lambda: careful.steer(0.1), lambda: careful.cap(position=0.0)):
        with pytest.raises(SpaceError, match="found no axis") as raised:
            act()
        assert "anyway=True" in raised.value.hint


def test_side_by_side_reads_the_text_and_the_push_apart(model: Model, pmap: ps.PersonaMap) -> None:
    push = pmap.steer(5.0, tokens="response")
    table = model.side_by_side("Who are you?", [None, push], max_new_tokens=6)
    plain, pushed = table
    assert plain.position == plain.text_position
    # The push is five norms long at the layer that is read, whatever the text is.
    at = pmap.middle_layer
    mean, default = pmap.arrays.units(at)
    far = 5.0 * float(pmap.mapped().norms()[at]) / (default - mean)
    if pushed.text.strip():
        assert abs(pushed.position - pushed.text_position) > 0.5 * abs(far)
    assert table.layer == at and str(pmap.folder) in table.notes()[0]
    unplaced = Model(model.name, model.engine).side_by_side("Hi", [None], max_new_tokens=2)
    assert unplaced.layer is None and np.isnan(unplaced[0].position) and "no map" in unplaced.notes()[0]
    with pytest.raises(UsageError, match="plan 0 is"):
        model.side_by_side("Hi", ["plan"])  # pyright: ignore[reportArgumentType]


def test_a_plan_knows_its_map_however_it_is_added(pmap: ps.PersonaMap, place: Path) -> None:
    made = pmap.steer(0.1)
    loose = ps.Plan((ps.Steer(0, np.ones(48), 1.0),))
    assert map_of([None, loose]) is None
    for plan in (made, made + loose, loose + made, made.for_model(None)):
        assert map_of([plan]) is pmap
    made.save(place / "plan")
    assert ps.Plan.load(place / "plan").digest == made.digest


@pytest.mark.parametrize(
    ("source", "error", "word"),
    [
        ("nowhere", StoreError, "there is no folder"),
        ("hub:owner/name", SharingError, "the hub cannot be reached"),
        ("chat.json", StoreError, "is a file"),
        ("plan", StoreError, "Plan.load"),
        ("corpus", StoreError, "is not a map"),
    ],
)
def test_what_is_no_map_is_named(
    place: Path, pmap: ps.PersonaMap, source: str, error: type[Exception], word: str
) -> None:
    (place / "chat.json").write_text("[]")
    pmap.cap(position=0.0).save(place / "plan")
    with pytest.raises(error, match=word):
        ps.open(source if source.startswith("hub:") else place / source)


def test_a_map_opens_from_its_run_its_folder_and_a_release(place: Path, pmap: ps.PersonaMap) -> None:
    for source in (place / "run", str(place / "run"), place / "run" / "map"):
        opened = ps.open(source)
        assert (opened.arrays.digest, opened.folder) == (pmap.arrays.digest, place / "run")
    pmap.export("released", place / "files")
    api.import_release(str(place / "files"), str(place / "release"))
    release = ps.open(place / "release", model=place / "model", dtype="float32")
    assert "imported release" in repr(release) and release.roles.low.isna().all()
    with pytest.raises(UsageError, match="no principal components"):
        release.plot()
    assert pmap.project(CHAT, None).to_pandas().position.notna().all()


def test_the_wrong_model_is_refused(place: Path, pmap: ps.PersonaMap) -> None:
    with pytest.raises(UsageError, match="'model' is no loaded model"):
        pmap.mapped("model")  # pyright: ignore[reportArgumentType]
    with pytest.raises(UsageError, match="'Model' is no map"):
        ps.calibrate(pmap, ps.load(place / "model"))  # pyright: ignore[reportArgumentType]
    save_model(place / "other", "qwen3")
    other = ps.load(place / "other", dtype="float32")
    with pytest.raises(StoreError, match="of the model"):
        ps.open(place / "run", model=other)
    with pytest.raises(StoreError, match="of the model"):
        pmap.project(CHAT, other)
    assert other.pmap is None


def test_a_model_in_memory_is_the_same_model(place: Path, model: Model, pmap: ps.PersonaMap) -> None:
    hf_model = transformers.AutoModelForCausalLM.from_pretrained(place / "model")
    own = ps.load(hf_model, tokenizer=model.tokenizer)
    mine, theirs = (pmap.project(CHAT, one).to_pandas().position for one in (own, model))
    np.testing.assert_allclose(mine, theirs, rtol=1e-5)
    for wrong, word in ((hf_model, "needs its tokenizer"), (3, "is no model")):
        with pytest.raises(UsageError, match=word):
            ps.load(wrong)  # pyright: ignore[reportArgumentType]
    with pytest.raises(UsageError, match="in this process's memory"):
        ps.serve(own)


def test_evaluations_refuse_what_they_do_not_know(model: Model, pmap: ps.PersonaMap) -> None:
    plan = pmap.steer(0.1)
    for call, word in (
        (lambda: ps.evaluate(model, pmap, "susceptability"), "did you mean susceptibility"),  # pyright: ignore
        (lambda: ps.evaluate(model, pmap, "jailbreak", role=2), "has no option 'role'"),
        (lambda: ps.evaluate(model, pmap, "harm", plans=[plan, pmap.steer(0.2)]), "one plan"),
        (lambda: ps.evaluate(model, pmap, "coherence", plans=[plan, plan]), "two plans are called"),
        (lambda: ps.evaluate(model, pmap, "coherence", plans=[None]), "a plan is None"),  # pyright: ignore
        (lambda: ps.evaluate(model, pmap, "coherence", plans=plan, strengths=[0.1]), "both given"),
    ):
        with pytest.raises(UsageError, match=word):
            call()


def test_conversations_come_as_a_table_and_a_figure(place: Path, model: Model, pmap: ps.PersonaMap) -> None:
    talks = ps.simulate(
        model, pmap, domains=["coding"], conversations=3, turns=2, max_new_tokens=3, out=str(place / "talks")
    )
    frame = talks.to_pandas()
    assert len(frame) == 6 and frame.domain.unique().tolist() == ["coding"]
    assert talks.plot().save(place / "talks.svg").stat().st_size > 1000


def test_every_value_has_a_line_and_a_card_that_escapes(model: Model, pmap: ps.PersonaMap) -> None:
    hostile = "<script>alert(1)</script>\x1b[31m"
    chat = [{"role": "user", "content": hostile}, {"role": "assistant", "content": hostile}]
    plan = ps.Plan((ps.Steer(0, np.ones(48), 1.0),), name="<img src=x onerror=alert(1)>")
    renamed = Model("<b>model</b>\x1b[31m", model.engine)
    session = model.conversation(system="<i>system</i>")
    values = [
        pmap, model, renamed, plan, session, pmap.project(chat, model),
        model.side_by_side(hostile[:30], [None, plan], max_new_tokens=3),
        model.chat(hostile[:30], max_new_tokens=3), pmap.axis(), pmap.plot(),
    ]  # fmt: skip
    for value in values:
        line = repr(value)
        assert "\n" not in line and "\x1b" not in line and len(line) < 400, line
        line.encode()
        if not hasattr(value, "_repr_html_"):
            continue
        card = value._repr_html_()
        card.encode()
        assert "<script" not in card and "<img" not in card and "<b>model" not in card and "\x1b" not in card
        assert "<i>system" not in card


def test_large_values_are_shown_on_one_line(pmap: ps.PersonaMap, model: Model) -> None:
    (turn,) = model.observe("Hi")
    for value in (
        pmap.arrays.stats,
        load_corpus(),
        turn,
        pmap.steer(0.1),
        pmap.steer(0.1).ops[0],
        model.info,
    ):
        assert len(repr(value)) < 2500 and "\n" not in repr(value), type(value)


def test_a_data_frame_without_pandas_names_the_extra(
    pmap: ps.PersonaMap, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(UsageError, match="needs pandas") as raised:
        pmap.project(CHAT, model).to_pandas()
    assert "personascope[notebook]" in raised.value.hint


def test_a_server_is_a_process_that_is_waited_for_and_stopped() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    script = (
        "import http.server, os\n"
        "class H(http.server.BaseHTTPRequestHandler):\n"
        "    def do_GET(self):\n"
        "        self.send_response(200 if self.path == '/health' and os.environ['KEY'] == 'x' else 404)\n"
        "        self.end_headers()\n"
        f"http.server.HTTPServer(('127.0.0.1', {port}), H).serve_forever()\n"
    )
    plan = ps.Plan((ps.Steer(0, np.ones(4), 1.0),))
    command = ServeCommand((sys.executable, "-c", script), {"KEY": "x"})
    with Server(command, f"http://127.0.0.1:{port}/v1", plans={plan.digest: plan}, probes=("p",)) as server:
        server.start().wait(60)
        assert server.running and server.body(plan, probes=True) == {
            "personascope": {"plan": plan.digest, "probes": "p"}
        }
        with pytest.raises(UsageError, match="no plan"):
            server.body("0" * 64)
    assert not server.running
    ended = Server(ServeCommand((sys.executable, "-c", "raise SystemExit(3)"), {}), "http://127.0.0.1:9/v1")
    with pytest.raises(EngineError, match="ended with code 3"):
        ended.start().wait(60)


def test_serving_without_vllm_says_so(place: Path) -> None:
    if importlib.util.find_spec("vllm"):
        pytest.skip("vLLM is installed")
    with pytest.raises(EngineError, match="vLLM"):
        ps.serve(place / "model", start=False)
