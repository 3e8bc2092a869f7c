"""Parse a score or a label from a judge's reply."""
