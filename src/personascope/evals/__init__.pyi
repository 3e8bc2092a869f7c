from ._basics import BasicsRows, run_basics
from ._conditions import PLAIN, Condition, steering_conditions
from ._evaluations import (
    JAILBREAK_MEASURES,
    PRETRAINED_MEASURES,
    RESULTS,
    SUSCEPTIBILITY_MEASURES,
    evaluation_table,
)
from ._run import ConditionRows, EvalRow, EvalRun, read_evaluation, run_evaluation
from ._tables import INCOHERENT, ODD, Health, Measure, Result, Table, label_measure, make_table
from ._trials import Trial, Trials, jailbreak_trials, opening_trials, ordinary_trials, susceptibility_trials

__all__ = [
    "INCOHERENT",
    "JAILBREAK_MEASURES",
    "ODD",
    "PLAIN",
    "PRETRAINED_MEASURES",
    "RESULTS",
    "SUSCEPTIBILITY_MEASURES",
    "BasicsRows",
    "Condition",
    "ConditionRows",
    "EvalRow",
    "EvalRun",
    "Health",
    "Measure",
    "Result",
    "Table",
    "Trial",
    "Trials",
    "evaluation_table",
    "jailbreak_trials",
    "label_measure",
    "make_table",
    "opening_trials",
    "ordinary_trials",
    "read_evaluation",
    "run_basics",
    "run_evaluation",
    "steering_conditions",
    "susceptibility_trials",
]
