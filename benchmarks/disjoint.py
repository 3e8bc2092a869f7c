"""Two maps of one model with disjoint prompts and disjoint questions: do the intervals hold what differs?

Each role's prompts, sorted by length, are dealt to two corpora in turn, and the questions of each kind
likewise. Both are mapped with the profile "quick" and the same roles. A role's difference between its two
positions should lie within 1.96 times the joint standard error for 95% of the roles.

    python benchmarks/disjoint.py MODEL OUT [SEED]
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy.stats import spearmanr

from personascope.corpus import Corpus, load_corpus
from personascope.engines import load_engine
from personascope.judge import parse_judge
from personascope.mapping import RunSums, Vectors, plan_run, run_map
from personascope.space import Space, build_space
from personascope.store import RunFolder


def half(corpus: Corpus, part: int) -> Corpus:
    """Return every other prompt of each role and every other question of each kind."""
    roles = tuple(
        replace(role, prompts=tuple(sorted(role.prompts, key=len)[part::2])) for role in corpus.roles
    )
    kinds = sorted({question.kind for question in corpus.questions})
    questions = tuple(q for kind in kinds for q in [q for q in corpus.questions if q.kind == kind][part::2])
    return replace(corpus, name=f"{corpus.name}-{part}", roles=roles, questions=questions)


def compare(first: Space, second: Space, layer: int) -> str:
    """Return what differs between two spaces at one layer, their middle one."""

    def places(space: Space) -> dict[str, tuple[float, float]]:
        stats = space.stats
        zero, one = stats.mean_projection[layer], stats.default_projection[layer]
        position = (stats.projections[layer] - zero) / (one - zero)
        width = (stats.projection_interval[:, 1] - stats.projection_interval[:, 0]) / (one - zero)
        return {name: (p, w / 3.92) for name, p, w in zip(space.roles, position, width, strict=True)}

    a, b = places(first), places(second)
    shared = sorted(set(a) & set(b))
    difference = np.array([a[name][0] - b[name][0] for name in shared])
    # Each is about the mean of its own roles, which need not be the same ones.
    difference -= difference.mean()
    error = np.array([np.hypot(a[name][1], b[name][1]) for name in shared])
    order = spearmanr([a[name][0] for name in shared], [b[name][0] for name in shared])[0]
    axes = [space.axis[layer] / np.linalg.norm(space.axis[layer]) for space in (first, second)]
    lasting = " and ".join(f"{space.stats.role_reliability[layer]:.2f}" for space in (first, second))
    return (
        f"layer {layer}: {len(shared)} roles; {np.mean(np.abs(difference) <= 1.96 * error):.3f} of the "
        f"differences inside; Spearman {order:.2f}; cosine of the axes {axes[0] @ axes[1]:.3f}; "
        f"of the roles' spread lasts {lasting}"
    )


def main(model: str, out: Path, seed: int = 0) -> None:
    """Map both halves and compare them, made of the responses that played and of all."""
    engine = load_engine(model)
    layer = engine.info.n_layers // 2
    corpora = [half(load_corpus(), part) for part in (0, 1)]
    for part, corpus in enumerate(corpora):
        run_map(engine, corpus, "quick", out=out / f"half{part}", judge=parse_judge("rules"), seed=seed)
    choices: tuple[Vectors, ...] = ("played", "rubric")
    for vectors in choices:
        spaces = []
        for part, corpus in enumerate(corpora):
            design = plan_run(engine.info, corpus, "quick", seed=seed)
            folder = RunFolder.read(out / f"half{part}")
            sums = RunSums(folder, design, engine.info.n_layers, engine.info.d_model, vectors=vectors)
            spaces.append(build_space(sums, min_fully=3, min_somewhat=3, middle_layer=layer))
        print(f"vectors {vectors}: {compare(*spaces, layer)}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), *(int(arg) for arg in sys.argv[3:4]))
