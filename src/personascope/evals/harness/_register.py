"""Registration of our model and tasks with lm-evaluation-harness."""

from __future__ import annotations

from pathlib import Path

import lm_eval.models as _known
from lm_eval.api.registry import MODEL_REGISTRY, register_model

from personascope.evals.harness._lm import PersonascopeLM
from personascope.evals.harness._task_folder import lm_eval_task_folder

MODEL_NAME = "personascope"


def register() -> None:
    """Register the model under the name ``personascope``; a second call has no effect.

    The harness does not read entry points, so a program must call this before it names the model.
    """
    # The harness fills its registry on first use only if it is empty, so trigger that before adding ours.
    assert _known.MODEL_MAPPING
    if MODEL_NAME not in MODEL_REGISTRY:
        register_model(MODEL_NAME)(PersonascopeLM)


def task_paths(*more: str | Path) -> list[str]:
    """Return the folder of our own tasks followed by further folders, for ``include_path``."""
    return [str(lm_eval_task_folder()), *(str(path) for path in more)]
