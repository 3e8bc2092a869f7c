"""Location of our tasks for lm-evaluation-harness."""

from __future__ import annotations

from pathlib import Path


def lm_eval_task_folder() -> Path:
    """Return the folder with our tasks for lm-evaluation-harness (its ``include_path``).

    The tasks are ``TASKS`` of `personascope.corpus.datasets`. They read their questions from this installed
    package, so they need neither a network nor a particular working folder.
    """
    return Path(__file__).parent / "tasks"
