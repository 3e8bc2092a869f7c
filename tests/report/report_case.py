"""A report's data, made up."""

from __future__ import annotations

import numpy as np

from personascope.report.map_page._data import Curves, Figure, ReportData, Role, Sample

HOSTILE = '</script><script>window.hit=1</script><img src=x onerror="window.hit=1"><!-- <script>'


def report_data(n_roles: int = 90, n_layers: int = 30, text: str = HOSTILE) -> ReportData:
    rng = np.random.default_rng(0)
    points = rng.normal(size=(n_roles, 3)) * [6, 3, 2]
    layer = np.arange(n_layers)
    cosine = 0.85 / (1 + np.exp(-(layer - 6) / 2))
    roles = tuple(
        Role(
            name=f"role_{i:03d}",
            group="profession" if i % 2 else "myth",
            description="Someone who is made up for a test.",
            point=tuple(map(float, point)),
            projection=float(point[0] * 0.8 + point[1] * 0.2),
            low=float(point[0] * 0.8 + point[1] * 0.2 - 1),
            high=float(point[0] * 0.8 + point[1] * 0.2 + 1),
            counts={"score 3": 20 + i, "score 2": 5, "score 1": 2, "score 0": 1},
            samples=(
                Sample(f"What about {i}? {text}", f"I am {text}", 3),
                Sample("And you?", "…" * 400, 2, cut=9),
            ),
        )
        for i, point in enumerate(points)
    )
    share = 0.8 ** np.arange(20)
    return ReportData(
        model="acme/Persona-135M-Instruct",
        revision="0123456789abcdef0123",
        corpus="builtin",
        corpus_digest="fedcba9876543210",
        responses=12345,
        n_layers=n_layers,
        d_model=576,
        middle_layer=n_layers // 2,
        figures=(
            Figure("cos(axis, PC1)", 0.82, 0.76, 0.87, "How far the axis is the main direction among roles."),
            Figure(
                "Null, 95% quantile", 0.43, None, None, "The same cosine when role responses pose as default."
            ),
            Figure("Split half", 0.91, 0.88, 0.93, "Agreement of the axes of two halves of the responses."),
            Figure("Default on PC1", 0.93, 0.9, 0.97, "0 and 1 are the outermost roles."),
        ),
        variance=tuple(map(float, share / share.sum() * 0.95)),
        curves=Curves(
            tuple(map(float, cosine)),
            tuple(map(float, cosine - 0.06)),
            tuple(map(float, cosine + 0.05)),
            (0.45,) * n_layers,
            tuple(map(float, np.clip(cosine + 0.1, 0, 0.97))),
        ),
        default=Role(
            "default", point=(13.0, 1.0, 0.5), projection=11.0, low=10.2, high=11.9, samples=roles[0].samples
        ),
        axis=(0.8, 0.2, 0.1),
        roles=roles,
        methods=("12345 responses, all of them made up.", f"Escaped: {text}"),
        warnings=("This map is partial: 12 responses have no score.",),
    )
