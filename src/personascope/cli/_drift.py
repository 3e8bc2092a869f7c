"""``personascope drift``: trajectories, contrasts, what moves the model, and replays side by side."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.markup import escape

from personascope import api
from personascope.cli._console import PARTLY, err, out, say, say_next
from personascope.cli._estimate import print_estimate
from personascope.cli._grid import grid
from personascope.cli._json import hand_over
from personascope.cli._options import DRY_RUN, MAX_SEED
from personascope.errors import UsageError

if TYPE_CHECKING:
    from personascope.dynamics.causes import Causes
    from personascope.dynamics.trajectories import Contrast, Replays, Trajectories
    from personascope.stats import Interval


def drift(
    conversations: Path = typer.Argument(..., help="Folder of simulate or replay."),
    against: Path | None = typer.Option(None, help="A replay of it, which is set side by side."),
    layer: int | None = typer.Option(None, min=0, help="Layer of the positions; the run's if not given."),
    causes: bool = typer.Option(True, help="Search the user's messages for what moves the model."),
    embedding: str | None = typer.Option(
        None, help="Embedding model; sentence-transformers/all-MiniLM-L6-v2."
    ),
    shuffles: int = typer.Option(
        100, min=1, help="Times that the regressions are repeated on shuffled targets."
    ),
    seed: int = typer.Option(
        0, min=0, max=MAX_SEED, help="Random seed of folds, shuffles and bootstrap draws."
    ),
    dry_run: bool = DRY_RUN,
) -> None:
    """Analyse conversations: where each domain goes, and which messages do it."""
    if against is not None:
        if dry_run:
            raise UsageError("--dry-run is not for --against", hint="leave it out: it takes seconds")
        _side_by_side(
            api.compare_with_replay(conversations, against, layer=layer, seed=seed, tell=say), against
        )
        return
    work = api.drift.prepare(
        conversations, layer=layer, causes=causes, embedding=embedding, shuffles=shuffles, seed=seed, tell=say
    )
    if dry_run:
        print_estimate(work.estimate)
        return
    found = work.run()
    _print_trajectories(found.trajectories)
    if found.contrasts:
        _print_contrasts(found.contrasts)
    if found.causes is not None:
        _print_causes(found.causes)
    out.print(f"figures and {found.results.name} in {conversations}")
    hand_over(results=found.trajectories.record(), contrasts=[one.record() for one in found.contrasts])
    if found.unfinished:
        err.print(
            f"[yellow]partly done:[/] {found.unfinished} of {len(found.run.dialogues)} conversations are not "
            "over; their turns so far were counted",
            soft_wrap=True,
        )
        raise typer.Exit(PARTLY)
    run = api.run_of(conversations)
    if run is not None:
        say_next(("monitor", run, conversations), ("report", run))


def _side_by_side(found: Replays, folder: Path) -> None:
    _print_replays(found)
    out.print(f"replay.json, replay.png and replay.html in {folder}")
    for id in found.missing:
        err.print(f"[yellow]in one run alone:[/] {escape(id)}")


def _print_trajectories(found: Trajectories) -> None:
    title = f"Mean position at layer {found.layer}: 0 is the mean role, 1 the default Assistant"
    table = grid(title, "domain", "turn", "n", "position", "95%", words=("domain",))
    for one in found.domains:
        for number, turn in enumerate(one.turns):
            table.add_row(one.domain if number == 0 else "", str(turn.turn + 1), *_interval(turn.position))
        table.add_row("", "last - first", *_interval(one.change), end_section=True)
    out.print(table)
    for note in found.notes():
        out.print(note)


def _print_contrasts(found: tuple[Contrast, ...]) -> None:
    table = grid(
        "Differences between domains; null: shuffled labels of whole topics, middle 95%",
        *("measure", "less", "95%", "null", "p", "n", "paired p"),
        words=("measure",),
    )
    for one in found:
        table.add_row(f"[bold]{one.first} - {one.second}[/]")
        for number, test in enumerate(one.tests):
            table.add_row(
                test.measure,
                f"{test.estimate:+.2f}",
                f"{test.low:+.2f} to {test.high:+.2f}",
                f"{test.null_low:+.2f} to {test.null_high:+.2f}",
                f"{test.p_value:.4f}",
                f"{test.n[0]}, {test.n[1]}",
                "-" if test.paired is None else f"{test.paired.p_value:.4f}",
                end_section=number == len(one.tests) - 1,
            )
    out.print(table)


def _print_causes(found: Causes) -> None:
    table = grid(
        f"Held-out R2 of ridge regression on the user's messages ({found.embedding})",
        *("target, held out by", "R2", "95%", "shuffled", "beyond domain", "in sample"),
        words=("target, held out by",),
    )
    for one in found.predictions:
        within = one.within_domain
        table.add_row(
            f"{one.target}, {one.group}",
            f"{one.held_out.estimate:+.2f}",
            f"{one.held_out.low:+.2f} to {one.held_out.high:+.2f}",
            f"{one.shuffled.low:+.2f} to {one.shuffled.high:+.2f}",
            f"{within.estimate:+.2f}\n{within.low:+.2f} to {within.high:+.2f}",
            f"{one.in_sample:+.2f}",
        )
    out.print(table)
    kinds = grid(
        f"Kinds of messages (k-means, k = {found.clusters.k} by silhouette)",
        *("change", "95%", "n", "domains", "nearest the centre"),
        words=("domains", "nearest the centre"),
    )
    for cluster in found.clusters.clusters:
        shares = sorted(cluster.domains.items(), key=lambda item: -item[1])
        kinds.add_row(
            f"{cluster.change.estimate:+.2f}",
            f"{cluster.change.low:+.2f} to {cluster.change.high:+.2f}",
            str(cluster.change.n),
            ", ".join(f"{domain} {share:.0%}" for domain, share in shares[:2]),
            escape(cluster.nearest[0]) if cluster.nearest else "",
        )
    out.print(kinds)


def _print_replays(found: Replays) -> None:
    table = grid(
        f"Positions at layer {found.layer}, plain and replayed",
        *("conversations", "turn", "n", "plain", "replayed", "less", "95%", "capped"),
        words=("conversations",),
    )
    for pair in found.pairs:
        for number, turn in enumerate(pair.turns):
            gap = turn.difference
            table.add_row(
                pair.name if number == 0 else "",
                str(turn.turn + 1),
                str(turn.plain.n),
                f"{turn.plain.estimate:+.2f}",
                f"{turn.planned.estimate:+.2f}",
                f"{gap.estimate:+.2f}",
                "" if gap.low != gap.low else f"{gap.low:+.2f} to {gap.high:+.2f}",
                "" if turn.fired is None else f"{turn.fired:.0%}",
                end_section=number == len(pair.turns) - 1,
            )
    out.print(table)


def _interval(found: Interval) -> tuple[str, str, str]:
    limits = "" if found.low != found.low else f"{found.low:+.2f} to {found.high:+.2f}"
    return str(found.n), f"{found.estimate:+.2f}", limits
