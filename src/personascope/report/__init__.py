"""The HTML report of a persona map."""

from personascope.report._collect import collect
from personascope.report._data import Curves, Figure, ReportData, Role, Sample
from personascope.report._page import payload, render
from personascope.report._write import write_report

__all__ = [
    "Curves",
    "Figure",
    "ReportData",
    "Role",
    "Sample",
    "collect",
    "payload",
    "render",
    "write_report",
]
