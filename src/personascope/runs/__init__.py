"""The shared mechanism of long jobs: generate, judge concurrently, commit unit by unit, resume.

A `Job` defines the requests and the stored results, and `collect` runs it. Maps, evaluations, drift-and-harm
runs and the capability task are jobs.
"""

from personascope._lazy import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
