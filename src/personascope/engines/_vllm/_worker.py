"""The worker under the name by which servers of earlier versions are started."""

from personascope.engines._vllm.worker._worker import PersonascopeWorker

__all__ = ["PersonascopeWorker"]
