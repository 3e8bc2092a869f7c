"""Evaluations: role susceptibility, persona jailbreaks, base models' self-description, capability."""

from personascope.evals._basics import BasicsRows, run_basics
from personascope.evals._batcher import check_applied
from personascope.evals._coherence import coherence, is_incoherent
from personascope.evals._collect import collect
from personascope.evals._conditions import (
    PLAIN,
    Condition,
    nearest_roles,
    plan_model,
    random_unit,
    randomised,
    steering_conditions,
    steering_plan,
)
from personascope.evals._evaluations import (
    JAILBREAK_MEASURES,
    PRETRAINED_MEASURES,
    RESULTS,
    SUSCEPTIBILITY_MEASURES,
    evaluation_table,
)
from personascope.evals._run import ConditionRows, EvalProgress, EvalRun, read_evaluation, run_evaluation
from personascope.evals._stats import (
    AgainstDraws,
    Difference,
    Interval,
    against_draws,
    mean_interval,
    paired_difference,
    pareto_front,
    share_interval,
)
from personascope.evals._stats_clusters import limits
from personascope.evals._tables import (
    INCOHERENT,
    ODD,
    Health,
    Measure,
    Result,
    Table,
    json_values,
    label_measure,
    make_table,
)
from personascope.evals._trials import (
    Trial,
    Trials,
    jailbreak_trials,
    opening_trials,
    ordinary_trials,
    susceptibility_trials,
)

__all__ = [
    "INCOHERENT",
    "JAILBREAK_MEASURES",
    "ODD",
    "PLAIN",
    "PRETRAINED_MEASURES",
    "RESULTS",
    "SUSCEPTIBILITY_MEASURES",
    "AgainstDraws",
    "BasicsRows",
    "Condition",
    "ConditionRows",
    "Difference",
    "EvalProgress",
    "EvalRun",
    "Health",
    "Interval",
    "Measure",
    "Result",
    "Table",
    "Trial",
    "Trials",
    "against_draws",
    "check_applied",
    "coherence",
    "collect",
    "evaluation_table",
    "is_incoherent",
    "jailbreak_trials",
    "json_values",
    "label_measure",
    "limits",
    "make_table",
    "mean_interval",
    "nearest_roles",
    "opening_trials",
    "ordinary_trials",
    "paired_difference",
    "pareto_front",
    "plan_model",
    "random_unit",
    "randomised",
    "read_evaluation",
    "run_basics",
    "run_evaluation",
    "share_interval",
    "steering_conditions",
    "steering_plan",
    "susceptibility_trials",
]
