"""personascope.report."""
