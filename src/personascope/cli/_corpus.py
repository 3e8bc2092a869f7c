"""``personascope corpus check | show``."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import typer

from personascope.cli._console import out
from personascope.cli._options import finite
from personascope.errors import CorpusError

corpus_app = typer.Typer(help="Check a corpus, or look at one.", no_args_is_help=True)


@corpus_app.command()
def check(
    folder: Path | None = typer.Argument(
        None, help="Corpus folder, ours or in the released JSON format; the built-in one if not given."
    ),
    near: float = typer.Option(
        0.9,
        callback=finite,
        min=0.0,
        max=1.0,
        help="Similarity from which two texts count as near-duplicates.",
    ),
) -> None:
    """Check schema, counts, duplicates and near-duplicates; exit code 1 if there are errors."""
    from personascope.corpus import check_corpus, load_corpus

    findings = check_corpus(folder, near=near)
    for finding in findings:
        colour = "red" if finding.level == "error" else "yellow"
        out.print(f"[{colour}]{finding.level}[/] {finding.where}: {finding.message}", soft_wrap=True)
    try:
        corpus = load_corpus(folder)
    except CorpusError:
        # The error was already printed above, as the only finding.
        raise typer.Exit(CorpusError.exit_code) from None
    prompts = sum(len(role.prompts) for role in corpus.roles)
    count = Counter(finding.level for finding in findings)
    out.print(
        f"{corpus.name}: {len(corpus.roles)} roles, {prompts} role prompts, "
        f"{len(corpus.questions)} questions, {len(corpus.default_prompts)} default prompts; "
        f"{count['error']} errors, {count['warning']} warnings"
    )
    out.print(f"digest {corpus.digest}")
    if count["error"]:
        raise typer.Exit(1)


@corpus_app.command()
def show(
    folder: Path | None = typer.Argument(None, help="Corpus folder; the built-in one if not given."),
    role: str | None = typer.Option(None, help="Print this role's prompts."),
) -> None:
    """List the roles by group, or print one."""
    from personascope.corpus import load_corpus

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
    from rich.table import Table

    table = Table("group", "n", "roles")
    for group, names in sorted(groups.items()):
        table.add_row(group, str(len(names)), ", ".join(names))
    out.print(table)
