"""Score a response by rules: counted features, and a decision over them (`judge._offline`)."""
