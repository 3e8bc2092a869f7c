"""Analysis of conversations: trajectories by domain, messages that precede drift, comparison of replays."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from personascope import report
from personascope.api._estimate import Prepared, WorkEstimate, estimable, written
from personascope.api._inputs import Tell, quiet
from personascope.api._layout import REPLAY, RESULTS
from personascope.corpus.dialogues import load_cases
from personascope.dynamics import DriftRun, read_drift
from personascope.dynamics.causes import Causes, estimate_causes, find_causes
from personascope.dynamics.conversations import CASES
from personascope.dynamics.trajectories import (
    Contrast,
    Replays,
    Trajectories,
    compare_replays,
    contrasts,
    trajectories,
)
from personascope.judge import Embedder
from personascope.report import Brief, ClusterData, PredictionData, ReplayData, TrajectoryData
from personascope.store import write_json


@dataclass(frozen=True, slots=True, eq=False)
class DriftAnalysis:
    """Analysis of a run of conversations.

    Attributes:
        run: Conversations of the run.
        layer: Layer of the positions.
        trajectories: Mean position by domain and turn.
        contrasts: Differences between domains; empty for one domain.
        causes: Relation of user messages to positions; None if not analysed.
        results: File of the results; the figures are in the same folder.
    """

    run: DriftRun
    layer: int
    trajectories: Trajectories
    contrasts: tuple[Contrast, ...]
    causes: Causes | None
    results: Path

    @property
    def unfinished(self) -> int:
        """Number of unfinished conversations; their turns so far are included."""
        return sum(dialogue.ended is None for dialogue in self.run.dialogues)


@estimable
def drift(
    conversations: Path | str,
    *,
    layer: int | None = None,
    causes: bool = True,
    embedding: str | None = None,
    shuffles: int = 100,
    seed: int = 0,
    tell: Tell = quiet,
) -> Prepared[DriftAnalysis]:
    """Analyse conversations: trajectories by domain, contrasts, and the messages that precede drift.

    Args:
        conversations: Folder of simulated or replayed conversations; results and figures are written there.
        layer: Layer of the positions; the run's if not given.
        causes: Whether to relate the user's messages to the positions.
        embedding: Embedding model; the judges' if not given.
        shuffles: Number of repetitions of the regressions on shuffled targets.
        seed: Random seed of folds, shuffles and bootstrap.
        tell: Callback for status messages before slow steps.

    Raises:
        StoreError: If the folder holds no conversations.
        DynamicsError: If there are too few conversations.
    """
    folder = Path(conversations)
    tell(f"reading {folder} ...")
    run = read_drift(folder)
    at = run.layer if layer is None else layer
    encoder = Embedder() if embedding is None else Embedder(embedding)

    def estimate() -> WorkEstimate:
        steps = estimate_causes(run, encoder, layer=at, shuffles=shuffles, seed=seed) if causes else ()
        turns = sum(len(dialogue.turns) for dialogue in run.dialogues)
        figures = ("prediction.png", "clusters.png") if causes else ()
        files = written(folder, (RESULTS, "trajectories.png", *figures))
        return WorkEstimate("drift", steps, files, (f"{len(run.dialogues)} conversations, {turns} turns",))

    def analyse() -> DriftAnalysis:
        title = _title(run, at)
        found = trajectories(run, layer=at, seed=seed)
        record: dict[str, object] = {"layer": at, "trajectories": found.record()}
        positions = TrajectoryData.of(found, f"Positions of replies: {title}")
        report.trajectory_figure(folder / "trajectories.png", positions)
        differences: tuple[Contrast, ...] = ()
        if len(found.domains) > 1:
            differences = contrasts(run, layer=at, seed=seed)
            record["contrasts"] = [one.record() for one in differences]
        why = None
        if causes:
            tell("embedding the user's messages, and regressing positions on them ...")
            why = find_causes(run, encoder, layer=at, shuffles=shuffles, seed=seed)
            record["causes"] = why.record(rows=False)
            _draw_causes(folder, why, title)
        write_json(folder / RESULTS, record)
        return DriftAnalysis(run, at, found, differences, why, folder / RESULTS)

    return Prepared(estimate, analyse)


def compare_with_replay(
    conversations: Path | str,
    against: Path | str,
    *,
    layer: int | None = None,
    seed: int = 0,
    tell: Tell = quiet,
) -> Replays:
    """Compare a replay with its source; write figure, page and results into the replay's folder.

    Args:
        conversations: Folder of the conversations.
        against: Folder of a replay of them.
        layer: Layer of the positions; the run's if not given.
        seed: Random seed of the bootstrap.
        tell: Callback for status messages before slow steps.

    Raises:
        StoreError: If a folder holds no conversations.
        DynamicsError: If the second run is no replay of the first.
    """
    tell(f"reading {conversations} ...")
    run, other = read_drift(Path(conversations)), read_drift(Path(against))
    at = run.layer if layer is None else layer
    few = len(run.dialogues) <= 6
    found = compare_replays(run, other, by="dialogue" if few else "domain", layer=at, seed=seed)
    stem = other.path / REPLAY
    write_json(stem.with_suffix(".json"), found.record())
    same = ReplayData.of(found, f"The same user turns again: {_title(run, at)}")
    report.replay_figure(stem.with_suffix(".png"), same)
    write_cases(stem.with_suffix(".html"), run, other)
    return found


def write_cases(path: Path, plain: DriftRun, again: DriftRun) -> None:
    """Write a page with a run and its replay side by side; case studies get an introduction."""
    briefs = {f"{CASES}/{case.id}": Brief(case.title, case.brief) for case in load_cases()}
    report.write_cases_page(path, plain, again, briefs)


def _title(run: DriftRun, layer: int) -> str:
    return f"{run.manifest['identity']['model']['id']}, layer {layer}"


def _draw_causes(folder: Path, why: Causes, title: str) -> None:
    name = f"{title}, messages by {why.embedding.rpartition('/')[2]}"
    shown = [why.prediction("position"), why.prediction("change")]
    predictions = PredictionData.of(shown, f"Held-out prediction: {name}")
    report.prediction_figure(folder / "prediction.png", predictions)
    kinds = ClusterData.of(why.clusters, f"Kinds of messages: {name}")
    report.cluster_figure(folder / "clusters.png", kinds)
