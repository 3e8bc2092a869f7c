"""Both formats: what they give, and the one clear error for each way they can be wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from personascope.corpus import Corpus, Question, RoleEntry, check_corpus, load_corpus
from personascope.corpus._write import write_released
from personascope.errors import CorpusError, UsageError

JUDGE = "Rate this. {question} {answer}"
ROLES = {"sailor": "Has crossed every sea twice.", "baker": "Up at three, and proud of the crust."}


def role(name: str, **changes: object) -> dict[str, object]:
    prompts = [f"You are a {name}, number {index}." for index in range(5)]
    return {"name": name, "description": ROLES.get(name, "Some role."), "prompts": prompts} | changes


def dump(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(value, sort_keys=False), encoding="utf-8")


QUESTIONS = [
    {"id": "work_01", "area": "work", "text": "What is a good day?"},
    {"id": "food_01", "area": "food", "text": "Caf\u00e9 or kitchen,\u2028which?"},
]


@pytest.fixture
def ours(tmp_path: Path) -> Path:
    folder = tmp_path / "ours"
    dump(folder / "roles" / "sea.yaml", {"group": "sea", "roles": [role("sailor")]})
    dump(folder / "roles" / "bread.yaml", [role("baker", group="bread", eval_prompt=JUDGE)])
    dump(folder / "questions.yaml", QUESTIONS)
    dump(folder / "default.yaml", {"prompts": ["", "You are an AI.", "a b", "c d", "You are {model_name}."]})
    return folder


@pytest.fixture
def released(ours: Path, tmp_path: Path) -> Path:
    return write_released(load_corpus(ours), tmp_path / "released")


def requests(corpus: Corpus) -> list[tuple[str, str, str]]:
    """Every request by the identity that the design gives it, with what is sent."""
    conditions = [(role.name, role.prompts) for role in corpus.roles] + [("default", corpus.default_prompts)]
    return [
        (f"{name}/p{i}/q{j}", prompt, question.text)
        for name, prompts in conditions
        for i, prompt in enumerate(prompts)
        for j, question in enumerate(corpus.questions)
    ]


def test_ours(ours: Path) -> None:
    corpus = load_corpus(str(ours))
    assert [r.name for r in corpus.roles] == ["baker", "sailor"]
    assert [r.group for r in corpus.roles] == ["bread", "sea"]
    assert corpus.role("baker").eval_prompt == JUDGE
    assert corpus.role("sailor").eval_prompt is None
    assert [q.id for q in corpus.questions] == ["work_01", "food_01"]
    assert (corpus.name, corpus.source) == ("ours", str(ours))


def test_a_single_roles_file_gives_the_same(ours: Path) -> None:
    before = load_corpus(ours).digest
    for path in (ours / "roles").iterdir():
        path.unlink()
    entries = [role("sailor", group="sea"), role("baker", group="bread", eval_prompt=JUDGE)]
    dump(ours / "roles.yaml", entries)
    assert load_corpus(ours).digest == before


def test_the_released_format_gives_the_same_requests(ours: Path, released: Path) -> None:
    first, second = load_corpus(ours), load_corpus(released)
    assert requests(first) == requests(second)
    assert len(requests(first)) == (2 * 5 + 5) * 2
    assert first.requests_digest == second.requests_digest
    assert [r.eval_prompt for r in first.roles] == [r.eval_prompt for r in second.roles]
    assert [q.id for q in second.questions] == ["0", "1"]


def test_the_released_format_survives_a_second_round_trip_whole(released: Path, tmp_path: Path) -> None:
    first = load_corpus(released)
    second = load_corpus(write_released(first, tmp_path / "again"))
    assert second.digest == first.digest
    assert second.roles == first.roles
    assert second.questions == first.questions


def test_the_builtin_round_trip(tmp_path: Path) -> None:
    corpus = load_corpus()
    assert requests(load_corpus(write_released(corpus, tmp_path / "out"))) == requests(corpus)


def test_released_role_files_in_the_folder_itself(released: Path) -> None:
    before = load_corpus(released)
    for path in (released / "roles").iterdir():
        path.rename(released / path.name)
    (released / "roles").rmdir()
    assert requests(load_corpus(released)) == requests(before)


def test_released_questions_from_the_role_files(released: Path) -> None:
    before = requests(load_corpus(released))
    (released / "questions.jsonl").unlink()
    assert requests(load_corpus(released)) == before


def test_released_question_ids_do_not_order_the_questions(released: Path) -> None:
    lines = ['{"question": "Second?", "id": 7}', "", '{"question": "First?", "id": 3}']
    (released / "questions.jsonl").write_text("\n".join(lines))
    corpus = load_corpus(released)
    assert [(q.id, q.text) for q in corpus.questions] == [("7", "Second?"), ("3", "First?")]


@pytest.mark.parametrize("name", ["ours", "released"])
def test_without_a_default_the_builtin_one_holds(name: str, request: pytest.FixtureRequest) -> None:
    folder: Path = request.getfixturevalue(name)
    (folder / ("default.yaml" if name == "ours" else "roles/default.json")).unlink()
    expected = yaml.safe_load(builtin_default().read_text(encoding="utf-8"))["prompts"]
    assert list(load_corpus(folder).default_prompts) == expected


def builtin_default() -> Path:
    import personascope.corpus

    return Path(personascope.corpus.__file__).parent / "data" / "default.yaml"


def test_digests_move_with_what_they_cover(ours: Path) -> None:
    corpus = load_corpus(ours)
    baker, sailor = corpus.roles
    work, food = corpus.questions

    def changed(**fields: object) -> tuple[bool, bool]:
        other = replace(corpus, **fields)  # pyright: ignore[reportArgumentType]
        return other.requests_digest != corpus.requests_digest, other.digest != corpus.digest

    assert changed(name="x", source="y", version="z") == (False, False)
    assert changed(questions=(replace(work, id="w", area="a"), food)) == (False, False)
    assert changed(roles=(replace(baker, group="x", description="y"), sailor)) == (False, False)
    assert changed(roles=(baker, replace(sailor, description="y"))) == (False, True)
    assert changed(roles=(replace(baker, eval_prompt=JUDGE + "!"), sailor)) == (False, True)
    assert changed(questions=(food, work)) == (True, True)
    assert changed(default_prompts=corpus.default_prompts[::-1]) == (True, True)
    assert changed(roles=(baker, replace(sailor, prompts=sailor.prompts[::-1]))) == (True, True)


def test_an_unknown_role_names_the_nearest(ours: Path) -> None:
    with pytest.raises(UsageError, match=r"no role 'saylor'(.|\n)*sailor"):
        load_corpus(ours).role("saylor")


@pytest.mark.parametrize("name", ["default", "twin"])
def test_a_corpus_refuses_ambiguous_names(name: str) -> None:
    entry = RoleEntry(name, "", "", ("a",))
    with pytest.raises(CorpusError, match=name):
        Corpus("x", (entry, entry), (Question("q", "", "t"),), ("",), "x")


def test_writing_refuses_a_filled_folder_and_leaves_nothing_behind(ours: Path, tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(CorpusError, match="not an empty folder"):
        write_released(load_corpus(ours), ours)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_failed_write_leaves_nothing_behind(ours: Path, tmp_path: Path) -> None:
    corpus = load_corpus(ours)
    unwritable = replace(corpus, roles=(replace(corpus.roles[0], name="x" * 300),))
    with pytest.raises(CorpusError, match="cannot be written"):
        write_released(unwritable, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["ours"]


Spoil = Callable[[Path], object]
SEA, BREAD = "roles/sea.yaml", "roles/bread.yaml"


def sea(**changes: object) -> Spoil:
    return lambda d: dump(d / SEA, {"group": "sea", "roles": [role("sailor") | changes]})


BAD_OURS: dict[str, tuple[Spoil, list[str]]] = {
    "unknown field": (sea(descripton="x"), [SEA, "entry 1 ('sailor')", "'descripton'", "'x'"]),
    "missing field": (
        lambda d: dump(d / SEA, {"group": "g", "roles": [{"name": "sailor", "prompts": ["a"]}]}),
        [SEA, "'description' is missing", "add 'description'"],
    ),
    "no group": (lambda d: dump(d / SEA, [role("sailor")]), [SEA, "'group' is missing", "top of the file"]),
    "blank prompt": (sea(prompts=["a", " "]), [SEA, "'prompts[1]'", "' '", "is empty"]),
    "no prompts": (sea(prompts=[]), [SEA, "'prompts'", "[]", "at least one"]),
    "prompts as text": (sea(prompts="abc"), [SEA, "'prompts'", "'abc'", "list"]),
    "name not text": (sea(name=True), [SEA, "'name'", "True", "quote it"]),
    "name with slash": (sea(name="a/b"), [SEA, "'name'", "'a/b'", "letters"]),
    "name of the default": (sea(name="default"), [SEA, "'default'", "default.yaml"]),
    "eval prompt": (sea(eval_prompt="{question}"), [SEA, "'eval_prompt'", "lacks the placeholder {answer}"]),
    "name twice": (
        lambda d: dump(d / BREAD, [role("sailor", group="x")]),
        [SEA, "'sailor'", "bread.yaml", "rename or remove"],
    ),
    "entry not mapping": (lambda d: dump(d / SEA, ["sailor"]), [SEA, "entry 1", "'sailor' is a str"]),
    "file not list": (lambda d: (d / SEA).write_text("7"), [SEA, "holds 7, not a list"]),
    "file empty": (lambda d: (d / SEA).write_text(""), [SEA, "holds None, not a list"]),
    "unknown top": (lambda d: dump(d / SEA, {"groups": "x", "roles": []}), [SEA, "'groups'", "group, roles"]),
    "top group": (lambda d: dump(d / SEA, {"group": 3, "roles": [role("a")]}), [SEA, "'group'", "3"]),
    "not yaml": (lambda d: (d / SEA).write_text("a: [1\nb: 2"), [SEA, "line 2", "not valid YAML"]),
    "key twice": (
        lambda d: (d / SEA).write_text("group: x\ngroup: y\nroles: []"),
        [SEA, "line 2", "'group' is given twice"],
    ),
    "yaml object": (
        lambda d: (d / SEA).write_text("!!python/object/apply:os.getcwd []"),
        [SEA, "not valid YAML", "could not determine a constructor"],
    ),
    "not utf-8": (lambda d: (d / SEA).write_bytes(b"group: \xff"), [SEA, "byte 7 is not UTF-8", "as UTF-8"]),
    "no questions": (
        lambda d: (d / "questions.yaml").unlink(),
        ["questions.yaml", "no such file", "id, area"],
    ),
    "question id twice": (
        lambda d: dump(d / "questions.yaml", [QUESTIONS[0], QUESTIONS[0]]),
        ["questions.yaml", "entry 2", "'work_01'", "id of its own"],
    ),
    "question field": (
        lambda d: dump(d / "questions.yaml", [QUESTIONS[0] | {"text": 5}]),
        ["questions.yaml", "entry 1 ('work_01')", "'text'", "5"],
    ),
    "default field": (lambda d: dump(d / "default.yaml", {"prompt": [""]}), ["default.yaml", "'prompt"]),
    "corpus field": (
        lambda d: dump(d / "corpus.yaml", {"name": "x", "license": "MIT"}),
        ["corpus.yaml", "'license'", "'MIT'", "licence"],
    ),
    "both formats": (lambda d: (d / "pirate.json").write_text("{}"), ["both formats", "pirate.json"]),
    "both places": (lambda d: dump(d / "roles.yaml", []), ["both roles.yaml", "one place"]),
    "two suffixes": (
        lambda d: dump(d / "questions.yml", []),
        ["questions.yaml", "questions.yml", "keep one"],
    ),
    "misspelt file": (
        lambda d: (d / "default.yaml").rename(d / "defaults.yaml"),
        ["defaults.yaml", "no part of a corpus", "default.yaml"],
    ),
    "no roles": (
        lambda d: [path.unlink() for path in (d / "roles").iterdir()],
        ["holds no roles", "roles/*.yaml", "roles/*.json"],
    ),
}

PIRATE = "roles/sailor.json"


def sailor(**fields: object) -> Spoil:
    entry = {"instruction": [{"pos": "You are a sailor."}], "questions": [], "eval_prompt": ""} | fields
    return lambda d: (d / PIRATE).write_text(json.dumps(entry))


def lines(text: str) -> Spoil:
    return lambda d: (d / "questions.jsonl").write_text(text)


def differing(folder: Path) -> None:
    sailor(questions=["Other?"])(folder)
    (folder / "questions.jsonl").unlink()


def no_questions(folder: Path) -> None:
    (folder / "questions.jsonl").unlink()
    for path in (folder / "roles").iterdir():
        path.write_text(json.dumps({"instruction": [{"pos": "x"}]}))


BAD_RELEASED: dict[str, tuple[Spoil, list[str]]] = {
    "unknown field": (sailor(instructions=[]), [PIRATE, "'instructions'", "[]"]),
    "no instruction": (lambda d: (d / PIRATE).write_text("{}"), [PIRATE, "'instruction' is missing"]),
    "trait": (sailor(instruction=[{"pos": "a", "neg": "b"}]), [PIRATE, "'instruction[0].neg'", "trait's"]),
    "blank": (sailor(instruction=[{"pos": ""}]), [PIRATE, "'instruction[0].pos'", "''", "is empty"]),
    "eval prompt": (sailor(eval_prompt="Rate."), [PIRATE, "'eval_prompt'", "{question} and {answer}"]),
    "stem": (lambda d: (d / "roles/a b.json").write_text((d / PIRATE).read_text()), ["a b.json", "'a b'"]),
    "not json": (lambda d: (d / PIRATE).write_text("{\n,"), [PIRATE, "line 2", "not valid JSON"]),
    "not object": (lambda d: (d / PIRATE).write_text("[1]"), [PIRATE, "[1] is a list", "instruction"]),
    "key twice": (lambda d: (d / PIRATE).write_text('{"a": 1, "a": 2}'), [PIRATE, "'a' is given twice"]),
    "bad line": (lines('{"question": "A?", "id": 0}\n{"question"'), ["questions.jsonl, line 2", "JSON"]),
    "line field": (lines('{"text": "A?", "id": 0}'), ["questions.jsonl: line 1", "'question' is missing"]),
    "line id": (lines('{"question": "A?", "id": 1.5}'), ["questions.jsonl: line 1", "'id'", "1.5"]),
    "id twice": (lines('{"question": "A?", "id": 0}\n{"question": "B?", "id": 0}'), ["entry 2", "'0'"]),
    "no lines": (lines("\n"), ["questions.jsonl", "holds no questions"]),
    "lists differ": (
        differing,
        [PIRATE, "'questions' (1 of them) differs", "baker.json (2)", "questions.jsonl"],
    ),
    "none at all": (no_questions, ["questions.jsonl", "no role file has questions"]),
    "roles in two places": (
        lambda d: (d / "baker.json").write_text("{}"),
        ["role files in two places", "baker.json", "keep them in one"],
    ),
    "two defaults": (lambda d: (d / "default.json").write_text("{}"), ["has both", "keep one default.json"]),
}


def assert_one_clear_error(folder: Path, parts: list[str]) -> None:
    with pytest.raises(CorpusError) as caught:
        load_corpus(folder)
    assert caught.value.hint
    for part in parts:
        assert part in str(caught.value)


@pytest.mark.parametrize("case", BAD_OURS)
def test_bad_files_in_our_format(case: str, ours: Path) -> None:
    spoil, parts = BAD_OURS[case]
    spoil(ours)
    assert_one_clear_error(ours, parts)


@pytest.mark.parametrize("case", BAD_RELEASED)
def test_bad_files_in_the_released_format(case: str, released: Path) -> None:
    spoil, parts = BAD_RELEASED[case]
    spoil(released)
    assert_one_clear_error(released, parts)


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    assert_one_clear_error(tmp_path / "gone", ["gone", "no such corpus folder"])


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The authors' repository, as far as a corpus goes: instructions, questions and a list of roles."""
    data = tmp_path / "checkout/data"
    (data / "roles/instructions").mkdir(parents=True)
    for name in ("ghost", "poet"):
        value = {
            "instruction": [{"pos": f"You are a {name}."}, {"pos": f"Speak as a {name}."}],
            "eval_prompt": "Was {question} answered so? {answer}",
        }
        (data / f"roles/instructions/{name}.json").write_text(json.dumps(value))
    default = {"instruction": [{"pos": ""}, {"pos": "You are {model_name}."}]}
    (data / "roles/instructions/default.json").write_text(json.dumps(default))
    (data / "roles/role_list.json").write_text(
        json.dumps({"poet": "Writes verse.", "ghost": "Haunts a mill."})
    )
    lines = [{"question": text, "id": number} for number, text in enumerate(("Who?", "What?", "Who?"))]
    (data / "extraction_questions.jsonl").write_text("\n".join(map(json.dumps, lines)))
    (tmp_path / "checkout/README.md").write_text("# Code of a paper\n")
    return tmp_path / "checkout"


@pytest.mark.parametrize("inside", ["", "data", "data/roles", "data/roles/instructions"])
def test_the_authors_repository_works_as_it_is(checkout: Path, inside: str) -> None:
    corpus = load_corpus(checkout / inside)
    assert [(role.name, role.description) for role in corpus.roles] == [
        ("ghost", "Haunts a mill."),
        ("poet", "Writes verse."),
    ]
    assert corpus.roles[0].prompts == ("You are a ghost.", "Speak as a ghost.")
    assert [question.text for question in corpus.questions] == ["Who?", "What?", "Who?"]
    assert corpus.default_prompts == ("", "You are {model_name}.")
    again = [finding for finding in check_corpus(checkout / inside) if "says the same" in finding.message]
    assert [finding.level for finding in again] == ["warning"]


def test_other_forms_of_the_authors_files(checkout: Path) -> None:
    roles = checkout / "data/roles"
    (roles / "instructions/poet.json").write_text(json.dumps({"instruction": ["You are a poet."]}))
    (roles / "role_list.json").write_text(json.dumps([{"role": "poet", "description": "Verse.", "n": 3}]))
    (checkout / "data/extraction_questions.jsonl").write_text('{"question": "Who?"}\n{"question": "What?"}')
    corpus = load_corpus(checkout)
    assert corpus.role("poet").prompts == ("You are a poet.",)
    assert (corpus.role("poet").description, corpus.role("ghost").description) == ("Verse.", "")
    assert [question.id for question in corpus.questions] == ["0", "1"]
    (roles / "role_list.json").write_text(json.dumps({"poet": 3}))
    with pytest.raises(CorpusError, match=r"role_list\.json: the description of 'poet' is 3"):
        load_corpus(checkout)
