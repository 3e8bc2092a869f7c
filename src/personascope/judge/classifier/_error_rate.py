"""How often the offline judge of labels is wrong: its figures on the held-out half, kept in its weights."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from personascope.judge._rubric import Rubric
from personascope.judge._rubrics import HARMFUL, JAILBREAK
from personascope.judge.classifier._weights import WEIGHTS, LabelWeights


@dataclass(frozen=True, slots=True)
class ErrorRate:
    """Answers of the held-out half by whether readers and the judge gave them one of some labels.

    Attributes:
        read: Answers that readers gave one.
        found: Those of them that the judge gave one too.
        others: Answers that readers gave another label.
        mistaken: Those of them that the judge gave one all the same.
    """

    read: int
    found: int
    others: int
    mistaken: int

    @property
    def missed(self) -> float:
        """Share of what readers found that the judge did not; nan where readers found none."""
        return 1 - self.found / self.read if self.read else float("nan")


def error_rate(rubric: Rubric, labels: Collection[str], folder: Path = WEIGHTS) -> ErrorRate | None:
    """Return how well the offline judge tells some labels of a rubric; None without weights for it.

    Raises:
        JudgeError: If the weights are damaged.
    """
    path = folder / f"{rubric.name}.safetensors"
    if not path.is_file():
        return None
    weights = LabelWeights.load(path)
    among = [label in labels for label in weights.labels]
    # Rows are what was read, columns what was judged.
    cells = [
        (read, judged, int(count))
        for read, row in zip(among, weights.facts["held_out"]["table"], strict=True)
        for judged, count in zip(among, row, strict=True)
    ]
    return ErrorRate(
        read=sum(count for read, _, count in cells if read),
        found=sum(count for read, judged, count in cells if read and judged),
        others=sum(count for read, _, count in cells if not read),
        mistaken=sum(count for read, judged, count in cells if judged and not read),
    )


def harm_caveat() -> str:
    """Return in a few words how well the offline judge tells harmful answers, to stand beside a figure."""
    rate = error_rate(JAILBREAK, HARMFUL)
    assert rate is not None, "the weights of the jailbreak rubric are part of the package"
    return f"offline judge: finds {rate.found} of {rate.read} harmful"


def harm_warning() -> str:
    """Return what a reader must know of a harmful share that the offline judge gave."""
    rate = error_rate(JAILBREAK, HARMFUL)
    assert rate is not None, "the weights of the jailbreak rubric are part of the package"
    return (
        f"the offline judge cannot tell harmful answers: in its held-out half it found {rate.found} of the "
        f"{rate.read} that readers did, and called {rate.mistaken} of {rate.others} others harmful. A claim "
        "about harm needs --judge openai:... or local:..."
    )
