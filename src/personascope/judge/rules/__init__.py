"""What the rules of the offline judge count in a text, and the score that it comes to (`judge._offline`)."""
