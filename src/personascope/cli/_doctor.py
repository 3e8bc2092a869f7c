"""``personascope doctor``: what is installed and what each engine can do, or how a model runs here."""

from __future__ import annotations

import typer
from rich.markup import escape

from personascope import api
from personascope.cli._console import out, say
from personascope.cli._grid import grid
from personascope.cli._options import DTYPE, TRUST, DtypeName


def doctor(
    model: str | None = typer.Option(
        None, help="Check instead that this model runs here as its own library runs it; under a minute."
    ),
    dtype: DtypeName = DTYPE,
    device: str | None = typer.Option(None, help="cpu, cuda, cuda:1, ...; the first GPU if there is one."),
    transcript: bool = typer.Option(False, help="Check a base model with plain transcripts."),
    trust_remote_code: bool = TRUST,
) -> None:
    """Check the installation, or with --model whether a model runs as it should; exit code 1 if not."""
    if model is not None:
        say(f"comparing every operation of {model} with its own library")
        checks = api.check_model(
            model, dtype=dtype, device=device, transcript=transcript, trust_remote_code=trust_remote_code
        )
        table = grid("", "operation", "outcome", "seen", words=("operation", "outcome", "seen"))
        for check in checks:
            colour = "green" if check.outcome == "SUPPORTED" else "red"
            table.add_row(check.operation, f"[{colour}]{check.outcome}[/]", escape(check.detail))
        out.print(table)
        if any(check.outcome != "SUPPORTED" for check in checks):
            raise typer.Exit(1)
        return

    say("looking at the installation and the converted models ...")
    findings = api.check_installation()
    table = grid("", "what", "found", "verdict", words=("what", "found", "verdict"))
    for one in findings:
        verdict = f"[red]{escape(one.verdict)}[/]" if one.broken else escape(one.verdict)
        table.add_row(one.what, one.found, verdict)
    out.print(table)
    support = api.engine_support()
    columns = ("can do", *support[0].levels)
    engines = grid("engines (docs/engines.md)", *columns, words=columns)
    for row in support:
        engines.add_row(row.capability, *row.levels.values())
    out.print(engines)
    if any(one.broken for one in findings):
        raise typer.Exit(1)
