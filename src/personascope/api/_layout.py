"""Layout of a run folder: paths of map, norms, evaluations, conversations, sweep and monitor."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from personascope.directions import NORMS
from personascope.space import MAP

RESULTS = "results.json"
"""File of results of an evaluation or of an analysis of conversations, in its folder."""

REPORT_HTML = "report.html"
MONITOR_REPORT = "monitor_report.json"
REPLAY = "replay"
"""Stem of the three files of the comparison of a replay with its source."""


@dataclass(frozen=True, slots=True)
class RunLayout:
    """Paths in a run folder; they need not exist.

    Attributes:
        folder: Path of the run folder.
    """

    folder: Path

    @staticmethod
    def of(folder: Path | str) -> RunLayout:
        """Return the layout of a run folder, given itself or the map folder in it."""
        path = Path(folder)
        return RunLayout(path.parent if path.name == MAP and not (path / MAP).is_dir() else path)

    @staticmethod
    def for_model(name: str) -> RunLayout:
        """Return the layout of a model's default run folder, ``runs/<name>``."""
        return RunLayout(Path("runs") / Path(name).name)

    @property
    def map(self) -> Path:
        """Folder of the map."""
        return self.folder / MAP

    @property
    def norms(self) -> Path:
        """File of the mean norms of the residual stream."""
        return self.folder / NORMS

    @property
    def base(self) -> Path:
        """Folder of the norms of a base model that is steered with this map's axis."""
        return self.folder / "base"

    def evaluation(self, name: str) -> Path:
        """Return the folder of an evaluation."""
        return self.folder / "evals" / name

    def traits(self, name: str) -> Path:
        """Return the folder of the run of a set of traits."""
        return self.folder / "traits" / name

    def own_trait(self, name: str) -> Path:
        """Return the file of a trait that a model wrote."""
        return self.folder / "own_traits" / f"{name}.yaml"

    @property
    def calibration(self) -> Path:
        """Folder of the sweep over caps."""
        return self.folder / "calibration"

    @property
    def steering_sweep(self) -> Path:
        """Folder of the sweep over steering."""
        return self.folder / "calibration_steering"

    @property
    def recommended_plan(self) -> Path:
        """Folder of the plan that the sweep recommends."""
        # Import late: the calibration room loads all evaluations, and most commands do not need it.
        from personascope.calibration import PLAN

        return self.calibration / PLAN

    def conversations(self, name: str = "simulated") -> Path:
        """Return the folder of simulated or replayed conversations."""
        return self.folder / "drift" / name

    @property
    def cases(self) -> Path:
        """Folder of the case studies' conversations."""
        return self.conversations("cases")

    @property
    def cases_replayed(self) -> Path:
        """Folder of the case studies' replay."""
        return self.conversations(replayed(self.cases))

    @property
    def monitor(self) -> Path:
        """File of the drift monitor."""
        from personascope.dynamics.monitor import MONITOR_JSON

        return self.folder / MONITOR_JSON

    @property
    def monitor_report(self) -> Path:
        """File of the monitor's calibration report."""
        return self.folder / MONITOR_REPORT

    @property
    def results(self) -> tuple[tuple[Path, ...], Path, tuple[tuple[str, Path], ...], Path, Path]:
        """Files of results: evaluations, sweep over caps, conversations by name, monitor, steering."""
        from personascope.calibration import RESULT

        return (
            tuple(sorted(self.folder.glob(f"evals/*/{RESULTS}"))),
            self.calibration / RESULT,
            tuple((path.parent.name, path) for path in sorted(self.folder.glob(f"drift/*/{RESULTS}"))),
            self.monitor_report,
            self.steering_sweep / RESULT,
        )

    @property
    def has_responses(self) -> bool:
        """Whether the folder holds the responses of the mapping run, not only the map."""
        return (self.folder / "units").is_dir()


def replayed(source: Path) -> str:
    """Return the name of a replay's folder."""
    return f"{source.name}_replayed"


def run_of(conversations: Path | str) -> Path | None:
    """Return the run folder whose conversations are in a folder, or None if it lies in no run folder."""
    run = Path(conversations).parent.parent
    return run if (run / MAP).is_dir() else None
