"""Scenes from domains, and what a scripted user says."""

from __future__ import annotations

from collections import Counter

import pytest
from talk_case import domain

from personascope.corpus.dialogues import DOMAINS, load_cases, load_domain, load_domains
from personascope.dynamics.conversations import case_scenarios, sample_scenarios
from personascope.errors import CorpusError, DynamicsError, UsageError


def test_the_built_in_domains_are_whole() -> None:
    said: Counter[str] = Counter()
    for found in load_domains():
        assert (len(found.personas), len(found.topics)) == (5, 20)
        assert {len(topic.messages) for topic in found.topics} == {8}
        assert {len(persona.remarks) for persona in found.personas} == {12}
        said.update(text for topic in found.topics for text in topic.messages)
        said.update(text for persona in found.personas for text in persona.remarks)
    assert len(said) == 4 * (160 + 60) and max(said.values()) == 1
    assert [found.name for found in load_domains()] == list(DOMAINS)


def test_every_topic_comes_before_any_comes_again() -> None:
    domains = load_domains()
    twenty, hundred = sample_scenarios(domains, 20), sample_scenarios(domains, 100)
    assert len(twenty) == 80 and len({(s.domain, s.topic) for s in twenty}) == 80
    assert set(Counter((s.domain, s.persona) for s in twenty).values()) == {4}
    assert len({s.id for s in hundred}) == 400
    assert [s for s in hundred if s.domain == "coding"][:20] == [s for s in twenty if s.domain == "coding"]
    with pytest.raises(DynamicsError, match="101"):
        sample_scenarios(domains, 101)


def test_a_script_holds_every_message_in_order_and_no_remark_twice() -> None:
    (scenario, *_) = sample_scenarios([domain("coding")], 4)
    script = scenario.script(seed=3)
    assert script[:2] == scenario.messages[:2] and script[2] in scenario.remarks
    assert [line for line in script if line in scenario.messages] == list(scenario.messages)
    assert len(set(script)) == len(script) == 20
    assert scenario.script(3) == script != scenario.script(4)


def test_cases_say_what_is_written_out() -> None:
    cases = load_cases()
    for case, scenario in zip(cases, case_scenarios(cases), strict=True):
        assert scenario.script(0) == case.messages


def test_a_file_of_ones_own(tmp_path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(
        "domain: mine\ndescription: d\npersonas:\n- {id: a, description: d}\n"
        "topics:\n- {id: t, brief: b, messages: [Hello.]}\n"
    )
    assert load_domain(path).name == "mine"
    path.write_text(path.read_text().replace("messages: [Hello.]", "messages: []"))
    with pytest.raises(CorpusError, match="messages"):
        load_domain(path)
    with pytest.raises(UsageError, match="no domain 'cooking'"):
        load_domain("cooking")
    with pytest.raises(CorpusError, match="twice"):
        load_domains(("coding", "coding"))
