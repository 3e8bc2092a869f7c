"""The calibration sweep of a run folder, with its figure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from personascope import calibration, report
from personascope.api._comparison import checked_kinds
from personascope.api._inputs import as_corpus
from personascope.api._judging import JudgeChoice, choose_judge
from personascope.api._mapped_model import MappedModel
from personascope.calibration import Calibration, Sample, SweepSettings, default_windows, parse_window
from personascope.corpus import Corpus
from personascope.corpus.datasets import load_jailbreak_set
from personascope.errors import UsageError
from personascope.judge import Judge, harm_warning


@dataclass(frozen=True, slots=True, eq=False)
class Sweep:
    """Result of a sweep, with its files.

    Attributes:
        calibration: Cells, Pareto front and recommendation.
        cells: File of the cells.
        figure: File of the figure.
        plan: Folder of the recommended plan; None if no cap is recommended.
        judge: Judge that labelled the responses; its ``stats`` count calls and cost.
    """

    calibration: Calibration
    cells: Path
    figure: Path
    plan: Path | None
    judge: Judge

    @property
    def warning(self) -> str:
        """Warning about the offline judge's errors on harm; "" unless that judge gave labels of harm."""
        return harm_warning() if self.calibration.jailbreak.caveats else ""


def calibrate(
    mapped: MappedModel,
    settings: SweepSettings | None = None,
    *,
    windows: Sequence[str] | None = None,
    dataset: str | None = None,
    personas: Path | str | None = None,
    corpus: Corpus | Path | str | None = None,
    judge: Judge | JudgeChoice | str = "rules",
    out: Path | None = None,
    population: str = "roles",
    seed: int = 0,
    restart: bool = False,
    anyway: bool = False,
) -> Sweep:
    """Sweep caps over layers and floors; recommend one (section 5 of the paper).

    Args:
        mapped: Mapped model, whose run kept responses (the default).
        settings: Size and limits of the sweep.
        windows: Bands of layers, such as "14:22", instead of those of the settings.
        dataset: Jailbreak set; the built-in mild one if not given.
        personas: Personas to cross with questions that have no system prompt: "builtin", or a YAML file.
        corpus: Corpus with the roles; the built-in one if not given.
        judge: Judge that labels the responses: a judge, a `JudgeChoice`, or a specification (`parse_judge`).
        out: Folder of the sweep; the run layout's if not given.
        population: Responses that floors are taken among: "roles", or "roles and traits" as in the paper.
        seed: Random seed.
        restart: Discard the sweep that is already in the folder.
        anyway: Continue even if the map found no axis.

    Raises:
        SpaceError: If the map found no axis.
        UsageError: If there is no judge, a band of layers does not fit the map, or the map has too few role
            vectors for role-span controls.
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
    bands = settings.windows or default_windows(mapped.persona_map.n_layers)
    caps, per_cap = len(bands) * len(settings.axis_percentiles), settings.n_random * len(settings.controls)
    mapped.tell(
        f"{caps} caps with {per_cap} controls each: {1 + caps * (1 + per_cap)} conditions of each evaluation"
    )
    folder = out or mapped.layout.calibration
    found = calibration.calibrate(
        mapped.engine,
        sample,
        texts,
        out=folder,
        judge=make_judge,
        settings=settings,
        jailbreaks=attacks,
        seed=seed,
        progress=mapped.progress,
        restart=restart,
        command=mapped.command,
    )
    figure = folder / "pareto.png"
    report.save_calibration_figure(figure, found)
    plan = None if found.plan is None else folder / calibration.PLAN
    return Sweep(found, folder / calibration.RESULT, figure, plan, make_judge())


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
