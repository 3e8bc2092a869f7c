"""``personascope traits``: run, show, report, a trait of one's own, and what is refused at once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cli_case import save_model, tree, write_corpus

from helpers.cli import Ran, personascope
from helpers.scripted_server import Answer, completion, serving
from helpers.trait_files import pairs, write_ours
from personascope.space import PersonaMap

ENGINE = ("--engine", "transformers")
SIZES = (
    "--profile",
    "quick",
    "--questions",
    6,
    "--max-new-tokens",
    6,
    "--engine",
    "transformers",
    "--anyway",
)


@pytest.fixture(scope="module")
def mapped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A map of a tiny model, which finds no axis."""
    folder = tmp_path_factory.mktemp("mapped")
    corpus = write_corpus(folder / "corpus")
    write_ours(folder / "texts")
    model = save_model(folder / "model")
    ran = personascope(
        "map", model, "--out", folder / "run", "--corpus", corpus, "--judge", "none", "--profile", "quick",
        "--questions", 4, "--default-samples", 2, "--max-new-tokens", 6, "--engine", "transformers",
        "--no-role-information",
    )  # fmt: skip
    assert ran.code == 0, ran.err
    return folder


def traits(folder: Path, *more: object, given: str = "") -> Ran:
    return personascope(
        "traits", folder / "run", "--corpus", folder / "texts", "--bank", folder / "corpus", *SIZES, *more,
        given=given,
    )  # fmt: skip


def test_offline_traits_are_run_shown_and_said_to_have_no_score(mapped: Path) -> None:
    before = tree(mapped / "run" / "map")
    ran = traits(mapped)
    assert ran.code == 0, ran.err
    assert "48 of 48 responses" in ran.out and "pairs: kept 24" in ran.out
    assert "no judge gives a score" in ran.err and "texts: without a score" in ran.out
    assert "calibration quantiles over roles and traits" in ran.out
    for name in ("cautious", "dramatic", "formal", "grounded"):
        assert name in ran.out
    after = tree(mapped / "run" / "map")
    assert {name: after[name] for name in before} == before, "the map's own files stay as they are"
    shown = personascope("show", mapped / "run")
    assert shown.code == 0 and "Traits at layer" in shown.out and "grounded" in shown.out
    page = personascope("report", mapped / "run")
    assert page.code == 0, page.err
    again = traits(mapped)
    assert again.code == 0 and tree(mapped / "run" / "map") == after


def test_a_stale_set_is_left_out_and_said(mapped: Path) -> None:
    ran = traits(mapped, "--name", "stale", "--traits", "style")
    assert ran.code == 0, ran.err
    inside = mapped / "run" / "map" / "traits" / "stale" / "traits.json"
    record = json.loads(inside.read_text())
    del record["checksum"]
    inside.write_text(json.dumps({**record, "map": "0" * 64}))
    shown = personascope("show", mapped / "run")
    assert shown.code == 0 and "traits of an earlier map (stale)" in shown.err
    assert "stale" not in [one.name for one in PersonaMap.open(mapped / "run").traits]


def test_a_damaged_set_is_an_error(mapped: Path) -> None:
    assert traits(mapped, "--name", "damaged", "--traits", "style").code == 0
    folder = mapped / "run" / "map" / "traits" / "damaged"
    inside = folder / "traits.safetensors"
    whole = inside.read_bytes()
    inside.write_bytes(whole[:-8])
    shown = personascope("show", mapped / "run")
    assert shown.code == 1 and "traits.safetensors" in shown.err and "Traceback" not in shown.err
    inside.write_bytes(whole[:-8] + bytes(8))
    (found,) = [one for one in PersonaMap.open(mapped / "run").traits if one.name == "damaged"]
    with pytest.raises(Exception, match="was changed since it was written"):
        _ = found.space
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()


def test_a_judge_scores_each_response(mapped: Path) -> None:
    def score(_: int, request: dict) -> Answer:
        user = request["messages"][-1]["content"]
        return completion(json.dumps({"reason": "so", "score": 90 if "The trait is formal" in user else 30}))

    with serving(score) as server:
        ran = traits(mapped, "--name", "judged", "--judge", f"openai:scripted@{server.url}", "--min-pairs", 1)
    assert ran.code == 1, (ran.out, ran.err)
    assert "no trait has 1 kept pairs" in ran.err, "both poles got the same score"


def test_a_reply_without_a_score_leaves_the_run_partial(mapped: Path) -> None:
    with serving(lambda *_: completion('{"reason": "so", "score": 400}')) as server:
        spec = f"openai:scripted@{server.url}"
        ran = traits(mapped, "--name", "unscored", "--judge", spec, "--traits", "formal")
    assert ran.code == 3, (ran.out, ran.err)
    assert "12 have no score" in ran.out and "partly done" in ran.err


def written(name: str, count: int = 5) -> str:
    texts = [{"positive": one, "negative": other} for one, other in pairs(name, count)]
    return "Sure:\n```json\n" + json.dumps({"description": "Agrees with all.", "pairs": texts}) + "\n```"


def test_a_model_writes_a_trait_that_is_shown_saved_and_run(mapped: Path) -> None:
    replies = iter([written("sycophantic", 4), written("sycophantic")])
    asked = []

    def reply(_: int, request: dict) -> Answer:
        asked.append(request["messages"])
        return completion(next(replies))

    new = ("traits", mapped / "run", "--new", "Sycophantic", *SIZES, "--bank", mapped / "corpus")
    with serving(reply) as server:
        ran = personascope(*new, "--writer", f"openai:scripted@{server.url}", given="y\n")
    assert ran.code == 0, (ran.out, ran.err)
    assert len(asked) == 2 and "has 4 pairs, not 5" in asked[1][-1]["content"]
    assert pairs("sycophantic")[0][0] in ran.out and "Run this trait?" in ran.out
    assert (mapped / "run" / "own_traits" / "sycophantic.yaml").exists()
    assert "12 of 12 responses" in ran.out
    # The second time nothing is written: the file is there, and the run is whole.
    again = personascope(*new, "--writer", "openai:scripted@http://127.0.0.1:9/v1")
    assert again.code == 0 and "12 of 12 responses" in again.out, again.err


def test_what_was_written_is_not_run_without_a_yes(mapped: Path) -> None:
    with serving(lambda *_: completion(written("petty"))) as server:
        writer = f"openai:s@{server.url}"
        new = ("--new", "petty", "--writer", writer)
        ran = personascope("traits", mapped / "run", *new, *SIZES, given="n\n")
    assert ran.code == 0 and "nothing was saved" in ran.out
    assert not (mapped / "run" / "own_traits" / "petty.yaml").exists()


def test_a_writer_that_cannot_is_said(mapped: Path) -> None:
    # In bfloat16, on the processors that compute in it, other replies are drawn, which fill the context.
    asked = ("--new", "petty", "--writer", "self", "--dtype", "float32")
    ran = personascope("traits", mapped / "run", *asked, *SIZES)
    assert ran.code == 1 and "no usable trait in 3 replies" in ran.err, (ran.code, ran.err)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--traits", "formel"), "no trait or group 'formel'"),
        (("--judge", "rulez"), "there is no judge"),
        (("--judge", "local:x then rules"), "gives no score from 0 to 100"),
        (("--questions", 99), "asks 99 questions"),
        (("--writer", "self"), "--writer is given"),
        (("--new", "x", "--writer", "self"), "--new names one trait"),
        (("--name", "../up"), "cannot be the name of a set"),
    ],
)
def test_wrong_arguments_load_no_model(mapped: Path, more: tuple[object, ...], said: str) -> None:
    ran = traits(mapped, "--model", "/nowhere", *more)
    assert ran.code == 2 and said in ran.err, ran.err


def test_nobody_to_write(mapped: Path) -> None:
    ran = personascope("traits", mapped / "run", "--new", "petty")
    assert ran.code == 2 and "nobody is named to write" in ran.err


def test_a_map_without_an_axis_needs_anyway(mapped: Path) -> None:
    sizes = [one for one in SIZES if one != "--anyway"]
    ran = personascope("traits", mapped / "run", "--corpus", mapped / "texts", *sizes)
    assert ran.code == 1 and "found no axis" in ran.err


def test_a_dry_run_says_what_it_would_take(mapped: Path) -> None:
    ran = traits(mapped, "--name", "dry", "--dry-run")
    assert ran.code == 0 and "rollouts          48" in ran.out, ran.err
    assert not (mapped / "run" / "traits" / "dry").exists()


def test_map_runs_the_traits_of_its_corpus(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "corpus")
    (write_ours(tmp_path / "texts") / "traits").rename(corpus / "traits")
    ran = personascope(
        "map", save_model(tmp_path / "model"), "--out", tmp_path / "run", "--corpus", corpus,
        "--judge", "none", "--profile", "quick", "--questions", 4, "--default-samples", 2,
        "--max-new-tokens", 6, "--traits", *ENGINE, "--no-role-information",
    )  # fmt: skip
    assert ran.code == 0, ran.err
    assert "Traits at layer" in ran.out and [one.name for one in PersonaMap.open(tmp_path / "run").traits]
