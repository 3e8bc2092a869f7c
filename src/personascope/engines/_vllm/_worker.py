"""Alias of the worker's module, under which servers of earlier versions are started."""

from personascope.engines._vllm.worker._worker import PersonascopeWorker

__all__ = ["PersonascopeWorker"]
