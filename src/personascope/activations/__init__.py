"""personascope.activations."""
