"""Parts of the vLLM plugin that need no vLLM: specs, the spool, limits, and what is refused."""
