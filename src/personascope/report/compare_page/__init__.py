"""HTML page of a comparison of maps."""
