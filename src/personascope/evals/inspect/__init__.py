"""Inspect AI: our evaluations as its tasks, and our engine as one of its models.

Inspect finds both through the entry point ``inspect_ai``, so its own command line knows
``personascope/role_susceptibility`` and ``--model personascope/smollm2-135m``.
"""
