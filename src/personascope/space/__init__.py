"""personascope.space."""
