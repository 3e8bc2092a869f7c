"""Every kind of file that is read: a whole one to damage, and what reads it."""

from __future__ import annotations

import csv
import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import fakes
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
import yaml
from cli_case import write_corpus
from map_case import N_LAYERS, D, save_map
from safetensors.numpy import save_file

from fuzz.mutations import damage_bytes, damage_json, damage_lines
from helpers.trait_files import write_ours
from helpers.trait_files import write_released as write_released_jsons
from interop import test_transcript_exports as exports
from personascope.api import pull, push
from personascope.corpus import check_corpus, check_traits, load_corpus, load_traits
from personascope.corpus._write import write_released
from personascope.corpus.datasets import load_chats, load_jailbreak_set
from personascope.corpus.dialogues import load_cases, load_domain
from personascope.directions._norms import Norms
from personascope.directions._norms_file import keep_norms, read_norms
from personascope.dynamics import read_drift
from personascope.dynamics.harm import read_harm
from personascope.dynamics.monitor import Monitor
from personascope.dynamics.monitor._rules import Threshold
from personascope.dynamics.projection import read_projections
from personascope.dynamics.projection._records import KIND
from personascope.evals import read_evaluation
from personascope.interop import Transcript, TranscriptSource, export_released, import_source, read_direction
from personascope.interventions import Cap, Plan, PlanModel, Steer
from personascope.mapping._adaptive import read_rounds
from personascope.mapping._unit import UnitMeta
from personascope.space import MapTraits, PersonaMap, Population, TraitMeta, TraitSpace, save_traits
from personascope.store import RunFolder, write_record

Damage = Callable[[bytes, random.Random], bytes]
UNSEALED = ("checksum",)


@dataclass(frozen=True, slots=True)
class Target:
    """A file to damage.

    Attributes:
        name: What it is.
        path: Where it lies; it is put back after each case.
        read: Reads it, and returns what a user would get of it, as text or bytes to compare.
        damage: How it is damaged.
        sealed: Whether a change must be noticed, or change nothing.
    """

    name: str
    path: Path
    read: Callable[[], Any]
    damage: Damage = damage_bytes
    sealed: bool = False


def _map(folder: Path) -> Any:
    found = PersonaMap.open(folder)
    stats = [np.asarray(getattr(found.stats, name)).tobytes() for name in type(found.stats).__slots__]
    vectors = [found.role_vector(role).tobytes() for role in found.roles]
    layers = [
        found.components(layer).tobytes() + found.mean(layer).tobytes() for layer in range(found.n_layers)
    ]
    rest = (found.roles, found.counts, found.excluded, found.model, found.minimums, found.middle_layer)
    quantiles = (
        found.quantiles.role.tobytes(),
        found.quantiles.default.tobytes(),
        found.response_norms.tobytes(),
    )
    return repr((rest, found.verdict(), found.axis.tobytes(), found.default_vector.tobytes(), quantiles)), [
        *stats, *vectors, *layers
    ]  # fmt: skip


def _run(folder: Path) -> Any:
    found = RunFolder.read(folder, unit=UnitMeta)
    parts: list[Any] = [found.manifest["identity"], found.manifest["notes"]]
    for index in sorted(found.units):
        parts += [found.units[index].meta, found.rows(index).to_pylist()]
        kept = found.part(index, "kept")
        parts += [] if kept is None else [kept.read(name).tobytes() for name in kept.specs]
    for name in sorted(found.shards("roles")):
        shard = found.shard("roles", name)
        parts += [] if shard is None else [shard.metadata, [shard.read(one).tobytes() for one in shard.specs]]
    return repr(parts)


def _transcripts(path: Path) -> Any:
    return [
        entry.conversation if isinstance(entry, Transcript) else entry.reason
        for entry in TranscriptSource.open(path).read()
    ]


def _direction(path: Path) -> Any:
    return read_direction(path, 2, n_layers=N_LAYERS, d_model=D)


def _corpus(folder: Path) -> Any:
    return check_corpus(folder), load_corpus(folder).digest


def _trait_texts(folder: Path) -> Any:
    return check_traits(folder), load_traits(folder).digest


def make_targets(at: Path) -> list[Target]:
    """Write a whole file of every kind below a folder."""
    unsealed = partial(damage_json, unseal=UNSEALED)
    made: list[Target] = []
    save_map(at / "map")
    made.append(Target("map.json", at / "map/map.json", lambda: _map(at / "map"), unsealed))
    made.append(Target("map.json, sealed", at / "map/map.json", lambda: _map(at / "map"), damage_json, True))
    tensors = at / "map/map.safetensors"
    made.append(Target("map.safetensors", tensors, lambda: _map(at / "map"), sealed=True))
    made += _traits(at / "map", unsealed)
    fakes.run(at / "run", judge=fakes.FakeJudge(failing=20))
    read_run = partial(_run, at / "run")
    unit = sorted((at / "run/units").iterdir())[0]
    for path in (at / "run/manifest.json", unit / "unit.json", at / "run/checksums.json"):
        made.append(Target(path.name, path, read_run, unsealed))
        made.append(Target(f"{path.name}, sealed", path, read_run, damage_json, True))
    files = (unit / "rollouts.parquet", unit / "kept.safetensors", at / "run/roles/default.safetensors")
    made += [Target(path.name, path, read_run, sealed=True) for path in files]
    (at / "adaptive").mkdir()
    point = {"round": 1, "kind": "opening", "rollouts": 60, "tokens": 900, "vectors": 5, "split_half": 0.8}
    point |= {"split_half_low": None, "half_width": 0.4, "widest": 0.7}
    record = {"layer": 2, "rounds": [{"kind": "widest", "roles": ["bard"]}], "points": [point], "stop": ""}
    write_record(at / "adaptive/rounds.json", record)

    def rounds() -> Any:
        return repr(read_rounds(at / "adaptive"))

    made.append(Target("rounds.json", at / "adaptive/rounds.json", rounds, unsealed))
    made.append(Target("rounds.json, sealed", at / "adaptive/rounds.json", rounds, damage_json, True))
    (at / "norms").mkdir()
    keep_norms(at / "norms", Norms(np.arange(1.0, 5.0), 3, 90, (), "builtin"), revision="r")

    def read_kept() -> Any:
        return repr(read_norms(at / "norms", revision="r", n_layers=4))

    made.append(Target("norms.json", at / "norms/norms.json", read_kept, unsealed))
    made.append(Target("norms.json, sealed", at / "norms/norms.json", read_kept, damage_json, True))
    Monitor(Threshold("token", -0.5, 8), layer=2, units=(0.0, 2.0)).save(at / "monitor.json")

    def read_monitor() -> Any:
        return Monitor.load(at / "monitor.json").record()

    made.append(Target("monitor.json", at / "monitor.json", read_monitor, unsealed))
    made.append(Target("monitor.json, sealed", at / "monitor.json", read_monitor, damage_json, True))
    rows = np.random.default_rng(0).normal(size=(N_LAYERS, D)).astype(np.float32)
    ops = (Steer(1, rows[1], 0.2, 30.0), Cap(2, rows[2], floor=-1.0))
    Plan(ops, PlanModel("some/model", "abc", N_LAYERS, D), "kind").save(at / "plan")

    def read_plan() -> Any:
        return Plan.load(at / "plan").digest

    made.append(Target("plan.json", at / "plan/plan.json", read_plan, damage_json))
    made.append(Target("plan.safetensors", at / "plan/plan.safetensors", read_plan, sealed=True))
    made += _shared(at)
    export_released(PersonaMap.open(at / "map"), at / "files")
    import_source(at / "files").save(at / "release")  # pyright: ignore[reportAttributeAccessIssue]

    def read_release() -> Any:
        found = import_source(at / "release")
        return repr(found.directions())  # pyright: ignore[reportAttributeAccessIssue]

    made.append(Target("released.json", at / "release/released.json", read_release, unsealed))
    made.append(
        Target("released.json, sealed", at / "release/released.json", read_release, damage_json, True)
    )
    made.append(
        Target("released.safetensors", at / "release/released.safetensors", read_release, sealed=True)
    )
    made.append(Target("axis.pt", at / "files/assistant_axis.pt", lambda: import_source(at / "files")))
    made += _manifests(at / "others")
    made += _vectors(at / "vectors", rows)
    made += _texts(at)
    return made


def _shared(at: Path) -> list[Target]:
    """A plan that was shared as a folder and as archives; what is read is a copy, as `pull` makes it."""
    for name in ("shared", "shared.zip", "shared.tar.gz"):
        push(at / "plan", at / name)

    def pulled(name: str) -> Any:
        with TemporaryDirectory(dir=at.parent) as folder:
            found = pull(at / name, Path(folder) / "copy")
            return found.digest, Plan.load(found.folder).digest

    folder = partial(pulled, "shared")
    manifest = at / "shared/personascope.json"
    return [
        Target("personascope.json", manifest, folder, partial(damage_json, unseal=UNSEALED)),
        Target("personascope.json, sealed", manifest, folder, damage_json, True),
        Target("a shared file", at / "shared/plan.safetensors", folder, sealed=True),
        Target("a shared zip", at / "shared.zip", partial(pulled, "shared.zip"), sealed=True),
        Target("a shared tar", at / "shared.tar.gz", partial(pulled, "shared.tar.gz"), sealed=True),
    ]


def _traits(at: Path, unsealed: Damage) -> list[Target]:
    """Add traits to a map."""
    rng = np.random.default_rng(2)
    names = ("calm", "dry", "edgy")
    shapes = {
        "vectors": (N_LAYERS, 3, D), "cosines": (N_LAYERS, 3), "cosine_interval": (N_LAYERS, 3, 2),
        "null_q95": (N_LAYERS, 3), "mixed_q95": (N_LAYERS,), "reliability": (N_LAYERS, 3),
        "mean": (N_LAYERS, D), "components": (N_LAYERS, 2, D), "variance_ratio": (N_LAYERS, 2),
        "cos_axis_pc1": (N_LAYERS,),
    }  # fmt: skip
    arrays = {name: rng.normal(size=shape) for name, shape in shapes.items()}
    space = TraitSpace(names, {"fey": 1}, 2, 0, 20, **arrays)
    meta = TraitMeta(
        map_digest=PersonaMap.open(at).digest,
        groups=dict.fromkeys(names, "style"),
        pairs={name: {"kept": 4} for name in names},
        points={"calm": (80.0, 20.0), "dry": None, "edgy": (70.0, 10.0)},
        min_difference=50,
        judges={"judge": 48},
        refused=1,
        unscored=2,
        profile={
            "name": "quick", "seed": 0, "prompts": 2, "questions": 8, "max_new_tokens": 9,
            "own_questions": False,
        },
        digest="d",
        quantiles=np.sort(rng.normal(size=(N_LAYERS, 3)), axis=1),
        percentiles=(5, 50, 95),
        population=Population("roles and traits", {"role": 9, "trait": 48}, {"role": 3, "trait": 4}),
    )  # fmt: skip
    folder = save_traits(at, "own", space, meta)

    def numbers(one: MapTraits) -> Any:
        return [getattr(one.space, name).tobytes() for name in shapes]

    def read() -> Any:
        persona_map = PersonaMap.open(at)
        found = [
            (one.record, one.places(1), one.vector("calm").tobytes(), one.quantiles.tobytes(), numbers(one))
            for one in persona_map.traits
        ]
        return repr((found, persona_map.stale_traits))

    record, tensors = folder / "traits.json", folder / "traits.safetensors"
    return [
        Target("traits.json", record, read, unsealed),
        Target("traits.json, sealed", record, read, damage_json, True),
        Target("traits.safetensors", tensors, read, sealed=True),
    ]


def _manifests(at: Path) -> list[Target]:
    """Return run folders of the other kinds, of which the manifest is read first."""
    scene = {"id": "d/p/t", "domain": "d", "persona": "p", "topic": "t", "number": 0, "switch": None}
    condition = {"name": "plain", "kind": "plain", "strength": None, "draw": None, "of": []}
    model = {"id": "m", "revision": "r"}
    kinds: dict[str, tuple[dict[str, Any], dict[str, Any], Callable[[Path], Any]]] = {
        "drift": (
            {"layer": 1, "turns": 3, "model": model},
            {"kind": "dialogues", "scenes": [scene], "zero": [0.0, 0.5], "one": [1.0, 2.0]},
            lambda path: read_drift(path).dialogues,
        ),
        "evaluation": ({"evaluation": "jailbreak"}, {"conditions": [condition]}, read_evaluation),
        "harm": (
            {"evaluation": "harm", "layer": 1, "plan": ["00", "both"], "model": model},
            {"roles": ["poet"], "source": "builtin", "plan_name": ""},
            lambda path: read_harm(path).missing,
        ),
        "projections": (
            {"kind": KIND, "layer": 1, "probes": [["axis", 1, "00"]]},
            {"source": "x"},
            lambda path: read_projections(path).probes,
        ),
    }
    made: list[Target] = []
    for name, (identity, notes, read) in kinds.items():
        with RunFolder.open(at / name, identity, notes):
            pass
        damage = partial(damage_json, unseal=UNSEALED)
        made.append(
            Target(f"{name}'s manifest", at / name / "manifest.json", partial(read, at / name), damage)
        )
    return made


def _vectors(at: Path, rows: np.ndarray) -> list[Target]:
    at.mkdir()
    wide = torch.from_numpy(rows.copy())
    torch.save({"vector": wide, "type": "mean", "more": [1, "x"]}, at / "dict.pt")
    torch.save(wide, at / "old.pt", _use_new_zipfile_serialization=False)
    torch.save({layer: row.clone() for layer, row in enumerate(wide)}, at / "layers.pt")
    held = {"vectors": {"a": {"vector": -wide[1].clone(), "layer": 1}}, "experiments": []}
    held["experiments"] = [{"id": "one", "interventions": [{"vector": "a", "cap": 0.5}]}]
    torch.save(held, at.parent / "capping.pt")
    np.save(at / "rows.npy", rows)
    save_file({f"layer_{layer}": row for layer, row in enumerate(rows)}, at / "layers.safetensors")
    (at / "kind.svec").write_text(
        json.dumps({"directions": {str(layer): row.tolist() for layer, row in enumerate(rows)}})
    )
    from personascope.interop import export_control_vector

    export_control_vector(Plan((Steer(2, rows[2], 1.0),)), at / "control.gguf")
    capping = at.parent / "capping.pt"
    made = [Target("capping.pt", capping, lambda: import_source(capping))]
    for path in sorted(at.iterdir()):
        damage = damage_json if path.suffix == ".svec" else damage_bytes
        made.append(Target(path.name, path, partial(_direction, path), damage))
    return made


def _texts(at: Path) -> list[Target]:
    made: list[Target] = []
    write_corpus(at / "corpus")
    read_corpus = partial(_corpus, at / "corpus")
    names = ("roles.yaml", "questions.yaml", "default.yaml")
    made += [Target(name, at / "corpus" / name, read_corpus) for name in names]
    write_released(load_corpus(at / "corpus"), at / "jsons")
    listed = {"poet": "Verse."}
    (at / "jsons/role_list.json").write_text(json.dumps(listed))
    role = sorted((at / "jsons/roles").iterdir())[1]
    read_jsons = partial(_corpus, at / "jsons")
    made.append(Target("a role.json", role, read_jsons, damage_json))
    made.append(Target("role_list.json", at / "jsons/role_list.json", read_jsons, damage_json))
    made.append(Target("questions.jsonl", at / "jsons/questions.jsonl", read_jsons, damage_lines))
    write_ours(at / "traits")
    of_ours = partial(_trait_texts, at / "traits")
    made.append(Target("traits.yaml", at / "traits/traits/style.yaml", of_ours))
    write_released_jsons(at / "trait_jsons")
    of_jsons = partial(_trait_texts, at / "trait_jsons")
    made.append(Target("a trait.json", at / "trait_jsons/formal.json", of_jsons, damage_json))
    (at / "talks").mkdir()
    for number, (name, (value, *_)) in enumerate(exports.EXPORTS.items()):
        path = at / f"talks/{number:02d}.json"
        path.write_text(json.dumps([value, exports.TALK]))
        made.append(Target(f"export, {name}", path, partial(_transcripts, path), damage_json))
    lines = at / "talks/lines.jsonl"
    lines.write_text(
        "\n".join(json.dumps(value) for value in (exports.TALK, exports.ANTHROPIC, exports.CLAUDE))
    )
    made.append(Target("lines.jsonl", lines, partial(_transcripts, lines), damage_lines))
    made.append(Target("chats for norms", lines, lambda: load_chats(lines), damage_lines))
    text = at / "talks/talk.txt"
    text.write_text("System: Be brief.\nUser: Tea?\nAssistant: Yes, please.\nAnd milk.\n")
    made.append(Target("talk.txt", text, partial(_transcripts, text)))
    table = at / "talks/talks.parquet"
    pq.write_table(pa.Table.from_pylist([{"id": "1", "conversation": exports.TALK}] * 3), table)
    made.append(Target("talks.parquet", table, partial(_transcripts, table)))
    attacks = at / "attacks.csv"
    with attacks.open("w", newline="") as file:
        csv.writer(file).writerows(
            [
                ["system_prompt", "question", "category"],
                ["Be a fox.", "Where are the eggs?", "theft"],
                ["", "Eggs?", "x"],
            ]
        )
    made.append(Target("attacks.csv", attacks, lambda: load_jailbreak_set(attacks)))
    personas = at / "personas.yaml"
    personas.write_text(yaml.safe_dump({"personas": [{"name": "fox", "system_prompt": "Be a fox."}]}))
    made.append(Target("personas.yaml", personas, lambda: load_jailbreak_set(personas=personas)))
    domain = at / "domain.yaml"
    one = {"id": "a", "brief": "About a.", "messages": ["Hello?"]}
    domain.write_text(
        yaml.safe_dump(
            {
                "domain": "d",
                "description": "D.",
                "personas": [{"id": "p", "description": "P."}],
                "topics": [one],
            }
        )
    )
    made.append(Target("domain.yaml", domain, lambda: load_domain(domain)))
    cases = at / "cases.yaml"
    cases.write_text(yaml.safe_dump({"domain": "d", "description": "D.", "cases": [one | {"title": "A."}]}))
    made.append(Target("cases.yaml", cases, lambda: load_cases(cases)))
    return made
