"""Printed tables: those of evaluations, and an empty one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.markup import escape

from personascope.cli._console import out
from personascope.cli._controls import print_comparisons
from personascope.cli._grid import grid

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
        table.add_column(name, justify="left" if name in ("role", "trait") else "right", no_wrap=True)
    return table


def print_table(table: Table) -> None:
    """Print a results table: shares with intervals, compared with no plan and with each kind of control."""
    unscored = any(result.unscored for result in table.results)
    shares = grid(
        table.name, "measure", "share", "95%", "n", *(["unscored"] if unscored else []), "less no plan", "p",
        words=("measure",),
    )  # fmt: skip
    last = ""
    for result in table.results:
        if result.condition != last:
            shares.add_section()
            shares.add_row(f"[bold]{escape(result.condition)}[/]")
        last = result.condition
        share, plain = result.share, result.against_plain
        shares.add_row(
            f"{result.measure} [yellow]({table.caveats[result.measure]})[/]"
            if result.measure in table.caveats
            else result.measure,
            f"{share.estimate:.3f}",
            f"{share.low:.3f} to {share.high:.3f}",
            str(share.n),
            *([str(result.unscored) if result.unscored else ""] if unscored else []),
            "" if plain is None else f"{plain.estimate:+.3f}",
            "" if plain is None else f"{plain.p_value:.4f}",
        )
    out.print(shares)
    _print_health(table)
    print_comparisons((r.condition, r.measure, r.against_controls, r.conclusion) for r in table.results)
    for note in table.notes:
        out.print(note)


def _print_health(table: Table) -> None:
    """Print how well the texts read under each condition, and how often its caps fired."""
    texts = grid("texts", "condition", "perplexity", "repetition", "", words=("condition", ""))
    for one in table.health:
        texts.add_row(
            escape(one.condition),
            "-" if one.perplexity is None else f"{one.perplexity:.1f}",
            f"{one.repetition.estimate:.2f}",
            "" if one.firing_share is None else f"caps fired on {one.firing_share:.0%}",
        )
    if table.health:
        out.print(texts)


def print_harm(found: HarmResult) -> None:
    """Print the bins, the correlations compared with each kind of control, and the fit."""
    caveat = f"\n[yellow]({found.caveat})[/]" if found.caveat else ""
    bins = grid(
        f"harmful second replies by position of the first, layer {found.layer}{caveat}",
        *("position", "from", "to", "harmful", "95%", "n"),
    )
    for part in found.bins:
        share = part.share
        bins.add_row(
            f"{part.position:+.2f}",
            f"{part.low:+.2f}",
            f"{part.high:+.2f}",
            f"{share.estimate:.3f}",
            f"{share.low:.3f} to {share.high:.3f}",
            str(share.n),
        )
    bins.add_section()
    share, none = found.harmful, found.no_role
    limits = f"{share.low:.3f} to {share.high:.3f}"
    bins.add_row("all roles", "", "", f"{share.estimate:.3f}", limits, str(share.n))
    if none is not None:
        share = none.harmful
        limits = f"{share.low:.3f} to {share.high:.3f}"
        bins.add_row(
            f"no role, {none.position.estimate:+.2f}", "", "", f"{share.estimate:.3f}", limits, str(share.n)
        )
    out.print(bins)
    table = grid(
        "", "correlation", "over", "r", "95%", "p", "without relation", words=("correlation", "over")
    )
    for one in found.correlations:
        table.add_row(
            one.method,
            f"{one.n} trials" if one.level == "trial" else f"{one.n_roles} roles",
            f"{one.r:+.3f}",
            f"{one.low:+.3f} to {one.high:+.3f}",
            f"{one.p_value:.4f}",
            f"{one.null_low:+.3f} to {one.null_high:+.3f}",
        )
    out.print(table)
    _print_harm_controls(found)
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


def _print_harm_controls(found: HarmResult) -> None:
    """Print Pearson's r against the control directions of each kind, and what is called a relation."""
    table = grid(
        "", "over", "|r|, axis", "control", "directions", "their |r|, 95% quantile", "p among them",
        words=("over", "control"),
    )  # fmt: skip
    for one in found.correlations:
        if one.method != "pearson":
            continue
        for kind, control in found.controls.items():
            trial = one.level == "trial"
            drawn = sorted(abs(r) for r in (control.r_trial if trial else control.r_role))
            table.add_row(
                "trials" if trial else "role means",
                f"{abs(one.r):.3f}",
                kind.replace("_", "-"),
                str(len(drawn)),
                f"{drawn[int(0.95 * (len(drawn) - 1))]:.3f}",
                f"{control.p_trial if trial else control.p_role:.3f}",
            )
    if found.controls:
        out.print(table)
    for level, words in found.relation.items():
        out.print(f"over {'trials' if level == 'trial' else 'role means'}: {words}")
