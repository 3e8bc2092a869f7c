"""Serve a model with plans and probes, as a process beside the notebook."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx

from personascope import api
from personascope.api.notebook._model import Model
from personascope.api.notebook._open import MapLike, as_map
from personascope.api.notebook._status import say
from personascope.engines import ServeCommand
from personascope.errors import EngineError, UsageError
from personascope.interventions import Plan


class Server:
    """A vLLM server that runs beside this process; `serve` starts one.

    Use it as a context manager, or call `stop`.

    Attributes:
        command: Command of the server; ``str`` of it is for a shell.
        url: Base URL for OpenAI's clients.
        plans: Digest -> plan, for the plans that requests may name.
        probes: Digests of the probe sets that requests may name.
    """

    def __init__(
        self, command: ServeCommand, url: str, *, plans: Mapping[str, Plan] = {}, probes: Sequence[str] = ()
    ) -> None:
        """Prepare a server without starting it."""
        self.command = command
        self.url = url
        self.plans = dict(plans)
        self.probes = tuple(probes)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> Server:
        """Start the server, which prints on this process's standard error; return at once."""
        if not self.running:
            self._process = subprocess.Popen(
                list(self.command.argv),
                env={**os.environ, **self.command.environment},
                stdin=subprocess.DEVNULL,
            )
        return self

    @property
    def running(self) -> bool:
        """Whether the process runs; it may not answer yet."""
        return self._process is not None and self._process.poll() is None

    def wait(self, seconds: float = 600.0) -> Server:
        """Wait until the server answers.

        Raises:
            EngineError: If it ends before, or does not answer in time.
        """
        health = self.url.removesuffix("/v1") + "/health"
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if not self.running:
                code = None if self._process is None else self._process.returncode
                raise EngineError(f"the server ended with code {code}", hint="its reason stands above")
            try:
                if httpx.get(health, timeout=2.0).status_code == 200:
                    return self
            except httpx.HTTPError:
                # Nobody listens yet.
                pass
            time.sleep(0.2)
        raise EngineError(
            f"{self.url} does not answer after {seconds:g} s", hint="wait longer, or look above"
        )

    def body(self, plan: Plan | str | None = None, *, probes: bool = False) -> dict[str, Any]:
        """Return the ``extra_body`` of a request that is to run under a plan, or read the axis.

        Args:
            plan: Plan of the server, or its digest; None for none.
            probes: Whether to read the map's axis for every token.

        Raises:
            UsageError: If the server has no such plan, or no probes.
        """
        digest = plan.digest if isinstance(plan, Plan) else plan
        if digest is not None and digest not in self.plans:
            raise UsageError(f"the server has no plan {digest[:12]}", hint="name it in plans= of serve")
        if probes and not self.probes:
            raise UsageError("the server has no probes", hint="give serve a map")
        field = {} if digest is None else {"plan": digest}
        return {"personascope": field | ({"probes": self.probes[0]} if probes else {})}

    def stop(self, seconds: float = 60.0) -> None:
        """Stop the server, and wait until it has ended; one that does not end in time is killed."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def __enter__(self) -> Server:
        """Return the server."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop the server."""
        self.stop()

    def __repr__(self) -> str:
        """Return address, state and plans on one line."""
        state = "running" if self.running else "not running"
        return f"Server({self.url}, {state}; {len(self.plans)} plans)"


def serve(
    model: Model | Path | str,
    pmap: MapLike | None = None,
    plans: Sequence[Plan | Path | str] = (),
    *,
    port: int = 8000,
    host: str = "127.0.0.1",
    api_key: str | None = None,
    start: bool = True,
    dtype: str = "auto",
    allow_upload: bool = False,
    plan_store: Path | str | None = None,
    extra: Sequence[str] = (),
) -> Server:
    """Serve a model by vLLM, with plans and the map's axis that each request may name (docs/serving.md).

    The server loads the model anew in a process of its own. ``wait`` returns when it answers.

    Args:
        model: Name of the model, or a loaded model, whose name is taken.
        pmap: Map, or its run folder, whose axis is registered as a probe.
        plans: Plans that requests may name.
        port: Port to listen at.
        host: Address to listen at.
        api_key: Key that clients must send.
        start: Whether to start the server; if not, ``.command`` is how to, and ``.start()`` does.
        dtype: Dtype of the weights.
        allow_upload: Whether to accept uploads of plans without a key.
        plan_store: Folder of plans and probes by digest; one in the cache if not given.
        extra: Further flags of vLLM.

    Raises:
        EngineError: If vLLM is not installed, or the map is of another model.
        InterventionError: If a plan is of another model.
        UsageError: If the model is only in this process's memory.
    """
    if isinstance(model, Model) and model.in_memory:
        raise UsageError(
            f"{model.name} is in this process's memory, and a server reads files",
            hint="give its name or folder",
        )
    name = model.name if isinstance(model, Model) else str(model)
    opened = None if pmap is None else as_map(pmap)
    serving = api.prepare_server(
        name,
        plans=plans,
        mapped=None if opened is None else opened.mapped(),
        anyway=opened is not None and opened.anyway,
        host=host,
        port=port,
        api_key=api_key,
        plan_store=plan_store,
        dtype=dtype,
        allow_upload=allow_upload,
        extra=extra,
        tell=say,
    )
    server = Server(
        serving.command, f"http://{host}:{port}/v1", plans=serving.plans, probes=tuple(serving.probes)
    )
    return server.start() if start else server
