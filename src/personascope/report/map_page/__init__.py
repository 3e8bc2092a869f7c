"""The HTML page of a map."""
