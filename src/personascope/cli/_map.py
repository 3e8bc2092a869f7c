"""``personascope map``: from a model to its persona space."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import typer

from personascope import api
from personascope.cli._console import PARTLY, err, out, say, say_next, this_command
from personascope.cli._groups import JudgeOptions, grouped
from personascope.cli._json import hand_over
from personascope.cli._judging import print_judging
from personascope.cli._options import (
    ADDRESS,
    BATCH,
    CORPUS,
    DRY_RUN,
    DTYPE,
    ENGINE,
    MAX_SEED,
    MAX_THINKING,
    RESTART,
    TEMPLATE_ARG,
    THINKING,
    TRUST,
    WORKERS,
    DtypeName,
    EngineName,
    PartName,
    ProfileName,
    ThinkingName,
    VectorsName,
    names,
)
from personascope.cli._show import print_map
from personascope.cli._traits import print_result
from personascope.errors import UsageError

if TYPE_CHECKING:
    from personascope.mapping import Expected, RunEstimate


JUDGE_OF_A_MAP = JudgeOptions(
    judge=typer.Option(
        None, help="rules, openai:MODEL@BASE_URL, local:MODEL or none; rules for an embedded model."
    )
)


@grouped
def map_model(
    model: str = typer.Argument(
        ..., help="Hub id, local folder, GGUF file, or an embedded name: smollm2-135m, gemma-3-270m."
    ),
    out_folder: Path | None = typer.Option(None, "--out", help="Run folder; runs/<model> if not given."),
    profile: ProfileName = typer.Option("standard", help="How much to ask (docs/design.md)."),
    corpus: Path | None = CORPUS,
    judge: JudgeOptions = JUDGE_OF_A_MAP,
    roles: int | None = typer.Option(None, min=1, help="Roles to draw, instead of the profile's number."),
    prompts: int | None = typer.Option(None, min=1, help="Prompts to draw of each role, likewise."),
    questions: int | None = typer.Option(None, min=1, help="Questions to draw, likewise."),
    kinds: str | None = typer.Option(
        None, help="Kinds of question to draw from, with commas; all but personal if not given."
    ),
    max_new_tokens: int | None = typer.Option(
        None, min=1, help="Length of a response at most; by default the profile's, or found by a short probe."
    ),
    thinking: ThinkingName | None = THINKING,
    template_arg: list[str] | None = TEMPLATE_ARG,
    max_thinking_tokens: int | None = MAX_THINKING,
    tokens: PartName | None = typer.Option(
        None, "--tokens", "--part", help="Tokens of a response that are pooled; the answer's if not given."
    ),
    vectors: VectorsName = typer.Option(
        "played", help="Role vectors of the responses that played, or of all by the paper's rubric."
    ),
    role_information: bool = typer.Option(True, help="Check of every response whether it played its role."),
    adjust_length: bool = typer.Option(False, help="Regress the length of responses out, within questions."),
    default_samples: int | None = typer.Option(
        None, min=1, help="Rollouts of the default for each prompt and question."
    ),
    keep: str | None = typer.Option(None, help="Pooled activations to keep on the disk: all, or a number."),
    traits: bool = typer.Option(
        False, "--traits", help="Ask the traits too, as personascope traits does, with the same profile."
    ),
    seed: int = typer.Option(
        0, min=0, max=MAX_SEED, help="Random seed of roles, prompts, questions and tokens."
    ),
    engine_kind: EngineName = ENGINE,
    dtype: DtypeName = DTYPE,
    device: str | None = typer.Option(None, help="cpu, cuda, cuda:1, ...; the first GPU if there is one."),
    device_map: str | None = typer.Option(None, help="auto: spread the model over all GPUs."),
    max_batch: int = BATCH,
    workers: int = WORKERS,
    address: str | None = ADDRESS,
    transcript: bool = typer.Option(
        False, help="Write conversations as a plain transcript, for a base model without a chat template."
    ),
    trust_remote_code: bool = TRUST,
    until: list[str] | None = typer.Option(
        None,
        help="Stop when enough is known: axis=0.95, roles=0.3, tokens=2e6, minutes=10 or cost=1.5; the first "
        "that is met stops (docs/design.md).",
    ),
    restart: bool = RESTART,
    dry_run: bool = DRY_RUN,
) -> None:
    """Role-play the corpus with a model and write its persona map; the same command resumes a run."""
    chosen = judge.choose(lambda: api.default_judge(model))
    found = api.traits_beside(corpus) if traits else None
    scored = traits and api.trait_judge(chosen) is not None
    prepared = api.prepare_map(
        model,
        profile,
        corpus=corpus,
        judge=chosen,
        seed=seed,
        loading={
            "engine": engine_kind,
            "dtype": dtype,
            "device": device,
            "device_map": device_map,
            "max_batch": max_batch,
            "transcript": transcript,
            "trust_remote_code": trust_remote_code,
            "workers": workers,
            "address": address,
            "chat_options": api.read_chat_options(thinking, template_arg or ()),
        },
        tell=say,
        until=until,
        roles=roles,
        prompts=prompts,
        questions=questions,
        kinds=None if kinds is None else names(kinds),
        default_samples=default_samples,
        max_new_tokens=max_new_tokens,
        # A requested length is final, so suppress the probe.
        longest=max_new_tokens,
        max_thinking_tokens=max_thinking_tokens,
        tokens=tokens,
        role_information=role_information,
        keep=None if keep is None else _keep(keep),
    )
    if dry_run:
        say("probing how long responses are ...")
        longest, estimate = prepared.estimate()
        out.print(f"length            {longest} tokens at most")
        _print_estimate(estimate)
        hand_over(estimate=asdict(estimate), max_new_tokens=longest)
        return
    layout = prepared.layout if out_folder is None else api.RunLayout(out_folder)
    begun = time.monotonic()
    result = prepared.run(
        out=layout.folder,
        vectors=vectors,
        adjust_length=adjust_length,
        restart=restart,
        command=this_command(),
    )
    got = result.collected
    seconds = time.monotonic() - begun
    scores = ", ".join(f"{score}: {count}" for score, count in sorted(got.scores.items()))
    out.print(
        f"{got.rollouts} of {got.total} responses in {layout.folder} ({seconds:.0f} s); "
        f"scores {scores or 'none'}; {got.empty} empty, {got.unscored} unscored"
    )
    if got.thinking:
        err.print(
            f"[yellow]left out:[/] {got.thinking} responses that never left thinking; "
            "give more --max-thinking-tokens"
        )
    if got.unanswered:
        err.print(f"[yellow]left out:[/] {got.unanswered} responses without the tokens that are pooled")
    if prepared.judge is not None and got.judge is not None:
        print_judging(prepared.judge.name, got.judge)
    if result.space is not None:
        print_map(api.PersonaMap.open(layout.map), ends=10, layers=False, scores=False)
    if got.partial:
        err.print(f"[yellow]partly done:[/] {got.problem}; run the same command again to go on")
        raise typer.Exit(PARTLY)
    where = layout.folder
    say_next(("show", where), ("report", where), ("steer", where, "Who are you?"), ("calibrate", where))
    if found is not None:
        mapped = api.MappedModel.open(layout.folder, engine=prepared.engine, tell=say, command=this_command())
        after = api.prepare_traits(
            mapped,
            corpus=found,
            bank=prepared.corpus,
            profile=profile,
            judge=prepared.judge if scored else None,
            seed=seed,
            anyway=True,
        )
        print_result(after, after.run(restart=restart), ends=10)


def _keep(value: str) -> int | Literal["all"]:
    if value == "all":
        return "all"
    if value.isdigit():
        return int(value)
    raise UsageError(f"--keep {value!r} is neither a number nor all", hint="give --keep all, or --keep 512")


def _print_expected(found: RunEstimate, expected: Expected) -> None:
    each = found.response_tokens / max(found.rollouts, 1)
    low, high = expected.least, expected.most
    out.print(f"until             {low:,} to {high:,} of them: an estimate, from variances of other models")
    out.print(f"  tokens          {low * each:,.0f} to {high * each:,.0f}")
    if found.seconds is not None:
        minutes = found.seconds / 60 / max(found.rollouts, 1)
        out.print(f"  time            {low * minutes:,.1f} to {high * minutes:,.1f} minutes")
    cost = None if found.judge is None else found.judge.cost
    if cost is not None:
        out.print(
            f"  cost            {cost * low / found.rollouts:.2f} to {cost * high / found.rollouts:.2f}"
        )
    if high >= expected.whole:
        out.print("  it may not be reached: give more --questions or --prompts, or another profile")


def _print_estimate(found: RunEstimate) -> None:
    out.print(f"rollouts          {found.rollouts:,}")
    out.print(f"prompt tokens     {found.prompt_tokens:,}")
    out.print(f"response tokens   {found.response_tokens:,} at most")
    if found.ended is not None:
        out.print(f"ended by then     {found.ended:.0%} of the responses")
    if found.seconds is not None:
        out.print(f"time              {found.seconds / 60:,.1f} minutes, from a short probe")
    if found.expected is not None:
        _print_expected(found, found.expected)
    disk = found.disk
    out.print(
        f"disk              {disk.total / 2**30:.2f} GiB (sums {disk.sums / 2**30:.2f}, "
        f"map {disk.map / 2**30:.2f}, kept {disk.kept / 2**30:.2f}, rollouts {disk.rollouts / 2**30:.2f})"
    )
    out.print(f"memory            {found.memory / 2**30:.2f} GiB beside the model")
    out.print(f"judge             {found.judge if found.judge is not None else 'nothing to pay'}")
