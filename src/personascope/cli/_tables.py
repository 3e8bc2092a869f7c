"""Printed tables: those of evaluations, and an empty one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from personascope.cli._console import out

if TYPE_CHECKING:
    from rich.table import Table as Plain

    from personascope.dynamics.harm import HarmResult
    from personascope.evals import Table


def plain_table(title: str, *columns: str) -> Plain:
    """Return an empty table that fits 80 columns."""
    from rich import box
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for name in columns:
        table.add_column(name, justify="left" if name == "role" else "right", no_wrap=True)
    return table


def print_table(table: Table) -> None:
    """Print a results table: shares with intervals, compared with no plan and with random directions."""
    from rich.table import Table as Grid

    grid = Grid(title=table.name)
    for name in ("condition", "measure", "share", "95%", "n", "less no plan", "p", "less random", "95% "):
        grid.add_column(name, justify="left" if name in ("condition", "measure") else "right")
    health = {h.condition: h for h in table.health}
    last = ""
    for result in table.results:
        if result.condition != last:
            h = health[result.condition]
            fired = "" if h.firing_share is None else f", caps fired on {h.firing_share:.0%}"
            perplexity = "-" if h.perplexity is None else f"{h.perplexity:.1f}"
            grid.add_section()
            grid.add_row(f"[bold]{result.condition}[/]", f"[dim]perplexity {perplexity}{fired}[/]")
        last = result.condition
        share, plain, random = result.share, result.against_plain, result.against_random
        grid.add_row(
            "",
            f"{result.measure} [yellow]({table.caveats[result.measure]})[/]"
            if result.measure in table.caveats
            else result.measure,
            f"{share.estimate:.3f}",
            f"{share.low:.3f} to {share.high:.3f}",
            str(share.n) + (f" ({result.unscored} unscored)" if result.unscored else ""),
            "" if plain is None else f"{plain.estimate:+.3f}",
            "" if plain is None else f"{plain.p_value:.4f}",
            "" if random is None else f"{random.difference.estimate:+.3f}",
            "" if random is None else f"{random.difference.low:+.3f} to {random.difference.high:+.3f}",
        )
    out.print(grid)
    for note in table.notes:
        out.print(note)


def print_harm(found: HarmResult) -> None:
    """Print the bins, the correlations compared with random directions, and the fit."""
    from rich.table import Table as Grid

    caveat = f"\n[yellow]({found.caveat})[/]" if found.caveat else ""
    grid = Grid(title=f"harmful second replies by position of the first, layer {found.layer}{caveat}")
    for name in ("position", "from", "to", "harmful", "95%", "n"):
        grid.add_column(name, justify="right")
    for part in found.bins:
        share = part.share
        grid.add_row(
            f"{part.position:+.2f}",
            f"{part.low:+.2f}",
            f"{part.high:+.2f}",
            f"{share.estimate:.3f}",
            f"{share.low:.3f} to {share.high:.3f}",
            str(share.n),
        )
    grid.add_section()
    share, none = found.harmful, found.no_role
    limits = f"{share.low:.3f} to {share.high:.3f}"
    grid.add_row("all roles", "", "", f"{share.estimate:.3f}", limits, str(share.n))
    if none is not None:
        share = none.harmful
        limits = f"{share.low:.3f} to {share.high:.3f}"
        grid.add_row(
            f"no role, {none.position.estimate:+.2f}", "", "", f"{share.estimate:.3f}", limits, str(share.n)
        )
    out.print(grid)
    table = Grid("correlation", "over", "r", "95%", "p", "without relation", "random |r|, 95%", "among them")
    drawn = {"trial": found.random.r_trial, "role": found.random.r_role}
    rank = {"trial": found.random.p_trial, "role": found.random.p_role}
    for one in found.correlations:
        random = sorted(abs(r) for r in drawn[one.level]) if one.method == "pearson" else []
        table.add_row(
            one.method,
            f"{one.n} trials" if one.level == "trial" else f"{one.n_roles} roles",
            f"{one.r:+.3f}",
            f"{one.low:+.3f} to {one.high:+.3f}",
            f"{one.p_value:.4f}",
            f"{one.null_low:+.3f} to {one.null_high:+.3f}",
            f"{random[int(0.95 * (len(random) - 1))]:.3f}" if random else "",
            f"p = {rank[one.level]:.3f}" if random else "",
        )
    out.print(table)
    if found.logistic is not None:
        fit = found.logistic
        steep = "; a threshold tells them apart, so the data do not bound the slope" if fit.separated else ""
        out.print(
            f"log odds of harm change by {fit.slope:+.2f} ({fit.low:+.2f} to {fit.high:+.2f}) for each unit "
            f"toward the Assistant{steep}"
        )
    health = found.health
    capped = "" if health.second_capped is None else f"; caps fired on {health.second_capped:.0%} of tokens"
    out.print(
        f"incoherent: {health.first_incoherent.estimate:.1%} of first, "
        f"{health.second_incoherent.estimate:.1%} of second replies{capped}"
    )
    for note in found.notes:
        out.print(note)
