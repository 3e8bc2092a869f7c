"""Ray: one engine made of many, each in an actor."""

from personascope.engines._ray._engine import RayEngine

__all__ = ["RayEngine"]
