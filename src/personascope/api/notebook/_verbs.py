"""Calibrate a cap, and let conversations drift, on a model and its map."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from personascope import api
from personascope.api._estimate import Prepared, estimable
from personascope.api.notebook._model import Model
from personascope.api.notebook._open import MapLike, as_map
from personascope.calibration import Window
from personascope.corpus import Corpus
from personascope.corpus.dialogues import DOMAINS
from personascope.directions import CONTROLS, N_CONTROLS
from personascope.dynamics.monitor import Monitor
from personascope.interventions import Plan
from personascope.judge import Judge


@estimable
def calibrate(
    model: Model | None,
    pmap: MapLike,
    *,
    windows: Sequence[tuple[int, int] | str] | None = None,
    axis_percentiles: Sequence[float] = (25.0, 50.0, 75.0, 90.0),
    n_random: int = N_CONTROLS,
    controls: Sequence[str] = CONTROLS,
    roles: int = 50,
    prompts: int = 1,
    jailbreaks: int | None = None,
    questions: int | None = None,
    max_capability_loss: float = 0.02,
    max_incoherent_rise: float = 0.02,
    dataset: str | None = None,
    personas: Path | str | None = None,
    corpus: Corpus | Path | str | None = None,
    judge: Judge | api.JudgeChoice | str = "rules",
    out: Path | str | None = None,
    seed: int = 0,
    restart: bool = False,
) -> Prepared[api.Sweep]:
    """Sweep caps over layers and floors, each with controls, and recommend one (section 5 of the paper).

    The same call goes on with an interrupted sweep. ``calibrate.estimate`` says what it would take.

    Args:
        model: Loaded model; None loads the map's own.
        pmap: Map, or its run folder. Its run must have kept responses, as it does by default.
        windows: Bands of layers, end-exclusive, such as (14, 22); default bands if not given.
        axis_percentiles: Floors, as percentiles of responses in a role on the axis; higher is stronger.
        n_random: Number of controls of each kind for each cap.
        controls: Kinds of controls: "isotropic", "shuffled", "role-span".
        roles: Number of roles asked who they are, those nearest the Assistant; at most as many as there are.
        prompts: Number of system prompts of each.
        jailbreaks: Maximum number of persona jailbreaks; the whole set if not given.
        questions: Number of questions of the capability task; all if not given.
        max_capability_loss: Largest loss of accuracy of a cap that is recommended, as a fraction.
        max_incoherent_rise: Largest rise of the share of incoherent responses of such a cap.
        dataset: Jailbreak set; the built-in mild one if not given.
        personas: Personas to cross with questions that have none: "builtin", or a YAML file.
        corpus: Corpus with the roles; the built-in one if not given.
        judge: Judge that labels the responses, as in `map`.
        out: Folder of the sweep; ``calibration`` in the run folder if not given.
        seed: Random seed.
        restart: Discard the sweep that is already in the folder.

    Returns:
        The sweep: ``.plan`` is the recommended cap, or None if none passed, and ``.why`` says why.

    Raises:
        SpaceError: If the map found no axis.
        EvaluationError: If the run kept no response.
        UsageError: If an argument does not fit.
    """
    opened = as_map(pmap)
    bands = (
        None if windows is None else [one if isinstance(one, str) else str(Window(*one)) for one in windows]
    )
    settings = api.SweepSettings(
        axis_percentiles=tuple(axis_percentiles),
        n_random=n_random,
        controls=controls,
        roles=roles,
        prompts=prompts,
        jailbreaks=jailbreaks,
        questions=questions,
        max_capability_loss=max_capability_loss,
        max_incoherent_rise=max_incoherent_rise,
    )
    return api.calibrate.prepare(
        opened.mapped(model),
        settings,
        windows=bands,
        dataset=dataset,
        personas=personas,
        corpus=corpus,
        judge=judge,
        out=out,
        seed=seed,
        restart=restart,
        anyway=opened.anyway,
    )


@estimable
def simulate(
    model: Model | None,
    pmap: MapLike,
    *,
    domains: Sequence[str] = DOMAINS,
    conversations: int = 20,
    turns: int = 15,
    cases: bool = False,
    switch_at: int | None = None,
    auditor: str = "scripted",
    plan: Plan | Path | str | None = None,
    monitor: Monitor | None = None,
    layer: int | None = None,
    probes: Sequence[str] = (),
    max_new_tokens: int = 256,
    part: str = "answer",
    temperature: float = 0.7,
    out: Path | str | None = None,
    seed: int = 0,
    restart: bool = False,
) -> Prepared[api.Conversations]:
    """Let a user talk with the model, and read where each reply lies on the axis (section 4 of the paper).

    The same call goes on with an interrupted run. ``simulate.estimate`` says what it would take.

    Args:
        model: Loaded model; None loads the map's own.
        pmap: Map, or its run folder.
        domains: Names of built-in domains, or YAML files of the same form.
        conversations: Number of conversations of each domain.
        turns: Maximum number of turns of a conversation.
        cases: Whether to run the case studies instead.
        switch_at: Index of the turn, from 0, in which the user asks the model to be a role.
        auditor: Who plays the user: "scripted", "self" or "openai:MODEL@BASE_URL".
        plan: Plan under which the model replies.
        monitor: Drift monitor that follows every conversation (`personascope.Monitor`).
        layer: Layer at which positions are read; the map's middle layer if not given.
        probes: Names of further directions, as in `PersonaMap.direction`.
        max_new_tokens: Maximum length of a reply, in tokens.
        part: Tokens of a reply that are read: "answer", "thinking" or "response".
        temperature: Sampling temperature of the replies.
        out: Folder of the conversations; ``drift/simulated`` in the run folder if not given.
        seed: Random seed.
        restart: Discard the run that is already in the folder.

    Raises:
        UsageError: If an argument does not fit.
        StoreError: If the folder holds another run, or the model is not the map's.
    """
    return api.simulate.prepare(
        as_map(pmap).mapped(model),
        domains=tuple(domains),
        per_domain=conversations,
        turns=turns,
        cases=cases,
        switch_at=switch_at,
        auditor=auditor,
        plan=plan,
        monitor=monitor,
        layer=layer,
        probes=probes,
        max_new_tokens=max_new_tokens,
        part=part,
        temperature=temperature,
        out=out,
        seed=seed,
        restart=restart,
    )
