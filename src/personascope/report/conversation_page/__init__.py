"""The HTML page of conversations and their replays."""
