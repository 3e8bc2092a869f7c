"""personascope.cli."""
