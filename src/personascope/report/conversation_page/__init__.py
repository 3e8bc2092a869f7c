"""HTML page that compares conversations with their replays."""
