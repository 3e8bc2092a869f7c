"""``personascope evaluate``: what a plan does, with its controls."""

from __future__ import annotations

import typer

from personascope.cli._evaluate_capability import capability
from personascope.cli._evaluate_harm import harm
from personascope.cli._evaluate_plans import coherence, jailbreak, pretrained, susceptibility

app = typer.Typer(help="Measure what a plan does, with its controls.", no_args_is_help=True)

for command in (susceptibility, jailbreak, harm, pretrained, coherence, capability):
    app.command()(command)
