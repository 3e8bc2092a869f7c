"""Where each turn of conversations lies on the axis."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from personascope.api._inputs import as_plan
from personascope.api._mapped_model import MappedModel
from personascope.directions import parse_probes
from personascope.dynamics import projection
from personascope.dynamics.projection import Counted, Projected
from personascope.engines import check_tokens
from personascope.errors import UsageError
from personascope.interop import Transcript, TranscriptSource, Unreadable
from personascope.interventions import Plan


@dataclass(frozen=True, slots=True, eq=False)
class Projecting:
    """Entries of a source, projected as they are asked for; they can be passed over once.

    Attributes:
        probes: Names of the probes, "axis" first.
        layer: Layer at which the axis is read.
        counted: Counts of the entries that have passed.
        entries: The entries, in the source's order.
    """

    probes: tuple[str, ...]
    layer: int
    counted: Counted
    entries: Iterator[Projected]

    def __iter__(self) -> Iterator[Projected]:
        """Yield the entries, and count them."""
        for entry in self.entries:
            self.counted.add(entry)
            yield entry


def project(
    mapped: MappedModel,
    source: Path | str,
    *,
    probes: Sequence[str] = (),
    layer: int | None = None,
    tokens: bool = False,
    limit: int | None = None,
    max_tokens: int | None = None,
    plan: Plan | Path | str | None = None,
    part: str = "answer",
    out: Path | None = None,
    restart: bool = False,
) -> Projecting:
    """Project every turn of conversations on the Assistant Axis, and on any other direction.

    Args:
        mapped: The mapped model.
        source: File or folder of conversations, or "-" for standard input.
        probes: Further directions (`parse_probes`).
        layer: Layer at which the axis is read; the map's middle layer if not given.
        tokens: Also keep the projection of every token.
        limit: Conversations at most.
        max_tokens: Cut longer conversations to the whole messages that have room; else they are reported.
        plan: Read them under this plan.
        part: Tokens of each turn that are read (`Projector`).
        out: Run folder: all is then projected and written before this returns, and survives a kill.
        restart: Forget the run that is in the folder.

    Raises:
        UsageError: If the source holds no conversation, there is no such probe, layer or part, or a run is to
            be forgotten without a folder.
        EngineError: If the engine fails.
    """
    if restart and out is None:
        raise UsageError("--restart goes with --out", hint="name the run folder by --out")
    check_tokens(part)
    opened = TranscriptSource.open(source)
    acting = as_plan(plan)
    # A source without a conversation is refused before the model is loaded.
    _must_hold_some(opened, limit)
    at = mapped.layer(layer)
    also = parse_probes(mapped.persona_map, probes, at)
    counted = Counted(opened.name, at)
    if out is None:
        projector = projection.Projector(
            mapped.engine,
            mapped.persona_map,
            layer=at,
            probes=also,
            tokens=tokens,
            max_tokens=max_tokens,
            plan=acting,
            part=part,
        )
        names = tuple(named.name for named in projector.probes)
        read = enumerate(opened.read(limit=limit))
        return Projecting(names, at, counted, (projector.project(entry, number) for number, entry in read))
    run = projection.run_projection(
        mapped.engine,
        mapped.persona_map,
        opened,
        out=out,
        layer=at,
        probes=also,
        tokens=tokens,
        limit=limit,
        max_tokens=max_tokens,
        plan=acting,
        part=part,
        progress=mapped.progress,
        restart=restart,
        command=mapped.command,
    )
    return Projecting(tuple(run.probes), at, counted, iter(run))


def _must_hold_some(opened: TranscriptSource, limit: int | None) -> None:
    """Raise if nothing in a source is a conversation.

    Raises:
        UsageError: With the first reason.
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
