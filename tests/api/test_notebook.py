"""What a notebook types, whole: the listing of docs/notebook.md on a tiny model, and what else users try."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import transformers
from notebook_case import CHAT, map_tiny

import personascope as ps
from personascope.api.notebook import Model
from personascope.chat import Message
from personascope.errors import PersonascopeError, UsageError


def test_the_listing(place: Path, model: Model, pmap: ps.PersonaMap) -> None:
    assert model.info.n_layers == 5 and str(model.chat("Hi", max_new_tokens=4)) is not None
    # The same call goes on with the run: nothing is left to do.
    before = (place / "run/map/map.safetensors").read_bytes()
    assert map_tiny(place, model, place / "run").arrays.digest == pmap.arrays.digest
    assert (place / "run/map/map.safetensors").read_bytes() == before

    roles = pmap.roles
    assert list(roles.columns) == ["position", "low", "high", "projection", "n", "played"]
    assert set(roles.index) == set(pmap.arrays.roles) | set(pmap.arrays.excluded)
    best = roles.index[0]
    at = pmap.middle_layer
    expected = float(pmap.arrays.role_vector(best)[at] @ pmap.arrays.unit_axis(at))
    assert roles.projection.iloc[0] == pytest.approx(expected, rel=1e-4)
    assert (roles.low <= roles.high).all() or (roles.high <= roles.low).all()

    found = pmap.project(CHAT, model)
    frame = found.to_pandas()
    assert list(frame.role) == ["user", "assistant"] and frame.position.notna().all()

    away, cap = pmap.steer(-0.2), pmap.cap(percentile=75, layers=(1, 3))
    table = model.side_by_side("Who are you?", [None, away, cap, away + cap], max_new_tokens=5)
    rows = table.to_pandas()
    assert list(rows.plan) == ["plain", away.name, cap.name, f"{away.name} + {cap.name}"]
    assert np.isfinite(rows.position).all()
    assert rows.capped_share.isna().tolist() == [True, True, False, False]

    hf_model = transformers.AutoModelForCausalLM.from_pretrained(place / "model")
    inputs = model.tokenizer("Who are you?", return_tensors="pt")
    with ps.steered(hf_model, cap) as state:
        hf_model.generate(**inputs, max_new_tokens=3, do_sample=False)
    assert state.cap_stats[0].tokens > 0
    with ps.steered(model, away):
        model.hf_model(**inputs)

    sweep = ps.calibrate(
        model, pmap, windows=[(1, 3)], axis_percentiles=(75,), roles=2, jailbreaks=2, questions=2,
        corpus=place / "corpus",
    )  # fmt: skip
    assert sweep.why and (sweep.plan is None) == (sweep.plan_folder is None)
    assert set(sweep.to_pandas().kind) == {"axis", "random"}

    evaluation = ps.evaluate(
        model,
        pmap,
        "susceptibility",
        plans=[cap],
        roles=2,
        prompts=1,
        n_random=1,
        controls=["isotropic"],
        corpus=place / "corpus",
    )
    frame = evaluation.to_pandas()
    assert set(frame.condition) == {"plain", cap.name, f"random 0 of {cap.name}"}
    capable = ps.evaluate(
        model, pmap, "capability", plans={"cap": cap}, tasks=["personascope_basics"], limit=2, n_random=1
    )
    assert capable.to_pandas().condition.tolist() == [
        "plain",
        "cap",
        *(f"{control} 0 of cap" for control in ("random", "shuffled", "role-span")),
    ]
    # A card shows some columns of the table: each of them must be there.
    cards = [one._repr_html_() for one in (found, sweep, evaluation, capable)]
    assert "conclusion" in cards[2] and all("<table" in card for card in cards)
    plots = [pmap.plot(), found.plot(), sweep.plot(), evaluation.plot(), capable.plot("cap")]
    for number, plot in enumerate(plots):
        assert plot.save(place / f"figure{number}.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("suffix", [".svg", ".pdf", ".png", ".html"])
def test_a_figure_holds_what_it_was_made_from(
    place: Path, model: Model, pmap: ps.PersonaMap, suffix: str
) -> None:
    figure = pmap.project(CHAT, model).plot()
    path = figure.save(str(place / f"chat{suffix}"))
    held = path.read_bytes()
    if suffix == ".pdf":
        # The subject of a PDF is a string in parentheses, whose own are escaped.
        assert b"/Subject" in held
    else:
        assert str(pmap.folder).encode() in held
    assert figure._repr_png_() == figure._repr_png_()
    with pytest.raises(UsageError, match=r"written as 'chat\.jpg'"):
        figure.save("chat.jpg")


def test_a_map_saved_as_html_is_the_report(place: Path, pmap: ps.PersonaMap) -> None:
    page = pmap.plot().save(place / "space.html").read_text(encoding="utf-8")
    assert "plotly" in page and "default-src 'none'" in page


@pytest.mark.usefixtures("pmap")
def test_figures_need_no_display(place: Path) -> None:
    code = (
        "import sys, personascope as ps\n"
        f"ps.open({str(place / 'run')!r}).plot().save({str(place / 'alone.png')!r})\n"
        "assert 'torch' not in sys.modules and 'matplotlib.pyplot' not in sys.modules\n"
    )
    env = {key: value for key, value in os.environ.items() if key not in ("DISPLAY", "MPLBACKEND")}
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300, env=env)
    assert (place / "alone.png").stat().st_size > 1000


def test_chats_in_every_form_give_the_same_positions(place: Path, model: Model, pmap: ps.PersonaMap) -> None:
    (place / "chat.json").write_text(json.dumps(CHAT))
    (place / "chats").mkdir()
    (place / "chats" / "one.json").write_text(json.dumps(CHAT))
    messages = tuple(Message(**one) for one in CHAT)
    text = "\n".join(f"{one['role'].title()}: {one['content']}" for one in CHAT)
    forms = [place / "chat.json", str(place / "chat.json"), place / "chats", messages, json.dumps(CHAT), text]
    expected = pmap.project(CHAT, model).to_pandas().position.tolist()
    for form in [*forms, [CHAT], {"messages": CHAT}]:
        assert pmap.project(form, model).to_pandas().position.tolist() == expected, form
    both = pmap.project([CHAT, CHAT], model)
    assert len(both) == 2 and len(both.to_pandas()) == 4
    alone = pmap.project("Who are you?", model).to_pandas()
    assert alone.role.tolist() == ["user"] and alone.position[0] == pytest.approx(expected[0], abs=1e-6)
    kept = pmap.project(place / "chats", model, out=str(place / "kept"))
    assert kept.to_pandas().position.tolist() == expected and (place / "kept/summary.json").is_file()


@pytest.mark.parametrize(
    ("chat", "word"),
    [
        ("nowhere.json", "no such file"),
        (Path("nowhere"), "no such file"),
        ([], "holds no"),
        ([{"role": "user", "content": object()}], "cannot be read: it holds 'object'"),
        (7, "'int' is no conversation"),
    ],
)
def test_what_is_no_chat_is_refused(pmap: ps.PersonaMap, chat: Any, word: str) -> None:
    with pytest.raises(PersonascopeError, match=word):
        pmap.project(chat)


def test_a_chat_keeps_nothing_and_a_session_all(place: Path, model: Model) -> None:
    first = model.chat("Hi", max_new_tokens=3, temperature=0.0)
    again = model.chat("Hi", max_new_tokens=3, temperature=0.0)
    assert first.completion.token_ids == again.completion.token_ids
    assert first.messages == [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": first.text}]
    session = model.conversation(system="Be brief.", max_new_tokens=3, temperature=0.0)
    one = session.say("Hi")
    assert one.completion.prompt_tokens > first.completion.prompt_tokens
    if not one.text.strip():
        pytest.skip("the tiny model says nothing here")
    session.say("And?")
    assert [part["role"] for part in session.messages] == ["system", *("user", "assistant") * 2]
    assert len(model.generate(["The sea", "A pirate"], max_new_tokens=2)) == 2
    (place / "one.json").write_text(json.dumps(CHAT))
    (place / "two.json").write_text(json.dumps([CHAT, CHAT]))
    assert len(model.observe(place / "one.json")) == 2
    with pytest.raises(UsageError, match="holds several"):
        model.observe(place / "two.json")
    (turn,) = model.observe("Hi", layers=(1, 3))
    assert turn.pooled is not None and turn.pooled.shape == (2, 48)


@pytest.mark.parametrize(
    ("chat", "word"),
    [
        ([{"role": "robot", "content": "Hi"}], "message 0 has the role 'robot'"),
        ([{"role": "user", "content": 3}], "message 0 has content '3'"),
        (["Hi"], "message 0 is 'Hi', not a dict"),
        ([], "is no conversation"),
    ],
)
def test_malformed_messages_are_named(model: Model, chat: Any, word: str) -> None:
    with pytest.raises(UsageError, match=word):
        model.chat(chat)
