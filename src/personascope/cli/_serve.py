"""``personascope serve``: vLLM's API server, with plans and projections per request."""

from __future__ import annotations

from pathlib import Path

import typer

from personascope import api
from personascope.cli._console import err, say
from personascope.cli._options import (
    ANYWAY,
    DTYPE,
    TEMPLATE_ARG,
    THINKING,
    TRUST,
    DtypeName,
    ThinkingName,
)
from personascope.cli._run import open_run
from personascope.text import escape_controls


def serve(
    model: str = typer.Argument(..., help="Hub id, local folder, GGUF file, or an embedded name."),
    extra: list[str] | None = typer.Argument(None, help="After --: more flags of vLLM."),
    plan: list[Path] | None = typer.Option(None, help="Folder of a plan that requests may name, repeatable."),
    map_folder: Path | None = typer.Option(
        None, "--map", help="Run of a map: its axis is registered as a probe."
    ),
    host: str = typer.Option("127.0.0.1", help="Address to listen at; 0.0.0.0 is every one."),
    port: int = typer.Option(8000, min=0, max=65535, help="Port to listen at."),
    api_key: str | None = typer.Option(None, help="Key that clients must send; VLLM_API_KEY does the same."),
    plan_store: Path | None = typer.Option(
        None,
        "--plan-store",
        "--spool",
        help="Folder that keeps plans and probes by digest; one in the cache if not given.",
    ),
    dtype: DtypeName = DTYPE,
    allow_upload: bool = typer.Option(False, help="Take uploads of plans without an API key."),
    trust_remote_code: bool = TRUST,
    thinking: ThinkingName | None = THINKING,
    template_arg: list[str] | None = TEMPLATE_ARG,
    print_command: bool = typer.Option(False, help="Print the command and stop."),
    anyway: bool = ANYWAY,
) -> None:
    """Serve a model by vLLM; every request may name a plan and probes by digest (docs/serving.md)."""
    plans = [api.open_plan(folder) for folder in plan or ()]
    serving = api.prepare_server(
        model,
        plans=plans,
        mapped=None if map_folder is None else open_run(map_folder),
        anyway=anyway,
        host=host,
        port=port,
        api_key=api_key,
        plan_store=plan_store,
        dtype=dtype,
        allow_upload=allow_upload,
        trust_remote_code=trust_remote_code,
        chat_options=api.read_chat_options(thinking, template_arg or ()),
        extra=extra or (),
        tell=say,
    )
    for digest, value in serving.plans.items():
        err.print(f"plan {digest} {value.name}", soft_wrap=True, markup=False)
    for digest, probes in serving.probes.items():
        names = ", ".join(probes.names)
        err.print(f"probes {digest} {names}, layer {probes.layers[0]}", soft_wrap=True, markup=False)
    if print_command:
        typer.echo(escape_controls(str(serving.command)))
        return
    serving.command.execute()
