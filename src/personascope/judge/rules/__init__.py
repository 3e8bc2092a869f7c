"""The offline judge of the 0-3 score of a role, by counted features of the text."""
