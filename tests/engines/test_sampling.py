"""Drawing tokens: the frequencies are those of the nucleus, whatever way it is found."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from personascope.engines._sampling import TOP, draw


@pytest.mark.parametrize("vocabulary", [40, 4 * TOP])
@pytest.mark.parametrize("top_p", [0.3, 0.9, 1.0])
@pytest.mark.parametrize("temperature", [0.7, 1.3])
def test_frequencies_are_those_of_the_nucleus(vocabulary: int, top_p: float, temperature: float) -> None:
    rng = np.random.default_rng(0)
    logits = torch.from_numpy(rng.normal(size=vocabulary) * 1.5).float()
    n = 40_000
    uniform = torch.from_numpy((np.arange(n) + 0.5) / n)
    tokens = torch.cat(
        [
            draw(
                logits.expand(2000, vocabulary),
                torch.full((2000,), temperature),
                torch.full((2000,), top_p),
                part,
            )
            for part in uniform.split(2000)
        ]
    )
    mass = (logits.double() / temperature).softmax(-1)
    order = mass.argsort(descending=True)
    before = mass[order].cumsum(0) - mass[order]
    wanted = torch.zeros(vocabulary, dtype=torch.float64)
    kept = order[before < top_p]
    wanted[kept] = mass[kept] / mass[kept].sum()
    found = torch.bincount(tokens, minlength=vocabulary).double() / n
    # Evenly spread uniforms: each token's share is off by two steps of the grid at most.
    assert float((found - wanted).abs().max()) <= 3 / n


def test_rows_with_different_rules_do_not_disturb_each_other() -> None:
    logits = torch.randn(4, 3 * TOP, generator=torch.Generator().manual_seed(1))
    temperature, top_p = torch.tensor([0.0, 0.8, 0.8, 2.0]), torch.tensor([1.0, 0.5, 1.0, 0.999])
    uniform = torch.tensor([0.4, 0.6, 0.9, 0.999])
    together = draw(logits, temperature, top_p, uniform)
    for row in range(4):
        one = slice(row, row + 1)
        assert draw(logits[one], temperature[one], top_p[one], uniform[one])[0] == together[row]
    assert together[0] == logits[0].argmax()
