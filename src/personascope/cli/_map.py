"""``personascope map``: from a model to its persona space."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import typer

from personascope import engines, mapping
from personascope.cli._console import PARTLY, err, out, say, this_command
from personascope.cli._engine import open_judge
from personascope.cli._judging import print_judging
from personascope.cli._options import (
    ADDRESS,
    BATCH,
    CORPUS,
    DTYPE,
    ENGINE,
    FALLBACK,
    FALLBACK_HEADER,
    FALLBACK_PRICE,
    JUDGE_HEADER,
    JUDGE_PRICE,
    MAX_COST,
    RESTART,
    TRUST,
    WORKERS,
    DtypeName,
    EngineName,
    ProfileName,
    VectorsName,
    names,
)
from personascope.cli._show import print_map
from personascope.corpus import load_corpus
from personascope.errors import UsageError
from personascope.models import EMBEDDED
from personascope.space import PersonaMap

if TYPE_CHECKING:
    from personascope.mapping import ProfileChanges, RunEstimate


def map_model(
    model: str = typer.Argument(
        ..., help="Hub id, local folder, GGUF file, or an embedded name: smollm2-135m, gemma-3-270m."
    ),
    out_folder: Path = typer.Option(None, "--out", help="Run folder; runs/<model> if not given."),
    profile: ProfileName = typer.Option("standard", help="How much to ask (docs/design.md)."),
    corpus: Path = CORPUS,
    judge: str = typer.Option(
        None, help="rules, openai:MODEL@BASE_URL, local:MODEL or none; rules for an embedded model."
    ),
    fallback_judge: str = FALLBACK,
    judge_header: list[str] = JUDGE_HEADER,
    fallback_header: list[str] = FALLBACK_HEADER,
    judge_price: str = JUDGE_PRICE,
    fallback_price: str = FALLBACK_PRICE,
    max_cost: float = MAX_COST,
    roles: int = typer.Option(None, min=1, help="Roles to draw, instead of the profile's number."),
    prompts: int = typer.Option(None, min=1, help="Prompts to draw of each role, likewise."),
    questions: int = typer.Option(None, min=1, help="Questions to draw, likewise."),
    kinds: str = typer.Option(
        None, help="Kinds of question to draw from, with commas; all but personal if not given."
    ),
    max_new_tokens: int = typer.Option(
        None, min=1, help="Length of a response at most; by default the profile's, or found by a short probe."
    ),
    vectors: VectorsName = typer.Option(
        "played", help="Role vectors of the responses that played, or of all by the paper's rubric."
    ),
    role_information: bool = typer.Option(True, help="Check of every response whether it played its role."),
    adjust_length: bool = typer.Option(False, help="Regress the length of responses out, within questions."),
    default_samples: int = typer.Option(
        None, min=1, help="Rollouts of the default for each prompt and question."
    ),
    keep: str = typer.Option(None, help="Pooled activations to keep on the disk: all, or a number."),
    seed: int = typer.Option(0, help="Random seed of roles, prompts, questions and tokens."),
    engine_kind: EngineName = ENGINE,
    dtype: DtypeName = DTYPE,
    device: str = typer.Option(None, help="cpu, cuda, cuda:1, ...; the first GPU if there is one."),
    device_map: str = typer.Option(None, help="auto: spread the model over all GPUs."),
    max_batch: int = BATCH,
    workers: int = WORKERS,
    address: str = ADDRESS,
    transcript: bool = typer.Option(
        False, help="Write conversations as a plain transcript, for a base model without a chat template."
    ),
    trust_remote_code: bool = TRUST,
    restart: bool = RESTART,
    dry_run: bool = typer.Option(False, help="Print what it would take, and stop."),
) -> None:
    """Role-play the corpus with a model and write its persona map; the same command resumes a run."""
    if judge is None:
        if model not in EMBEDDED:
            raise UsageError(
                f"no judge was named for {model}",
                hint="add --judge openai:MODEL@BASE_URL, --judge local:MODEL, --judge rules or --judge none",
            )
        judge = "rules"
    changes: ProfileChanges = {
        "roles": roles,
        "prompts": prompts,
        "questions": questions,
        "kinds": None if kinds is None else names(kinds),
        "default_samples": default_samples,
        "max_new_tokens": max_new_tokens,
        # A length that was asked for is not probed.
        "longest": max_new_tokens,
        "role_information": role_information,
        "keep": None if keep is None else _keep(keep),
    }
    texts = load_corpus(corpus)
    # Whatever the corpus cannot give is said before a model is loaded.
    mapping.build_design(texts, mapping.resolve_profile(profile, **changes), seed, Path(model).name)
    scorer = open_judge(
        judge,
        fallback_judge,
        headers=judge_header,
        fallback_headers=fallback_header,
        price=judge_price,
        fallback_price=fallback_price,
        max_cost=max_cost,
    )
    say(f"loading {model}")
    engine = engines.load_engine(
        model,
        engine=engine_kind,
        dtype=dtype,
        device=device,
        device_map=device_map,
        max_batch=max_batch,
        transcript=transcript,
        trust_remote_code=trust_remote_code,
        workers=workers,
        address=address,
    )
    if dry_run:
        say("probing how long responses are")
        design = mapping.design_run(engine, texts, mapping.resolve_profile(profile, **changes), seed=seed)
        out.print(f"length            {design.profile.max_new_tokens} tokens at most")
        _print_estimate(mapping.estimate(engine, design, judge=scorer))
        return
    folder = out_folder or Path("runs") / Path(model).name
    begun = time.monotonic()
    result = mapping.run_map(
        engine,
        texts,
        profile,
        out=folder,
        judge=scorer,
        restart=restart,
        command=this_command(),
        seed=seed,
        vectors=vectors,
        adjust_length=adjust_length,
        **changes,
    )
    got = result.collected
    seconds = time.monotonic() - begun
    scores = ", ".join(f"{score}: {count}" for score, count in sorted(got.scores.items()))
    out.print(
        f"{got.rollouts} of {got.total} responses in {folder} ({seconds:.0f} s); scores {scores or 'none'}; "
        f"{got.empty} empty, {got.unscored} unscored"
    )
    if scorer is not None and got.judge is not None:
        print_judging(scorer.name, got.judge)
    if result.space is not None:
        print_map(PersonaMap.open(folder / mapping.MAP), ends=10, layers=False, scores=False)
    if got.partial:
        err.print(f"[yellow]partly done:[/] {got.problem}; run the same command again to go on")
        raise typer.Exit(PARTLY)


def _keep(value: str) -> int | Literal["all"]:
    if value == "all":
        return "all"
    if value.isdigit():
        return int(value)
    raise UsageError(f"--keep {value!r} is neither a number nor all", hint="give --keep all, or --keep 512")


def _print_estimate(found: RunEstimate) -> None:
    out.print(f"rollouts          {found.rollouts:,}")
    out.print(f"prompt tokens     {found.prompt_tokens:,}")
    out.print(f"response tokens   {found.response_tokens:,} at most")
    if found.ended is not None:
        out.print(f"ended by then     {found.ended:.0%} of the responses")
    if found.seconds is not None:
        out.print(f"time              {found.seconds / 60:,.1f} minutes, from a short probe")
    disk = found.disk
    out.print(
        f"disk              {disk.total / 2**30:.2f} GiB (sums {disk.sums / 2**30:.2f}, "
        f"map {disk.map / 2**30:.2f}, kept {disk.kept / 2**30:.2f}, rollouts {disk.rollouts / 2**30:.2f})"
    )
    out.print(f"memory            {found.memory / 2**30:.2f} GiB beside the model")
    out.print(f"judge             {found.judge if found.judge is not None else 'nothing to pay'}")
