"""Alias of the sampler's module, under which servers of earlier versions are started."""

from personascope.engines._vllm._sampler import Draw

__all__ = ["Draw"]
