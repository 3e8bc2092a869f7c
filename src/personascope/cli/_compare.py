"""``personascope compare``: maps held against each other, pair by pair."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.markup import escape

from personascope import api
from personascope.cli._console import out, say
from personascope.cli._options import MAX_SEED
from personascope.cli._verdict import GRADE_STYLE
from personascope.text import escape_controls_in_json

if TYPE_CHECKING:
    from rich.table import Table

    from personascope.comparison import MapComparison, PairComparison, Statistic


def compare(
    maps: list[str] = typer.Argument(
        ..., metavar="MAP MAP...", help="Run or map folders, each alone or as MAP:LAYER."
    ),
    layer: int | None = typer.Option(
        None, min=0, help="Layer of the maps without one of their own; each map's middle layer if not given."
    ),
    components: int = typer.Option(5, min=1, max=10, help="Components that are compared."),
    draws: int = typer.Option(
        2000, min=100, max=20_000, help="Bootstrap draws, and permutations of role names."
    ),
    seed: int = typer.Option(0, min=0, max=MAX_SEED, help="Random seed of draws and permutations."),
    as_json: bool = typer.Option(False, "--json", help="Print the figures as JSON."),
    out_file: Path | None = typer.Option(
        None, "--out", metavar="FILE", help="Write them too: .html for a page, .json for the figures."
    ),
) -> None:
    """Compare maps pair by pair, over the roles that they share.

    Loadings, roles along the axes, places of the default, dimensionality; cosines and angles for one width.
    Every correlation has a 95% interval and the null of permuted role names.
    """
    found = api.compare(
        maps, layer=layer, components=components, draws=draws, seed=seed, out=out_file, tell=say
    )
    if as_json:
        sys.stdout.write(escape_controls_in_json(json.dumps(found.to_dict(), indent=1, ensure_ascii=False)))
        sys.stdout.write("\n")
    else:
        _print(found)
    if out_file is not None:
        say(f"written to {out_file}")


def _print(found: MapComparison) -> None:
    for note in found.notes:
        out.print(f"[yellow]warning:[/] {escape(note)}")
    maps = _table(
        "", "map", "model", "layer", "width", "roles", "axis", "reliability", left=("", "map", "model")
    )
    for one in found.maps:
        style = GRADE_STYLE[one.axis]
        maps.add_row(
            one.label,
            escape(one.name),
            escape(one.model) or "-",
            str(one.layer),
            str(one.d_model),
            str(one.roles),
            f"[{style}]{one.axis}[/]",
            _percent(one.role_reliability),
        )
    out.print(maps)
    out.print(
        "[dim]axis: the verdict on it; reliability: share of the roles' spread on it that would last[/]"
    )
    if len(found.pairs) > 1:
        _print_matrix(found)
    for pair in found.pairs:
        _print_pair(pair)
    for method in found.methods:
        out.print(f"[dim]{escape(method)}[/]")


def _table(*columns: str, title: str | None = None, left: tuple[str, ...] = ()) -> Table:
    """Return an empty table that fits 80 columns; columns of names fold."""
    from rich import box
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for name in columns:
        fold = name in left
        table.add_column(name, justify="left" if fold else "right", no_wrap=not fold, overflow="fold")
    return table


def _print_matrix(found: MapComparison) -> None:
    """Print three figures of every pair, with their nulls."""
    table = _table(
        "pair", "roles", "PC1", "null", "rotation", "null", "axis", "null",
        title="Every pair: |r| of PC1, Procrustes correlation, r of cosines with the axis",
        left=("pair",),
    )  # fmt: skip
    for pair in found.pairs:
        figures = (pair.components.order[0], pair.components.procrustes, pair.cosines.pearson)
        cells = [cell for one in figures for cell in (_number(one.value), _or_dash(one.null_q95))]
        table.add_row(f"{pair.first} and {pair.second}", str(len(pair.roles)), *cells)
    out.print(table)


def _print_pair(pair: PairComparison) -> None:
    out.print(f"[bold]{pair.first} and {pair.second}[/]: {len(pair.roles)} shared roles")
    for note in pair.notes:
        out.print(f"[yellow]note:[/] {escape(note)}")
    for label, roles in ((pair.first, pair.only_first), (pair.second, pair.only_second)):
        if roles:
            out.print(f"in {label} alone, {len(roles)}: {', '.join(roles)}", markup=False)
    table = _table("", "value", "95%", "null 95%", "p", left=("",))
    group = ""
    for row in pair.between:
        group = _head(table, group, row.group)
        table.add_row(f"  {row.name}", *_cells(row.figure))
    out.print(table)
    if pair.geometry is None:
        out.print(
            f"cosine of the axes, overlap of the components: not comparable: {pair.not_comparable}",
            markup=False,
        )
    else:
        angles = ", ".join(f"{angle:.0f}" for angle in pair.geometry.angles)
        out.print(f"principal angles of the components: {angles} degrees")
    _print_apart(pair)


def _print_apart(pair: PairComparison) -> None:
    """Print the figures that each map has by itself, and how the second's differ from the first's."""
    table = _table("", "", "value", "95%", left=("",))
    group = ""
    for row in pair.apart:
        group = _head(table, group, row.group)
        figure, own = row.figure, _share_cells if row.percent else _one_digit_cells
        table.add_row(f"  {row.name}", pair.first, *own(figure.first))
        table.add_row("", pair.second, *own(figure.second))
        if row.contrast == "difference":
            table.add_row("", f"{pair.second} - {pair.first}", *_share_cells(figure.contrast))
        else:
            table.add_row("", f"{pair.second} / {pair.first}", *_cells(figure.contrast)[:2])
    out.print(table)


def _head(table: Table, before: str, group: str) -> str:
    """Begin a group of rows where its name is another than before, and return its name."""
    if group != before:
        table.add_section()
        table.add_row(f"[bold]{group}[/]")
    return group


def _cells(one: Statistic) -> tuple[str, ...]:
    p_value = "-" if one.p_value is None else f"{one.p_value:.4f}"
    return _number(one.value), f"{_number(one.low)} to {_number(one.high)}", _or_dash(one.null_q95), p_value


def _one_digit_cells(one: Statistic) -> tuple[str, str]:
    return f"{one.value:.1f}", f"{one.low:.1f} to {one.high:.1f}"


def _share_cells(one: Statistic) -> tuple[str, str]:
    low, high = (round(100 * limit) for limit in (one.low, one.high))
    return f"{round(100 * one.value)}%", f"{low}% to {high}%"


def _number(value: float) -> str:
    # Adding 0 turns a rounded -0.0 into 0.0.
    return f"{round(value, 2) + 0.0:.2f}"


def _or_dash(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _percent(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.0%}"
