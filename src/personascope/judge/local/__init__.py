"""Judge with a local model."""
