"""HTML report of a map."""
