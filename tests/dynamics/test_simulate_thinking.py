"""Simulated conversations with a model that thinks: the run goes on, and prompts hold what was said."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from monitor_case import save_monitor_map
from talk_case import scenarios

from chat.reply_templates import SHAPES
from helpers.scripted import load_family, script_replies
from personascope.dynamics import read_drift
from personascope.dynamics.conversations import simulate
from personascope.dynamics.conversations._auditor import ScriptedAuditor
from personascope.engines import Request, Sampling, TransformersEngine
from personascope.errors import UsageError

REPLIES = {
    "r1_distill": (
        "Hm, hm.\n</think>\n\nA poet am I.<|end_of_sentence|>",
        "Hm, hm, hm, hm, hm, hm, hm, hm, hm, hm",
    ),
    "qwen3_thinking": (
        "Hm, hm.\n</think>\n\nA poet am I.<|im_end|>",
        "Hm, hm, hm, hm, hm, hm, hm, hm, hm, hm",
    ),
    "harmony": (
        "<|channel|>analysis<|message|>Hm, hm.<|end|><|start|>assistant<|channel|>final<|message|>"
        "A poet am I.<|return|>",
        "<|channel|>analysis<|message|>Hm, hm, hm, hm, hm, hm, hm, hm, hm, hm",
    ),
}


@pytest.mark.parametrize("name", REPLIES)
def test_conversations_go_on_after_replies_that_think(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = load_family(SHAPES[name].family)
    engine = TransformersEngine(loaded)
    made = save_monitor_map(tmp_path / "map", n_layers=4, model=loaded.model_id, revision=loaded.revision)
    prompts: list[Request] = []

    def reply(request: Request) -> list[int]:
        prompts.append(request)
        # The second reply never leaves thinking.
        text = REPLIES[name][request.id.endswith("#1")]
        return loaded.tokenizer(text, add_special_tokens=False).input_ids

    script_replies(monkeypatch, reply)
    done = simulate(
        engine,
        made,
        scenarios()[:2],
        ScriptedAuditor(),
        out=tmp_path / "run",
        turns=4,
        sampling=Sampling(temperature=0, max_new_tokens=20, max_thinking_tokens=40),
        progress=False,
    )
    assert (done.dialogues, done.finished) == (2, 2)
    run = read_drift(tmp_path / "run")
    for dialogue in run.dialogues:
        assert [turn.reply for turn in dialogue.turns] == [
            "A poet am I.",
            "",
            *["A poet am I."] * 2,
        ]
        lost = dialogue.turns[1]
        assert (lost.token_count, lost.finish_reason) == (0, "length")
        assert np.isnan(lost.projections).all()
        # Kept with the reply, and in no later prompt.
        assert [turn.reasoning.strip() for turn in (*dialogue.turns[:1], *dialogue.turns[2:])] == [
            "Hm, hm."
        ] * 3
        assert lost.reasoning.startswith("Hm, hm, hm, hm")
        whole = dialogue.turns[0]
        assert whole.token_count == len(whole.tokens) > 3
        assert np.isfinite(whole.projections).all()
    assert not any("Hm" in message.content for request in prompts for message in request.prompt)


def test_the_thinking_is_read_where_it_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = load_family(SHAPES["qwen3_thinking"].family)
    engine = TransformersEngine(loaded)
    made = save_monitor_map(tmp_path / "map", n_layers=4, model=loaded.model_id, revision=loaded.revision)
    ids = loaded.tokenizer(REPLIES["qwen3_thinking"][0], add_special_tokens=False).input_ids
    script_replies(monkeypatch, lambda _: ids)
    runs = {}
    for part in ("answer", "thinking"):
        simulate(
            engine,
            made,
            scenarios()[:1],
            ScriptedAuditor(),
            out=tmp_path / part,
            turns=2,
            tokens=part,
            sampling=Sampling(temperature=0, max_new_tokens=20),
            progress=False,
        )
        runs[part] = read_drift(tmp_path / part)
    assert runs["thinking"].manifest["identity"]["tokens"] == "thinking"
    assert "tokens" not in runs["answer"].manifest["identity"]
    for a, b in zip(runs["answer"].dialogues[0].turns, runs["thinking"].dialogues[0].turns, strict=True):
        assert (a.reply, b.reply) == ("A poet am I.", "A poet am I.")
        assert len(a.tokens) == a.token_count
        assert len(b.tokens) == b.token_count
        assert not np.allclose(a.projections, b.projections)
    with pytest.raises(UsageError, match="no selection of tokens"):
        simulate(engine, made, scenarios()[:1], ScriptedAuditor(), out=tmp_path / "no", tokens="thoughts")
