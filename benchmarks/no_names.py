"""What the label of a role does: the same corpus with the role's name taken out of its prompts.

``corpus OUT`` writes the built-in corpus with every prompt that says its role's name changed by rule. The
name, its plural and its possessive give way to a neutral noun, which is "person" for what people are and
"being" for the groups in `BEINGS`; an article before it is made to fit. Other words are left, also those of
the same stem ("auditing"). What the judge reads of a role, its name and description, stays.

``compare WITH WITHOUT`` takes two runs of one model, profile and seed, with the built-in corpus and with that
one, and writes no_names.md. Two maps of one model differ by their responses too, so each run is also cut into
two halves of the questions: with names against without is to be read beside with names against with names.

    python benchmarks/no_names.py corpus OUT
    personascope map MODEL --profile quick --seed S --corpus OUT --out WITHOUT
    python benchmarks/no_names.py compare WITH WITHOUT
"""

from __future__ import annotations

import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from compare_halves import half_map

import personascope.corpus
from personascope import api
from personascope.corpus import load_corpus
from personascope.mapping._unit import UnitMeta
from personascope.space import PersonaMap
from personascope.store import RunFolder

PAGE = Path(__file__).with_suffix(".md")
BUILTIN = Path(personascope.corpus.__file__).parent / "data"
BEINGS = {"abstraction", "collective", "creature", "machine", "myth"}
"""Groups of the roles that are no people."""
SHOWN = (("accountant", 0), ("pirate", 2), ("echo", 2), ("coral_reef", 0))


def without_name(prompt: str, role: str, group: str) -> str:
    """Return a role's prompt with its name replaced by a neutral noun; unchanged if it does not say it."""
    noun, plural = ("being", "beings") if group in BEINGS else ("person", "people")
    name = r"[\s-]+".join(map(re.escape, role.split("_")))
    pattern = rf"(?:\b(an?)(\s+))?\b{name}(s|es)?('s?)?(?!\w)"

    def replaced(found: re.Match[str]) -> str:
        article, space, several, owner = found.groups()
        text = f"{plural if several else noun}{owner or ''}"
        if article is not None:
            return f"{article[0]}{space}{text}"
        starts = found.start() == 0 or prompt[: found.start()].rstrip()[-1:] in ".!?"
        return text.capitalize() if starts else text

    return re.sub(pattern, replaced, prompt, flags=re.IGNORECASE)


def write_corpus(folder: Path) -> None:
    """Write the corpus without names, and print how many prompts were changed."""
    shutil.copytree(BUILTIN, folder)
    changed = bare = total = 0
    for path in sorted((folder / "roles").glob("*.yaml")):
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
        for role in data["roles"]:
            prompts = [without_name(text, role["name"], data["group"]) for text in role["prompts"]]
            differ = [new for new, old in zip(prompts, role["prompts"], strict=True) if new != old]
            changed, total = changed + len(differ), total + len(prompts)
            bare += sum(len(text.split()) <= 6 for text in differ)
            role["prompts"] = prompts
        path.write_text(yaml.safe_dump(data, allow_unicode=True, sort_keys=False), encoding="utf-8")
    about = yaml.safe_load((folder / "corpus.yaml").read_text(encoding="utf-8"))
    about["name"] = "builtin-without-names"
    (folder / "corpus.yaml").write_text(yaml.safe_dump(about, sort_keys=False), encoding="utf-8")
    print(f"{changed} of {total} prompts changed; {bare} of them have 6 words or fewer")
    corpus = load_corpus(folder)
    print(f"{len(corpus.roles)} roles, {len(corpus.questions)} questions in {folder}")


def played(run: Path) -> dict[str, np.ndarray]:
    """Return whether each response of each role played it, role -> [responses]."""
    folder = RunFolder.read(run, unit=UnitMeta)
    found: dict[str, list[bool]] = {}
    for row in (row for index in sorted(folder.units) for row in folder.rows(index).to_pylist()):
        if row["role"] != "default":
            found.setdefault(row["role"], []).append(bool(row["played"]))
    return {role: np.array(values) for role, values in found.items()}


def of_both(first: Path, second: Path, layer: int) -> Iterator[str]:
    """Yield the rows of shares and verdicts of the two runs."""
    maps = [PersonaMap.open(run) for run in (first, second)]
    shares = [played(run) for run in (first, second)]
    names = sorted(shares[0])
    means = np.array([[one[name].mean() for name in names] for one in shares])
    rng = np.random.default_rng(0)
    drawn = means[:, rng.integers(len(names), size=(2000, len(names)))].mean(axis=2)
    low, high = np.quantile(drawn[1] - drawn[0], [0.025, 0.975])
    each = [" to ".join(f"{q:.0%}" for q in np.quantile(one, [0.025, 0.975])) for one in drawn]
    cells = [f"{mean:.0%} ({text})" for mean, text in zip(means.mean(axis=1), each, strict=True)]
    change = f"{means[1].mean() - means[0].mean():+.1%} ({low:+.1%} to {high:+.1%})"
    yield f"| responses that played, mean of the roles | {cells[0]} | {cells[1]} | {change} |"
    yield f"| roles with a vector | {len(maps[0].roles)} | {len(maps[1].roles)} | |"
    yield f"| middle layer of its own | {maps[0].middle_layer} | {maps[1].middle_layer} | |"
    for number, (question, _) in enumerate(maps[0].verdict().answers):
        grades = [one.verdict().answers[number][1].grade for one in maps]
        yield f"| {question} | {grades[0]} | {grades[1]} | |"
    for name, key in (("cos(axis, PC1)", "cos_axis_pc1"), ("split-half of the axis", "split_half")):
        values = [float(getattr(one.stats, key)[layer]) for one in maps]
        yield f"| {name}, layer {layer} | {values[0]:.2f} | {values[1]:.2f} | |"
    lasts = [
        f"{one.stats.role_reliability[layer]:.0%} "
        f"({' to '.join(f'{q:.0%}' for q in one.stats.role_reliability_interval[layer])})"
        for one in maps
    ]
    yield f"| roles' spread on it that lasts, layer {layer} | {lasts[0]} | {lasts[1]} | |"


def cells(pair: Any, wanted: dict[tuple[str, str], str]) -> dict[str, str]:
    """Return the figures of a pair of maps that are wanted, with interval and null."""
    found: dict[str, str] = {}
    for row in pair.between:
        if (name := wanted.get((row.group, row.name))) is not None:
            one = row.figure
            found[name] = f"{one.value:.2f} ({one.low:.2f} to {one.high:.2f}) [{one.null_q95:.2f}]"
    return found


def compare(first: Path, second: Path) -> None:
    """Write the page of two runs, with names and without."""
    layer = PersonaMap.open(first).middle_layer
    (whole,) = api.compare([(api.open_map(run), layer) for run in (first, second)]).pairs
    wanted = {(row.group, row.name): f"{row.group}: {row.name}" for row in whole.between}
    lines = [cells(whole, wanted)]
    with tempfile.TemporaryDirectory() as folder:
        halves = {
            (name, half): half_map(run, half, Path(folder) / f"{name}{half}", layer)
            for name, run in (("with", first), ("without", second))
            for half in (0, 1)
        }
        for one, other in (
            (("with", 0), ("with", 1)),
            (("with", 0), ("without", 1)),
            (("without", 0), ("with", 1)),
            (("without", 0), ("without", 1)),
        ):
            (pair,) = api.compare([halves[one], halves[other]]).pairs
            lines.append(cells(pair, wanted))
    titles = ["with and without", "with and with", "with and without", "without and with", "without twice"]
    draws = []
    for run in (first, second):
        manifest = RunFolder.read(run, unit=UnitMeta).manifest["identity"]
        draws.append((manifest["model_name"], manifest["profile"]["name"], manifest["seed"]))
    if draws[0] != draws[1]:
        sys.exit(f"the runs differ: {draws[0]} and {draws[1]}")
    rows = [f"| {name} | " + " | ".join(line.get(name, "-") for line in lines) + " |" for name in lines[0]]
    corpus = load_corpus()
    groups = {role.name: role for role in corpus.roles}
    shown = [
        f"| {name} | {text} | {without_name(text, name, groups[name].group)} |"
        for name, number in SHOWN
        for text in [groups[name].prompts[number]]
    ]
    PAGE.write_text(
        "\n".join(
            [
                "# Roles without their names",
                "",
                "`python benchmarks/no_names.py`, where the rule stands by which names are taken out. "
                f"{draws[0][0]}, `{draws[0][1]}`, seed {draws[0][2]}, both runs.",
                "",
                "| role | prompt | without the name |",
                "|---|---|---|",
                *shown,
                "",
                "95% in brackets, over roles.",
                "",
                "| | with names | without | difference |",
                "|---|---|---|---|",
                *of_both(first, second, layer),
                "",
                f"The two maps compared at layer {layer}, {len(whole.roles)} shared roles: figure, 95% over "
                "roles, [95% quantile of the null]. The last four columns compare maps of halves of the "
                "questions, which share no response: with names against with names is the most to expect.",
                "",
                f"| figure | {titles[0]} | halves: " + " | halves: ".join(titles[1:]) + " |",
                "|---" * 6 + "|",
                *rows,
                "",
            ]
        ),
        encoding="utf-8",
    )
    print(PAGE.read_text(encoding="utf-8"))


if __name__ == "__main__":
    if sys.argv[1:2] == ["corpus"] and len(sys.argv) == 3:
        write_corpus(Path(sys.argv[2]))
    elif sys.argv[1:2] == ["compare"] and len(sys.argv) == 4:
        compare(Path(sys.argv[2]), Path(sys.argv[3]))
    else:
        sys.exit(__doc__)
