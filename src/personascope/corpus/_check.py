"""Check what the schema cannot: counts, duplicates, near-duplicates, names, lengths, placeholders."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from rapidfuzz import fuzz

from personascope.corpus._load import load_corpus
from personascope.corpus._types import PERSONAL, PROMPTS_PER_ROLE, QUESTION_COUNT, Corpus
from personascope.errors import CorpusError, UsageError

SLUG = re.compile(r"[a-z0-9]+(_[a-z0-9]+)*")
PLACEHOLDER = re.compile(r"\{[^{}]*\}")
PROMPT_WORDS = (3, 120)
_QUESTION_WORDS = (3, 60)
DESCRIPTION_CHARS = 160
# Number of classes in which characters are counted.
_CLASSES = 32


@dataclass(frozen=True)
class Finding:
    """One finding of the check.

    Attributes:
        level: ``error`` for what makes the corpus unfit for the method, ``warning`` for what a person should
            look at.
        where: Role and prompt, question, or part of the corpus.
        message: What is wrong, with the value.
    """

    level: Literal["error", "warning"]
    where: str
    message: str


def check_corpus(corpus_or_path: Corpus | str | Path | None = None, *, near: float = 0.9) -> list[Finding]:
    """Check a corpus for errors and for what a person should look at.

    Args:
        corpus_or_path: Corpus, or what ``load_corpus`` takes (None for the built-in one). For a corpus that
            does not load, the loader's message is the only finding.
        near: Similarity from which two texts count as near-duplicates, in (0, 1]: the normalised edit
            similarity of the texts, or of their words in sorted order. Case, punctuation and spacing are
            ignored.

    Returns:
        Findings, errors first; empty for a corpus in order.

    Raises:
        UsageError: If ``near`` is out of range.
    """
    if not 0 < near <= 1:
        raise UsageError(f"near is {near}", hint="give a similarity above 0 and at most 1, such as 0.9")
    if isinstance(corpus_or_path, Corpus):
        corpus = corpus_or_path
    else:
        try:
            corpus = load_corpus(corpus_or_path)
        except CorpusError as error:
            return [Finding("error", str(corpus_or_path or "builtin"), str(error))]
    found = [*_roles(corpus), *_default(corpus), *_questions(corpus)]
    prompts = [(f"{r.name}/p{i}", text) for r in corpus.roles for i, text in enumerate(r.prompts)]
    found += alike(prompts, near)
    asked = [(_at(i, q.id), q.text) for i, q in enumerate(corpus.questions)]
    # A repeated question only counts double, so it is no error.
    found += alike(asked, near, same="warning")
    found += alike([(f"default/p{i}", text) for i, text in enumerate(corpus.default_prompts)], 1.0)
    return sorted(found, key=lambda finding: finding.level != "error")


def _at(index: int, question_id: str) -> str:
    return f"question {index} ({question_id})"


def _roles(corpus: Corpus) -> Iterator[Finding]:
    if not corpus.roles:
        yield Finding("error", "roles", "the corpus has no roles")
    described = any(role.description for role in corpus.roles)
    for role in corpus.roles:
        if not SLUG.fullmatch(role.name):
            yield Finding(
                "error", role.name, "the name is not in slug form (small letters, digits, single '_')"
            )
        if len(role.prompts) != PROMPTS_PER_ROLE:
            yield Finding("error", role.name, f"has {len(role.prompts)} prompts, not {PROMPTS_PER_ROLE}")
        if "\n" in role.description.strip():
            yield Finding("error", role.name, "the description is more than one line")
        if described and not role.description.strip():
            yield Finding("warning", role.name, "has no description, and other roles do")
        if len(role.description) > DESCRIPTION_CHARS:
            yield Finding("warning", role.name, f"the description has {len(role.description)} characters")
        for index, text in enumerate(role.prompts):
            where = f"{role.name}/p{index}"
            if not text.strip():
                yield Finding("error", where, "the prompt is empty; only the default may have an empty one")
                continue
            yield from length(where, text, PROMPT_WORDS)
            for mark in PLACEHOLDER.findall(text):
                yield Finding("error", where, f"the prompt holds the placeholder {mark}, which nothing fills")


def _default(corpus: Corpus) -> Iterator[Finding]:
    if len(corpus.default_prompts) != PROMPTS_PER_ROLE:
        count = len(corpus.default_prompts)
        yield Finding("error", "default", f"has {count} prompts, not {PROMPTS_PER_ROLE}")
    for index, text in enumerate(corpus.default_prompts):
        for mark in PLACEHOLDER.findall(text):
            if mark != "{model_name}":
                yield Finding("error", f"default/p{index}", f"holds {mark}; only {{model_name}} is filled")


def _questions(corpus: Corpus) -> Iterator[Finding]:
    # Personal questions do not count: a design does not draw them unless told to.
    count = sum(question.kind != PERSONAL for question in corpus.questions)
    if not corpus.questions:
        yield Finding("error", "questions", "the corpus has no questions")
    elif count != QUESTION_COUNT:
        yield Finding(
            "warning", "questions", f"there are {count} questions; the method's design has {QUESTION_COUNT}"
        )
    kinds = {question.kind for question in corpus.questions}
    areas = Counter(question.area for question in corpus.questions)
    if len(areas) > 1 and len(set(areas.values())) > 1:
        (most, high), (least, low) = areas.most_common()[0], areas.most_common()[-1]
        yield Finding("warning", "questions", f"areas are uneven: {most!r} has {high}, {least!r} has {low}")
    for index, question in enumerate(corpus.questions):
        where = _at(index, question.id)
        if not question.text.strip():
            yield Finding("error", where, "the question is empty")
            continue
        if len(areas) > 1 and not question.area:
            yield Finding("warning", where, "has no area, and other questions do")
        if kinds > {""} and not question.kind:
            yield Finding("warning", where, "has no kind, and other questions do")
        yield from length(where, question.text, _QUESTION_WORDS)
        for mark in PLACEHOLDER.findall(question.text):
            yield Finding("error", where, f"the question holds the placeholder {mark}, which nothing fills")


def length(where: str, text: str, bounds: tuple[int, int]) -> Iterator[Finding]:
    """Yield a warning for a text with fewer or more words than the bounds."""
    words = len(text.split())
    if not bounds[0] <= words <= bounds[1]:
        yield Finding("warning", where, f"has {words} words, outside {bounds[0]} to {bounds[1]}")


def _normal(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.casefold().replace("'", "").replace("\u2019", "")))


def alike(
    texts: list[tuple[str, str]], near: float, *, same: Literal["error", "warning"] = "error"
) -> Iterator[Finding]:
    """Yield duplicates (at the level ``same``) and near-duplicates (warnings) among labelled texts."""
    kept = [(where, _normal(text)) for where, text in texts]
    kept = [(where, text) for where, text in kept if text]
    plain = [text for _, text in kept]
    ordered = [" ".join(sorted(text.split())) for text in plain]
    least = near * 100 - 1e-4
    for first, second in _candidates(plain, near):
        score = max(
            fuzz.ratio(plain[first], plain[second], score_cutoff=least),
            fuzz.ratio(ordered[first], ordered[second], score_cutoff=least),
        )
        if plain[first] == plain[second]:
            yield Finding(same, kept[second][0], f"says the same as {kept[first][0]}")
        elif near < 1 and score >= least:
            message = f"is {score / 100:.2f} alike to {kept[first][0]} (near-duplicate from {near:g})"
            yield Finding("warning", kept[second][0], message)


def _candidates(texts: list[str], near: float) -> Iterator[tuple[int, int]]:
    """Yield the pairs, in order, whose character counts do not rule out a similarity of ``near``.

    Whatever the order of their characters, texts differ by at least as many insertions and deletions as their
    character counts do. Characters are counted in classes, which can only lower that difference.
    """
    codes = (np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4") for text in texts)
    counts = np.array([np.bincount(code % _CLASSES, minlength=_CLASSES) for code in codes], np.int32)
    lengths = counts.sum(axis=1) if len(texts) else counts
    for first in range(len(texts) - 1):
        apart = np.abs(counts[first + 1 :] - counts[first]).sum(axis=1)
        allowed = (1 - near + 1e-5) * (lengths[first + 1 :] + lengths[first])
        for place in np.flatnonzero(apart <= allowed).tolist():
            yield first, first + 1 + place
