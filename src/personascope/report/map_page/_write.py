"""Writing of a map's report."""

from __future__ import annotations

from pathlib import Path

from personascope.corpus import Corpus
from personascope.report.map_page._gather import collect
from personascope.report.map_page._page import render
from personascope.report.map_page._results import NO_RESULTS, ResultFiles
from personascope.space import PersonaMap
from personascope.store import write_bytes


def write_report(
    map: PersonaMap,
    rollouts_folder: Path | None,
    out: Path,
    *,
    samples_per_role: int = 3,
    corpus: Corpus | None = None,
    results: ResultFiles = NO_RESULTS,
) -> Path:
    """Write the report of a map: one HTML file (5 to 6 MB) that works without a network.

    Args:
        map: Map to report.
        rollouts_folder: Run folder of the map, whose ``units/*/rollouts.parquet`` have the sample answers.
            Without them the report notes that it has none.
        out: HTML file to write; an existing file is replaced atomically.
        samples_per_role: Number of sample answers per role.
        corpus: Corpus of the map, for the roles' groups and descriptions; by default the built-in one if it
            is the map's, else none.
        results: Results of the run to show with the map.

    Returns:
        ``out``.

    Raises:
        UsageError: If the corpus is not the map's, or ``samples_per_role`` is negative.
        StoreError: If the map, a rollout file or a file of results is damaged, or the file cannot be written.
    """
    data = collect(map, rollouts_folder, samples_per_role=samples_per_role, corpus=corpus, results=results)
    page = render(data)
    write_bytes(out, page.encode("utf-8"))
    return out
