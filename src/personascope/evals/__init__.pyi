from ._basics import BasicsRows, run_basics
from ._conclusion import Conclusion, conclude, conclusion_words, kinds_listed
from ._conditions import PLAIN, Condition, check_strengths, control_counts, steering_conditions
from ._divergence import Divergence, divergence, run_divergence
from ._estimate import estimate_basics, estimate_divergence, estimate_evaluation
from ._evaluations import evaluation_table, harm_caveats
from ._rows import read_evaluation
from ._run import EvalRun, run_evaluation
from ._tables import Result, Table, label_measure, make_table
from ._trials import Trial, Trials, jailbreak_trials, opening_trials, ordinary_trials, susceptibility_trials

__all__ = [
    "PLAIN",
    "BasicsRows",
    "Conclusion",
    "Condition",
    "Divergence",
    "EvalRun",
    "Result",
    "Table",
    "Trial",
    "Trials",
    "check_strengths",
    "conclude",
    "conclusion_words",
    "control_counts",
    "divergence",
    "estimate_basics",
    "estimate_divergence",
    "estimate_evaluation",
    "evaluation_table",
    "harm_caveats",
    "jailbreak_trials",
    "kinds_listed",
    "label_measure",
    "make_table",
    "opening_trials",
    "ordinary_trials",
    "read_evaluation",
    "run_basics",
    "run_divergence",
    "run_evaluation",
    "steering_conditions",
    "susceptibility_trials",
]
