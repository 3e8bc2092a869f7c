"""Preparation of the server on the Transformers engine: checks, plans, map, monitor, and the model itself."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from personascope import engines, live
from personascope.api._inputs import Tell, as_local, quiet
from personascope.api._layout import RunLayout
from personascope.api._mapped_model import MappedModel
from personascope.api._server_plans import KEY, check_policy, default_of, names_of
from personascope.chat import ChatOptions
from personascope.dynamics.monitor import Monitor
from personascope.engines import PlanBook, PlanStore, TransformersEngine, fits, open_policy
from personascope.errors import EngineError, UsageError
from personascope.interventions import Plan
from personascope.models import cache_root

if TYPE_CHECKING:
    import socket

    from personascope.live import Service

DRAIN = 30.0
"""Default number of seconds that requests under way have at a shutdown."""


@dataclass(frozen=True, slots=True, eq=False)
class LiveServer:
    """A server that is ready to run.

    Attributes:
        url: Address of the server.
        plans: Digest -> plan, for the plans that it was given.
        default_plan: Plan of requests that name none; None for no plan.
        layer: Layer of the positions; None without a map.
    """

    url: str
    plans: Mapping[str, Plan]
    default_plan: Plan | None
    layer: int | None
    _service: Service
    _socket: socket.socket
    _drain: float = field(default=DRAIN)

    def run(self) -> None:
        """Answer requests until a signal ends the server (`live.serve`)."""
        live.serve(self._service, self._socket, drain=self._drain)


def server_engine(engine: str = "auto") -> str:
    """Return the engine of a server: "vllm", or "transformers".

    Raises:
        UsageError: If there is no such engine.
    """
    return engines.bulk_engine(engine)


def own_map(model: str) -> Path | None:
    """Return the run folder in which a model is mapped by default, if it has a map."""
    layout = RunLayout.for_model(model)
    return layout.folder if (layout.map / "map.json").is_file() else None


def open_live_server(
    model: str,
    *,
    plans: Sequence[Plan | Path | str] = (),
    default_plan: str | None = None,
    mapped: MappedModel | None = None,
    layer: int | None = None,
    monitor: Path | str | None = None,
    anyway: bool = False,
    host: str = "127.0.0.1",
    port: int = 8000,
    api_key: str | None = None,
    plan_store: Path | None = None,
    dtype: str = "auto",
    max_batch: int = 64,
    allow_upload: bool = False,
    trust_remote_code: bool = False,
    chat_options: ChatOptions | None = None,
    require_plan: bool = False,
    policy: Path | str | None = None,
    log_texts: bool = False,
    drain: float = DRAIN,
    tell: Tell = quiet,
) -> LiveServer:
    """Check everything, load the model, and return its server on the Transformers engine.

    Args:
        model: Hub id, local folder, GGUF file, or name of an embedded model.
        plans: Plans that requests may name, by name, folder name or digest.
        default_plan: Plan of requests that name none: a name or digest, or "none". By default the plan, if
            exactly one is given.
        mapped: Mapped model, in whose units positions are told and inline plans resolved.
        layer: Layer of the positions; the monitor's or the map's middle layer if not given.
        monitor: File of a drift monitor, or its folder.
        anyway: Continue even if the map found no axis.
        host: Address to listen at.
        port: Port to listen at; 0 for any that is free.
        api_key: Key that clients must send; None for $VLLM_API_KEY, or no key.
        plan_store: Folder of plans and probes by digest; one in the cache if not given.
        dtype: Dtype of the weights.
        max_batch: Maximum number of replies that are generated together.
        allow_upload: Whether to accept uploads of plans without a key.
        trust_remote_code: Whether to run code that comes with the model.
        chat_options: Options of the chat template; those of the map where there is one.
        require_plan: Whether no request may switch the default plan off.
        policy: Policy file, with keys, allowed plans and limits.
        log_texts: Whether the log has the texts of requests and replies.
        drain: Seconds that requests under way have at a shutdown.
        tell: Callback for status messages before slow steps.

    Raises:
        UsageError: If an argument does not fit the others, or the address is taken.
        PersonascopeError: If a plan, map, monitor or model cannot be read, or is of another model.
    """
    if not all(map(find_spec, ("starlette", "uvicorn", "prometheus_client"))):
        raise EngineError(
            "starlette, uvicorn and prometheus-client, which a server needs, are not all installed",
            hint="pip install 'personascope[serve]'",
        )
    sources = [plan if isinstance(plan, Plan) else as_local(plan, ("plan",), tell) for plan in plans]
    given = live.named_plans(sources)
    acting = [plan for plan, _ in given]
    names = dict(names_of(sources, acting))
    chosen = default_of(acting, names, default_plan, require_plan=require_plan)
    rules = open_policy(policy, required=chosen.digest if require_plan and chosen is not None else None)
    check_policy(rules, [*names, *(plan.digest for plan in acting)], api_key)
    if not rules.keys:
        rules = rules.with_key(api_key or os.environ.get(KEY))
    watching = None if monitor is None else Monitor.load(as_local(monitor, ("monitor", "run"), tell))
    if mapped is not None:
        mapped.require_axis(anyway=anyway)
    reader = live.MapReader.of(None if mapped is None else mapped.persona_map, layer, watching)
    positions = reader.positions
    listening = live.open_socket(host, port)
    engine = _engine(model, mapped, dtype, max_batch, trust_remote_code, chat_options, tell)
    store = PlanStore((plan_store or cache_root() / "spool").resolve())
    maker = None
    if mapped is not None:
        tell("reading the map's norms and kept responses ...")
        maker = live.MapPlans(mapped.persona_map, mapped.layout.folder, mapped.norms())
    book = PlanBook(store, fits(engine.info), maker, None if chosen is None else chosen.digest)
    kept = {book.add(plan, name): plan for plan, name in given}
    book.use_default()
    admission = live.Admission(engine.info, engine.info.model_id, book, store, positions, _vocabulary(engine))
    service = live.Service(
        engine, admission, monitor=watching, policy=rules, allow_upload=allow_upload, log_texts=log_texts
    )
    bound = listening.getsockname()
    name = f"[{bound[0]}]" if ":" in bound[0] else bound[0]
    return LiveServer(
        f"http://{name}:{bound[1]}",
        kept,
        book.default,
        None if positions is None else positions.layer,
        service,
        listening,
        drain,
    )


def _vocabulary(engine: TransformersEngine) -> int:
    return int(engine.loaded.model.config.get_text_config(decoder=True).vocab_size)


def _engine(
    model: str,
    mapped: MappedModel | None,
    dtype: str,
    max_batch: int,
    trust: bool,
    chat_options: ChatOptions | None,
    tell: Tell,
) -> TransformersEngine:
    options: dict[str, Any] = {"engine": "transformers", "dtype": dtype, "max_batch": max_batch}
    options |= {"trust_remote_code": True} if trust else {}
    if mapped is None:
        tell(f"loading {model} ...")
        engine = engines.load_engine(model, chat_options=chat_options, **options)
    else:
        mapped.model, mapped.loading = model, options
        engine = mapped.engine
        if chat_options is not None:
            engine = engine.with_chat(chat_options)
            if engine.info.chat_digest != mapped.engine.info.chat_digest:
                raise UsageError(
                    "the options of the chat template are not those that the map was made with",
                    hint="leave --thinking and --template-arg out, or serve without --map",
                )
    if not isinstance(engine, TransformersEngine):
        raise EngineError("the server needs the Transformers engine", hint="give --engine transformers")
    return engine
