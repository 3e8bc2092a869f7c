"""The HTML pages of a run folder: the map's report, and its case studies."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from personascope import report
from personascope.api._drift import write_cases
from personascope.api._inputs import Tell, as_folder, as_local, open_map, quiet
from personascope.api._layout import REPORT_HTML, RunLayout
from personascope.dynamics import read_drift
from personascope.errors import UsageError


@dataclass(frozen=True, slots=True)
class Pages:
    """Paths of the written pages.

    Attributes:
        report: Page of the map.
        cases: Page of the case studies and their replay; None if they were not simulated and replayed.
    """

    report: Path
    cases: Path | None


def write_pages(folder: Path | str, *, out: Path | str | None = None, tell: Tell = quiet) -> Pages:
    """Write a map's report as one self-contained page, and its case studies as another next to it.

    Args:
        folder: Run folder, or map folder.
        out: File of the map's page; ``report.html`` in the folder if not given.
        tell: Callback for status messages before slow steps.

    Raises:
        UsageError: If the map is an imported release, which lacks data for the page.
        StoreError: If there is no map, or a page cannot be written.
    """
    folder = as_local(folder, tell=tell)
    target = as_folder(out, folder / REPORT_HTML)
    persona_map = open_map(folder, tell)
    if persona_map.lacking:
        raise UsageError(
            f"{folder} is an imported release: a report shows components and intervals, which it has not",
            hint="personascope show prints its roles along the axis",
        )
    tell("reading the map and its responses ...")
    with_responses = RunLayout(folder).has_responses
    layout = RunLayout.of(folder)
    results = report.ResultFiles(*layout.results)
    report.write_report(persona_map, folder if with_responses else None, target, results=results)
    if not (layout.cases.is_dir() and layout.cases_replayed.is_dir()):
        return Pages(target, None)
    beside = target.with_name(f"{target.stem}_cases{target.suffix}")
    write_cases(beside, read_drift(layout.cases), read_drift(layout.cases_replayed))
    return Pages(target, beside)
