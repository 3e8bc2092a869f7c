"""The plugin's part of vLLM's ``additional_config``, and the features it cannot be combined with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from typing import Any

from personascope.engines._capabilities import unsupported
from personascope.engines._vllm.request._limits import Limits
from personascope.engines._vllm.request._spec import FIELD
from personascope.errors import EngineError
from personascope.models import read_tokenizer


@dataclass(frozen=True, slots=True)
class PluginConfig:
    """Configuration with which the plugin was started.

    Attributes:
        store: Folder of plans and probes; ``spool`` in the additional config.
        layers: Layers that are instrumented; None for all.
        model_id: Name of the model, which plans are checked against.
        revision: Revision of the model, which plans are checked against.
        flavour: "dynamic" processes only the affected tokens, with tables that grow. "static" is for CUDA
            graphs, with tables of fixed size and one Triton kernel per layer. "auto" is static if graphs
            are recorded.
        limits: Sizes of the static flavour's tables.
        allow_upload: Whether plans may be uploaded over HTTP to a server that has no API key.
    """

    store: str
    layers: frozenset[int] | None = None
    model_id: str = ""
    revision: str = ""
    flavour: str = "auto"
    limits: Limits = field(default_factory=Limits)
    allow_upload: bool = False

    def additional_config(self) -> dict[str, Any]:
        """Return the value of vLLM's ``additional_config``, which is part of the compile cache's key."""
        value: dict[str, Any] = {"spool": self.store, "model_id": self.model_id, "revision": self.revision}
        if self.flavour != "auto":
            value["flavour"] = self.flavour
        if self.limits != Limits():
            value["limits"] = asdict(self.limits)
        if self.layers is not None:
            value["layers"] = sorted(self.layers)
        if self.allow_upload:
            value["allow_upload"] = True
        return {FIELD: value}

    @classmethod
    def of(cls, vllm_config: Any) -> PluginConfig:
        """Read the plugin's configuration from vLLM's config.

        Raises:
            EngineError: If it is missing or malformed.
        """
        hint = f'start vLLM with --additional-config \'{{"{FIELD}": {{"spool": "FOLDER"}}}}\''
        value = (vllm_config.additional_config or {}).get(FIELD)
        if not isinstance(value, Mapping) or not isinstance(value.get("spool"), str):
            raise EngineError(f"additional_config has no {FIELD} with a spool folder", hint=hint)
        known = {"spool", "layers", "model_id", "revision", "flavour", "limits", "allow_upload"}
        unknown = sorted(set(value) - known)
        if unknown:
            raise EngineError(f"additional_config has an unknown {FIELD} field {unknown[0]!r}", hint=hint)
        layers = value.get("layers")
        if layers is not None and not (
            layers and all(isinstance(layer, int) and layer >= 0 for layer in layers)
        ):
            raise EngineError(f"additional_config has {FIELD} layers {layers!r}", hint="give block indices")
        flavour = value.get("flavour", "auto")
        if flavour not in ("auto", "dynamic", "static"):
            raise EngineError(f"{FIELD} has the flavour {flavour!r}", hint="give auto, dynamic or static")
        try:
            limits = Limits(**value.get("limits", {}))
        except TypeError as error:
            raise EngineError(f"{FIELD} has limits that are none: {error}", hint=hint) from error
        upload = value.get("allow_upload", False)
        if not isinstance(upload, bool):
            raise EngineError(
                f"additional_config has {FIELD} allow_upload {upload!r}", hint="give true or false"
            )
        return cls(
            value["spool"],
            None if layers is None else frozenset(layers),
            str(value.get("model_id", "")),
            str(value.get("revision", "")),
            flavour,
            limits,
            upload,
        )

    def static(self, vllm_config: Any, *, gpu: bool) -> bool:
        """Return whether the static flavour is used."""
        return self.flavour == "static" or (self.flavour == "auto" and records_graphs(vllm_config, gpu=gpu))


def records_graphs(vllm_config: Any, *, gpu: bool) -> bool:
    """Return whether this vLLM records CUDA graphs of the decoder."""
    mode = getattr(vllm_config.compilation_config.cudagraph_mode, "name", "NONE")
    return gpu and not vllm_config.model_config.enforce_eager and mode != "NONE"


def refuse_unsupported(vllm_config: Any, *, graphs: bool, gpu: bool = False, v2: bool = False) -> None:
    """Refuse features of vLLM that give wrong results together with the plugin.

    Args:
        vllm_config: Config of vLLM.
        graphs: Whether graphs are recorded with the dynamic flavour; a replayed graph cannot depend on which
            requests have a plan.
        gpu: Whether vLLM runs on a GPU.
        v2: Whether vLLM uses its second model runner.

    Raises:
        EngineError: If such a feature is used; the message names it.
    """
    parallel = vllm_config.parallel_config
    passes = vllm_config.compilation_config.pass_config
    pipeline = parallel.pipeline_parallel_size > 1
    used = {
        "speculative_decoding": vllm_config.speculative_config is not None,
        "sequence_parallel": getattr(passes, "enable_sp", False)
        or getattr(passes, "enable_sequence_parallelism", False),
        "dual_batch_overlap": getattr(parallel, "enable_dbo", False)
        or getattr(parallel, "use_ubatching", False),
        "fused_allreduce": parallel.tensor_parallel_size > 1
        and (
            getattr(passes, "fuse_allreduce_rms", False)
            or getattr(passes, "enable_fi_allreduce_fusion", False)
        ),
        "pipeline_v2": pipeline and v2,
        "pipeline_eager_cpu": pipeline and not gpu and vllm_config.model_config.enforce_eager,
        "dynamic_graphs": graphs,
        "prefill_context_parallel": getattr(parallel, "prefill_context_parallel_size", 1) > 1,
    }
    for key, is_used in used.items():
        if is_used:
            raise unsupported("vllm", key, "vLLM was started with")


def tokenizer_of(model_config: Any) -> Any:
    """Return the tokenizer of vLLM's model, whose texts of single tokens tell the parts of a reply apart."""
    trusted = bool(getattr(model_config, "trust_remote_code", False))
    return _tokenizer(str(model_config.tokenizer), model_config.tokenizer_revision, trusted)


@lru_cache(maxsize=4)
def _tokenizer(place: str, revision: str | None, trusted: bool) -> Any:
    return read_tokenizer(place, {"revision": revision, "trust_remote_code": trusted})
