from ._load import DOMAINS, Case, Domain, load_cases, load_domain, load_domains

__all__ = [
    "DOMAINS",
    "Case",
    "Domain",
    "load_cases",
    "load_domain",
    "load_domains",
]
