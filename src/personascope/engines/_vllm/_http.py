"""The routes under the name that installations of earlier versions register."""

from personascope.engines._vllm.server._routes import PersonascopeEndpoint

__all__ = ["PersonascopeEndpoint"]
