"""A judge that is a model in this process."""
