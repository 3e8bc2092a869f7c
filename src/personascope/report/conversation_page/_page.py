"""Two runs with the same user messages side by side, as one HTML file without scripts or network access.

Text of models and users is escaped, and the content policy forbids running and loading anything.
"""

from __future__ import annotations

import html
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from personascope.dynamics import Dialogue, DriftRun, Turn
from personascope.errors import UsageError
from personascope.report.conversation_page._chart import chart
from personascope.stats import Difference, paired_difference
from personascope.store import write_bytes

OPEN = 12
"""Maximum number of dialogues whose messages are unfolded at first."""

NONE = "\u2013"
"""Text shown for a missing number."""

_ENDINGS = {"length": "cut at the limit", "alarm": "ended by the monitor"}


@dataclass(frozen=True, slots=True)
class Brief:
    """Introduction to a dialogue on the page.

    Attributes:
        title: Short title.
        text: What the dialogue shows, and what to look for in the replies.
    """

    title: str
    text: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class _Pair:
    """A dialogue in both runs; None if a run does not have it."""

    id: str
    plain: Dialogue | None
    planned: Dialogue | None

    @property
    def sides(self) -> tuple[Dialogue | None, Dialogue | None]:
        return self.plain, self.planned

    @property
    def either(self) -> Dialogue:
        found = self.plain or self.planned
        assert found is not None
        return found

    @property
    def turns(self) -> int:
        return max(len(side.turns) for side in self.sides if side is not None)

    def at(self, turn: int) -> tuple[Turn | None, Turn | None]:
        found = [
            side.turns[turn] if side is not None and turn < len(side.turns) else None for side in self.sides
        ]
        return found[0], found[1]


def write_cases_page(
    path: Path,
    plain: DriftRun,
    planned: DriftRun,
    briefs: Mapping[str, Brief] | None = None,
    *,
    names: tuple[str, str] = ("no plan", "with the plan"),
) -> Path:
    """Write a page with each dialogue of two runs: its trajectories, and its replies side by side.

    Args:
        path: HTML file to write; an existing file is replaced atomically.
        plain: First run, usually without a plan.
        planned: Second run: the same user messages under a plan.
        briefs: Dialogue id or topic id -> introduction to show above it.
        names: Names of the two runs.

    Returns:
        ``path``.

    Raises:
        UsageError: If the runs have no dialogue, or their positions are at different layers or of different
            maps and so cannot be compared.
        StoreError: If the file cannot be written.
    """
    page = _render(plain, planned, briefs or {}, names)
    # Replace lone surrogates, which cannot be encoded.
    write_bytes(Path(path), page.encode("utf-8", "replace"))
    return Path(path)


def _render(plain: DriftRun, planned: DriftRun, briefs: Mapping[str, Brief], names: tuple[str, str]) -> str:
    if plain.layer != planned.layer or not (
        np.allclose(plain.mean_role_projection, planned.mean_role_projection)
        and np.allclose(plain.default_projection, planned.default_projection)
    ):
        raise UsageError(
            f"{plain.path} is read at layer {plain.layer} and {planned.path} at layer {planned.layer}, or "
            "with another map",
            hint="read both at the same layer of the same map",
        )
    pairs = _pairs(plain, planned)
    if not pairs:
        raise UsageError(f"neither {plain.path} nor {planned.path} has a dialogue", hint="run them first")
    reach = _reach(plain, planned, pairs)
    body = [_intro(plain, planned, pairs, names, briefs)]
    for number, pair in enumerate(pairs):
        card = _Card(plain, pair, names, reach, _brief(pair, briefs))
        body.append(card.html(number, opened=len(pairs) <= OPEN))
    parts = {
        "TITLE": "Replies side by side",
        "STYLE": _asset("page.css") + _asset("cases.css"),
        "BODY": "\n".join(body),
    }
    pieces = _asset("cases.html").split("%%")
    return "".join(parts[piece] if place % 2 else piece for place, piece in enumerate(pieces))


def _pairs(plain: DriftRun, planned: DriftRun) -> list[_Pair]:
    first = {dialogue.id: dialogue for dialogue in plain.dialogues}
    second = {dialogue.id: dialogue for dialogue in planned.dialogues}
    return [_Pair(id, first.get(id), second.get(id)) for id in dict.fromkeys([*first, *second])]


def _reach(plain: DriftRun, planned: DriftRun, pairs: list[_Pair]) -> tuple[float, float]:
    """Return the range of positions of every chart and gauge, which always includes 0 and 1."""
    found = [0.0, 1.0]
    for pair in pairs:
        for run, side in ((plain, pair.plain), (planned, pair.planned)):
            if side is not None and side.turns:
                found += [value for value in run.positions(side).tolist() if math.isfinite(value)]
    room = 0.06 * (max(found) - min(found))
    return min(found) - room, max(found) + room


def _brief(pair: _Pair, briefs: Mapping[str, Brief]) -> Brief:
    dialogue = pair.either
    given = briefs.get(pair.id) or briefs.get(dialogue.topic)
    return given or Brief(" · ".join(part for part in (dialogue.topic, dialogue.persona) if part))


def _intro(
    plain: DriftRun,
    planned: DriftRun,
    pairs: list[_Pair],
    names: tuple[str, str],
    briefs: Mapping[str, Brief],
) -> str:
    models = [_model(run.manifest) for run in (plain, planned)]
    warnings = [note for pair in pairs for note in _problems(plain, planned, pair, names)]
    if all(models) and models[0] != models[1]:
        warnings.insert(0, f"The runs are of different models: {models[0]} and {models[1]}.")
    facts = [
        ("Model", models[0] or models[1]),
        ("Layer", str(plain.layer)),
        ("Dialogues", str(len(pairs))),
        ("First", f"{names[0]} ({_plans(plain)})"),
        ("Second", f"{names[1]} ({_plans(planned)})"),
    ]
    listed = "".join(f"<div><dt>{_e(k)}</dt><dd>{_e(v)}</dd></div>" for k, v in facts if v)
    shown = "".join(f'<p class="warning">{_e(text)}</p>' for text in warnings)
    rows = "".join(
        _summary(plain, planned, pair, number, _brief(pair, briefs).title)
        for number, pair in enumerate(pairs)
    )
    heads = ("Dialogue", "Turns", f"Mean, {names[0]}", f"Mean, {names[1]}", "Last of each", "Difference")
    head = "".join(f"<th>{_e(name)}</th>" for name in (*heads, "Tokens capped"))
    return (
        '<section class="intro"><p class="eyebrow">The same user, two runs</p>'
        f'<h1>Replies side by side</h1><dl class="facts">{listed}</dl>{shown}</section>'
        '<section class="card"><h2>Positions</h2><p class="lead">A position is the mean projection of a '
        "reply on the Assistant Axis: 0 is the mean role, 1 the default Assistant. Differences are the "
        "second run less the first, over the turns that both have.</p>"
        f'<div class="scroll"><table class="summary"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody>'
        f'</table></div><p class="caption">{_e(_overall(plain, planned, pairs))}</p></section>'
    )


def _summary(plain: DriftRun, planned: DriftRun, pair: _Pair, number: int, title: str) -> str:
    means: list[float] = []
    last: list[float] = []
    for run, side in ((plain, pair.plain), (planned, pair.planned)):
        values = run.positions(side) if side is not None and side.turns else np.array([])
        known = values[np.isfinite(values)]
        means.append(float(known.mean()) if len(known) else math.nan)
        last.append(float(values[-1]) if len(values) else math.nan)
    both = _both(plain, planned, pair)
    counts = " / ".join(NONE if side is None else str(len(side.turns)) for side in pair.sides)
    cells = (
        counts,
        _number(means[0]),
        _number(means[1]),
        f"{_number(last[0])} / {_number(last[1])}",
        _number(float((both[1] - both[0]).mean()) if len(both[0]) else math.nan),
        " / ".join(NONE if side is None else _capped(side) for side in pair.sides),
    )
    return (
        f'<tr><td><a href="#dialogue-{number}">{_e(title or pair.id)}</a></td>'
        + "".join(f"<td>{_e(cell)}</td>" for cell in cells)
        + "</tr>"
    )


def _both(plain: DriftRun, planned: DriftRun, pair: _Pair) -> tuple[np.ndarray, np.ndarray]:
    """Return both runs' positions at the turns where both have a non-empty reply."""
    if pair.plain is None or pair.planned is None:
        return np.array([]), np.array([])
    count = min(len(pair.plain.turns), len(pair.planned.turns))
    if not count:
        return np.array([]), np.array([])
    first, second = plain.positions(pair.plain)[:count], planned.positions(pair.planned)[:count]
    kept = np.isfinite(first) & np.isfinite(second)
    return first[kept], second[kept]


def _overall(plain: DriftRun, planned: DriftRun, pairs: list[_Pair]) -> str:
    found = [(pair.id, *_both(plain, planned, pair)) for pair in pairs]
    clusters = [id for id, first, _ in found for _ in first]
    if not clusters:
        return "No turn has a reply in both runs, so nothing can be compared."
    difference: Difference = paired_difference(
        np.concatenate([second for _, _, second in found]),
        np.concatenate([first for _, first, _ in found]),
        clusters,
    )
    limits = (
        f" (95%: {_number(difference.low)} to {_number(difference.high)}, resampling dialogues; "
        f"p = {difference.p_value:.3g})"
        if math.isfinite(difference.low)
        else ""
    )
    # Case studies were written as illustrations, so they are no sample of conversations.
    scripted = all(pair.either.domain == "cases" for pair in pairs)
    chosen = " These dialogues were chosen, not sampled: they show, they do not estimate." if scripted else ""
    return (
        f"Mean difference over {difference.n} replies of {difference.n_clusters} dialogues: "
        f"{_number(difference.estimate, sign=True)}{limits}.{chosen}"
    )


def _problems(plain: DriftRun, planned: DriftRun, pair: _Pair, names: tuple[str, str]) -> Iterator[str]:
    for run, side, name in ((plain, pair.plain, names[0]), (planned, pair.planned, names[1])):
        if side is None:
            yield f"{pair.id} is missing from the run “{name}”."
        elif side.ended is None:
            why = f": {side.problem}" if side.problem else ""
            yield (
                f"{pair.id} is unfinished in the run “{name}”, {len(side.turns)} of {run.turns} turns{why}."
            )
    differ = [
        turn + 1
        for turn in range(pair.turns)
        if (both := pair.at(turn))[0] and both[1] and both[0].user != both[1].user
    ]
    if differ:
        yield (
            f"In {pair.id} the user's messages differ from turn {differ[0]} on: the runs are not replays "
            "of one another."
        )


def _capped(dialogue: Dialogue) -> str:
    """Return the share of the plan's tokens on which a cap fired, as text."""
    acted = sum(turn.plan_tokens for turn in dialogue.turns)
    capped = sum(turn.capped_tokens for turn in dialogue.turns)
    return f"{capped / acted:.0%}" if acted else NONE


def _plans(run: DriftRun) -> str:
    found = sorted({e.plan for dialogue in run.dialogues for e in dialogue.turns if e.plan is not None})
    return "plan " + ", ".join(digest[:12] for digest in found) if found else "no plan"


def _model(manifest: Mapping[str, Any]) -> str:
    """Return the model's id from wherever the manifest has it; "" if nowhere."""
    for place in (manifest, manifest.get("identity"), manifest.get("notes")):
        found = place.get("model") if isinstance(place, Mapping) else None
        if isinstance(found, Mapping):
            found = found.get("id")
        if isinstance(found, str):
            return found
    return ""


@dataclass(frozen=True, slots=True, eq=False)
class _Card:
    """Section of the page with one dialogue."""

    run: DriftRun
    pair: _Pair
    names: tuple[str, str]
    reach: tuple[float, float]
    brief: Brief

    def html(self, number: int, *, opened: bool) -> str:
        dialogue = self.pair.either
        lines = [
            [] if side is None or not side.turns else self.run.positions(side).tolist()
            for side in self.pair.sides
        ]
        turns = "".join(self._turn(turn) for turn in range(self.pair.turns))
        count = f"{self.pair.turns} turn{'' if self.pair.turns == 1 else 's'}"
        return (
            f'<section class="card" id="dialogue-{number}"><p class="eyebrow">{_e(self.pair.id)}</p>'
            f"<h2>{_e(self.brief.title or dialogue.topic)}</h2>"
            f'<p class="lead">{_e(self.brief.text)}</p>{chart(lines, self.names, self.reach)}'
            f"<details{' open' if opened else ''}><summary>{count}</summary>{turns}</details></section>"
        )

    def _turn(self, turn: int) -> str:
        sides = self.pair.at(turn)
        said = list(dict.fromkeys(side.user for side in sides if side is not None))
        asked = "".join(f'<p class="user" dir="auto">{_e(text)}</p>' for text in said)
        replies = "".join(
            self._reply(side, turn, name)
            for side, turn, name in zip(self.pair.sides, sides, self.names, strict=True)
        )
        return (
            f'<div class="turn"><p class="who">User, message {turn + 1}</p>{asked}'
            f'<div class="pair">{replies}</div></div>'
        )

    def _reply(self, side: Dialogue | None, turn: Turn | None, name: str) -> str:
        head = f'<div class="reply"><p class="who">{_e(name)}</p>'
        if turn is None:
            why = "This run does not have the dialogue." if side is None else "No reply at this turn."
            return f'{head}<p class="absent">{why}</p></div>'
        position = float(self.run.to_units(float(turn.projections[self.run.layer])))
        text = (
            f'<p class="said" dir="auto">{_e(turn.reply)}</p>'
            if turn.reply.strip()
            else '<p class="absent">The reply is empty.</p>'
        )
        return f'{head}{self._gauge(position)}{text}<p class="meta">{_e(_meta(turn))}</p></div>'

    def _gauge(self, position: float) -> str:
        low, high = self.reach

        def place(value: float) -> float:
            return 100 * (value - low) / (high - low)

        bar = ""
        if math.isfinite(position):
            start, end = sorted((place(0.0), place(position)))
            toward = 100 * min(max(position, 0.0), 1.0)
            bar = f'<i style="left:{start:.2f}%;width:{end - start:.2f}%;--toward:{toward:.0f}%"></i>'
        marks = "".join(f'<u style="left:{place(value):.2f}%"></u>' for value in (0.0, 1.0))
        told = _number(position, sign=True)
        return (
            f'<div class="place"><div class="gauge" role="img" aria-label="position {told}">{bar}{marks}'
            f"</div><b>{told}</b></div>"
        )


def _meta(turn: Turn) -> str:
    parts = [f"{turn.token_count} token{'' if turn.token_count == 1 else 's'}"]
    if turn.finish_reason in _ENDINGS:
        parts.append(_ENDINGS[turn.finish_reason])
    if turn.alarm is not None:
        parts.append(f"alarm at token {turn.alarm}")
    if turn.plan_tokens:
        share = turn.capped_tokens / turn.plan_tokens
        parts.append(f"capped on {share:.0%} of the {turn.plan_tokens} tokens under the plan")
    return " · ".join(parts)


def _number(value: float, *, sign: bool = False) -> str:
    if not math.isfinite(value):
        return NONE
    return f"{value:{'+' if sign else ''}.2f}".replace("-", "\u2212")


def _e(text: str) -> str:
    return html.escape(text, quote=True)


def _asset(name: str) -> str:
    return resources.files("personascope.report").joinpath("assets", name).read_text(encoding="utf-8")
