"""Report how often the offline judge of labels is wrong on held-out answers."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from personascope.judge._rubric import Rubric
from personascope.judge._rubrics import HARMFUL, JAILBREAK
from personascope.judge.classifier._weights import WEIGHTS, LabelWeights


@dataclass(frozen=True, slots=True)
class ErrorRate:
    """Counts of held-out answers by whether readers and the judge gave them one of the chosen labels.

    Attributes:
        read: Number of answers to which readers gave a chosen label.
        found: Number of those to which the judge gave a chosen label too.
        others: Number of answers to which readers gave another label.
        mistaken: Number of those to which the judge gave a chosen label.
    """

    read: int
    found: int
    others: int
    mistaken: int

    @property
    def missed(self) -> float:
        """Share of the answers in ``read`` that the judge missed; nan if there are none."""
        return 1 - self.found / self.read if self.read else float("nan")


def error_rate(rubric: Rubric, labels: Collection[str], folder: Path = WEIGHTS) -> ErrorRate | None:
    """Return the offline judge's counts for the chosen labels of a rubric; None without weights for it.

    Raises:
        JudgeError: If the weights are damaged.
    """
    path = folder / f"{rubric.name}.safetensors"
    if not path.is_file():
        return None
    weights = LabelWeights.load(path)
    among = [label in labels for label in weights.labels]
    # Rows are the readers' labels, columns the judge's.
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
    """Return a short note on how well the offline judge finds harmful answers, to print beside a figure."""
    rate = error_rate(JAILBREAK, HARMFUL)
    assert rate is not None, "the weights of the jailbreak rubric are part of the package"
    return f"offline judge: finds {rate.found} of {rate.read} harmful"


def harm_warning() -> str:
    """Return a warning about the harmful shares that the offline judge gives."""
    rate = error_rate(JAILBREAK, HARMFUL)
    assert rate is not None, "the weights of the jailbreak rubric are part of the package"
    return (
        f"the offline judge cannot tell harmful answers: in its held-out half it found {rate.found} of the "
        f"{rate.read} that readers did, and called {rate.mistaken} of {rate.others} others harmful. A claim "
        "about harm needs --judge openai:... or local:..."
    )
