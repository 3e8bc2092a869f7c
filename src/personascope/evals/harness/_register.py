"""Making our model and our tasks known to lm-evaluation-harness."""

from __future__ import annotations

from pathlib import Path

import lm_eval.models as _known
from lm_eval.api.registry import MODEL_REGISTRY, register_model

from personascope.evals.harness._lm import PersonascopeLM
from personascope.evals.harness._task_folder import lm_eval_task_folder

MODEL_NAME = "personascope"


def register() -> None:
    """Register the model under the name ``personascope``; a second call changes nothing.

    The harness has no entry points of its own: a program must call this before it names the model.
    """
    # The harness fills its registry on first use only while it is empty.
    assert _known.MODEL_MAPPING
    if MODEL_NAME not in MODEL_REGISTRY:
        register_model(MODEL_NAME)(PersonascopeLM)


def task_paths(*more: str | Path) -> list[str]:
    """Return the folder with our own tasks, and more folders after it, for ``include_path``."""
    return [str(lm_eval_task_folder()), *(str(path) for path in more)]
