"""``personascope corpus check | show``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from personascope.cli._console import out
from personascope.cli._grid import grid
from personascope.cli._options import finite
from personascope.errors import CorpusError

if TYPE_CHECKING:
    from personascope.corpus import Corpus, Finding, TraitSet

corpus_app = typer.Typer(help="Check a corpus, or look at one.", no_args_is_help=True)


@corpus_app.command()
def check(
    folder: Path | None = typer.Argument(
        None, help="Folder of roles or traits, in either format; the built-in corpus if not given."
    ),
    near: float = typer.Option(
        0.9,
        callback=finite,
        min=0.0,
        max=1.0,
        help="Similarity from which two texts count as near-duplicates.",
    ),
) -> None:
    """Check roles and traits: schema, counts, duplicates, near-duplicates; exit code 1 for errors."""
    from personascope.corpus import check_corpus, check_traits, holds, load_corpus, load_traits

    try:
        roles, traits = holds(folder)
    except CorpusError:
        # Both checks report what is wrong with the folder.
        roles, traits = False, True
    errors = 0
    if roles:
        errors += _print_findings(check_corpus(folder, near=near), lambda: _roles_line(load_corpus(folder)))
    if traits:
        errors += _print_findings(check_traits(folder, near=near), lambda: _traits_line(load_traits(folder)))
    if errors:
        raise typer.Exit(1)


def _print_findings(findings: Sequence[Finding], line: Callable[[], tuple[str, str]]) -> int:
    """Print findings and a line of counts; return the number of errors."""
    for finding in findings:
        colour = "red" if finding.level == "error" else "yellow"
        out.print(f"[{colour}]{finding.level}[/] {finding.where}: {finding.message}", soft_wrap=True)
    count = Counter(finding.level for finding in findings)
    try:
        said, digest = line()
    except CorpusError:
        # The error was already printed above, as the only finding.
        raise typer.Exit(CorpusError.exit_code) from None
    out.print(f"{said}; {count['error']} errors, {count['warning']} warnings")
    out.print(f"digest {digest}")
    return count["error"]


def _roles_line(corpus: Corpus) -> tuple[str, str]:
    prompts = sum(len(role.prompts) for role in corpus.roles)
    said = (
        f"{corpus.name}: {len(corpus.roles)} roles, {prompts} role prompts, "
        f"{len(corpus.questions)} questions, {len(corpus.default_prompts)} default prompts"
    )
    return said, corpus.digest


def _traits_line(traits: TraitSet) -> tuple[str, str]:
    pairs = sum(len(trait.pairs) for trait in traits.traits)
    said = (
        f"{traits.name}: {len(traits.traits)} traits in {len(traits.groups)} groups, {pairs} pairs of prompts"
    )
    return said, traits.digest


@corpus_app.command()
def show(
    folder: Path | None = typer.Argument(None, help="Corpus folder; the built-in one if not given."),
    role: str | None = typer.Option(None, help="Print this role's prompts."),
    trait: str | None = typer.Option(None, help="Print this trait's pairs of prompts."),
) -> None:
    """List the roles by group, or print one, or a trait."""
    from personascope.corpus import load_corpus, load_traits

    if trait:
        found = load_traits(folder).trait(trait)
        out.print(f"[bold]{found.name}[/] ({found.group}): {found.description}")
        for number, pair in enumerate(found.pairs):
            out.print(f"  p{number}  + {pair.positive}", soft_wrap=True, markup=False)
            out.print(f"      - {pair.negative}", soft_wrap=True, markup=False)
        return
    corpus = load_corpus(folder)
    if role:
        entry = corpus.role(role)
        out.print(f"[bold]{entry.name}[/] ({entry.group}): {entry.description}")
        for number, prompt in enumerate(entry.prompts):
            out.print(f"  p{number}  {prompt}", soft_wrap=True, markup=False)
        return
    groups: dict[str, list[str]] = {}
    for entry in corpus.roles:
        groups.setdefault(entry.group, []).append(entry.name)
    table = grid("", "group", "n", "roles", words=("group", "roles"))
    for group, names in sorted(groups.items()):
        table.add_row(group, str(len(names)), ", ".join(names))
    out.print(table)
