"""The built-in corpus: complete, well formed, and without texts that say the same."""

from __future__ import annotations

from collections import Counter

import pytest

from personascope.corpus import PERSONAL, Corpus, check_corpus, load_corpus
from personascope.corpus._types import PROMPTS_PER_ROLE, QUESTION_COUNT

PAPER_NAMES = """
aberration absurdist accountant activist actor addict adolescent advocate alien altruist amateur
ambassador amnesiac analyst anarchist ancient angel anthropologist archaeologist architect archivist
artisan ascetic assistant auctioneer auditor avatar bard bartender biologist blogger bohemian
builder caregiver cartographer caveman celebrity chameleon chef chemist chimera coach collaborator
collector comedian competitor composer conservator consultant contrarian coordinator coral_reef
cosmopolitan counselor criminal critic crystalline curator cyborg cynic daredevil debugger demon
designer destroyer detective devils_advocate dilettante dispatcher divorcee doctor dreamer echo
economist ecosystem editor egregore elder eldritch emissary empath engineer entrepreneur evaluator
evangelist examiner exile expatriate facilitator familiar fixer flaneur fool forecaster futurist
gamer generalist genie geographer ghost golem gossip grader graduate grandparent guardian guide guru
hacker healer hedonist hermit historian hive hoarder homunculus hybrid idealist immigrant improviser
infant influencer instructor interpreter interviewer jester journalist judge lawyer leviathan
librarian linguist loner luddite marketer martyr mathematician maverick mechanic mediator mentor
merchant minimalist moderator musician mycorrhizal mystic narcissist narrator naturalist navigator
negotiator networker newlywed nomad novelist nutritionist observer optimist oracle organizer orphan
pacifist paramedic parasite parent patient peacekeeper perfectionist pharmacist philosopher
photographer physicist pilgrim pilot pirate planner playwright podcaster poet polymath pragmatist
predator presenter prey prisoner procrastinator prodigy producer programmer proofreader prophet
provincial provocateur psychologist publisher purist realist rebel recruiter refugee reporter
researcher retiree revenant reviewer revolutionary robot rogue romantic saboteur sage scheduler
scholar scientist scout screener secretary shaman shapeshifter simulacrum skeptic smuggler
sociologist soldier sommelier specialist spirit spy statistician stoic strategist student summarizer
supervisor surfer survivor swarm symbiont synthesizer teacher technologist teenager theorist
therapist toddler traditionalist trainer translator tree trickster tulpa tutor validator vampire
vegan veteran veterinarian vigilante virtuoso virus visionary void wanderer warrior whale widow wind
witch witness workaholic wraith writer zealot zeitgeist
"""
PAPER_ROLES = PAPER_NAMES.split()


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return load_corpus()


def test_the_roles_are_the_papers(corpus: Corpus) -> None:
    assert len(PAPER_ROLES) == 275
    assert [role.name for role in corpus.roles] == sorted(PAPER_ROLES)


def test_every_role_has_five_prompts_a_group_and_a_description(corpus: Corpus) -> None:
    for role in corpus.roles:
        assert len(role.prompts) == PROMPTS_PER_ROLE, role.name
        assert role.group, role.name
        assert 4 <= len(role.description.split()) <= 25, role.name


def test_the_questions_cover_24_areas_evenly(corpus: Corpus) -> None:
    drawn = [question for question in corpus.questions if question.kind != PERSONAL]
    assert len(drawn) == QUESTION_COUNT
    assert set(Counter(question.area for question in drawn).values()) == {10}
    assert len({question.area for question in drawn}) == 24
    personal = Counter(question.area for question in corpus.questions if question.kind == PERSONAL)
    assert set(personal.values()) == {2} and len(personal) == 24


def test_the_kinds_have_the_ratio_of_the_released_bank_without_its_personal_questions(corpus: Corpus) -> None:
    # Read off 60 of its 240: of 87 in a hundred that are not personal.
    kinds = Counter(question.kind for question in corpus.questions if question.kind != PERSONAL)
    shares = {"view": 37, "advice": 20, "situation": 12, "explanation": 10, "community": 8}
    assert kinds == {kind: round(240 * share / 87) for kind, share in shares.items()}


def test_the_default_is_one_empty_prompt_and_four_neutral_ones(corpus: Corpus) -> None:
    assert len(corpus.default_prompts) == PROMPTS_PER_ROLE
    assert corpus.default_prompts.count("") == 1
    assert sum("{model_name}" in text for text in corpus.default_prompts) == 1
    assert all(len(text.split()) <= 12 for text in corpus.default_prompts)


def test_the_check_finds_nothing(corpus: Corpus) -> None:
    assert check_corpus(corpus) == []


def test_no_typography_that_a_small_tokenizer_breaks(corpus: Corpus) -> None:
    texts = [text for role in corpus.roles for text in role.prompts]
    texts += [question.text for question in corpus.questions]
    odd = {c for text in texts for c in text if c in "\u2014\u2013\u2018\u2019\u201c\u201d*`#\n\t"}
    assert odd == set()


def test_the_source_and_licence_are_said(corpus: Corpus) -> None:
    assert (corpus.name, corpus.source, corpus.licence) == ("builtin", "builtin", "Apache-2.0")
    assert corpus.version
