"""The sampler under the name by which servers of earlier versions are started."""

from personascope.engines._vllm._sampler import Draw

__all__ = ["Draw"]
