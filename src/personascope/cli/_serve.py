"""``personascope serve``: an OpenAI-compatible server with plans and positions per request."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import typer

from personascope import api
from personascope.cli._console import err, say
from personascope.cli._options import (
    ANYWAY,
    DTYPE,
    ENGINE,
    TEMPLATE_ARG,
    THINKING,
    TRUST,
    DtypeName,
    EngineName,
    ThinkingName,
    finite,
)
from personascope.cli._run import open_run
from personascope.errors import UsageError
from personascope.text import escape_controls

_ALONE = "(not with vLLM)"


def serve(
    model: str = typer.Argument(..., help="Hub id, local folder, GGUF file, or an embedded name."),
    extra: list[str] | None = typer.Argument(None, help="After --: more flags of vLLM."),
    engine: EngineName = ENGINE,
    plan: list[Path] | None = typer.Option(None, help="Folder of a plan that requests may name, repeatable."),
    default_plan: str | None = typer.Option(
        None, help="Plan of requests that name none, or none; the plan, if there is one."
    ),
    require_plan: bool = typer.Option(False, help="Let no request switch the default plan off."),
    policy: Path | None = typer.Option(None, help="File of keys, allowed plans and limits (docs/policy.md)."),
    map_folder: Path | None = typer.Option(
        None,
        "--map",
        help="Run of a map: positions are told in its units, its axis is registered as a probe.",
    ),
    layer: int | None = typer.Option(
        None, min=0, help="Layer of the positions; the map's middle layer if not given."
    ),
    monitor: Path | None = typer.Option(None, help="File of a drift monitor for the page."),
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
    max_batch: int = typer.Option(
        64, min=1, max=2**16, help=f"Replies that are generated side by side. {_ALONE}"
    ),
    drain: float = typer.Option(
        30.0, min=0.0, max=1e6, callback=finite, help="Seconds that requests have to end at a shutdown."
    ),
    log_texts: bool = typer.Option(False, help="Log the texts of requests and replies, too."),
    allow_upload: bool = typer.Option(False, help="Take uploads of plans without an API key."),
    trust_remote_code: bool = TRUST,
    thinking: ThinkingName | None = THINKING,
    template_arg: list[str] | None = TEMPLATE_ARG,
    print_command: bool = typer.Option(False, help="Print the command of vLLM and stop."),
    anyway: bool = ANYWAY,
) -> None:
    """Serve a model, with its page; every request may name a plan (docs/live.md; by vLLM docs/serving.md)."""
    shared: dict[str, Any] = {
        "anyway": anyway,
        "host": host,
        "port": port,
        "api_key": api_key,
        "plan_store": plan_store,
        "dtype": dtype,
        "allow_upload": allow_upload,
        "trust_remote_code": trust_remote_code,
        "default_plan": default_plan,
        "require_plan": require_plan,
        "policy": policy,
        "log_texts": log_texts,
        "drain": drain,
        "layer": layer,
        "monitor": monitor,
        "chat_options": api.read_chat_options(thinking, template_arg or ()),
        "tell": say,
    }
    by_vllm = print_command or api.server_engine(engine) == "vllm"
    if extra and not by_vllm:
        raise UsageError(f"{extra[0]} is for vLLM", hint="leave out what follows --")
    found = map_folder or api.own_map(model)
    if found is None:
        say("no map: replies carry no positions. `personascope map` makes one, --map names it")
    elif map_folder is None:
        say(f"the map is {found}")
    mapped = None if found is None else open_run(found)
    if by_vllm:
        _by_vllm(model, plan or (), mapped, extra or [], print_command, shared)
        return
    server = api.open_live_server(
        model,
        plans=plan or (),
        mapped=mapped,
        max_batch=max_batch,
        **shared,
    )
    for digest, value in server.plans.items():
        err.print(f"plan {digest} {value.name}", soft_wrap=True, markup=False)
    if server.default_plan is not None:
        say(f"requests that name no plan run under {server.default_plan.name or server.default_plan.digest}")
    if server.layer is not None:
        say(f"positions are of layer {server.layer}")
    typer.echo(f"{server.url} (the page is there; the API is {server.url}/v1)")
    server.run()


def _by_vllm(
    model: str,
    plans: Sequence[Path],
    mapped: Any,
    extra: list[str],
    print_command: bool,
    shared: dict[str, Any],
) -> None:
    serving = api.prepare_server(model, plans=plans, mapped=mapped, extra=extra, **shared)
    for digest, value in serving.plans.items():
        err.print(f"plan {digest} {value.name}", soft_wrap=True, markup=False)
    for digest, probes in serving.probes.items():
        names = ", ".join(probes.names)
        err.print(f"probes {digest} {names}, layer {probes.layers[0]}", soft_wrap=True, markup=False)
    if print_command:
        typer.echo(escape_controls(str(serving.command)))
        return
    serving.command.execute()
