"""The sweep that finds a cap, in the run folder, with its figure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from personascope import calibration, report
from personascope.api._inputs import as_corpus
from personascope.api._judging import JudgeChoice, choose_judge
from personascope.api._mapped_model import MappedModel
from personascope.calibration import Calibration, Sample, SweepSettings, parse_window
from personascope.corpus import Corpus
from personascope.corpus.datasets import load_jailbreak_set
from personascope.errors import UsageError
from personascope.judge import Judge, harm_warning


@dataclass(frozen=True, slots=True, eq=False)
class Sweep:
    """What came of a sweep.

    Attributes:
        calibration: Cells, front and recommendation.
        cells: File of the cells.
        figure: File of the figure.
        plan: Folder of the recommended plan; None if no cap is.
        judge: What labelled the responses; its ``stats`` say what that took.
    """

    calibration: Calibration
    cells: Path
    figure: Path
    plan: Path | None
    judge: Judge

    @property
    def warning(self) -> str:
        """What must be known of the labels of harm; "" for those of a judge without a known error rate."""
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
    seed: int = 0,
    restart: bool = False,
    anyway: bool = False,
) -> Sweep:
    """Sweep caps over layers and floors; recommend one (section 5 of the paper).

    Args:
        mapped: The mapped model; its run kept responses (the default).
        settings: How much is asked.
        windows: Bands of layers, such as "14:22", instead of those of the settings.
        dataset: Jailbreak set; the built-in mild one if not given.
        personas: Personas that questions without system prompts are crossed with: "builtin", or a YAML file.
        corpus: Has the roles; the built-in one if not given.
        judge: Labels the responses: a judge, a `JudgeChoice`, or a specification as `parse_judge` takes
            it.
        out: Folder of the sweep; that of the run's layout if not given.
        seed: Random seed.
        restart: Forget the sweep that is in the folder.
        anyway: Go on where the map found no axis.

    Raises:
        SpaceError: If the map found no axis.
        UsageError: If there is no judge, or a band is none of the map's.
        PersonascopeError: As `personascope.calibration.calibrate`.
    """
    make_judge = _judge_maker(judge, mapped)
    mapped.require_axis(anyway=anyway)
    settings = settings or SweepSettings()
    if windows is not None:
        bands = tuple(parse_window(band, mapped.persona_map.n_layers) for band in windows)
        settings = replace(settings, windows=bands)
    texts, attacks = as_corpus(corpus), None
    if dataset or personas:
        attacks = load_jailbreak_set(dataset or None, personas=personas)
    sample = Sample.open(mapped.layout.folder)
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
    """Return what makes the judge: a local one is loaded once, when the first evaluation begins."""
    chosen = choose_judge(judge)
    if isinstance(chosen, JudgeChoice) and chosen.spec.strip() == "none":
        raise UsageError("a sweep needs a judge", hint="give --judge rules, openai:... or local:...")

    @cache
    def make() -> Judge:
        made = chosen.open(mapped.tell) if isinstance(chosen, JudgeChoice) else chosen
        assert made is not None
        return made

    return make
