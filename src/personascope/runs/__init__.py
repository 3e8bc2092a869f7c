"""The one mechanism behind every long job: generate, judge beside it, commit unit by unit, resume.

A `Job` says what is asked and what is kept; `collect` runs it. Maps, evaluations, drift-and-harm runs and the
capability task are jobs.
"""

from personascope._lazy import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
