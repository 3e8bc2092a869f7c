"""The card of what is shared: README.md with the hub's front matter, made from the thing itself."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, cast

import yaml

from personascope.sharing._card_map import map_card
from personascope.sharing._contents import Contents
from personascope.sharing._licence import front_matter
from personascope.sharing._markdown import code, table
from personascope.text import hide_secrets

CARD = "README.md"
FOLDER = "FOLDER"
"""Address on the card of a thing that is shared as a file or a folder, which may lie anywhere."""

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_TITLES = {"run": "Persona map", "plan": "Plan", "monitor": "Drift monitor", "release": "Released vectors"}
_TAGS = {"run": "persona-map", "plan": "activation-steering", "monitor": "drift-monitor", "release": "axis"}


def make_card(contents: Contents, manifest: Mapping[str, Any], *, address: str) -> str:
    """Return the card: what it is, its figures with their intervals, how it was made and how to open it.

    Args:
        contents: Thing that is shared.
        manifest: Its manifest, as JSON values.
        address: Where it will lie, for the lines that open it: ``hub:owner/name``, or `FOLDER`.
    """
    whose = "" if contents.model is None else f" of {code(contents.model[0])}"
    parts = [
        f"# {_TITLES[contents.kind]}{whose}",
        *_BODIES[contents.kind](contents),
        *_files(contents, manifest),
        *_opening(contents, address),
        *_licence(contents, str(manifest["licence"])),
        f"Made with personascope {manifest['version']}. Layer l is the residual stream after block l, from "
        "0. The axis points toward the Assistant.",
    ]
    # A command line or a model's name may hold an address with a key in it.
    return hide_secrets(f"{_front(contents, manifest)}\n" + "\n\n".join(parts) + "\n")


def _front(contents: Contents, manifest: Mapping[str, Any]) -> str:
    values: dict[str, Any] = front_matter(str(manifest["licence"]))
    values["pretty_name"] = _TITLES[contents.kind]
    if contents.model is not None:
        values["pretty_name"] += f" of {contents.model[0]}"
        if _HUB_ID.fullmatch(contents.model[0]):
            values["base_model"] = contents.model[0]
    values["tags"] = ["personascope", _TAGS[contents.kind], "interpretability"]
    # Nothing here is a table that the hub's viewer could show.
    values["viewer"] = False
    return f"---\n{yaml.safe_dump(values, sort_keys=False, allow_unicode=True)}---\n"


def _plan(contents: Contents) -> list[str]:
    plan = cast("Any", contents.value)
    lines = str(plan.explain()).splitlines()
    held = [
        ("name", plan.name or "-"),
        ("digest", plan.digest),
        *_of_model(contents),
        ("layers", ", ".join(map(str, plan.layers))),
    ]
    return [
        "A list of operations on the residual stream, each along one unit direction of one layer. A floor on "
        "the Assistant Axis holds a model at the Assistant; it must not be loaded as a vector that is added.",
        table(("", ""), [(name, code(value)) for name, value in held]),
        "## What it does\n\n" + "\n".join(code(line) + "  " for line in lines[1:]),
    ]


def _monitor(contents: Contents) -> list[str]:
    monitor = cast("Any", contents.value)
    found = monitor.rule.calibration
    rows = [
        *_of_model(contents),
        ("map", "-" if monitor.source is None else monitor.source.map_sha256 or "-"),
        ("layer", str(monitor.layer)),
        ("direction", monitor.probe),
        ("rule", f"{type(monitor.rule).__name__.lower()} of every {monitor.rule.level}"),
        ("threshold", f"{monitor.rule.threshold:.4g}"),
    ]
    said = "The threshold was set by hand: no rate of false alarms is known."
    if found is not None:
        low, high = found.rate_range()
        said = (
            f"At most {found.false_alarms:.1%} of Assistant-like conversations raise an alarm within "
            f"{found.horizon} {monitor.rule.level}s, by {found.n} conversations that set the threshold (for "
            f"this set the rate lies in {low:.1%} to {high:.1%} with probability 90%). Nothing is said of "
            "other kinds of conversations."
        )
    return [
        "Raises an alarm where the positions of a conversation on the Assistant Axis fall.",
        table(("", ""), [(name, code(value)) for name, value in rows]),
        said,
    ]


def _release(contents: Contents) -> list[str]:
    held = cast("Any", contents.value)
    rows = [
        ("source", held.source or "-"),
        ("layers", f"{held.n_layers} of {held.d_model}"),
        ("default vector", "no" if held.default_vector is None else "yes"),
        ("roles", str(len(held.role_vectors))),
        ("traits", str(len(held.trait_vectors))),
    ]
    return [
        "Vectors that others released, read safely and stored as safetensors. They have no counts, folds and "
        "quantiles, so there is no verdict and no interval.",
        table(("", ""), [(name, code(value)) for name, value in rows]),
    ]


def _of_model(contents: Contents) -> list[tuple[str, str]]:
    if contents.model is None:
        return [("model", "not said")]
    return [("model", contents.model[0]), ("revision", contents.model[1] or "unknown")]


def _files(contents: Contents, manifest: Mapping[str, Any]) -> list[str]:
    # Files of a kind stand together: a run with its texts has thousands.
    sizes: dict[str, list[int]] = {}
    for name, entry in manifest["files"].items():
        group = name if name.count("/") < 2 else re.sub(r"/[^/]+/", "/*/", name, count=1)
        sizes.setdefault(group, []).append(entry["size"])
    rows = [(code(name), str(len(found)), f"{sum(found):,}") for name, found in sizes.items()]
    texts = (
        "Responses of the model are among the files."
        if contents.texts
        else "No response of the model is among the files."
    )
    checked = "`personascope.json` has the SHA-256 of each; it is compared when they are fetched."
    return ["## Files", table(("file", "number", "bytes"), rows), f"{texts} {checked}"]


def _opening(contents: Contents, address: str) -> list[str]:
    lines = {
        "run": f'pmap = ps.open("{address}")\npmap.plot().save("space.png")',
        "release": f'pmap = ps.open("{address}", model="MODEL")',
        "plan": f'plan = api.open_plan("{address}")\nprint(plan.explain())',
        "monitor": f'monitor = api.open_monitor("{address}")',
    }[contents.kind]
    first = {"run": "import personascope as ps", "release": "import personascope as ps"}.get(
        contents.kind, "from personascope import api"
    )
    command = f"show {address}" if contents.kind in ("run", "release") else f"pull {address} --out FOLDER"
    if address == FOLDER:
        command = "pull FILE --out FOLDER"
    return [
        "## Open it",
        f"```python\n{first}\n\n{lines}\n```",
        f"```bash\npersonascope {command}\n```",
    ]


def _licence(contents: Contents, licence: str) -> list[str]:
    whose = "the model" if contents.model is None else code(contents.model[0])
    said = (
        f"What is made from a model falls under its licence. That of {whose} is {code(licence)}."
        if licence
        else f"The licence of {whose} is not known here. What is made from a model falls under its licence."
    )
    return ["## Licence", said]


_BODIES: dict[str, Callable[[Contents], list[str]]] = {
    "run": map_card,
    "plan": _plan,
    "monitor": _monitor,
    "release": _release,
}
