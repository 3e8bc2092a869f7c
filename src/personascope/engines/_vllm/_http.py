"""Alias of the routes' module, which installations of earlier versions register."""

from personascope.engines._vllm.server._routes import PersonascopeEndpoint

__all__ = ["PersonascopeEndpoint"]
