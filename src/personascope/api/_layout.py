"""Where everything lies in a run folder: map, norms, evaluations, conversations, sweep and monitor."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from personascope.directions import NORMS
from personascope.space import MAP

RESULTS = "results.json"
"""Figures of an evaluation or of an analysis of conversations, in its folder."""

REPORT_HTML = "report.html"
MONITOR_REPORT = "monitor_report.json"
REPLAY = "replay"
"""Stem of the three files of a replay set side by side with its source."""


@dataclass(frozen=True, slots=True)
class RunLayout:
    """The paths of a run folder; none of them need exist.

    Attributes:
        folder: The run folder.
    """

    folder: Path

    @staticmethod
    def of(folder: Path | str) -> RunLayout:
        """Return the layout of a run folder, or of the one around a map folder."""
        path = Path(folder)
        return RunLayout(path.parent if path.name == MAP and not (path / MAP).is_dir() else path)

    @staticmethod
    def for_model(name: str) -> RunLayout:
        """Return where the map of a model is made unless another folder is named: ``runs/<name>``."""
        return RunLayout(Path("runs") / Path(name).name)

    @property
    def map(self) -> Path:
        """Folder of the map."""
        return self.folder / MAP

    @property
    def norms(self) -> Path:
        """Mean norms of the residual stream."""
        return self.folder / NORMS

    @property
    def base(self) -> Path:
        """Folder of what is measured on a base model that this map's axis steers: its norms."""
        return self.folder / "base"

    def evaluation(self, name: str) -> Path:
        """Folder of an evaluation."""
        return self.folder / "evals" / name

    @property
    def calibration(self) -> Path:
        """Folder of the sweep over caps."""
        return self.folder / "calibration"

    @property
    def recommended_plan(self) -> Path:
        """Plan that the sweep recommends."""
        # A sweep loads all evaluations, and most commands ask for no plan.
        from personascope.calibration import PLAN

        return self.calibration / PLAN

    def conversations(self, name: str = "simulated") -> Path:
        """Folder of simulated or replayed conversations."""
        return self.folder / "drift" / name

    @property
    def cases(self) -> Path:
        """Conversations of the case studies."""
        return self.conversations("cases")

    @property
    def cases_replayed(self) -> Path:
        """Replay of the case studies."""
        return self.conversations(replayed(self.cases))

    @property
    def monitor(self) -> Path:
        """Drift monitor."""
        from personascope.dynamics.monitor import MONITOR_JSON

        return self.folder / MONITOR_JSON

    @property
    def monitor_report(self) -> Path:
        """How the monitor does on conversations that it was not calibrated on."""
        return self.folder / MONITOR_REPORT

    @property
    def has_responses(self) -> bool:
        """Whether the folder holds the run behind the map, and not the map alone."""
        return (self.folder / "units").is_dir()


def replayed(source: Path) -> str:
    """Return the name of the folder of a replay."""
    return f"{source.name}_replayed"
