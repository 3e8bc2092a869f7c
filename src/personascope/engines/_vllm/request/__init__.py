"""Data of requests: specs, the store of plans and probes, limits, and results."""
