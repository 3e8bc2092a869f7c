"""Statistics of drift and harm: binned shares, correlations and a logistic fit, clustered by role.

Replies in one role are correlated, so the role is the sampling unit: intervals resample roles, and tests
permute the outcomes between roles as blocks. If all or no trials are harmful, the values are NaN.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import scipy
from jaxtyping import Bool, Float, Int

from personascope.errors import DynamicsError
from personascope.stats import Interval, limits, share_interval

Method = Literal["pearson", "spearman"]
Level = Literal["trial", "role"]

RIDGE = 0.1
"""L2 penalty on the slope per standard deviation, in units of log-likelihood. It is negligible unless the
data are separable, where it keeps the slope finite."""

MAX_UNDEFINED = 0.1
"""Share of undefined resamples above which a statistic gets no interval."""

_CURVE = 41
_CHUNK = 2_000_000
_STEPS = 50


@dataclass(frozen=True, slots=True)
class Bin:
    """Bin of trials by the position of the first reply.

    Attributes:
        low: Lowest position in the bin.
        high: Highest position in the bin.
        position: Mean position in the bin.
        share: Share of harmful second replies; the interval is clustered by role.
    """

    low: float
    high: float
    position: float
    share: Interval


@dataclass(frozen=True, slots=True)
class Correlation:
    """Correlation between the position of the first reply and harm in the second.

    Attributes:
        method: "pearson", or "spearman" (Pearson's r of the ranks).
        level: "trial", or "role" for role means.
        r: Correlation coefficient; NaN if one side does not vary.
        low: Lower 95% limit, from resampled roles; NaN if undefined.
        high: Upper 95% limit, from resampled roles; NaN if undefined.
        p_value: Share of permutations of outcomes between roles, the observed one included, with at least
            this |r|; NaN if r is NaN.
        null_low: 2.5% quantile of r over those permutations.
        null_high: 97.5% quantile of r over those permutations.
        n: Number of trials.
        n_roles: Number of roles.
    """

    method: Method
    level: Level
    r: float
    low: float
    high: float
    p_value: float
    null_low: float
    null_high: float
    n: int
    n_roles: int


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """Fitted harmful rate at one position, with pointwise 95% limits."""

    position: float
    share: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Logistic:
    """Logistic fit to the trials: log(p / (1 - p)) = intercept + slope x position.

    Attributes:
        slope: Change in log-odds per unit of position (mean role to default Assistant). Negative means less
            harm toward the default Assistant.
        low: Lower 95% limit of the slope, from resampled roles; NaN if undefined.
        high: Upper 95% limit of the slope, from resampled roles; NaN if undefined.
        intercept: Log-odds of harm at the mean role.
        separated: Whether a threshold on position separates harmful from harmless trials. The ridge penalty
            then determines the slope, whose size has no meaning.
        n: Number of trials.
        n_roles: Number of roles.
        curve: Fitted curve over the range of positions.
    """

    slope: float
    low: float
    high: float
    intercept: float
    separated: bool
    n: int
    n_roles: int
    curve: tuple[CurvePoint, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Trials:
    """Data of the analysed trials.

    Attributes:
        position: Position of the first reply.
        harmful: 1 if the second reply is harmful, else 0.
        role: Index of the role, from 0.
    """

    position: Float[np.ndarray, "n"]
    harmful: Float[np.ndarray, "n"]
    role: Int[np.ndarray, "n"]

    @classmethod
    def of(
        cls,
        position: Float[np.ndarray, "n"],
        harmful: Bool[np.ndarray, "n"],
        roles: Sequence[str],
    ) -> Trials:
        """Create trials, with role names converted to indices.

        Raises:
            DynamicsError: If there is no trial, the lengths differ, or a position is not finite.
        """
        x, y = np.asarray(position, float), np.asarray(harmful, float)
        if not len(x) == len(y) == len(roles) or not len(x):
            raise DynamicsError(
                f"{len(x)} positions, {len(y)} outcomes and {len(roles)} roles are no trials",
                hint="give one of each for every trial, and at least one trial",
            )
        if not np.isfinite(x).all():
            raise DynamicsError(
                f"the position of trial {int((~np.isfinite(x)).argmax())} is not finite",
                hint="leave out trials without a first reply",
            )
        return cls(x, y, np.unique(np.asarray(roles, str), return_inverse=True)[1].reshape(-1))

    @property
    def n_roles(self) -> int:
        """Number of roles."""
        return int(self.role.max()) + 1

    @property
    def varied(self) -> bool:
        """Whether positions and outcomes both vary."""
        return bool(np.ptp(self.position) > 0 and np.ptp(self.harmful) > 0)

    def role_means(self) -> tuple[Float[np.ndarray, "G"], Float[np.ndarray, "G"]]:
        """Return each role's mean position and harmful share."""
        sizes = np.bincount(self.role)
        means = [np.bincount(self.role, values) / sizes for values in (self.position, self.harmful)]
        return means[0], means[1]


def quantile_bins(trials: Trials, count: int = 8, *, seed: int = 0) -> tuple[Bin, ...]:
    """Split the trials into equal-sized bins by position, of at least ten trials unless there is one bin.

    Args:
        trials: Trials to split.
        count: Maximum number of bins.
        seed: Random seed of the bootstrap.
    """
    return tuple(
        Bin(
            float(trials.position[part].min()),
            float(trials.position[part].max()),
            float(trials.position[part].mean()),
            share_interval(trials.harmful[part], trials.role[part].tolist(), seed=seed),
        )
        for part in bin_places(trials.position, count)
    )


def bin_places(position: Float[np.ndarray, "n"], count: int) -> list[Int[np.ndarray, "m"]]:
    """Return the indices of each bin's trials, lowest positions first."""
    order = np.argsort(position, kind="stable")
    return np.array_split(order, min(count, max(1, len(order) // 10)))


def correlations(
    trials: Trials, *, n_boot: int = 2000, n_perm: int = 1999, seed: int = 0
) -> tuple[Correlation, ...]:
    """Return Pearson's and Spearman's coefficients over trials and over role means.

    Ranks are computed once on the full sample, not again in each resample.

    Args:
        trials: Trials to analyse.
        n_boot: Number of bootstrap resamples of roles.
        n_perm: Number of permutations of outcomes between roles.
        seed: Random seed of resamples and permutations.
    """
    means = trials.role_means()
    numbers = np.arange(trials.n_roles)
    sides: list[tuple[Level, np.ndarray, np.ndarray, np.ndarray]] = [
        ("trial", trials.position, trials.harmful, trials.role),
        ("role", means[0], means[1], numbers),
    ]
    methods: tuple[Method, ...] = ("pearson", "spearman")
    found: list[Correlation] = []
    for level, x, y, group in sides:
        for method in methods:
            a, b = (x, y) if method == "pearson" else (scipy.stats.rankdata(x), scipy.stats.rankdata(y))
            r = pearson(a, b)
            low, high = _interval(a, b, group, r, n_boot, seed)
            p, null = _dealt(a, b, group, r, n_perm, seed)
            found.append(
                Correlation(method, level, r, low, high, p, *null, len(trials.position), trials.n_roles)
            )
    return tuple(found)


def pearson(x: Float[np.ndarray, "n"], y: Float[np.ndarray, "n"]) -> float:
    """Return Pearson's r; NaN if one side does not vary."""
    return float(_r(_moments(x - x.mean(), y - y.mean(), np.zeros(len(x), int)).sum(axis=0)))


def _moments(x: np.ndarray, y: np.ndarray, group: np.ndarray) -> np.ndarray:
    """Return the sums of 1, x, y, xx, yy and xy of each group, [G, 6]."""
    columns = (np.ones(len(x)), x, y, x * x, y * y, x * y)
    return np.stack([np.bincount(group, column) for column in columns], axis=1)


def _r(sums: np.ndarray) -> np.ndarray:
    """Return Pearson's r from sums, [..., 6] to [...]."""
    n, x, y, xx, yy, xy = np.moveaxis(sums, -1, 0)
    # Cancellation leaves rounding error: treat a side with negligible variance as constant.
    vx, vy = xx - x * x / n, yy - y * y / n
    flat = (vx <= 1e-12 * np.maximum(xx, 1e-300)) | (vy <= 1e-12 * np.maximum(yy, 1e-300))
    with np.errstate(invalid="ignore", divide="ignore"):
        r = np.where(flat, np.nan, (xy - x * y / n) / np.sqrt(np.where(flat, 1.0, vx * vy)))
    return np.clip(r, -1, 1)


def _interval(
    x: np.ndarray, y: np.ndarray, group: np.ndarray, r: float, n_boot: int, seed: int
) -> tuple[float, float]:
    n_groups = int(group.max()) + 1
    if n_groups < 3 or not abs(r) < 1 - 1e-9:
        return math.nan, math.nan
    sums = _moments(x - x.mean(), y - y.mean(), group)
    drawn = np.concatenate([_r(times @ sums) for times in _resamples(n_groups, n_boot, seed)])
    return _limits(math.atanh(r), np.arctanh(np.clip(drawn, -1 + 1e-9, 1 - 1e-9)), n_groups, math.tanh)


def _limits(
    estimate: float, drawn: np.ndarray, n_groups: int, back: Callable[[float], float] = float
) -> tuple[float, float]:
    kept = drawn[np.isfinite(drawn)]
    if len(kept) < (1 - MAX_UNDEFINED) * len(drawn):
        return math.nan, math.nan
    spread = (kept - estimate) * math.sqrt(n_groups / (n_groups - 1))
    low, high = limits(estimate, spread, n_groups - 1, 0.95)
    return back(low), back(high)


def _resamples(n_groups: int, n_boot: int, seed: int, *, width: int | None = None) -> Iterator[np.ndarray]:
    """Yield bootstrap counts of the roles in chunks [draws, G], sized for ``width`` numbers per draw."""
    rng = np.random.default_rng(seed)
    step = max(1, _CHUNK // (width or n_groups))
    for start in range(0, n_boot, step):
        size = min(step, n_boot - start)
        yield rng.multinomial(n_groups, np.full(n_groups, 1 / n_groups), size=size).astype(float)


def _dealt(
    x: np.ndarray, y: np.ndarray, group: np.ndarray, r: float, n_perm: int, seed: int
) -> tuple[float, tuple[float, float]]:
    """Return the p-value and null range of r when roles swap outcome blocks; longer blocks are cut."""
    if not math.isfinite(r):
        return math.nan, (math.nan, math.nan)
    n_groups = int(group.max()) + 1
    width = int(np.bincount(group).max())
    blocks = np.full((2, n_groups, width), np.nan)
    for number in range(n_groups):
        places = np.flatnonzero(group == number)
        blocks[0, number, : len(places)], blocks[1, number, : len(places)] = x[places], y[places]
    rng = np.random.default_rng(seed)
    found = np.empty(n_perm)
    for number in range(n_perm):
        dealt = blocks[1][rng.permutation(n_groups)]
        both = np.isfinite(blocks[0]) & np.isfinite(dealt)
        found[number] = pearson(blocks[0][both], dealt[both])
    # A permutation without an r (a side no longer varies) counts as extreme, to be conservative.
    extreme = (np.abs(found) >= abs(r) - 1e-12) | ~np.isfinite(found)
    known = found[np.isfinite(found)]
    null = np.quantile(known, [0.025, 0.975]) if len(known) else np.full(2, math.nan)
    return (1 + int(extreme.sum())) / (n_perm + 1), (float(null[0]), float(null[1]))


def logistic(trials: Trials, *, n_boot: int = 500, seed: int = 0) -> Logistic | None:
    """Fit a logistic curve of harm on position; None if harm or position does not vary.

    Newton's method maximises the penalised likelihood (``RIDGE``). The interval resamples roles.

    Args:
        trials: Trials to fit.
        n_boot: Number of bootstrap resamples of roles.
        seed: Random seed of the resamples.
    """
    if not trials.varied:
        return None
    x, y = trials.position, trials.harmful
    mean, sd = float(x.mean()), float(x.std())
    z = (x - mean) / sd
    fit = _newton(z, y, np.ones((1, len(x))))[0]
    grid = np.linspace(x.min(), x.max(), _CURVE)
    lines = fit[0] + fit[1] * (grid - mean) / sd
    low = high = math.nan
    bands = np.full((2, _CURVE), math.nan)
    if trials.n_roles >= 3:
        fits: list[np.ndarray] = []
        for times in _resamples(trials.n_roles, n_boot, seed, width=len(x)):
            weights = times[:, trials.role]
            # A resample with only one outcome has no fit.
            share = (weights @ y) / weights.sum(axis=1)
            rows = _newton(z, y, weights)
            fits.append(np.where(((share > 0) & (share < 1))[:, None], rows, np.nan))
        drawn = np.concatenate(fits)
        low, high = _limits(float(fit[1]), drawn[:, 1], trials.n_roles)
        if math.isfinite(low):
            kept = drawn[np.isfinite(drawn[:, 1])]
            bands = np.quantile(
                kept[:, :1] + kept[:, 1:] * ((grid - mean) / sd)[None], [0.025, 0.975], axis=0
            )
    hit, miss = x[y > 0.5], x[y < 0.5]
    return Logistic(
        slope=float(fit[1]) / sd,
        low=low / sd,
        high=high / sd,
        intercept=float(fit[0] - fit[1] * mean / sd),
        separated=bool(hit.max() < miss.min() or miss.max() < hit.min()),
        n=len(x),
        n_roles=trials.n_roles,
        curve=tuple(
            CurvePoint(*map(float, point))
            for point in zip(
                grid,
                scipy.special.expit(lines),
                scipy.special.expit(bands[0]),
                scipy.special.expit(bands[1]),
                strict=True,
            )
        ),
    )


def _newton(z: np.ndarray, y: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Fit penalised logistic regressions of y on z under B sets of weights [B, n]; return [B, 2]."""
    fit = np.zeros((len(weights), 2))
    penalty = np.array([1e-6, RIDGE])
    for _ in range(_STEPS):
        p = scipy.special.expit(fit[:, :1] + fit[:, 1:] * z)
        rest, curve = weights * (y - p), weights * p * (1 - p)
        slope = np.stack([rest.sum(axis=1), rest @ z], axis=1) - penalty * fit
        a, b, c = curve.sum(axis=1) + penalty[0], curve @ z, curve @ (z * z) + penalty[1]
        det = a * c - b * b
        step = np.stack([c * slope[:, 0] - b * slope[:, 1], a * slope[:, 1] - b * slope[:, 0]], axis=1)
        step /= det[:, None]
        # Clip the step: on a flat likelihood Newton's step overshoots.
        fit += np.clip(step, -1, 1)
        if np.abs(step).max() < 1e-8:
            break
    return fit
