"""Traits in both formats: the same texts are the same requests, and what is wrong is said where it is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from helpers.cli import personascope
from helpers.trait_files import NAMES, pairs, write_ours, write_released
from personascope.corpus import check_traits, holds, load_traits, write_released_traits, write_trait
from personascope.errors import CorpusError, UsageError


def change(folder: Path, edit) -> Path:
    path = folder / "traits" / "style.yaml"
    value = yaml.safe_load(path.read_text())
    edit(value["traits"][0])
    path.write_text(yaml.safe_dump(value, sort_keys=False))
    return folder


def test_both_formats_ask_the_same(tmp_path: Path) -> None:
    ours, released = load_traits(write_ours(tmp_path / "a")), load_traits(write_released(tmp_path / "b"))
    assert [trait.name for trait in ours.traits] == list(NAMES) == [trait.name for trait in released.traits]
    assert ours.requests_digest == released.requests_digest
    assert ours.digest != released.digest, "the judge reads eval_prompts there, descriptions here"
    assert [pair.at("-") for pair in ours.trait("formal").pairs] == [other for _, other in pairs("formal")]


def test_a_set_survives_the_released_format(tmp_path: Path) -> None:
    ours = load_traits(write_ours(tmp_path / "a"))
    back = load_traits(write_released_traits(ours, tmp_path / "b"))
    assert back.requests_digest == ours.requests_digest and back.digest == ours.digest
    assert back.groups == ours.groups == ("style", "temper")


def test_the_place_of_the_files_does_not_matter(tmp_path: Path) -> None:
    folder = write_ours(tmp_path / "a")
    inside = load_traits(folder / "traits")
    assert inside.requests_digest == load_traits(folder).requests_digest
    authors = tmp_path / "repo" / "data" / "traits"
    authors.mkdir(parents=True)
    (write_released(tmp_path / "b")).rename(authors / "instructions")
    (authors / "trait_list.json").write_text(json.dumps({"formal": "Keeps to the form."}))
    found = load_traits(tmp_path / "repo")
    assert found.requests_digest == inside.requests_digest
    assert found.trait("formal").description == "Keeps to the form."


def test_one_trait_in_one_file(tmp_path: Path) -> None:
    trait = load_traits(write_ours(tmp_path / "a")).trait("formal")
    write_trait(trait, tmp_path / "own" / "formal.yaml")
    assert load_traits(tmp_path / "own" / "formal.yaml").traits == (trait,)


def test_names_and_groups_select(tmp_path: Path) -> None:
    found = load_traits(write_ours(tmp_path / "a"))
    assert [trait.name for trait in found.select(["style", "grounded"]).traits] == [
        "cautious",
        "formal",
        "grounded",
    ]
    with pytest.raises(UsageError, match="no trait or group 'formel'") as error:
        found.select(["formel"])
    assert "formal" in error.value.hint


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (lambda trait: trait.pop("pairs"), "the field 'pairs' is missing"),
        (lambda trait: trait["pairs"][0].pop("negative"), r"the field 'pairs\[0\].negative' is missing"),
        (lambda trait: trait.update(pairs=[]), "field 'pairs' has the value"),
        (lambda trait: trait.update(eval_prompt="no places"), "lacks the placeholder"),
        (lambda trait: trait.update(prompts=["x"]), "unknown field 'prompts'"),
        (lambda trait: trait.update(name="../up"), "field 'name' has the value"),
        (lambda trait: trait.update(name="dramatic"), "repeats a trait of"),
    ],
)
def test_a_wrong_file_is_named(tmp_path: Path, edit, said: str) -> None:
    folder = change(write_ours(tmp_path / "a"), edit)
    with pytest.raises(CorpusError, match=said):
        load_traits(folder)
    (finding,) = check_traits(folder)
    assert finding.level == "error"


def test_both_formats_in_one_folder_are_refused(tmp_path: Path) -> None:
    folder = write_ours(tmp_path / "a")
    write_released(tmp_path / "b").rename(folder / "traits" / "instructions")
    with pytest.raises(CorpusError, match="in both formats"):
        load_traits(folder)


@pytest.mark.parametrize(
    ("edit", "where", "said"),
    [
        (lambda trait: trait["pairs"].pop(), "cautious", "has 4 pairs, not 5"),
        (lambda trait: trait.update(name="Over-cautious"), "Over-cautious", "not in slug form"),
        (lambda trait: trait["pairs"][1].update(positive="Be it."), "cautious/+/p1", "has 2 words"),
        (
            lambda trait: trait["pairs"][1].update(positive=trait["pairs"][0]["negative"]),
            "cautious/+/p1",
            "says the same as cautious/-/p0",
        ),
        (
            lambda trait: trait["pairs"][1].update(positive="You are {model}, and cautious."),
            "cautious",
            "{model}",
        ),
    ],
)
def test_the_check_finds(tmp_path: Path, edit, where: str, said: str) -> None:
    found = check_traits(change(write_ours(tmp_path / "a"), edit), near=1.0)
    assert any(said in finding.message and finding.where.startswith(where) for finding in found), found


def test_traits_in_order_have_no_findings(tmp_path: Path) -> None:
    assert check_traits(write_ours(tmp_path / "a"), near=1.0) == []


def test_corpus_check_reads_trait_folders(tmp_path: Path) -> None:
    good = personascope("corpus", "check", write_ours(tmp_path / "a"), "--near", 1)
    assert good.code == 0 and "4 traits in 2 groups, 20 pairs" in good.out, good.out
    released = personascope("corpus", "check", write_released(tmp_path / "b"), "--near", 1)
    assert released.code == 0 and "4 traits" in released.out, released.out
    bad = personascope(
        "corpus", "check", change(write_ours(tmp_path / "c"), lambda trait: trait["pairs"].pop())
    )
    assert bad.code == 1 and "has 4 pairs, not 5" in bad.out
    shown = personascope("corpus", "show", tmp_path / "a", "--trait", "formal")
    assert shown.code == 0 and pairs("formal")[0][1] in shown.out


def test_what_a_folder_holds(tmp_path: Path) -> None:
    assert holds(write_ours(tmp_path / "a")) == (False, True)
    assert holds(write_released(tmp_path / "b")) == (False, True)
    roles = tmp_path / "c"
    roles.mkdir()
    (roles / "poet.json").write_text(
        json.dumps({"instruction": [{"pos": "Be a poet."}], "questions": ["Why?"]})
    )
    assert holds(roles) == (True, False)
