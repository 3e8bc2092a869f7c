"""Where our tasks for lm-evaluation-harness lie."""

from __future__ import annotations

from pathlib import Path


def lm_eval_task_folder() -> Path:
    """Return the folder with our tasks for lm-evaluation-harness (its ``include_path``).

    The tasks are ``TASKS`` of `personascope.corpus.datasets`. They read their questions from this package,
    by its own place, so that they need neither a network nor a working folder.
    """
    return Path(__file__).parent / "tasks"
