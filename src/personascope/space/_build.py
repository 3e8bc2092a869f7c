"""Compute the persona space and Assistant Axis from fold sums, with their uncertainty (METHOD 1, 2)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from personascope.errors import SpaceError
from personascope.space._draws import Layout, bootstrap, halves, means, null
from personascope.space._layer import Layer, axis_cosines, make_layer, resample
from personascope.space._positions import Reliability, corrected_cosine, position_interval, reliability
from personascope.space._space import Space, SpaceStats
from personascope.space._sums import BUCKETS, FoldSums
from personascope.space._verdict import choose_layer

Array = np.ndarray

MIN_FULLY = 10
"""Minimum number of responses in a vector, as in the paper."""
MAX_COMPONENTS = 10
MAX_RATIOS = 20
POSITION_COMPONENTS = 5
MIN_ROLES = 3


def build_space(
    sums: FoldSums,
    *,
    min_fully: int = MIN_FULLY,
    min_somewhat: int = MIN_FULLY,
    middle_layer: int | None = None,
    n_boot: int = 200,
    n_splits: int = 50,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Space:
    """Compute role vectors, persona space, Assistant Axis and their uncertainty.

    One layer is read at a time. PCA is mean-centred and unscaled, over "fully" and "somewhat" vectors without
    the default. The sign of PC1 is that of the axis. The sign of every further component makes its largest
    loading positive.

    Args:
        sums: Fold sums of the pooled response activations.
        min_fully: Minimum number of responses for a "fully" vector; the paper takes 10.
        min_somewhat: Minimum number of responses for a "somewhat" vector.
        middle_layer: Layer of the loadings and intervals. By default the layer nearest ``n_layers // 2``
            among those where the axis is found, or else weakly found (`choose_layer`). The paper uses 32 of
            64 and 40 of 80, and for Gemma 2 22 of 46, one less than half.
        n_boot: Number of draws of the bootstrap and of the null.
        n_splits: Number of random halvings.
        seed: Random seed of all resampling.
        progress: Callback to call after each layer with (layers done, total layers).

    Raises:
        SpaceError: If fewer than 3 roles reach ``min_fully``, the default has responses in no fold or
            only one, a sum is not finite, or a layer has no spread.
    """
    if min(min_fully, min_somewhat, n_boot, n_splits) < 1:
        raise SpaceError(
            f"min_fully={min_fully}, min_somewhat={min_somewhat}, n_boot={n_boot}, "
            f"n_splits={n_splits}: each must be 1 or more"
        )
    if middle_layer is not None and not 0 <= middle_layer < sums.n_layers:
        raise SpaceError(
            f"middle layer {middle_layer} is not among the {sums.n_layers} layers",
            hint=f"Choose 0 to {sums.n_layers - 1}.",
        )
    layout, keep = unit_layout(sums, min_fully, min_somewhat)
    rngs = [np.random.default_rng(s) for s in np.random.SeedSequence(seed).spawn(4)]
    boot = bootstrap(layout, n_boot, rngs[0])
    half_a, half_b, split_roles = halves(layout, n_splits, rngs[1])
    null_draws, null_folds = null(layout, n_boot, rngs[2])

    columns: dict[str, list[Array]] = {}
    dense = 0
    for index in range(sums.n_layers):
        layer = make_layer(layout, read_units(sums, index, layout, keep))
        point = _point(layer, index)
        draws = resample(layer, boot, point["components"], n_vectors=1)
        nulls = resample(layer, null_draws, point["components"], n_vectors=1, relabelled=True)
        dense += draws.n_dense + nulls.n_dense
        stable = axis_cosines(layer, axis_coefficients(layout), draws.axis)
        split = axis_cosines(layer, half_a, half_b)
        counts = layout.counts[: len(layout.roles)]
        places = reliability(_along(layer, point["axis"]), counts, layout.clusters, n_boot, rngs[3])
        corrected, low, high = corrected_cosine(float(point["cos_axis_pc1"]), draws.cosine)
        row = {k: v for k, v in point.items() if k not in ("loadings", "default_loadings")}
        row |= {
            "cos_axis_pc1_corrected": corrected,
            "cos_axis_pc1_interval": np.array([low, high]),
            "null_q95": np.quantile(nulls.cosine, 0.95),
            "split_half": np.median(split),
            "split_half_range": np.array([split.min(), split.max()]),
            "axis_stability": np.median(stable),
            "axis_stability_interval": _interval(stable),
            "role_reliability": places.roles[0],
            "role_reliability_interval": np.array(places.roles[1:]),
            "prompt_reliability": places.prompts[0],
            "prompt_reliability_interval": np.array(places.prompts[1:]),
            "role_spread": places.spread / np.linalg.norm(point["axis"]),
            "prompt_spread": places.prompt_spread / np.linalg.norm(point["axis"]),
        }
        for name, value in row.items():
            columns.setdefault(name, []).append(np.asarray(value))
        if progress is not None:
            progress(index + 1, sums.n_layers)

    stacked = {name: np.stack(values) for name, values in columns.items()}
    middle = middle_layer
    if middle is None:
        middle = choose_layer(
            stacked["split_half"],
            stacked["prompt_reliability"],
            stacked["role_reliability"],
            stacked["role_reliability_interval"][:, 0],
        )
    layer = make_layer(layout, read_units(sums, middle, layout, keep))
    point = _point(layer, middle)
    n_vectors = min(POSITION_COMPONENTS, len(point["components"]))
    draws = resample(layer, boot, point["components"], n_vectors=n_vectors)
    counts = layout.counts[: len(layout.roles)]
    places = reliability(_along(layer, point["axis"]), counts, layout.clusters, 0, rngs[3])
    at_middle = {
        "loadings": point["loadings"],
        "default_loadings": point["default_loadings"],
        "default_position_interval": _interval(draws.default_position),
        "projection_interval": role_intervals(layer, point["axis"], places, draws.axis),
    }
    vectors = ("axis", "default_vector", "role_vectors", "somewhat_vectors", "mean", "components")
    numbers = {k: v for k, v in stacked.items() if k not in vectors} | at_middle
    per_role = _counts(sums)
    return Space(
        roles=layout.roles,
        somewhat=layout.somewhat,
        excluded={r: c["fully"] for r, c in per_role.items() if r not in {*layout.roles, "default"}},
        counts=per_role,
        middle_layer=middle,
        min_fully=min_fully,
        min_somewhat=min_somewhat,
        stats=SpaceStats(
            n_boot=n_boot,
            n_splits=n_splits,
            seed=seed,
            null_folds=null_folds,
            split_roles=split_roles,
            dense_draws=dense,
            **numbers,  # pyright: ignore[reportArgumentType]
        ),
        **{name: stacked[name] for name in vectors},
    )


def unit_layout(sums: FoldSums, min_fully: int, min_somewhat: int) -> tuple[Layout, tuple[Array, Array]]:
    """Return the units of a space, and the places of the roles with a "fully" and a "somewhat" vector.

    Raises:
        SpaceError: If the default has no responses, or fewer than 3 roles have a vector.
    """
    fully, somewhat, default = sums.counts("fully"), sums.counts("somewhat"), sums.default_counts()
    if default.sum() == 0:
        raise SpaceError("the default has no responses", hint="Collect responses without a role first.")
    keep_f = np.flatnonzero(fully.sum(axis=1) >= min_fully)
    keep_s = np.flatnonzero(somewhat.sum(axis=1) >= min_somewhat)
    if len(keep_f) < MIN_ROLES:
        raise SpaceError(
            f"{len(keep_f)} of {len(sums.roles)} roles have {min_fully} responses fully in the role; "
            f"a persona space needs {MIN_ROLES}",
            hint="Collect more responses for each role, or lower the minimum.",
        )
    if sums.fold_design is not None:
        # Ignore the default's responses in folds without role responses: there is nothing to compare them
        # with.
        default = np.where(fully[keep_f].sum(axis=0) > 0, default, 0)
    _, owner = np.unique(np.concatenate([keep_f, keep_s]), return_inverse=True)
    layout = Layout(
        roles=tuple(sums.roles[i] for i in keep_f),
        somewhat=tuple(sums.roles[i] for i in keep_s),
        owner=owner,
        counts=np.concatenate([fully[keep_f], somewhat[keep_s], default[None]]).astype(np.int64),
        design=sums.fold_design,
    )
    return layout, (keep_f, keep_s)


def read_units(sums: FoldSums, index: int, layout: Layout, keep: tuple[Array, Array]) -> Array:
    """Return the sums [R + S + 1, F, d] of the vectors and the default, float64."""
    parts = [sums.sums("fully", index)[keep[0]]]
    if len(keep[1]):
        parts.append(sums.sums("somewhat", index)[keep[1]])
    parts.append(sums.default_sums(index)[None])
    rows = np.concatenate(parts).astype(np.float64)
    bad = np.flatnonzero(~np.isfinite(rows).all(axis=(1, 2)))
    if len(bad):
        names = [*layout.roles, *(f"{r} (somewhat)" for r in layout.somewhat), "default"]
        raise SpaceError(
            f"activations of {', '.join(names[u] for u in bad[:5])} at layer {index} are not finite",
            hint="Run the model in bfloat16 or float32; float16 overflows in some models.",
        )
    # A fold without responses may hold arbitrary values in its slot.
    rows[layout.counts == 0] = 0.0
    return rows


def axis_coefficients(layout: Layout) -> Array:
    """Return the coefficients of the axis, [(R + S + 1) * F] float64."""
    t = means(layout)
    n_fully = len(layout.roles)
    t[:n_fully] /= -n_fully
    t[n_fully:-1] = 0.0
    return t.reshape(-1)


def _point(layer: Layer, index: int) -> dict[str, Array]:
    """Return all point estimates at one layer."""
    layout, centre = layer.layout, layer.centre
    n_fully = len(layout.roles)
    shape = (*layout.counts.shape, -1)
    v = np.einsum("uf,ufd->ud", means(layout), layer.rows.reshape(shape))
    units, default = v[:-1], v[-1]
    fully = units[:n_fully]
    axis = default - fully.mean(axis=0)
    length = float(np.linalg.norm(axis))
    mean = units.mean(axis=0)
    centred = units - mean
    values, sides = np.linalg.eigh(centred @ centred.T)
    values, sides = np.maximum(values[::-1], 0.0), sides[:, ::-1]
    scale = float(np.square(v + centre).sum())
    if values[0] <= 1e-14 * scale or length**2 <= 1e-14 * scale:
        what = "role vectors are all equal" if length**2 > 1e-14 * scale else "axis is zero"
        raise SpaceError(
            f"the {what} at layer {index}",
            hint="Check that roles and default had different system prompts.",
        )
    ratio = values / values.sum()
    rank = int((values > 1e-12 * values[0]).sum())
    n_components = min(MAX_COMPONENTS, len(units) - 1, v.shape[1])
    components = np.zeros((n_components, v.shape[1]))
    usable = min(rank, n_components)
    components[:usable] = (sides[:, :usable].T @ centred) / np.sqrt(values[:usable, None])
    components /= np.maximum(np.linalg.norm(components, axis=1, keepdims=True), 1e-300)
    loads = centred @ components.T
    peaks = loads[np.abs(loads).argmax(axis=0), np.arange(n_components)]
    peaks[0] = components[0] @ axis
    flip = np.where(peaks < 0, -1.0, 1.0)
    components, loads = components * flip[:, None], loads * flip
    default_loads = components @ (default - mean)
    low, high = loads[:n_fully].min(axis=0), loads[:n_fully].max(axis=0)
    unit = axis / length
    offset = float(centre @ unit)
    about = fully - fully.mean(axis=0)
    lengths = np.linalg.norm(about, axis=1)
    return {
        "axis": axis.astype(np.float32),
        "default_vector": (default + centre).astype(np.float32),
        "role_vectors": (fully + centre).astype(np.float32),
        "somewhat_vectors": (units[n_fully:] + centre).astype(np.float32),
        "mean": (mean + centre).astype(np.float32),
        "components": components.astype(np.float32),
        "cos_axis_pc1": np.asarray(components[0] @ unit),
        "variance_ratio": ratio[: min(MAX_RATIOS, len(units) - 1)],
        "components_for_70": np.asarray(np.searchsorted(np.cumsum(ratio), 0.7 - 1e-12) + 1, np.int64),
        "role_cosines": (about @ unit) / np.where(lengths > 0, lengths, 1.0),
        "projections": fully @ unit + offset,
        "somewhat_projections": units[n_fully:] @ unit + offset,
        "mean_projection": np.asarray(fully.mean(axis=0) @ unit + offset),
        "default_projection": np.asarray(default @ unit + offset),
        "default_position": (default_loads - low) / np.where(high > low, high - low, 1.0),
        "default_percentile": (loads[:n_fully] < default_loads).mean(axis=0),
        "loadings": loads[:n_fully],
        "default_loadings": default_loads,
    }


def _interval(draws: Array) -> Array:
    return np.moveaxis(np.quantile(draws, [0.025, 0.975], axis=-1), 0, -1)


def _along(layer: Layer, axis: Array) -> Array:
    """Return the sums of the roles' projections on the unit axis by fold, [R, F]."""
    unit = axis.astype(np.float64) / np.linalg.norm(axis.astype(np.float64))
    return (layer.rows @ unit).reshape(layer.layout.counts.shape)[: len(layer.layout.roles)]


def role_intervals(layer: Layer, axis: Array, places: Reliability, draws: Array) -> Array:
    """Return 95% intervals of the roles' projections, [R, 2], including the error of the axis."""
    layout = layer.layout
    n_fully = len(layout.roles)
    coefficients = means(layout)[:n_fully]
    rows = layer.rows.reshape(*layout.counts.shape, -1)
    roles = np.einsum("rf,rfd->rd", coefficients, rows[:n_fully])
    axis = axis.astype(np.float64)
    length = float(np.linalg.norm(axis))
    drawn_axes = layer.rows.T @ draws.astype(np.float64)
    drawn = (roles @ drawn_axes) / np.square(drawn_axes).sum(axis=0)
    zero = float((roles @ axis).mean() / length)
    positions = (roles @ axis / length - zero) / length
    interval = position_interval(positions, places.variances / length**2, drawn)
    return interval * length + zero + float(layer.centre @ axis) / length


def _counts(sums: FoldSums) -> dict[str, dict[str, int]]:
    totals = {bucket: sums.counts(bucket).sum(axis=1) for bucket in BUCKETS}
    out = {r: {b: int(totals[b][i]) for b in BUCKETS} for i, r in enumerate(sums.roles)}
    out["default"] = {"fully": int(sums.default_counts().sum()), "somewhat": 0, "other": 0}
    return out
