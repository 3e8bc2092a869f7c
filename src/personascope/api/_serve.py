"""Preparation of a vLLM server: its command, and the store of plans and probes that it reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from personascope import engines, live, models
from personascope.api._chat_options import options_of_map
from personascope.api._inputs import Tell, as_folder, as_local, open_plan, quiet
from personascope.api._mapped_model import MappedModel
from personascope.api._server_plans import check_policy, default_of, names_of
from personascope.chat import ChatFormat, ChatOptions
from personascope.dynamics.monitor import Monitor
from personascope.engines import PlanStore, Probe, ProbeSet, ServeCommand, ServerOptions
from personascope.errors import EngineError, UsageError
from personascope.identity import ModelIdentity
from personascope.interventions import Plan
from personascope.models import ModelFiles, cache_root
from personascope.space import PersonaMap

MAKER = "personascope.live:open_maker"
"""Maker of inline plans, which vLLM's server loads by name."""

READER = "personascope.live:open_reader"
"""Reader of the map and the page, which vLLM's server loads by name."""


@dataclass(frozen=True, slots=True, eq=False)
class Serving:
    """A prepared server.

    Attributes:
        command: Command of the server; ``execute`` replaces this process by it.
        plans: Digest -> plan, for the plans that requests may name.
        probes: Digest -> probe set, with the map's axis.
    """

    command: ServeCommand
    plans: Mapping[str, Plan]
    probes: Mapping[str, ProbeSet]


def prepare_server(
    model: str,
    *,
    plans: Sequence[Plan | Path | str] = (),
    mapped: MappedModel | None = None,
    anyway: bool = False,
    host: str = "127.0.0.1",
    port: int = 8000,
    api_key: str | None = None,
    plan_store: Path | str | None = None,
    dtype: str = "auto",
    allow_upload: bool = False,
    trust_remote_code: bool = False,
    chat_options: ChatOptions | None = None,
    default_plan: str | None = None,
    require_plan: bool = False,
    policy: Path | str | None = None,
    log_texts: bool = False,
    drain: float | None = None,
    layer: int | None = None,
    monitor: Path | str | None = None,
    extra: Sequence[str] = (),
    tell: Tell = quiet,
) -> Serving:
    """Check plans and map against a model, store them for its server, and return the server's command.

    Args:
        model: Hub id, local folder, GGUF file, or name of an embedded model.
        plans: Plans that requests may name.
        mapped: Mapped model whose axis is registered as a probe.
        anyway: Continue even if the map found no axis.
        host: Address to listen at.
        port: Port to listen at.
        api_key: Key that clients must send.
        plan_store: Folder of plans and probes by digest; one in the cache if not given.
        dtype: Dtype of the weights.
        allow_upload: Whether to accept uploads of plans without a key.
        trust_remote_code: Whether to run code that comes with the model.
        chat_options: Options of the chat template; those of the map where there is one.
        default_plan: Plan of requests that name none, as for `open_live_server`.
        require_plan: Whether no request may switch that plan off.
        policy: Policy file.
        log_texts: Whether the log has the texts of requests and replies.
        drain: Seconds that requests under way have at a shutdown; none if not given.
        layer: Layer of the positions; the monitor's or the map's middle layer if not given.
        monitor: File of a drift monitor, or its folder.
        extra: Further flags of vLLM.
        tell: Callback for status messages before slow steps.

    Raises:
        EngineError: If vLLM is not installed, or the map is of another model.
        InterventionError: If a plan is of another model.
        ModelError: If the model cannot be read.
        SpaceError: If the map found no axis.
        UsageError: If options are given and the model has no chat template, or default plan or policy do not
            fit the plans.
    """
    acting = [open_plan(plan) for plan in plans]
    names = dict(names_of(plans, acting))
    default = default_of(acting, names, default_plan, require_plan=require_plan)
    server = ServerOptions(
        names=names,
        default_plan=None if default is None else default.digest,
        require_plan=require_plan,
        policy=None if policy is None else str(Path(policy).resolve()),
        maker=None if mapped is None else MAKER,
        maker_args=[]
        if mapped is None
        else [str(Path(mapped.persona_map.folder).resolve()), str(mapped.layout.folder.resolve())],
        log_texts=log_texts,
        reader=READER,
        reader_args=_reader_args(mapped, layer, monitor, tell),
    )
    check_policy(server.read_policy(), [*names, *(plan.digest for plan in acting)], api_key)
    if mapped is not None:
        mapped.require_axis(anyway=anyway)
    tell(f"reading {model} ...")
    files = models.open_files(model, trust_remote_code=trust_remote_code)
    if chat_options is not None and not isinstance(files.chat, ChatFormat):
        raise UsageError(
            f"{files.model_id} has no chat template, so that nothing of it can be set",
            hint="leave --thinking and --template-arg out",
        )
    options = chat_options
    if options is None and mapped is not None:
        options = options_of_map(mapped.persona_map.model)
    if options is not None and isinstance(files.chat, ChatFormat):
        # The server writes the current date, because vLLM's templates cannot be given another.
        files = replace(files, chat=files.chat.with_options(replace(options, today=None)))
    kept = PlanStore(as_folder(plan_store, cache_root() / "spool").resolve())
    command = engines.serve_command(
        files,
        store=str(kept.folder),
        dtype=engines.native_dtype() if dtype == "auto" else dtype,
        host=host,
        port=port,
        api_key=api_key,
        allow_upload=allow_upload,
        same_chat=mapped is not None,
        server=server,
        drain=drain,
        extra=[*(("--trust-remote-code",) if trust_remote_code else ()), *extra],
    )
    for value in acting:
        value.check_model(
            model_id=files.model_id, revision=files.revision, n_layers=files.n_layers, d_model=files.d_model
        )
    probes = () if mapped is None else (axis_probes(mapped.persona_map, files),)
    return Serving(
        command,
        {kept.put(value): value for value in acting},
        {kept.put(value): value for value in probes},
    )


def _reader_args(
    mapped: MappedModel | None, layer: int | None, monitor: Path | str | None, tell: Tell
) -> list[str]:
    """Return what the server's reader of the map gets, after checking that it fits together."""
    watching = None if monitor is None else as_local(monitor, ("monitor", "run"), tell)
    persona_map = None if mapped is None else mapped.persona_map
    live.MapReader.of(persona_map, layer, None if watching is None else Monitor.load(watching))
    if persona_map is None:
        return []
    folder = str(Path(persona_map.folder).resolve())
    return [
        folder,
        "" if layer is None else str(layer),
        "" if watching is None else str(Path(watching).resolve()),
    ]


def axis_probes(persona_map: PersonaMap, files: ModelFiles) -> ProbeSet:
    """Return the unit axis of a map at its middle layer as a probe set.

    Raises:
        EngineError: If the map is of another model, or was made with another chat template.
    """
    persona_map.model.identity.require_same(
        ModelIdentity(files.model_id, files.revision, files.n_layers, files.d_model),
        f"the map in {persona_map.folder}",
        error=EngineError,
        hint="serve the model that the map was made with, or map this one",
    )
    mine = persona_map.model.chat_digest
    chat = files.chat.digest if files.chat else mine
    if mine != chat:
        raise EngineError(
            f"the map in {persona_map.folder} was made with the chat template {mine[:12]}, "
            f"{files.model_id} has {chat[:12]}",
            hint="serve the files and template options that the map was made with, or map this model anew",
        )
    middle = persona_map.middle_layer
    return ProbeSet.of((Probe("axis", middle, persona_map.unit_axis(middle)),))
