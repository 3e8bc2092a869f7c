"""Map a loaded model, or go on with its map."""

from __future__ import annotations

from pathlib import Path
from typing import Unpack

from personascope import api
from personascope.api._estimate import Prepared, estimable
from personascope.api.notebook._model import Model, load
from personascope.api.notebook._open import open
from personascope.api.notebook._persona_map import PersonaMap
from personascope.api.notebook._status import say
from personascope.corpus import Corpus
from personascope.errors import SpaceError
from personascope.judge import Judge
from personascope.mapping import ProfileChanges, Vectors
from personascope.runs import ProgressCallback


@estimable
def map(
    model: Model | Path | str,
    profile: str = "standard",
    *,
    judge: Judge | api.JudgeChoice | str | None = "",
    corpus: Corpus | Path | str | None = None,
    out: Path | str | None = None,
    seed: int = 0,
    vectors: Vectors = "played",
    adjust_length: bool = False,
    progress: ProgressCallback | bool = True,
    restart: bool = False,
    anyway: bool = False,
    **changes: Unpack[ProfileChanges],
) -> Prepared[PersonaMap]:
    """Map a model's persona space: generate responses in roles, judge them, and find the Assistant Axis.

    The same call goes on with an interrupted run, and returns at once when the map is complete.
    ``map.estimate`` takes the same arguments, and says what it would take.

    Args:
        model: Loaded model, or its name.
        profile: "quick", "standard" or "paper".
        judge: Judge of the responses: "rules", "openai:MODEL@BASE_URL", "local:MODEL", a judge, or None for
            none. If not given, "rules" for an embedded model.
        corpus: Roles and questions: a corpus or its folder; the built-in ones if not given.
        out: Run folder; ``runs/NAME`` if not given.
        seed: Random seed.
        vectors: Responses in role vectors: those that played their role, or all that the judge passes
            ("rubric").
        adjust_length: Whether to regress out response length, within questions.
        progress: Whether to show a progress bar, or a callback to call after each completion instead.
        restart: Discard a run that is already in the folder.
        anyway: Whether to steer and cap even if no axis is found.
        changes: Values that override the profile's, such as ``roles=40`` or ``keep="all"``.

    Raises:
        UsageError: If no judge is named for a model that needs one, or an argument does not fit.
        StoreError: If the folder holds another run or cannot be written.
        SpaceError: If there are too few responses with a score for a map; the same call goes on.
    """
    name = model.name if isinstance(model, Model) else str(model)
    prepared = api.prepare_map(
        name,
        profile,
        corpus=corpus,
        judge=judge,
        seed=seed,
        engine=model.engine if isinstance(model, Model) else lambda: load(name).engine,
        tell=say,
        **changes,
    )
    folder = prepared.layout.folder if out is None else Path(out)

    def run() -> PersonaMap:
        result = prepared.run(
            out=folder, vectors=vectors, adjust_length=adjust_length, progress=progress, restart=restart
        )
        if result.space is None:
            raise SpaceError(
                f"the run in {folder} has no map yet: {result.collected.problem}",
                hint="the same call goes on",
            )
        if result.collected.partial:
            say(f"partly done: {result.collected.problem}; the same call goes on")
        loaded = model if isinstance(model, Model) else Model(name, prepared.engine)
        return open(folder, model=loaded, anyway=anyway, progress=progress)

    return Prepared(lambda: prepared.work(folder), run)
