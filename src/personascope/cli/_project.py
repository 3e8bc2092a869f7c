"""``personascope project``: where each turn of conversations lies on the axis."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterator
from enum import StrEnum
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from personascope import api
from personascope.cli._console import PARTLY, err, out, say
from personascope.cli._estimate import print_estimate
from personascope.cli._grid import grid
from personascope.cli._json import ask_for_json
from personascope.cli._options import DRY_RUN, DTYPE, LAYER, MODEL, RESTART, DtypeName
from personascope.cli._run import open_run
from personascope.errors import UsageError
from personascope.text import escape_controls, escape_controls_in_json

if TYPE_CHECKING:
    from personascope.dynamics.projection import Counted, Projected


_LISTED = 20
FEW_TOKENS = 20
"""Number of tokens below which a turn's mean is said to be noisy."""
_CSV_ENTRY = ("number", "id", "where", "status", "reason", "repairs")


class Form(StrEnum):
    """Output formats."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"
    JSONL = "jsonl"


def project(
    map_folder: Path = typer.Argument(
        ..., metavar="RUN", help="Run folder or map folder, or hub:owner/name."
    ),
    source: str = typer.Argument(
        ...,
        help="File of conversations (JSON, JSONL, Parquet, a log of Inspect, or text with 'User:' and "
        "'Assistant:' turns), folder of such files, or - for standard input.",
    ),
    probe: list[str] | None = typer.Option(
        None, help="Beside the axis: pc1, role:NAME, trait:NAME, [NAME=]FILE, axis@LAYER; may be given again."
    ),
    model: str | None = MODEL,
    layer: int | None = LAYER,
    tokens: bool = typer.Option(
        False, "--tokens", help="Keep the projection of every token (json, jsonl, --out)."
    ),
    part: str = typer.Option(
        "answer", help="Tokens of each turn that are read: answer, thinking, response, prompt or turn:N."
    ),
    form: Form = typer.Option(Form.TABLE, "--format", help="Form of the output."),
    as_json: bool = typer.Option(False, "--json", help="The same as --format json."),
    out_folder: Path | None = typer.Option(
        None, "--out", help="Run folder: what is done survives a kill, the same command goes on."
    ),
    limit: int | None = typer.Option(None, min=1, help="Conversations at most."),
    max_tokens: int | None = typer.Option(
        None,
        min=1,
        help="Cut longer conversations to the whole messages that have room; else they are reported.",
    ),
    plan: Path | None = typer.Option(None, help="Read them under this plan."),
    restart: bool = RESTART,
    dtype: DtypeName = DTYPE,
    dry_run: bool = DRY_RUN,
) -> None:
    """Project every turn of conversations on the Assistant Axis, and on any other direction."""
    form = Form.JSON if as_json else form
    if tokens and out_folder is None and form in (Form.TABLE, Form.CSV):
        raise UsageError(
            f"--tokens has no place in --format {form}", hint="take --format json or jsonl, or --out FOLDER"
        )
    work = api.project.prepare(
        open_run(map_folder, model=model, dtype=dtype),
        source,
        probes=probe or (),
        layer=layer,
        tokens=tokens,
        limit=limit,
        max_tokens=max_tokens,
        plan=plan,
        part=part,
        out=out_folder,
        restart=restart,
    )
    if dry_run:
        if form is Form.JSON:
            ask_for_json()
        print_estimate(work.estimate)
        return
    found = work.run()
    _write(iter(found), found.counted, form, list(found.probes), tokens=tokens)
    if out_folder is not None:
        err.print(f"written to {out_folder}", markup=False, soft_wrap=True)
    if found.counted.wrong:
        _say_problems(found.counted)
        raise typer.Exit(PARTLY)


def _write(
    entries: Iterator[Projected], counted: Counted, form: Form, names: list[str], *, tokens: bool
) -> None:
    """Write projected entries as they arrive."""
    from personascope.dynamics import projection

    head = list(islice(entries, 2))
    alone = len(head) == 1 and head[0].status == "projected"
    passing = chain(head, entries)
    if form is Form.CSV:
        left_out = _CSV_ENTRY if alone else ()
        columns = [column for column in projection.table_columns(names) if column not in left_out]
        writer = csv.DictWriter(_Cells(), columns, restval="", extrasaction="ignore")
        writer.writeheader()
        for entry in passing:
            writer.writerows(projection.table_rows(entry))
    elif form is Form.JSONL:
        for entry in passing:
            _dump(_as_json(entry, counted.layer, tokens=tokens), indent=None)
            sys.stdout.write("\n")
    elif form is Form.JSON and alone:
        (entry,) = passing
        _dump(_as_json(entry, counted.layer, tokens=tokens))
        sys.stdout.write("\n")
    elif form is Form.JSON:
        for number, entry in enumerate(passing):
            sys.stdout.write(",\n" if number else f'{{"layer": {counted.layer}, "conversations": [\n')
            _dump(_as_json(entry, counted.layer, tokens=tokens))
        sys.stdout.write("]}\n")
    elif alone:
        (entry,) = passing
        _print_turns(entry, names, counted.layer)
    else:
        for _ in passing:
            pass
        _print_summary(counted)


def _dump(value: Any, *, indent: int | None = 1) -> None:
    text = json.dumps(value, indent=indent, ensure_ascii=False, default=str)
    # Escaped, a lone surrogate can be written, and an escape sequence has no effect on a terminal.
    sys.stdout.write(escape_controls_in_json(text))


class _Cells:
    """Standard output for CSV: verbatim to a file, with control characters escaped on a terminal."""

    def write(self, text: str) -> int:
        """Write a row."""
        return sys.stdout.write(escape_controls(text) if sys.stdout.isatty() else text)


def _as_json(entry: Projected, layer: int, *, tokens: bool) -> dict[str, Any]:
    from personascope.dynamics import projection

    said = {"id": entry.id, "where": entry.where, "status": entry.status, "reason": entry.reason}
    turns = [
        projection.turn_row(turn) | (projection.token_values(turn) if tokens else {}) for turn in entry.turns
    ]
    metadata = dict(entry.metadata)
    return {**said, "repairs": entry.repairs, "metadata": metadata, "layer": layer, "turns": turns}


def _print_turns(entry: Projected, names: list[str], layer: int) -> None:
    """Print one conversation as a table, one row per turn."""
    from personascope.dynamics import projection

    skipped = ("number", "id", "where", "status", "reason", "repairs")
    columns = [column for column in projection.table_columns(names) if column not in skipped]
    table = grid(
        f"Projection at layer {layer}; position 0 is the mean role, 1 the default Assistant",
        *(column.replace("_", " ") for column in columns),
        words=("role", "text"),
    )
    for turn in entry.turns:
        row = projection.turn_row(turn)
        table.add_row(*(_cell(column, row[column]) for column in columns))
    out.print(table)
    few = [str(turn.turn) for turn in entry.turns if 0 < turn.token_count < FEW_TOKENS]
    if few:
        say(
            f"turns of fewer than {FEW_TOKENS} tokens ({', '.join(few)}) are means over few: their places "
            "are noisy, and those of a user are not comparable with replies"
        )
    if entry.repairs:
        err.print(f"repairs: {entry.repairs}", markup=False, soft_wrap=True)


def _cell(column: str, value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.0f}" if column.endswith("percentile") else f"{value:+.3f}"
    return str(value).replace("\n", " ")[:60].replace("[", "\\[")


def _print_summary(counted: Counted) -> None:
    """Print the summary of many conversations, and the replies lowest on the axis."""
    found = counted.summary()
    mean = found["reply_position"]
    out.print(
        f"{found['projected']} conversations of {found['entries']} entries, {found['turns']} turns, "
        f"{found['tokens']:,} tokens at layer {counted.layer}"
        + (f"; {found['repairs']} repaired" if found["repairs"] else "")
    )
    if mean["estimate"] is not None:
        limits = "" if mean["low"] is None else f" [{mean['low']:+.3f}, {mean['high']:+.3f}]"
        out.print(
            f"mean position of {mean['n']} replies in {mean['n_clusters']} conversations: "
            f"{mean['estimate']:+.3f}{limits} (0 is the mean role, 1 the default Assistant)",
            markup=False,
        )
    table = grid(
        f"The {len(counted.lowest)} lowest replies",
        *("conversation", "turn", "position", "percentile", "text"),
        words=("conversation", "text"),
    )
    for low in counted.lowest:
        table.add_row(
            _cell("id", low.id),
            str(low.turn),
            _cell("position", low.position),
            _cell("percentile", low.percentile),
            _cell("text", low.text),
        )
    if counted.lowest:
        out.print(table)


def _say_problems(counted: Counted) -> None:
    kinds = ", ".join(f"{n} {kind}" for kind, n in sorted(counted.status.items()) if kind != "projected")
    err.print(f"[yellow]not projected:[/] {kinds}")
    for where, status, reason in counted.problems[:_LISTED]:
        err.print(f"  {where}: {status}: {reason}", markup=False, soft_wrap=True)
    if counted.wrong > _LISTED:
        err.print(f"  and {counted.wrong - _LISTED} more; --out or --format jsonl lists them all")
