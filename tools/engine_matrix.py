"""Write the table of engine capabilities into docs/engines.md.

python tools/engine_matrix.py
"""

from __future__ import annotations

from pathlib import Path

from personascope.engines import CAPABILITIES, ENGINE_TITLES

PAGE = Path(__file__).parents[1] / "docs" / "engines.md"
BEGIN, END = "<!-- capabilities: begin -->", "<!-- capabilities: end -->"


def matrix() -> str:
    """Return the table as Markdown, with the reasons below it."""
    lines: list[str] = []
    group = ""
    for row in CAPABILITIES:
        if row.group != group:
            group = row.group
            lines += [
                "",
                f"| {group} | {' | '.join(ENGINE_TITLES)} |",
                "|---" * (1 + len(ENGINE_TITLES)) + "|",
            ]
        lines.append(f"| {row.title} | {' | '.join(row.support[name].level for name in ENGINE_TITLES)} |")
    lines += ["", "What stands behind a *no*, and the conditions of a *yes*:", ""]
    for row in CAPABILITIES:
        engines: dict[tuple[str, str], list[str]] = {}
        for name, found in row.support.items():
            if found.note:
                engines.setdefault((found.note, found.hint), []).append(name)
        for (note, hint), names in engines.items():
            instead = f"; instead: {hint}" if hint else ""
            lines.append(f"- {row.title} ({', '.join(names)}): {note}{instead}.")
    return "\n".join(lines).strip()


def with_matrix(page: str) -> str:
    """Return a page with the present table between its two markers."""
    head, _, rest = page.partition(BEGIN)
    _, _, tail = rest.partition(END)
    return f"{head}{BEGIN}\n\n{matrix()}\n\n{END}{tail}"


if __name__ == "__main__":
    PAGE.write_text(with_matrix(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
