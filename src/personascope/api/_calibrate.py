"""The calibration sweep of a run folder, with its figure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from personascope import __version__, calibration, report
from personascope.api._comparison import checked_kinds
from personascope.api._estimate import (
    Prepared,
    WorkEstimate,
    estimable,
    estimated_judge,
    judging_remarks,
    resumed_remark,
    written,
)
from personascope.api._inputs import as_corpus, as_folder
from personascope.api._judging import JudgeChoice, choose_judge
from personascope.api._mapped_model import MappedModel
from personascope.api._tabular import Tabular
from personascope.calibration import (
    Calibration,
    Sample,
    SweepSettings,
    check_dose,
    default_layers,
    default_windows,
    parse_window,
)
from personascope.corpus import Corpus
from personascope.corpus.datasets import load_jailbreak_set
from personascope.errors import UsageError
from personascope.interventions import Plan
from personascope.judge import Judge, harm_warning

FIGURE = "pareto.png"


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Sweep(Tabular):
    """Result of a sweep, with its files.

    Attributes:
        calibration: Cells, Pareto front and recommendation.
        cells: File of the cells.
        figure: File of the figure.
        plan_folder: Folder of the recommended plan; None if no cap is recommended.
        judge: Judge that labelled the responses; its ``stats`` count calls and cost.
    """

    calibration: Calibration
    cells: Path
    figure: Path
    plan_folder: Path | None
    judge: Judge

    @property
    def plan(self) -> Plan | None:
        """Recommended plan; None if no cap passed, for the reason in ``why``."""
        return self.calibration.plan

    @property
    def why(self) -> str:
        """Reason for the recommendation, or for its absence."""
        return self.calibration.why

    def headline(self) -> str:
        """Return what is recommended, or why nothing is."""
        found = self.calibration
        count = sum(cell.kind == "axis" for cell in found.cells)
        if found.recommended:
            return f"of {count} plans {found.recommended} is recommended ({found.why})"
        return f"of {count} plans none is recommended: {found.why}"

    def records(self) -> list[dict[str, Any]]:
        """Return a row for each plan and control: changes from no plan, price, how often caps fired."""
        found = self.calibration
        return [
            {
                "plan": cell.condition,
                "kind": cell.kind,
                "assistant": cell.assistant.estimate,
                "assistant_p": cell.assistant.p_value,
                "harmful": cell.harmful.estimate,
                "harmful_p": cell.harmful.p_value,
                "capability": cell.capability.estimate,
                "incoherent": cell.incoherent,
                "kl": cell.kl.estimate,
                "kl_low": cell.kl.low,
                "kl_high": cell.kl.high,
                "fired": cell.firing_share,
                "front": cell.condition in found.front,
                "recommended": cell.condition == found.recommended,
            }
            for cell in found.cells
        ]

    def notes(self) -> tuple[str, ...]:
        """Return the warning about the judge, if there is one, and what is missing."""
        missing = "labels are missing: the same call judges them again" if self.calibration.partial else ""
        return tuple(filter(None, (self.warning, missing)))

    def plot(self) -> report.Plot:
        """Return the figure: gain against change in capability, with the Pareto front and the controls."""
        return report.Plot(
            "Plans along the Assistant Axis",
            lambda path: report.save_calibration_figure(path, self.calibration),
            {"calibration": str(self.cells), "personascope": __version__},
        )

    @property
    def warning(self) -> str:
        """Warning about the offline judge's errors on harm; "" unless that judge gave labels of harm."""
        return harm_warning() if self.calibration.jailbreak.caveats else ""


@estimable
def calibrate(
    mapped: MappedModel,
    settings: SweepSettings | None = None,
    *,
    windows: Sequence[str] | None = None,
    dataset: str | None = None,
    personas: Path | str | None = None,
    corpus: Corpus | Path | str | None = None,
    judge: Judge | JudgeChoice | str = "rules",
    out: Path | str | None = None,
    population: str = "roles",
    seed: int = 0,
    restart: bool = False,
    anyway: bool = False,
) -> Prepared[Sweep]:
    """Sweep caps over layers and floors, or steering over layers and strengths; recommend one (section 5).

    Args:
        mapped: Mapped model, whose run kept responses (the default).
        settings: Size and limits of the sweep; with strengths it is over steering.
        windows: Bands of layers, such as "14:22", instead of those of the settings.
        dataset: Jailbreak set; the built-in mild one if not given.
        personas: Personas to cross with questions that have no system prompt: "builtin", or a YAML file.
        corpus: Corpus with the roles; the built-in one if not given.
        judge: Judge that labels the responses: a judge, a `JudgeChoice`, or a specification (`parse_judge`).
        out: Folder of the sweep; the run layout's if not given.
        population: Responses that floors are taken among: "roles", or "roles and traits" as in the paper.
        seed: Random seed.
        restart: Discard the sweep that is already in the folder.
        anyway: Continue even if the map found no axis, or a strength is beyond the layer's norm.

    Raises:
        SpaceError: If the map found no axis.
        UsageError: If there is no judge, a band of layers or a layer does not fit the map, the strengths are
            of both signs or beyond the layer's norm, or the map has too few role vectors for role-span
            controls.
        PersonascopeError: As in `personascope.calibration.calibrate`.
    """
    make_judge = _judge_maker(judge, mapped)
    mapped.require_axis(anyway=anyway)
    settings = settings or SweepSettings()
    settings = replace(settings, controls=checked_kinds(mapped, settings.controls, settings.n_random))
    if windows is not None:
        bands = tuple(parse_window(band, mapped.persona_map.n_layers) for band in windows)
        settings = replace(settings, windows=bands)
    texts, attacks = as_corpus(corpus), None
    if dataset or personas:
        attacks = load_jailbreak_set(dataset or None, personas=personas)
    sample = Sample.open(mapped.layout.folder, population)
    steering = bool(settings.strengths)
    counts = _counts(mapped, settings, anyway=anyway)
    own = mapped.layout.steering_sweep if steering else mapped.layout.calibration
    folder = as_folder(out, own)

    def estimate() -> WorkEstimate:
        norms, measuring = mapped.estimate_norms() if steering else (None, None)
        chosen = choose_judge(judge)
        _, steps = calibration.estimate_calibration(
            mapped.engine,
            sample,
            texts,
            judge=estimated_judge(chosen),
            settings=settings,
            norms=norms,
            jailbreaks=attacks,
            seed=seed,
        )
        evaluations = ("susceptibility", "jailbreak", "basics", "divergence")
        return WorkEstimate(
            "calibration",
            steps if measuring is None else (measuring, *steps),
            written(folder, (*evaluations, calibration.RESULT, FIGURE, calibration.PLAN)),
            (counts, *judging_remarks(chosen), *resumed_remark(folder / evaluations[0])),
        )

    def run() -> Sweep:
        norms = mapped.norms() if steering else None
        mapped.tell(counts)
        found = calibration.calibrate(
            mapped.engine,
            sample,
            texts,
            out=folder,
            judge=make_judge,
            settings=settings,
            norms=norms,
            jailbreaks=attacks,
            seed=seed,
            progress=mapped.progress,
            restart=restart,
            command=mapped.command,
        )
        figure = folder / FIGURE
        report.save_calibration_figure(figure, found)
        plan = None if found.plan is None else folder / calibration.PLAN
        return Sweep(found, folder / calibration.RESULT, figure, plan, make_judge())

    return Prepared(estimate, run)


def _counts(mapped: MappedModel, settings: SweepSettings, *, anyway: bool) -> str:
    """Return the numbers of plans and conditions of a sweep, after checking its strengths and layers."""
    if settings.strengths:
        check_dose(settings.strengths, anyway=anyway)
        layers = default_layers(mapped.persona_map) if settings.layers is None else settings.layers
        for layer in layers:
            mapped.layer(layer)
        what, swept = "strengths and layers", len(layers) * len(settings.strengths)
    else:
        bands = settings.windows or default_windows(mapped.persona_map.n_layers)
        what, swept = "caps", len(bands) * len(settings.axis_percentiles)
    each = settings.n_random * len(settings.controls)
    return f"{swept} {what} with {each} controls each: {1 + swept * (1 + each)} conditions of each evaluation"


def _judge_maker(judge: Judge | JudgeChoice | str, mapped: MappedModel) -> Callable[[], Judge]:
    """Return a function that creates the judge on the first call, so that a local one is loaded only once."""
    chosen = choose_judge(judge)
    if isinstance(chosen, JudgeChoice) and chosen.spec.strip() == "none":
        raise UsageError("a sweep needs a judge", hint="give --judge rules, openai:... or local:...")

    @cache
    def make() -> Judge:
        made = chosen.open(mapped.tell) if isinstance(chosen, JudgeChoice) else chosen
        assert made is not None
        return made

    return make
