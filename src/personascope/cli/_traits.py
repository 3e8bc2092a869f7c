"""``personascope traits``: trait vectors of a mapped model, ranked by their cosine to the axis."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.markup import escape

from personascope import api
from personascope.cli._console import PARTLY, err, out, say_next
from personascope.cli._groups import EngineOptions, JudgeOptions, grouped
from personascope.cli._json import hand_over
from personascope.cli._judging import judged_by, print_judging
from personascope.cli._options import (
    ANYWAY,
    DRY_RUN,
    MAX_SEED,
    RESTART,
    RUN,
    TRAIT_CORPUS,
    ProfileName,
    names,
)
from personascope.errors import UsageError

if TYPE_CHECKING:
    from rich.table import Table

    from personascope.api import PreparedTraits, TraitEstimate
    from personascope.corpus import TraitEntry
    from personascope.space import MapTraits, PersonaMap, TraitPlace
    from personascope.trait_vectors import TraitsResult

JUDGE_OF_TRAITS = JudgeOptions(
    judge=typer.Option(
        None,
        help="openai:MODEL@BASE_URL or local:MODEL, from 0 to 100; none keeps every pair, without a score.",
    )
)


@grouped
def run_traits(
    run: Path = RUN,
    traits: str | None = typer.Option(None, help="Traits and groups, with commas; all if not given."),
    n: int | None = typer.Option(None, "--n", min=1, help="Traits to draw, instead of the profile's number."),
    corpus: Path | None = TRAIT_CORPUS,
    profile: ProfileName = typer.Option("standard", help="How much to ask (docs/traits.md)."),
    prompts: int | None = typer.Option(None, min=1, help="Pairs of prompts to draw of each trait."),
    questions: int | None = typer.Option(None, min=2, help="Questions to draw from the bank."),
    bank: Path | None = typer.Option(None, help="Corpus folder whose questions are asked."),
    own_questions: bool = typer.Option(False, "--own-questions", help="Ask each trait its own questions."),
    min_pairs: int | None = typer.Option(None, min=1, help="Kept pairs that a trait vector needs."),
    max_new_tokens: int | None = typer.Option(
        None, min=1, help="Length of a response at most; that of the map's responses if not given."
    ),
    keep: int | None = typer.Option(None, min=1, help="Pooled activations to keep on the disk."),
    judge: JudgeOptions = JUDGE_OF_TRAITS,
    new: str | None = typer.Option(None, help="Name of a trait whose prompts a model writes."),
    writer: str | None = typer.Option(
        None, help="Who writes them: self, local:MODEL, openai:MODEL@BASE_URL; the judge if not given."
    ),
    yes: bool = typer.Option(False, "--yes", help="Run what was written without asking."),
    name: str = typer.Option("", help="Name of the set in the map; that of the traits if not given."),
    seed: int = typer.Option(0, min=0, max=MAX_SEED, help="Random seed of the draws and tokens."),
    loading: EngineOptions = EngineOptions(),
    restart: bool = RESTART,
    anyway: bool = ANYWAY,
    ends: int = typer.Option(20, min=0, help="Traits to list at each end of the axis; 0 for all."),
    dry_run: bool = DRY_RUN,
) -> None:
    """Ask both poles of traits, and rank them by their cosine to the axis; the same command resumes a run."""
    chosen = judge.choose(lambda: "none")
    api.trait_judge(chosen)
    author = api.choose_writer(new, writer, chosen.spec)
    wanted = names(traits or "")
    if new is not None and (wanted or corpus is not None):
        raise UsageError("--new names one trait, and --traits or --corpus others", hint="give one of them")
    mapped = loading.open(run)
    if new is not None:
        mapped.require_axis(anyway=anyway)
        # The judge's headers may hold its key, so no other server gets them.
        headers = api.read_headers(judge.judge_header or ()) if writer is None else None
        entry, path = api.write_trait_file(mapped, new, author, headers=headers, seed=seed)
        if not path.exists():
            _print_trait(entry)
            if not yes and not typer.confirm("Run this trait?"):
                out.print("nothing was saved")
                return
            api.save_trait_file(entry, path)
            out.print(f"saved as {path}")
        corpus = path
    prepared = api.prepare_traits(
        mapped,
        wanted,
        corpus=corpus,
        bank=bank,
        profile=profile,
        judge=chosen,
        name=name,
        seed=seed,
        anyway=anyway,
        traits=n,
        prompts=prompts,
        questions=questions,
        own_questions=own_questions or None,
        min_pairs=min_pairs,
        max_new_tokens=max_new_tokens,
        keep=keep,
    )
    if dry_run:
        estimate = prepared.estimate()
        _print_estimate(estimate)
        hand_over(estimate=asdict(estimate))
        return
    print_result(prepared, prepared.run(restart=restart), ends=ends)
    say_next(("show", run), ("report", run))


def print_result(prepared: PreparedTraits, result: TraitsResult, *, ends: int) -> None:
    """Print what a trait run did, and its traits along the axis.

    Raises:
        Exit: With the code of a partly done command, if rollouts or scores are missing.
    """
    got = result.collected
    pairs = ", ".join(f"{fate} {count}" for fate, count in sorted(got.pairs.items()))
    out.print(f"{got.rollouts} of {got.total} responses in {prepared.folder}; pairs: {pairs or 'none'}")
    refused, unscored = got.statuses.get("refused", 0), got.unscored
    if refused or unscored:
        out.print(f"{refused} responses refuse, {unscored} have no score")
    if prepared.judge is not None and got.judge is not None:
        print_judging(prepared.judge.name, got.judge)
    if result.traits is not None:
        print_traits(prepared.mapped.persona_map, ends=ends, new=result.traits)
    if got.partial:
        err.print(f"[yellow]partly done:[/] {got.problem}; run the same command again to go on")
        raise typer.Exit(PARTLY)


def print_traits(persona_map: PersonaMap, *, ends: int, new: MapTraits | None = None) -> None:
    """Print the sets of traits of a map in one ranking, each with what it rests on.

    Args:
        persona_map: Map with traits; nothing is printed for one without.
        ends: Traits to list at each end of the axis; 0 for all.
        new: Set whose traits are always listed.
    """
    if stale := persona_map.stale_traits:
        err.print(
            f"[yellow]left out:[/] traits of an earlier map ({escape(', '.join(stale))}); "
            "run personascope traits again with the same options"
        )
    sets = persona_map.traits
    if not sets:
        return
    layer = persona_map.middle_layer
    ranked = sorted(
        ((one, place) for one in sets for place in one.places(layer)),
        key=lambda pair: (-pair[1].cosine, pair[1].name),
    )
    out.print(_table(ranked, layer, ends=ends, new=None if new is None or len(sets) == 1 else new.name))
    for one in sets:
        _print_set(one, layer)


def _table(ranked: list[tuple[MapTraits, TraitPlace]], layer: int, *, ends: int, new: str | None) -> Table:
    from rich import box
    from rich.table import Table

    several = len({one.name for one, _ in ranked}) > 1
    judged = any(place.points is not None for _, place in ranked)
    table = Table(
        title=f"Traits at layer {layer}, from the Assistant's end (cosine with the axis)",
        title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False,
    )  # fmt: skip
    columns = ["rank", "trait", *(["set"] if several else []), "cosine", "95%", "null", "reliable", "pairs"]
    for name in [*columns, *(["scores"] if judged else [])]:
        table.add_column(name, justify="left" if name in ("trait", "set") else "right", no_wrap=True)
    shortened = ends and 2 * ends < len(ranked)
    left_out = False
    for rank, (one, place) in enumerate(ranked, start=1):
        if shortened and ends < rank <= len(ranked) - ends and one.name != new:
            if not left_out:
                table.add_row("...", f"{len(ranked) - 2 * ends} between")
            left_out = True
            continue
        row = [str(rank), escape(place.name), *([escape(one.name)] if several else [])]
        row += [
            f"{place.cosine:+.2f}",
            "-" if place.low != place.low else f"{place.low:+.2f} to {place.high:+.2f}",
            f"{place.null:.2f}",
            "-" if place.reliability != place.reliability else f"{place.reliability:.2f}",
            f"{place.kept} of {place.pairs}",
        ]
        if judged:
            row.append("-" if place.points is None else f"{place.points[0]:.0f} / {place.points[1]:.0f}")
        table.add_row(*row)
    return table


def _print_set(one: MapTraits, layer: int) -> None:
    mixed = one.mixed_q95(layer)
    if mixed == mixed:
        out.print(f"{escape(one.name)}: pairs of different traits have |cosine| {mixed:.2f} or less in 95%")
    if one.min_difference is None:
        out.print(
            f"[yellow]{escape(one.name)}: without a score[/]: no judge said whether the responses show their "
            "trait; every pair was kept"
        )
    else:
        out.print(
            f"{escape(one.name)}: pairs that differ by {one.min_difference} points or more, "
            f"at least {one.record.min_pairs} a trait; scores by {escape(judged_by(one.record.judges))}"
        )
    if one.record.unscored:
        out.print(f"[yellow]{escape(one.name)}: {one.record.unscored} responses have no score[/]")
    population = one.population
    counts = ", ".join(f"{count:,} of a {kind}" for kind, count in population.responses.items())
    out.print(f"{escape(one.name)}: calibration quantiles over {population.name} ({counts})")
    if one.excluded:
        left = sorted(one.excluded, key=lambda trait: (-one.excluded[trait], trait))
        shown = ", ".join(f"{escape(trait)} ({one.excluded[trait]})" for trait in left[:12])
        more = f" and {len(left) - 12} more" if len(left) > 12 else ""
        out.print(f"not ranked, fewer than {one.record.min_pairs} kept pairs: {shown}{more}")


def _print_trait(entry: TraitEntry) -> None:
    out.print(f"[bold]{escape(entry.name)}[/]: {escape(entry.description)}", soft_wrap=True)
    for number, pair in enumerate(entry.pairs):
        out.print(f"  p{number}  + {pair.positive}", soft_wrap=True, markup=False)
        out.print(f"      - {pair.negative}", soft_wrap=True, markup=False)


def _print_estimate(found: TraitEstimate) -> None:
    out.print(f"traits            {found.traits:,}")
    out.print(f"rollouts          {found.rollouts:,}")
    out.print(f"response tokens   {found.response_tokens:,}")
    out.print(f"time              {found.seconds / 60:,.1f} minutes, from a short probe")
    out.print(f"disk              {found.disk / 2**30:.2f} GiB")
    out.print(f"judge             {found.judge if found.judge is not None else 'nothing to pay'}")
