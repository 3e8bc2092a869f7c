"""lm-evaluation-harness on our engines: any of its tasks, batched, with a plan applied.

`PersonascopeLM` wraps an engine as a model of the harness. `capability` runs tasks with it and returns their
scores for every document. ``python -m personascope.evals.harness`` is the harness's own command line with
that model registered as ``personascope``.
"""

from personascope.errors import EvaluationError

try:
    import lm_eval as _lm_eval
except ImportError as error:
    raise EvaluationError(
        f"lm-evaluation-harness cannot be imported: {error}", hint="pip install 'personascope[evals]'"
    ) from error

from personascope.evals.harness._capability import (
    DEFAULT_TASKS,
    Capability,
    CapabilityTask,
    Metric,
    capability,
    estimate_capability,
)
from personascope.evals.harness._lm import PersonascopeLM
from personascope.evals.harness._register import register, task_paths
from personascope.evals.harness._task_folder import lm_eval_task_folder

del _lm_eval

__all__ = [
    "DEFAULT_TASKS",
    "Capability",
    "CapabilityTask",
    "Metric",
    "PersonascopeLM",
    "capability",
    "estimate_capability",
    "lm_eval_task_folder",
    "register",
    "task_paths",
]
