"""The texts of simulated conversations: domains, user personas, topics, and case studies."""

from personascope.corpus.dialogues._load import (
    DOMAINS,
    Case,
    Domain,
    Topic,
    UserPersona,
    load_cases,
    load_domain,
    load_domains,
)

__all__ = [
    "DOMAINS",
    "Case",
    "Domain",
    "Topic",
    "UserPersona",
    "load_cases",
    "load_domain",
    "load_domains",
]
