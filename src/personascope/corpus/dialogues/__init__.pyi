from ._load import (
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
