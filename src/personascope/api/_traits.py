"""Traits of a mapped model: check the arguments before the model is loaded, then estimate or run."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Unpack

import numpy as np

from personascope import engines, trait_vectors
from personascope.api._estimate import WorkEstimate, written
from personascope.api._inputs import as_corpus
from personascope.api._judging import JudgeChoice, as_judge, choose_judge
from personascope.api._mapped_model import MappedModel
from personascope.corpus import Corpus, Question, TraitEntry, TraitSet, holds, load_traits, write_trait
from personascope.errors import UsageError
from personascope.judge import Estimate, Judge, JudgeChain, OpenAIJudge
from personascope.runs import WorkStep
from personascope.space import PersonaMap
from personascope.trait_vectors import TraitChanges, TraitProfile, TraitsResult

OFFLINE = ("none", "rules")
"""Judges that give no score from 0 to 100."""

WITHOUT_SCORE = "no judge gives a score: every pair is kept, and a vector is a difference without a score"


@dataclass(frozen=True, slots=True)
class TraitEstimate:
    """Cost estimate of a trait run.

    Attributes:
        traits: Number of traits.
        rollouts: Number of responses.
        response_tokens: Number of tokens in all responses, extrapolated from a short probe.
        seconds: Time for generation, extrapolated from the probe.
        disk: Disk use in bytes: sums of pair differences, kept activations and vectors.
        judge: Tokens and cost of judging; None if no server is called.
    """

    traits: int
    rollouts: int
    response_tokens: int
    seconds: float
    disk: int
    judge: Estimate | None

    def work(self, folder: Path) -> WorkEstimate:
        """Return the same as that of every other long command, for a run in a folder."""
        step = WorkStep(
            "responses", self.rollouts, response_tokens=self.response_tokens, seconds=self.seconds
        )
        if self.judge is not None:
            judge = self.judge
            step += WorkStep(
                "",
                calls=self.rollouts,
                sent=judge.prompt_tokens,
                received=judge.completion_tokens,
                cost=judge.cost,
            )
        remarks = (f"{self.traits:,} traits", f"{self.disk / 2**30:.2f} GiB on the disk")
        return WorkEstimate("traits", (step,), written(folder, ("manifest.json", "units")), remarks)


@dataclass(frozen=True, slots=True, eq=False)
class PreparedTraits:
    """A checked trait run that can be estimated or run; created by `prepare_traits`.

    Attributes:
        mapped: Mapped model.
        traits: Traits to sample from.
        bank: Bank of questions.
        profile: Profile of the run.
        judge: Judge that scores the responses; None for differences without a score.
        name: Name of the set in the map.
        seed: Random seed.
    """

    mapped: MappedModel
    traits: TraitSet
    bank: tuple[Question, ...]
    profile: TraitProfile
    judge: Judge | None
    name: str
    seed: int

    @property
    def folder(self) -> Path:
        """Folder of the run."""
        return self.mapped.layout.traits(self.name)

    def estimate(self, probe: int = 16) -> TraitEstimate:
        """Estimate the cost of the run from a probe of a few of its requests."""
        engine = self.mapped.engine
        design = trait_vectors.design_traits(
            self.mapped.persona_map, self.traits, self.bank, self.profile, seed=self.seed, engine=engine
        )
        sample = design.spread(probe)
        begun = time.monotonic()
        done = list(engine.run([design.request(rollout) for rollout in sample]))
        share = len(design) / len(done)
        asked = {rollout.id: rollout for rollout in sample}
        material = [
            design.question(asked[one.id]) + one.text + design.trait(asked[one.id].trait).description
            for one in done
        ]
        chars = sum(map(len, material)) / len(done)
        first = self.judge.judges[0] if isinstance(self.judge, JudgeChain) else self.judge
        pooled = engine.info.n_layers * engine.info.d_model
        keep = len(design) if design.profile.keep == "all" else min(design.profile.keep, len(design))
        return TraitEstimate(
            traits=len(design.traits),
            rollouts=len(design),
            response_tokens=round(share * sum(len(one.token_ids) for one in done)),
            seconds=share * (time.monotonic() - begun),
            disk=pooled * (4 * len(design.traits) * (design.n_folds + 1) + 2 * keep),
            judge=first.estimate(len(design), chars) if isinstance(first, OpenAIJudge) else None,
        )

    def run(self, *, restart: bool = False) -> TraitsResult:
        """Run the traits; the same call resumes an interrupted run (`trait_vectors.run_traits`)."""
        mapped = self.mapped
        return trait_vectors.run_traits(
            mapped.engine,
            mapped.persona_map,
            self.traits,
            self.bank,
            self.profile,
            out=self.folder,
            name=self.name,
            judge=self.judge,
            seed=self.seed,
            run=mapped.layout.folder if mapped.layout.has_responses else None,
            progress=mapped.progress,
            restart=restart,
            command=mapped.command,
        )


def prepare_traits(
    mapped: MappedModel,
    names: Sequence[str] = (),
    *,
    corpus: TraitSet | Path | str | None = None,
    bank: Corpus | Path | str | None = None,
    profile: str = "standard",
    judge: Judge | JudgeChoice | str | None = None,
    name: str = "",
    seed: int = 0,
    anyway: bool = False,
    **changes: Unpack[TraitChanges],
) -> PreparedTraits:
    """Check the arguments of a trait run; the model is not loaded yet.

    Args:
        mapped: Mapped model.
        names: Names of traits and of groups; all traits if empty.
        corpus: Traits, or a file or folder of them (`load_traits`); the built-in ones if not given.
        bank: Corpus whose questions are asked, where the traits bring none for all; the built-in one if not
            given.
        profile: Name of the profile.
        judge: Judge, `JudgeChoice` or specification (`parse_judge`) of a judge that scores from 0 to 100.
            None, "none" and "rules" keep every pair without a score, which is said.
        name: Name of the set in the map and of its folder; by default that of the traits.
        seed: Random seed.
        anyway: Continue even if the map found no axis.
        changes: Values that override the profile's.

    Raises:
        UsageError: If a name, the profile or the judge does not fit.
        CorpusError: If traits or questions cannot be read.
        SpaceError: If the map found no axis.
        JudgeError: If the judge cannot be used.
        ModelError: If a local judge cannot be loaded.
    """
    chosen = trait_judge(judge)
    found = corpus if isinstance(corpus, TraitSet) else load_traits(corpus)
    if names:
        found = found.select(names)
    called = trait_vectors.check_set_name(name or found.name)
    sizes = trait_vectors.resolve_trait_profile(profile, **changes)
    if names and changes.get("traits") is None:
        # Whoever names traits wants them all.
        sizes = trait_vectors.resolve_trait_profile(sizes, traits=len(found.traits))
    questions = () if found.questions else as_corpus(bank).questions
    # Build the design once now, so that unsuitable traits are reported before the model is loaded.
    trait_vectors.design_traits(mapped.persona_map, found, questions, sizes, seed=seed)
    mapped.require_axis(anyway=anyway)
    if chosen is None:
        mapped.tell(WITHOUT_SCORE)
    return PreparedTraits(mapped, found, questions, sizes, as_judge(chosen, mapped.tell), called, seed)


def traits_beside(corpus: Path | str | None) -> TraitSet:
    """Return the traits of a corpus folder, or the built-in ones where it has none.

    Raises:
        CorpusError: If there are none in either, or a file is malformed.
    """
    return load_traits(corpus if corpus is not None and holds(Path(corpus))[1] else None)


def trait_judge(judge: Judge | JudgeChoice | str | None) -> Judge | JudgeChoice | None:
    """Check a judge of traits; return None for one that gives no score from 0 to 100.

    Raises:
        UsageError: If a specification names no judge, or a chain has one that gives no such score.
    """
    chosen = choose_judge(judge)
    if isinstance(chosen, JudgeChoice):
        parts = f"{chosen.spec} then {chosen.fallback or ''}".split(" then ")
    elif chosen is None:
        return None
    else:
        parts = list(chosen.names) if isinstance(chosen, JudgeChain) else [chosen.name]
    parts = [part.strip() for part in parts if part.strip()]
    offline = [part for part in parts if part in OFFLINE]
    if offline and len(parts) > 1:
        raise UsageError(
            f"the judge {offline[0]!r} gives no score from 0 to 100",
            hint="leave it out of the chain",
        )
    return None if offline else chosen


def choose_writer(new: str | None, writer: str | None, judge: str) -> str:
    """Return the specification of the writer of a new trait; "" without a new trait.

    Args:
        new: Name of the trait, or None.
        writer: Specification of the writer (`write_trait_file`); the judge's model if not given.
        judge: Specification of the judge.

    Raises:
        UsageError: If a writer is named without a trait, none is to be had, or the name or the writer cannot
            be used.
    """
    if new is None:
        if writer is not None:
            raise UsageError("--writer is given, and no trait to write", hint="name it by --new")
        return ""
    trait_vectors.check_trait_name(new)
    spec = writer if writer is not None else judge.split(" then ")[0].strip()
    if writer is None and not spec.startswith(("openai:", "local:")):
        raise UsageError(
            f"nobody is named to write the prompts of {new!r}",
            hint="add --writer openai:MODEL@BASE_URL, --writer local:MODEL or --writer self",
        )
    trait_vectors.check_writer(spec)
    return spec


def write_trait_file(
    mapped: MappedModel,
    name: str,
    writer: str,
    *,
    headers: Mapping[str, str] | None = None,
    seed: int = 0,
) -> tuple[TraitEntry, Path]:
    """Let a model write the prompts of a trait; return the trait, and the file to save it as.

    A trait that is already saved in the run folder is returned as it is.

    Args:
        mapped: Mapped model.
        name: Name of the trait, such as "sycophantic".
        writer: ``self`` for the mapped model, ``local:MODEL``, or ``openai:MODEL@BASE_URL``.
        headers: Header name -> environment variable that holds its value, for a server.
        seed: Random seed of a local writer.

    Raises:
        UsageError: If the name or the writer cannot be used.
        CorpusError: If the writer gives no usable trait.
        JudgeError: If the server gives no reply.
        ModelError: If a local model cannot be loaded.
    """
    slug = trait_vectors.check_trait_name(name)
    path = mapped.layout.own_trait(slug)
    if path.exists():
        return load_traits(path).trait(slug), path
    trait_vectors.check_writer(writer, headers)
    kind, _, rest = writer.strip().partition(":")
    mapped.tell(f"{writer} writes the prompts of {slug} ...")
    if kind == "openai":
        ask = trait_vectors.ask_server(writer, headers)
    else:
        engine = mapped.engine if kind == "self" else engines.load_engine(rest, engine="transformers")
        ask = trait_vectors.ask_engine(engine, slug, seed=seed)
    return trait_vectors.write_new_trait(slug, ask), path


def released_traits(persona_map: PersonaMap, layer: int) -> dict[str, float]:
    """Return the cosines with the axis of the trait vectors that an imported release brings along.

    Args:
        persona_map: Map; one that is no release has none.
        layer: Layer of the map.

    Returns:
        Trait -> cosine, from the Assistant's end of the axis to the other.
    """
    from personascope.interop import ReleasedMap

    if not isinstance(persona_map, ReleasedMap):
        return {}
    unit = persona_map.unit_axis(layer).astype(np.float64)
    found: dict[str, float] = {}
    for name, vector in persona_map.released.trait_vectors.items():
        value = vector[layer].double().numpy()
        length = float(np.linalg.norm(value))
        found[name] = float(value @ unit) / length if length > 0 else 0.0
    return dict(sorted(found.items(), key=lambda pair: (-pair[1], pair[0])))


def save_trait_file(trait: TraitEntry, path: Path) -> None:
    """Save a trait in the project's format.

    Raises:
        StoreError: If the file cannot be written.
    """
    write_trait(trait, path)
