"""What a person sees: the HTML report of a persona map, pages of conversations, and figures."""

from personascope.report._cases_page import Brief, write_cases_page
from personascope.report._collect import collect
from personascope.report._data import Curves, Figure, ReportData, Role, Sample
from personascope.report._evaluations import save_calibration_figure, save_evaluation_figure
from personascope.report._figure_data import (
    CompletionsData,
    ConditionRow,
    ConditionsData,
    Estimate,
    ParetoData,
    ParetoPoint,
    Series,
    SusceptibilityData,
)
from personascope.report._figures import (
    completions_figure,
    conditions_figure,
    pareto_figure,
    susceptibility_figure,
)
from personascope.report._harm_figure import save_harm_figure
from personascope.report._page import payload, render
from personascope.report._write import write_report

__all__ = [
    "Brief",
    "CompletionsData",
    "ConditionRow",
    "ConditionsData",
    "Curves",
    "Estimate",
    "Figure",
    "ParetoData",
    "ParetoPoint",
    "ReportData",
    "Role",
    "Sample",
    "Series",
    "SusceptibilityData",
    "collect",
    "completions_figure",
    "conditions_figure",
    "pareto_figure",
    "payload",
    "render",
    "save_calibration_figure",
    "save_evaluation_figure",
    "save_harm_figure",
    "susceptibility_figure",
    "write_cases_page",
    "write_report",
]
