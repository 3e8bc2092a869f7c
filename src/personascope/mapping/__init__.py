"""personascope.mapping."""
