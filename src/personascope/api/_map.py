"""Mapping of a model: check the arguments before the model is loaded, then estimate or run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from personascope import engines, mapping
from personascope.api._chat_options import tell_thinking
from personascope.api._estimate import WorkEstimate, written
from personascope.api._inputs import Tell, as_corpus, as_folder, quiet
from personascope.api._judging import JudgeChoice, as_judge, choose_judge, default_judge
from personascope.api._layout import RunLayout
from personascope.corpus import Corpus
from personascope.judge import Judge
from personascope.mapping import MapResult, ProfileChanges, RunEstimate, Until, Vectors
from personascope.runs import ProgressCallback, WorkStep
from personascope.space import MAP

if TYPE_CHECKING:
    from personascope.engines import LocalEngine


@dataclass(frozen=True, slots=True, eq=False)
class PreparedMap:
    """A checked mapping run that can be estimated or run; created by `prepare_map`.

    Attributes:
        layout: Layout of the default run folder.
        engine: Engine of the model.
        corpus: Roles and questions.
        profile: Name of the profile.
        changes: Values that override the profile's.
        judge: Judge that scores the responses; None for no judge.
        seed: Random seed.
        until: What an adaptive run stops at; None for a fixed design.
    """

    layout: RunLayout
    engine: LocalEngine
    corpus: Corpus
    profile: str
    changes: ProfileChanges
    judge: Judge | None
    seed: int
    until: Until | None = None

    def estimate(self) -> tuple[int, RunEstimate]:
        """Probe the response length; return the maximum length and the cost estimate of the run."""
        profile = mapping.resolve_profile(self.profile, **self.changes)
        design = mapping.design_run(self.engine, self.corpus, profile, seed=self.seed, until=self.until)
        return design.profile.max_new_tokens, mapping.estimate(self.engine, design, judge=self.judge)

    def work(self, folder: Path) -> WorkEstimate:
        """Return the cost estimate of the run in a folder, as that of every other long command."""
        longest, found = self.estimate()
        step = WorkStep(
            "responses",
            found.rollouts,
            found.rollouts if self.changes.get("role_information") is not False else 0,
            found.prompt_tokens,
            found.response_tokens,
            found.seconds,
        )
        if found.judge is not None:
            judge = found.judge
            step += WorkStep("", sent=judge.prompt_tokens, received=judge.completion_tokens, cost=judge.cost)
        gib = 2**30
        size = f"{found.disk.total / gib:.2f} GiB on the disk, {found.memory / gib:.2f} GiB beside the model"
        remarks = [f"responses of {longest} tokens at most", size]
        if found.expected is not None:
            least, most = found.expected.least, found.expected.most
            remarks.append(f"{least:,} to {most:,} of the responses until enough is known")
        return WorkEstimate("map", (step,), written(folder, ("manifest.json", "units", MAP)), tuple(remarks))

    def run(
        self,
        *,
        out: Path | str | None = None,
        vectors: Vectors = "played",
        adjust_length: bool = False,
        progress: ProgressCallback | bool = True,
        restart: bool = False,
        command: str = "",
    ) -> MapResult:
        """Run the mapping; the same call resumes an interrupted run (`run_map`)."""
        return mapping.run_map(
            self.engine,
            self.corpus,
            self.profile,
            out=as_folder(out, self.layout.folder),
            judge=self.judge,
            seed=self.seed,
            vectors=vectors,
            adjust_length=adjust_length,
            progress=progress,
            restart=restart,
            command=command,
            until=self.until,
            **self.changes,
        )


def prepare_map(
    model: str,
    profile: str = "standard",
    *,
    corpus: Corpus | Path | str | None = None,
    judge: Judge | JudgeChoice | str | None = "",
    seed: int = 0,
    loading: dict[str, Any] | None = None,
    engine: LocalEngine | Callable[[], LocalEngine] | None = None,
    tell: Tell = quiet,
    until: Until | Mapping[str, float] | Sequence[str] | str | None = None,
    **changes: Unpack[ProfileChanges],
) -> PreparedMap:
    """Check the arguments of a mapping run, and load the model if it is not loaded yet.

    Args:
        model: Hub id, local folder, GGUF file, or name of an embedded model.
        profile: Name of the profile.
        corpus: Roles and questions; the built-in ones if not given.
        judge: Judge, `JudgeChoice` or specification (`parse_judge`); None or "none" for no judge. If not
            given, "rules" for an embedded model.
        seed: Random seed.
        loading: Options of `load_engine`.
        engine: Engine of the model, or a function that loads it, instead of ``loading``.
        tell: Callback for status messages before slow steps.
        until: What to stop at, such as "axis=0.95" or "tokens=2e6"; None asks the whole design.
        changes: Values that override the profile's.

    Raises:
        UsageError: If no judge is named for a model that needs one, or an argument does not fit.
        CorpusError: If the corpus cannot be read.
        ModelError: If the model cannot be loaded.
    """
    chosen = choose_judge(default_judge(model) if judge == "" else judge)
    texts = as_corpus(corpus)
    # Build the design once now, so that an unsuitable corpus is reported before the model is loaded.
    mapping.build_design(texts, mapping.resolve_profile(profile, **changes), seed, Path(model).name)
    goal = mapping.read_until(until)
    scorer = as_judge(chosen, tell)
    mapping.check_until(goal, scorer)
    if engine is None:
        tell(f"loading {model} ...")
        made = engines.load_engine(model, **(loading or {}))
    else:
        made = engine() if callable(engine) else engine
    tell_thinking(made, tell)
    return PreparedMap(RunLayout.for_model(model), made, texts, profile, changes, scorer, seed, goal)
