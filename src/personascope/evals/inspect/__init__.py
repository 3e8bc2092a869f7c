"""Inspect AI integration: our evaluations as its tasks, and our engines as its models.

Inspect finds both through the entry point ``inspect_ai``, so its command line accepts
``personascope/role_susceptibility`` and ``--model personascope/smollm2-135m``.
"""
