"""``personascope show`` and ``personascope report``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.markup import escape

from personascope import api
from personascope.cli._console import out, say, say_next
from personascope.cli._curve import print_curve
from personascope.cli._json import hand_over
from personascope.cli._judging import judged_by
from personascope.cli._tables import plain_table
from personascope.cli._traits import print_traits
from personascope.cli._verdict import print_verdict

if TYPE_CHECKING:
    import numpy as np
    from rich.table import Table

    from personascope.space import PersonaMap

SHORT = {"not found": "no", "unknown": "-"}
"""Short forms of grades in the table of layers."""
UNRELIABLE = 0.5
"""Role reliability below which a warning says that the order of the roles would not replicate."""


def show(
    folder: Path = typer.Argument(..., help="Run folder or map folder, or hub:owner/name."),
    ends: int = typer.Option(30, min=0, help="Roles to list at each end of the axis; 0 for all."),
    layers: bool = typer.Option(True, help="Also print the table of layers."),
    scores: bool = typer.Option(False, help="Also print every role's counts by score."),
) -> None:
    """Print a map: its verdict, its figures by layer, and its roles from the Assistant's end to the other."""
    persona_map = api.open_map(folder, say)
    if persona_map.lacking:
        print_release(persona_map, ends=ends)
        _print_released_traits(persona_map, ends=ends)
        print_traits(persona_map, ends=ends)
    else:
        print_map(persona_map, ends=ends, layers=layers, scores=scores)
        say_next(("report", folder), ("steer", folder, "Who are you?"), ("traits", folder))


def print_release(persona_map: PersonaMap, *, ends: int) -> None:
    """Print an imported release: its shape, and its roles along the axis."""
    middle = persona_map.middle_layer
    out.print(
        f"[bold]{escape(persona_map.design)}[/]  {persona_map.n_layers} layers of {persona_map.d_model}"
    )
    print_verdict(persona_map)
    if not persona_map.roles:
        return
    raw = persona_map.stats.projections[middle]
    places = persona_map.to_units(raw, middle)
    # All positions are NaN if the release lacks the mean role or the default; NaN is unequal to itself.
    known = bool((places == places).any())
    table = plain_table(
        f"Roles at layer {middle}, from the Assistant's end"
        + (" (0: mean role, 1: default)" if known else ", raw projections"),
        "rank", "role", "position" if known else "projection", "cosine",
    )  # fmt: skip
    order = (-raw).argsort(kind="stable")
    for rank, index in _both_ends(order, ends):
        if index is None:
            table.add_row("...", f"{len(order) - 2 * ends} more")
            continue
        value, cosine = (places if known else raw)[index], persona_map.stats.role_cosines[middle, index]
        table.add_row(str(rank), escape(persona_map.roles[index]), f"{value:+.2f}", f"{cosine:+.2f}")
    out.print(table)


def _print_released_traits(persona_map: PersonaMap, *, ends: int) -> None:
    """Print the trait vectors that a release brings along, by their cosine to its axis."""
    middle = persona_map.middle_layer
    found = api.released_traits(persona_map, middle)
    if not found:
        return
    table = plain_table(
        f"Traits of the release at layer {middle}, from the Assistant's end", "rank", "trait", "cosine"
    )
    ranked = list(enumerate(found.items(), start=1))
    shown = [*ranked[:ends], *ranked[-ends:]] if ends and 2 * ends < len(ranked) else ranked
    for rank, (name, cosine) in shown:
        table.add_row(str(rank), escape(name), f"{cosine:+.2f}")
    out.print(table)


def _both_ends(order: np.ndarray, ends: int) -> list[tuple[int, int | None]]:
    """Return (rank, index) of the first and last ``ends``, with (0, None) between them; all if 0."""
    ranked: list[tuple[int, int | None]] = [(rank, int(index)) for rank, index in enumerate(order, start=1)]
    return [*ranked[:ends], (0, None), *ranked[-ends:]] if ends and 2 * ends < len(ranked) else ranked


def print_map(persona_map: PersonaMap, *, ends: int, layers: bool, scores: bool) -> None:
    """Print a map's verdict and its tables."""
    hand_over(**api.map_values(persona_map))
    stats, middle = persona_map.stats, persona_map.middle_layer
    model = persona_map.model
    out.print(f"[bold]{model.id}[/]  {model.n_layers} layers of {model.d_model}, {model.dtype}")
    print_verdict(persona_map)
    out.print(
        f"layer {middle}: relabelled null 95% {stats.null_q95[middle]:.3f}, "
        f"split-half {stats.split_half[middle]:.3f}, "
        f"{int(stats.components_for_70[middle])} components for 70% of the variance"
    )
    n_places = min(5, stats.default_position.shape[1])
    places = ", ".join(f"PC{k + 1} {stats.default_position[middle, k]:.2f}" for k in range(n_places))
    out.print(f"the default in the range of the roles: {places}")
    judges = {} if persona_map.checks is None else persona_map.checks.judges
    if judges:
        out.print(f"scores by judge: {judged_by(judges)}", markup=False)
    print_curve(persona_map, table=layers)
    if layers:
        out.print(_layers(persona_map))
    out.print(_roles(persona_map, ends))
    reliability = stats.role_reliability[middle]
    if reliability < UNRELIABLE:
        out.print(
            f"[yellow]other prompts would give another order of the roles[/]: {reliability:.0%} of it lasts"
        )
    if scores:
        out.print(_scores(persona_map))
    _print_left_out(persona_map)
    print_traits(persona_map, ends=ends)


def _print_left_out(persona_map: PersonaMap) -> None:
    checks = persona_map.checks
    roles = {} if checks is None else checks.roles
    left = sorted(
        persona_map.excluded, key=lambda name: (roles[name].information if name in roles else 0.0, name)
    )
    if not left:
        return
    played = checks is not None and checks.vectors == "played"
    usable = {
        name: roles[name].played if played else persona_map.excluded[name] for name in left if name in roles
    }
    shown = ", ".join(
        f"{name} ({usable[name]} of {roles[name].responses})" if name in usable else name
        for name in left[:12]
    )
    more = f" and {len(left) - 12} more (--scores counts)" if len(left) > 12 else ""
    why = "played too little for a vector" if played else "too few responses with the score 3 for a vector"
    out.print(f"not ranked, {why}: {shown}{more}")


def _layers(persona_map: PersonaMap) -> Table:
    stats = persona_map.stats
    table = plain_table(
        "By layer (* middle): is there an axis, its cosine with PC1 (95% without noise),\n"
        "cosine of halves, share of prompts' and roles' spread that lasts, default on PC1",
        "layer", "axis", "cos", "95%", "null", "halves", "prompts", "roles", "default",
    )  # fmt: skip
    for layer in range(persona_map.n_layers):
        low, high = stats.cos_axis_pc1_interval[layer]
        table.add_row(
            f"{layer} *" if layer == persona_map.middle_layer else str(layer),
            SHORT.get(grade := persona_map.verdict(layer).axis.grade, grade),
            f"{stats.cos_axis_pc1[layer]:.2f}",
            f"{low:.2f} to {high:.2f}",
            f"{stats.null_q95[layer]:.2f}",
            f"{stats.split_half[layer]:.2f}",
            _or_dash(stats.prompt_reliability[layer]),
            _or_dash(stats.role_reliability[layer]),
            f"{stats.default_position[layer, 0]:.2f}",
        )
    return table


def _roles(persona_map: PersonaMap, ends: int) -> Table:
    stats, middle = persona_map.stats, persona_map.middle_layer
    known = {} if persona_map.checks is None else persona_map.checks.roles
    order = (-stats.projections[middle]).argsort()
    table = plain_table(
        f"Roles at layer {middle}, from the Assistant's end (0: mean role, 1: default)",
        "rank", "role", "position", "95%", "cosine", *("played", "nats") if known else ("fully", "some"),
    )  # fmt: skip
    for rank, index in _both_ends(order, ends):
        if index is None:
            table.add_row("...", f"{len(order) - 2 * ends} more")
            continue
        name = persona_map.roles[index]
        low, high = persona_map.to_units(stats.projection_interval[index], middle)
        count = persona_map.counts[name]
        table.add_row(
            str(rank),
            name,
            f"{persona_map.to_units(stats.projections[middle, index], middle):+.2f}",
            f"{low:+.2f} to {high:+.2f}",
            f"{stats.role_cosines[middle, index]:+.2f}",
            *(
                (f"{known[name].played} of {known[name].responses}", f"{known[name].information:+.2f}")
                if name in known
                else (str(count["fully"]), str(count["somewhat"]))
            ),
        )
    return table


def _or_dash(value: float) -> str:
    return "-" if value != value else f"{value:.2f}"


def _scores(persona_map: PersonaMap) -> Table:
    table = plain_table("Responses", "role", *next(iter(persona_map.counts.values())))
    for name, count in persona_map.counts.items():
        table.add_row(name, *(str(value) for value in count.values()))
    return table


def report(
    folder: Path = typer.Argument(..., help="Run folder or map folder, or hub:owner/name."),
    out_file: Path | None = typer.Option(
        None, "--out", help="Where to write; report.html in the folder if not given."
    ),
) -> None:
    """Write the map as one self-contained HTML page that works offline.

    Case studies that were played and replayed get a page beside it, both versions next to each other.
    """
    pages = api.write_pages(folder, out=out_file, tell=say)
    out.print(f"report: {pages.report}")
    if pages.cases is not None:
        out.print(f"case studies: {pages.cases}")
    say(f"next: open {pages.report} in a browser")
