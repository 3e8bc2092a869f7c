"""From a model to its persona map: checked before the model is loaded, then estimated or run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from personascope import engines, mapping
from personascope.api._chat_options import tell_thinking
from personascope.api._inputs import Tell, as_corpus, quiet
from personascope.api._judging import JudgeChoice, as_judge, choose_judge, default_judge
from personascope.api._layout import RunLayout
from personascope.corpus import Corpus
from personascope.judge import Judge
from personascope.mapping import MapResult, ProfileChanges, RunEstimate, Vectors
from personascope.runs import ProgressCallback

if TYPE_CHECKING:
    from personascope.engines import LocalEngine


@dataclass(frozen=True, slots=True, eq=False)
class PreparedMap:
    """A map that can be estimated or made: made by `prepare_map`.

    Attributes:
        layout: Where it is made unless another folder is named.
        engine: The model.
        corpus: Roles and questions.
        profile: Name of the profile.
        changes: What replaces the profile's values.
        judge: Scores the responses; None for no judge.
        seed: Random seed of all that is drawn.
    """

    layout: RunLayout
    engine: LocalEngine
    corpus: Corpus
    profile: str
    changes: ProfileChanges
    judge: Judge | None
    seed: int

    def estimate(self) -> tuple[int, RunEstimate]:
        """Probe how long responses are; return their length at most, and what the run would take."""
        profile = mapping.resolve_profile(self.profile, **self.changes)
        design = mapping.design_run(self.engine, self.corpus, profile, seed=self.seed)
        return design.profile.max_new_tokens, mapping.estimate(self.engine, design, judge=self.judge)

    def run(
        self,
        *,
        out: Path | None = None,
        vectors: Vectors = "played",
        adjust_length: bool = False,
        progress: ProgressCallback | bool = True,
        restart: bool = False,
        command: str = "",
    ) -> MapResult:
        """Make the map; the same call resumes a run (`run_map`)."""
        return mapping.run_map(
            self.engine,
            self.corpus,
            self.profile,
            out=out or self.layout.folder,
            judge=self.judge,
            seed=self.seed,
            vectors=vectors,
            adjust_length=adjust_length,
            progress=progress,
            restart=restart,
            command=command,
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
    tell: Tell = quiet,
    **changes: Unpack[ProfileChanges],
) -> PreparedMap:
    """Check what a map is to be made of, and load the model.

    Args:
        model: Hub id, local folder, GGUF file, or an embedded name.
        profile: Name of a profile: how much to ask.
        corpus: Roles and questions; the built-in ones if not given.
        judge: A judge, a `JudgeChoice` or a specification (`parse_judge`), None or "none" for none; if not
            given, rules for an embedded model.
        seed: Random seed of all that is drawn.
        loading: Options of `load_engine`.
        tell: Called with a line before something takes its time.
        changes: What replaces the profile's values.

    Raises:
        UsageError: If no judge is named for a model that needs one, or something does not fit.
        CorpusError: If the corpus cannot be read.
        ModelError: If the model cannot be loaded.
    """
    chosen = choose_judge(default_judge(model) if judge == "" else judge)
    texts = as_corpus(corpus)
    # Whatever the corpus cannot give is said before a model is loaded.
    mapping.build_design(texts, mapping.resolve_profile(profile, **changes), seed, Path(model).name)
    scorer = as_judge(chosen, tell)
    tell(f"loading {model} ...")
    engine = engines.load_engine(model, **(loading or {}))
    tell_thinking(engine, tell)
    return PreparedMap(RunLayout.for_model(model), engine, texts, profile, changes, scorer, seed)
