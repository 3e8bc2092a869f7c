"""Project transcripts: read each turn's position on the axis and on any other direction.

A run folder holds one unit for every `UNIT` entries of its source, in the source's order, including entries
that could not be read or projected. The same call resumes an interrupted run: entries of committed units are
read again, but not projected again.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa

from personascope.chat import Conversation
from personascope.directions import AXIS, NamedProbe, axis_probe, in_units
from personascope.dynamics.projection._records import (
    KIND,
    SUMMARY,
    TABLE,
    Projected,
    ProjectedTurn,
    Projections,
    Reading,
    Status,
    UnitMeta,
    columns,
    entry_row,
    read_projections,
    schema,
    to_rows,
    turn_row,
)
from personascope.dynamics.projection._summary import Counted
from personascope.dynamics.projection._truncate import cut_to, last_turn, reasoning_left_out
from personascope.engines import Engine, TurnActivations, check_tokens, turn_spans
from personascope.errors import ChatError, StoreError, UsageError
from personascope.interop import Transcript, TranscriptSource, Unreadable
from personascope.interventions import Plan
from personascope.runs import Progress, ProgressCallback, chat_notes, dated, shown
from personascope.space import PersonaMap
from personascope.store import RunFolder, sync, tmp_path, write_json

UNIT = 32
"""Number of entries per unit, and the most work that an interruption can lose."""


class Projector:
    """Project transcripts, with one forward pass each.

    Attributes:
        probes: All probes, "axis" first.
        layer: Layer at which "axis" is read.
    """

    def __init__(
        self,
        engine: Engine,
        persona_map: PersonaMap,
        *,
        layer: int | None = None,
        probes: Sequence[NamedProbe] = (),
        tokens: bool = False,
        max_tokens: int | None = None,
        plan: Plan | None = None,
        part: str = "answer",
    ) -> None:
        """Check and store the settings.

        Args:
            engine: Engine of the model.
            persona_map: Map of the model.
            layer: Layer at which "axis" is read; the map's middle layer by default.
            probes: Other directions (`parse_probes`). A probe named "axis" is ignored, because the axis is
                always read.
            tokens: Whether to keep the projection of each token too.
            max_tokens: Longest conversation in tokens; longer ones are cut to the leading whole messages that
                fit. None cuts nothing and reports those beyond the model's context.
            plan: Intervention applied while the transcripts are read, or None.
            part: Which tokens of each turn are read: "answer" for the message text, "thinking" for the
                reasoning before it, "response" for both, "prompt" for turns that are not the model's, or
                "turn:N".

        Raises:
            UsageError: If there is no such part, the map has no such layer, a probe named "axis" is of
                another layer, or ``max_tokens`` is below 1 or beyond the model's context.
        """
        self.engine = engine
        self.persona_map = persona_map
        self.layer = persona_map.middle_layer if layer is None else layer
        axis = axis_probe(persona_map, self.layer)
        for probe in probes:
            if probe.name == AXIS and probe.layer != self.layer:
                raise UsageError(
                    f"the probe {AXIS!r} is of layer {probe.layer}, and positions are read at {self.layer}",
                    hint=f"parse it with the layer {self.layer}, or call it {AXIS}@{probe.layer}",
                )
        self.probes = (axis, *(probe for probe in probes if probe.name != AXIS))
        self.tokens = tokens
        self.plan = plan
        check_tokens(part)
        self.part = part
        self.limit = engine.info.context
        self.max_tokens = max_tokens
        if max_tokens is not None and not 1 <= max_tokens <= (self.limit or max_tokens):
            raise UsageError(
                f"max_tokens is {max_tokens}",
                hint=f"give 1 or more, and no more than the model reads ({self.limit or 'unknown'})",
            )
        self._last_turn = last_turn(plan)

    def project(self, entry: Transcript | Unreadable, number: int = 0) -> Projected:
        """Project an entry of a source, or report why it cannot be projected.

        Args:
            entry: Entry to project.
            number: Index of the entry in the source.

        Raises:
            EngineError: If the engine fails, or the plan is of another model.
        """
        if isinstance(entry, Unreadable):
            return Projected(number, entry.where, entry.where, "unreadable", entry.reason)
        try:
            conversation, status, said = self._fit(entry.conversation)
            repairs = "; ".join(filter(None, (entry.repairs, said if status == "projected" else "")))
            if status != "projected":
                return self._without(entry, number, status, said)
            repairs = "; ".join(filter(None, (repairs, reasoning_left_out(self.engine, conversation))))
            # Omit the argument by default, for engines that do not support parts.
            more: dict[str, Any] = {} if self.part == "answer" else {"tokens": self.part}
            turns = self.engine.observe(
                conversation, probes=tuple(named.probe for named in self.probes), plan=self.plan, **more
            )
            ids = self._token_ids(conversation, turns) if self.tokens else [None] * len(turns)
        except ChatError as error:
            return self._without(entry, number, "refused", error.message)
        made = tuple(self._turn(conversation, turn, of) for turn, of in zip(turns, ids, strict=True))
        return Projected(number, entry.id, entry.where, "projected", "", repairs, entry.metadata, made)

    def _without(self, entry: Transcript, number: int, status: Status, reason: str) -> Projected:
        return Projected(number, entry.id, entry.where, status, reason, entry.repairs, entry.metadata)

    def _fit(self, conversation: Conversation) -> tuple[Conversation, Status, str]:
        """Return the part of a conversation to project, the status, and the reason for any omission."""
        if self._last_turn >= len(conversation):
            why = f"the plan acts from turn {self._last_turn} on, and there are {len(conversation)}"
            return (), "refused", why
        if self.max_tokens is None:
            count = self.engine.count_tokens(conversation) if self.limit else 0
            if self.limit and count > self.limit:
                return (), "too long", f"{count} tokens, and the model reads {self.limit}"
            return conversation, "projected", ""
        kept = cut_to(self.engine, conversation, self.max_tokens)
        if not kept or self._last_turn >= len(kept):
            return (), "too long", f"nothing that can be read alone has room in {self.max_tokens} tokens"
        if len(kept) == len(conversation):
            return conversation, "projected", ""
        left = f"{len(conversation) - len(kept)} of {len(conversation)}"
        return kept, "projected", f"the last {left} messages left out to keep within {self.max_tokens} tokens"

    def _turn(
        self, conversation: Conversation, turn: TurnActivations, ids: tuple[int, ...] | None
    ) -> ProjectedTurn:
        readings: dict[str, Reading] = {}
        for named in self.probes:
            values = turn.projections[named.name]
            mean = float(values.mean(dtype=float)) if len(values) else math.nan
            units = in_units(named.name)
            readings[named.name] = Reading(
                mean,
                float(self.persona_map.to_units(mean, named.layer)) if units else math.nan,
                self.persona_map.percentile(mean, named.layer) if units else math.nan,
                values if self.tokens else None,
            )
        return ProjectedTurn(
            turn.index, turn.role, conversation[turn.index].content, turn.token_count, readings, ids
        )

    def _token_ids(
        self, conversation: Conversation, turns: Sequence[TurnActivations]
    ) -> Sequence[tuple[int, ...] | None]:
        """Return the token ids of every turn; None for each if the engine does not expose its chat format."""
        chat = getattr(self.engine, "chat", None)
        if chat is None:
            return [None] * len(turns)
        rendered = chat.render_with_spans(conversation, add_generation_prompt=False)
        spans = turn_spans(rendered, self.part)
        return [tuple(rendered.token_ids[span.start : span.end]) for span in spans]


def project_transcripts(
    engine: Engine,
    persona_map: PersonaMap,
    source: Path | str | TranscriptSource,
    *,
    layer: int | None = None,
    probes: Sequence[NamedProbe] = (),
    tokens: bool = False,
    limit: int | None = None,
    max_tokens: int | None = None,
    plan: Plan | None = None,
    part: str = "answer",
) -> Iterator[Projected]:
    """Project the entries of a source as they are read, without writing files (section 4).

    The arguments are those of `Projector`; ``source`` and ``limit`` are those of `read_transcripts`.

    Raises:
        UsageError: If there is no such source or layer.
        EngineError: If the engine fails.
    """
    projector = Projector(
        engine,
        persona_map,
        layer=layer,
        probes=probes,
        tokens=tokens,
        max_tokens=max_tokens,
        plan=plan,
        part=part,
    )
    opened = source if isinstance(source, TranscriptSource) else TranscriptSource.open(source)
    for number, entry in enumerate(opened.read(limit=limit)):
        yield projector.project(entry, number)


def run_projection(
    engine: Engine,
    persona_map: PersonaMap,
    source: Path | str | TranscriptSource,
    *,
    out: Path | str,
    layer: int | None = None,
    probes: Sequence[NamedProbe] = (),
    tokens: bool = False,
    limit: int | None = None,
    max_tokens: int | None = None,
    plan: Plan | None = None,
    part: str = "answer",
    progress: ProgressCallback | bool = True,
    restart: bool = False,
    command: str = "",
) -> Projections:
    """Project the entries of a source into a run folder, `UNIT` at a time; write a table and a summary.

    Args:
        engine: As in `Projector`.
        persona_map: As in `Projector`.
        source: As in `read_transcripts`; its contents must be unchanged when a run is resumed.
        out: Run folder: a new one, or that of an earlier call with the same arguments.
        layer: As in `Projector`.
        probes: As in `Projector`.
        tokens: As in `Projector`.
        limit: Maximum number of transcripts; None for all.
        max_tokens: As in `Projector`.
        plan: As in `Projector`.
        part: As in `Projector`.
        progress: Whether to show a progress bar, or a callback to call after each entry instead. Unless it is
            False, the source is read an extra time to count its entries.
        restart: Discard a run that is already in the folder.
        command: Command line to record in the manifest.

    Raises:
        UsageError: If there is no such source or layer, or the run folder lies in the source.
        StoreError: If the folder holds another run or cannot be written.
        EngineError: If the engine fails.
    """
    out = Path(out)
    engine = dated(engine, out, restart=restart)
    opened = source if isinstance(source, TranscriptSource) else TranscriptSource.open(source)
    if opened.files and out.resolve().is_relative_to(Path(opened.name).resolve()):
        raise UsageError(
            f"{out} lies in {opened.name}, which is read: it would be its own source",
            hint="name a folder elsewhere",
        )
    projector = Projector(
        engine,
        persona_map,
        layer=layer,
        probes=probes,
        tokens=tokens,
        max_tokens=max_tokens,
        plan=plan,
        part=part,
    )
    info = engine.info
    identity: dict[str, Any] = {
        "kind": KIND,
        "source": opened.digest(),
        "map": persona_map.digest,
        "model": info.identity,
        "layer": projector.layer,
        "probes": [[named.name, named.layer, named.digest] for named in projector.probes],
        "tokens": tokens,
        "limit": limit,
        "max_tokens": max_tokens,
        "plan": None if plan is None else plan.digest,
    }
    if part != "answer":
        identity["part"] = part
    notes = {"source": opened.name, "map": str(persona_map.folder), "command": command}
    notes |= chat_notes(info)
    total = 0 if progress is False else sum(1 for _ in opened.read(limit=limit))
    with (
        shown(progress) as tell,
        RunFolder.open(out, identity, notes, restart=restart, unit=UnitMeta) as folder,
    ):
        _run(projector, opened.read(limit=limit), folder, total, tell)
        found_all = read_projections(out)
        counted = Counted(opened.name, projector.layer)
        _write_table(out / TABLE, _counting(found_all, counted), found_all.probes)
        write_json(out / SUMMARY, counted.summary())
    return read_projections(out)


def _run(
    projector: Projector,
    entries: Iterator[Transcript | Unreadable],
    folder: RunFolder,
    total: int,
    progress: ProgressCallback | None,
) -> None:
    columns_ = schema([named.name for named in projector.probes], tokens=projector.tokens)
    done = tokens = problems = index = 0
    while unit := list(islice(entries, UNIT)):
        if index in folder.units:
            done += len(unit)
            problems += folder.units[index].meta["problems"]
            if progress is not None:
                progress(_progress(done, total, tokens, problems))
        else:
            rows: list[dict[str, Any]] = []
            wrong = 0
            for place, entry in enumerate(unit):
                projected = projector.project(entry, index * UNIT + place)
                rows += to_rows(projected, tokens=projector.tokens)
                tokens += sum(turn.token_count for turn in projected.turns)
                wrong += projected.status != "projected"
                done += 1
                if progress is not None:
                    progress(_progress(done, total, tokens, problems + wrong))
            meta = {"entries": len(unit), "problems": wrong}
            folder.commit(index, rows=pa.Table.from_pylist(rows, schema=columns_), meta=meta, parts={})
            problems += wrong
        index += 1


def _progress(done: int, total: int, tokens: int, problems: int) -> Progress:
    return Progress("project", done, total, tokens, f"{problems} not projected" if problems else "")


def _counting(entries: Projections, counted: Counted) -> Iterator[Projected]:
    for entry in entries:
        counted.add(entry)
        yield entry


def table_columns(probes: Sequence[str]) -> list[str]:
    """Return the columns of the CSV table of turns, without per-token values and metadata."""
    entry = ["number", "id", "where", "status", "reason", "repairs", "turn", "role", "tokens"]
    return [*entry, *(column for name in probes for column in columns(name)), "text"]


def table_rows(entry: Projected) -> Iterator[Mapping[str, Any]]:
    """Yield an entry's rows of the CSV table: one per turn, or one with the reason if not projected."""
    base = entry_row(entry)
    if not entry.turns:
        yield base
    for turn in entry.turns:
        yield base | turn_row(turn)


def _write_table(path: Path, entries: Iterator[Projected], probes: Sequence[str]) -> None:
    """Write all turns as CSV, atomically.

    Raises:
        StoreError: If the file cannot be written.
    """
    tmp = tmp_path(path)
    try:
        with tmp.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, table_columns(probes), restval="")
            writer.writeheader()
            for entry in entries:
                writer.writerows(table_rows(entry))
        sync(tmp)
        tmp.replace(path)
        sync(path.parent)
    except OSError as error:
        raise StoreError(
            f"{path} could not be written: {error.strerror or error}",
            hint="free some space and run the same command again; what was committed is kept",
        ) from error
    finally:
        tmp.unlink(missing_ok=True)
