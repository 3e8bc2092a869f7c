from ._engine import RayEngine

__all__ = ["RayEngine"]
