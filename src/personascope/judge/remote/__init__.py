"""A judge behind an OpenAI-compatible server: its dialect, budget and cache."""
