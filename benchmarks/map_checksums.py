"""What it costs to compare a map with its digests: by tensor and layer as it is read, and as a whole.

    python benchmarks/map_checksums.py [LAYERS WIDTH ROLES]

The default is a map of the paper's largest design on a model of 64 layers of 5,120: 0.7 GB. Files are in the
page cache, so that what is measured is the work of the processor.
"""

from __future__ import annotations

import dataclasses
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from personascope.space import DIMENSIONS, MapMeta, MapModel, PersonaMap, Quantiles, Space, SpaceStats


def make(n_layers: int, d_model: int, n_roles: int) -> tuple[Space, MapMeta]:
    """Return a space of random vectors, and what a map records beside it."""
    rng = np.random.default_rng(0)
    sizes = {"L": n_layers, "R": n_roles, "S": n_roles, "K": 10, "V": 20, "P": 5}
    stats = {}
    for field in dataclasses.fields(SpaceStats):
        symbols = DIMENSIONS.get(f"stats.{field.name}")
        stats[field.name] = (
            0 if symbols is None else np.zeros([int(sizes.get(one, one)) for one in symbols])
        )  # fmt: skip
    names = tuple(f"role{number:03d}" for number in range(n_roles))

    def vectors(*shape: int) -> np.ndarray:
        return rng.standard_normal((n_layers, *shape, d_model), np.float32)

    space = Space(
        roles=names,
        somewhat=names,
        excluded={},
        counts={name: {"fully": 9, "somewhat": 9, "other": 0} for name in (*names, "default")},
        middle_layer=n_layers // 2,
        min_fully=9,
        min_somewhat=9,
        axis=vectors(),
        default_vector=vectors(),
        role_vectors=vectors(n_roles),
        somewhat_vectors=vectors(n_roles),
        mean=vectors(),
        components=vectors(10),
        stats=SpaceStats(**stats),
    )
    quantiles = np.tile(np.arange(9.0), (n_layers, 1))
    meta = MapMeta(
        model=MapModel("some/model", "r", "bfloat16", n_layers, d_model, "chat"),
        corpus_digest="c",
        versions={},
        command="",
        response_norms=np.ones(n_layers),
        quantiles=Quantiles(quantiles, quantiles),
    )
    return space, meta


def main(n_layers: int = 64, d_model: int = 5120, n_roles: int = 275) -> None:
    """Write the map, and print the time of each reading with and without digests."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "map"
        PersonaMap.save(folder, *make(n_layers, d_model, n_roles))
        size = (folder / "map.safetensors").stat().st_size
        print(f"{n_layers} layers of {d_model:,}, {n_roles} roles: {size / 1e9:.2f} GB")
        middle, name = n_layers // 2, "role007"
        reads: dict[str, Callable[[PersonaMap], object]] = {
            "the axis": lambda found: found.axis,
            "role vectors of a layer": lambda found: found.role_vectors(middle),
            "one role at all layers": lambda found: found.role_vector(name),
        }
        for what, read in {"opening": lambda _: None, **reads}.items():
            seconds = []
            for compared in (False, True):
                begun = time.perf_counter()
                found = PersonaMap.open(folder)
                if not compared:
                    found._tensors.digests = None
                begun = begun if what == "opening" else time.perf_counter()
                read(found)
                seconds.append(time.perf_counter() - begun)
            print(f"{what:26}{1e3 * seconds[0]:8.1f} ms uncompared{1e3 * seconds[1]:9.1f} ms compared")
        begun = time.perf_counter()
        PersonaMap.open(folder).verify()
        print(f"{'the whole file':26}{'':22}{1e3 * (time.perf_counter() - begun):9.1f} ms")


if __name__ == "__main__":
    main(*(int(word) for word in sys.argv[1:]))
