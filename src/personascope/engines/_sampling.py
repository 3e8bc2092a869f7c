"""Sample tokens, with a separate stream of uniform numbers for every request, independent of the batch."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

TOP = 256
BLOCK = 512


def uniforms(seed: int, count: int) -> np.ndarray:
    """Return the uniform numbers in [0, 1) of a request, one for each token."""
    return np.random.Generator(np.random.Philox(key=seed)).random(count)


def draw(
    logits: Float[Tensor, "rows vocabulary"],
    temperature: Float[Tensor, "rows"],
    top_p: Float[Tensor, "rows"],
    uniform: Float[Tensor, "rows"],
) -> Tensor:
    """Draw a token for every row by inverting the cumulative distribution of its nucleus.

    The nucleus is the smallest set of most likely tokens whose mass reaches ``top_p``, as in
    Transformers' ``TopPLogitsWarper``. It is searched among the 256 most likely tokens, and in the full
    order only for rows where these hold too little mass. The distribution is the same, without sorting
    the vocabulary at every step. With ``top_p`` 1 nothing is sorted.

    Args:
        logits: Logits of any float dtype.
        temperature: Sampling temperature; 0 for the most likely token.
        top_p: Nucleus mass in (0, 1].
        uniform: Uniform number in [0, 1) of each row.

    Returns:
        Token ids, [rows] int64.
    """
    logits = logits.float()
    greedy = temperature <= 0
    if bool(greedy.all()):
        return logits.argmax(-1)
    scaled = logits / torch.where(greedy, 1.0, temperature)[:, None]
    whole = top_p >= 1
    tokens = torch.empty(len(scaled), dtype=torch.int64, device=scaled.device)
    if bool(whole.any()):
        tokens[whole] = _from_all(scaled[whole], uniform[whole])
    if not bool(whole.all()):
        tokens[~whole] = _from_nucleus(scaled[~whole], top_p[~whole], uniform[~whole])
    return torch.where(greedy, logits.argmax(-1), tokens)


def _from_all(scaled: Tensor, uniform: Tensor) -> Tensor:
    """Sample from the whole distribution in vocabulary order: first the block, then the token in it."""
    rows, size = scaled.shape
    mass = torch.nn.functional.pad(scaled.softmax(-1), (0, -size % BLOCK)).reshape(rows, -1, BLOCK)
    block, rest = _find(mass.sum(-1, dtype=torch.float64), uniform.double())
    inside = mass[torch.arange(rows, device=mass.device), block].double()
    place, _ = _find(inside, rest / inside.sum(-1))
    return block * BLOCK + place


def _find(mass: Tensor, uniform: Tensor) -> tuple[Tensor, Tensor]:
    """Return where the cumulative sum of ``mass`` [rows, n] passes the fraction ``uniform``, and the rest."""
    cumulative = mass.cumsum(-1)
    target = (uniform * cumulative[:, -1])[:, None]
    place = torch.searchsorted(cumulative, target, right=True)
    # Rounding may push the target to the very end, where the last place with any mass is right.
    last = torch.where(mass > 0, torch.arange(mass.shape[-1], device=mass.device), 0).amax(-1, keepdim=True)
    place = torch.minimum(place, last)
    before = cumulative.gather(-1, place) - mass.gather(-1, place)
    return place.squeeze(-1), (target - before).squeeze(-1).clamp(min=0)


def _from_nucleus(scaled: Tensor, top_p: Tensor, uniform: Tensor) -> Tensor:
    log_mass = torch.logsumexp(scaled, dim=-1, keepdim=True)
    top, index = scaled.topk(min(TOP, scaled.shape[-1]), dim=-1)
    tokens = _invert((top - log_mass).exp(), index, top_p, uniform)
    short = (top - log_mass).exp().sum(-1) < top_p
    if top.shape[-1] < scaled.shape[-1] and bool(short.any()):
        full, order = scaled[short].sort(dim=-1, descending=True)
        tokens[short] = _invert((full - log_mass[short]).exp(), order, top_p[short], uniform[short])
    return tokens


def _invert(mass: Tensor, index: Tensor, top_p: Tensor, uniform: Tensor) -> Tensor:
    mass = mass.double()
    before = mass.cumsum(-1) - mass
    mass = torch.where(before < top_p[:, None], mass, 0.0)
    cumulative = mass.cumsum(-1)
    target = (uniform.double() * cumulative[:, -1])[:, None]
    place = torch.searchsorted(cumulative, target, right=True)
    # Rounding may push the target to the very end, where the last token of the nucleus is right.
    last = (mass > 0).sum(-1, keepdim=True) - 1
    return index.gather(-1, torch.minimum(place, last)).squeeze(-1)
