"""Blind cases: four models or corpora in which there is no Assistant Axis, and the verdicts on them.

The criteria of the verdict (src/personascope/space/_verdict.py) are not moved for what comes out here.
Each case maps SmolLM2-135M-Instruct (or its shape) with the profile "quick".

    python benchmarks/blind.py OUT        # writes blind.md
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForCausalLM

from personascope.chat import Conversation, Message
from personascope.corpus import load_corpus
from personascope.engines import Completion, Engine, Request, Scored, ScoreRequest, load_engine, request_seed
from personascope.judge import parse_judge
from personascope.mapping import MAP, run_map
from personascope.space import PersonaMap

PAGE = Path(__file__).with_suffix(".md")
MODEL = "smollm2-135m"
SENTENCE = "The kettle stands on the stove, and it is a quarter past nine."


class Changed:
    """An engine whose prompts are changed on the way to the model."""

    def __init__(self, engine: Engine) -> None:
        """Wrap an engine."""
        self._engine = engine

    def __getattr__(self, name: str) -> Any:
        """Leave everything else to the engine."""
        return getattr(self._engine, name)

    def changed(self, id: str, prompt: Any) -> Any:
        """Return what the model is shown."""
        raise NotImplementedError

    def run(self, requests: Iterable[Request]) -> Iterator[Completion]:
        """Generate under the changed prompts."""
        return self._engine.run([replace(r, prompt=self.changed(r.id, r.prompt)) for r in requests])

    def score(self, requests: Iterable[ScoreRequest]) -> Iterator[Scored]:
        """Score under the changed prompts."""
        return self._engine.score([replace(r, prompt=self.changed(r.id, r.prompt)) for r in requests])


class Dropped(Changed):
    """System prompts never reach the model."""

    def changed(self, _id: str, prompt: Conversation) -> Conversation:
        """Leave the system messages out."""
        return tuple(message for message in prompt if message.role != "system")


class Shuffled(Changed):
    """Every response is that of another role, drawn anew for each: the labels say nothing."""

    def __init__(self, engine: Engine) -> None:
        """Wrap an engine; the prompts are those of all roles."""
        super().__init__(engine)
        self._prompts = [prompt for role in load_corpus().roles for prompt in role.prompts]

    def changed(self, id: str, prompt: Conversation) -> Conversation:
        """Put the prompt of a role drawn by the request's id in the place of its own."""
        if id.startswith("default/") or prompt[0].role != "system":
            return prompt
        other = np.random.default_rng(request_seed(1, id)).integers(len(self._prompts))
        return (Message("system", self._prompts[other]), *prompt[1:])


def random_weights(folder: Path) -> str:
    """Write a model of SmolLM2's shape with random weights, and return its folder."""
    given = load_engine(MODEL, engine="transformers").loaded  # pyright: ignore[reportAttributeAccessIssue]
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(given.model.config, dtype=torch.bfloat16)
    model.save_pretrained(folder)
    given.tokenizer.save_pretrained(folder)
    return str(folder)


def cases(out: Path) -> Iterator[tuple[str, Any, Any]]:
    """Yield each case's name, engine and corpus."""
    corpus = load_corpus()
    yield "random weights", load_engine(random_weights(out / "random")), corpus
    engine = load_engine(MODEL)
    yield "system prompts dropped", Dropped(engine), corpus
    yield "role labels shuffled", Shuffled(engine), corpus
    plain = tuple(replace(role, prompts=(SENTENCE,) * len(role.prompts)) for role in corpus.roles)
    yield "one plain sentence as every prompt", engine, replace(corpus, roles=plain)


def row(name: str, persona_map: PersonaMap) -> str:
    """Return a line of the table."""
    verdict, stats, layer = persona_map.verdict(), persona_map.stats, persona_map.middle_layer
    checks = persona_map.checks
    assert checks is not None
    return (
        f"| {name} | **{verdict.axis.grade}** | {verdict.main.grade} | {verdict.default.grade} | "
        f"{checks.played:.2f} | {checks.perplexity:.1f} | {stats.split_half[layer]:.2f} | "
        f"{stats.prompt_reliability[layer]:.2f} | {stats.role_reliability[layer]:.2f} | "
        f"{stats.cos_axis_pc1[layer]:.2f} | {stats.null_q95[layer]:.2f} | "
        f"{stats.default_percentile[layer, 0]:.2f} | {'; '.join(verdict.axis.reasons[:2])} |"
    )


HEAD = (
    "# Blind cases\n",
    "`python benchmarks/blind.py OUT`: SmolLM2-135M-Instruct or its shape, profile `quick`, seed 3.\n",
    "| case | axis | main | default | played | perplexity | halves | prompts | roles | cosine | null | "
    "default above | first reasons |",
    "|---|---|---|---|---|---|---|---|---|---|---|---|---|",
)


def main(out: Path) -> None:
    lines = []
    for name, engine, corpus in cases(out):
        folder = out / name.replace(" ", "_").replace(",", "")
        run_map(engine, corpus, "quick", out=folder, judge=parse_judge("rules"), seed=3)
        lines.append(row(name, PersonaMap.open(folder / MAP)))
        print(lines[-1], flush=True)
    PAGE.write_text("\n".join([*HEAD, *lines]) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
