"""Judge with a model behind an OpenAI-compatible server, within a budget and with a cache."""
