"""Projection of conversations on the axis, turn by turn."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from personascope.api._estimate import Prepared, WorkEstimate, estimable, resumed_remark, written
from personascope.api._inputs import as_plan
from personascope.api._mapped_model import MappedModel
from personascope.directions import NamedProbe, parse_probes
from personascope.dynamics import projection
from personascope.dynamics.projection import Counted, Projected
from personascope.engines import check_tokens
from personascope.errors import UsageError
from personascope.interop import Transcript, TranscriptSource, Unreadable
from personascope.interventions import Plan


@dataclass(frozen=True, slots=True, eq=False)
class Projecting:
    """Entries of a source that are projected during iteration; iterate only once.

    Attributes:
        probes: Names of the probes, "axis" first.
        layer: Layer at which the axis is read.
        counted: Summary of the entries iterated so far.
        entries: Iterator of the projected entries, in the source's order.
    """

    probes: tuple[str, ...]
    layer: int
    counted: Counted
    entries: Iterator[Projected]

    def __iter__(self) -> Iterator[Projected]:
        """Yield the entries, and add them to the summary."""
        for entry in self.entries:
            self.counted.add(entry)
            yield entry


@estimable
def project(
    mapped: MappedModel,
    source: Path | str | TranscriptSource,
    *,
    probes: Sequence[str | NamedProbe] = (),
    layer: int | None = None,
    tokens: bool = False,
    limit: int | None = None,
    max_tokens: int | None = None,
    plan: Plan | Path | str | None = None,
    part: str = "answer",
    out: Path | str | None = None,
    restart: bool = False,
) -> Prepared[Projecting]:
    """Project every turn of conversations on the Assistant Axis, and on any other direction.

    Args:
        mapped: Mapped model.
        source: File or folder of conversations, "-" for standard input, or a source that is opened already.
        probes: Further directions, or their names (`parse_probes`).
        layer: Layer at which the axis is read; the map's middle layer if not given.
        tokens: Whether to keep the projection of every token too.
        limit: Maximum number of conversations.
        max_tokens: Longest conversation in tokens; longer ones are cut to the leading whole messages that
            fit. None cuts nothing and reports those beyond the model's context.
        plan: Plan applied while the conversations are read.
        part: Tokens of each turn that are read (`Projector`).
        out: Run folder. If given, everything is projected and written to it before this returns, and an
            interrupted run can be resumed.
        restart: Discard the run that is already in the folder.

    Raises:
        UsageError: If the source holds no conversation, there is no such probe, layer or part, or
            ``restart`` is given without a folder.
        EngineError: If the engine fails.
    """
    if restart and out is None:
        raise UsageError("--restart goes with --out", hint="name the run folder by --out")
    check_tokens(part)
    opened = source if isinstance(source, TranscriptSource) else TranscriptSource.open(source)
    acting = as_plan(plan)
    # Refuse a source without a conversation before the model is loaded.
    _must_hold_some(opened, limit)
    at = mapped.layer(layer)
    also = parse_probes(mapped.persona_map, probes, at)
    options: dict[str, Any] = {
        "layer": at,
        "probes": also,
        "tokens": tokens,
        "max_tokens": max_tokens,
        "plan": acting,
        "part": part,
    }

    def estimate() -> WorkEstimate:
        step = projection.estimate_projection(
            mapped.engine, mapped.persona_map, opened, limit=limit, **options
        )
        if out is None:
            return WorkEstimate("projection", (step,), ())
        files = written(Path(out), ("manifest.json", "units", projection.TABLE, projection.SUMMARY))
        return WorkEstimate("projection", (step,), files, resumed_remark(Path(out)))

    def run() -> Projecting:
        counted = Counted(opened.name, at)
        if out is None:
            projector = projection.Projector(mapped.engine, mapped.persona_map, **options)
            names = tuple(named.name for named in projector.probes)
            read = enumerate(opened.read(limit=limit))
            entries = (projector.project(entry, number) for number, entry in read)
            return Projecting(names, at, counted, entries)
        done = projection.run_projection(
            mapped.engine,
            mapped.persona_map,
            opened,
            out=out,
            limit=limit,
            progress=mapped.progress,
            restart=restart,
            command=mapped.command,
            **options,
        )
        return Projecting(tuple(done.probes), at, counted, iter(done))

    return Prepared(estimate, run)


def _must_hold_some(opened: TranscriptSource, limit: int | None) -> None:
    """Check that a source holds at least one conversation.

    Raises:
        UsageError: If it holds none; the message gives the first entry's problem.
    """
    problems = 0
    first: Unreadable | None = None
    for entry in opened.read(limit=limit):
        if isinstance(entry, Transcript):
            return
        first = first or entry
        problems += 1
    more = f" ({problems - 1} more entries are none either)" if problems > 1 else ""
    what = f"{first.where}: {first.reason}" if first else f"{opened.name} is empty"
    raise UsageError(
        f"{what}{more}", hint='give [{"role": "user", "content": "..."}, ...], one conversation or many'
    )
