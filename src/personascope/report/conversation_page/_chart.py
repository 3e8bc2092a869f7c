"""SVG chart of one dialogue's trajectories in two runs, to embed in a page."""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Sequence

WIDTH, HEIGHT = 720, 230
LEFT, RIGHT, TOP, BOTTOM = 126, 14, 26, 34
_SIDES = ("plain", "planned")
_LABELS = 15


def chart(lines: Sequence[Sequence[float]], names: tuple[str, str], reach: tuple[float, float]) -> str:
    """Return an SVG chart of positions by turn: circles for the first run, squares for the second.

    Args:
        lines: Positions of both runs, in units of the map; NaN leaves a gap.
        names: Names of the two runs.
        reach: Positions at the lower and the upper edge.
    """
    count = max((len(line) for line in lines), default=0)
    low, high = reach

    def x(turn: int) -> float:
        width = WIDTH - LEFT - RIGHT
        return LEFT + width * ((turn + 0.5) / max(count, 1))

    def y(value: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (high - value) / (high - low)

    parts = [
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="Position of each reply, '
        f'{html.escape(names[0])} and {html.escape(names[1])}">'
    ]
    for value, name in ((0.0, "0 mean role"), (1.0, "1 default Assistant")):
        at = f"{y(value):.1f}"
        parts.append(f'<line class="anchor" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at}" y2="{at}"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y(value) + 4:.1f}" text-anchor="end">{name}</text>')
    base = HEIGHT - BOTTOM
    parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{base}" y2="{base}"/>')
    step = max(1, math.ceil(count / _LABELS))
    parts += [
        f'<text x="{x(turn):.1f}" y="{base + 16}" text-anchor="middle">{turn + 1}</text>'
        for turn in range(0, count, step)
    ]
    parts.append(f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 2}" text-anchor="middle">turn</text>')
    for number, (line, side, name) in enumerate(zip(lines, _SIDES, names, strict=True)):
        parts += _line(line, side, name, x, y)
        parts.append(
            f'<text class="{side} word" x="{LEFT + 220 * number}" y="14">'
            f"{'●' if number == 0 else '■'} {html.escape(name)}</text>"
        )
    parts.append("</svg>")
    return "".join(parts)


def _line(
    line: Sequence[float], side: str, name: str, x: Callable[[int], float], y: Callable[[float], float]
) -> list[str]:
    path: list[str] = []
    marks: list[str] = []
    pen = "M"
    for turn, value in enumerate(line):
        if not math.isfinite(value):
            pen = "M"
            continue
        path.append(f"{pen}{x(turn):.1f},{y(value):.1f}")
        pen = "L"
        told = f"<title>{html.escape(name)}, turn {turn + 1}: {value:+.2f}</title>"
        if side == "plain":
            marks.append(
                f'<circle class="plain mark" cx="{x(turn):.1f}" cy="{y(value):.1f}" r="4">{told}</circle>'
            )
        else:
            marks.append(
                f'<rect class="planned mark" x="{x(turn) - 4:.1f}" y="{y(value) - 4:.1f}" width="8" '
                f'height="8">{told}</rect>'
            )
    return ([f'<path class="{side}" d="{" ".join(path)}"/>'] if path else []) + marks
