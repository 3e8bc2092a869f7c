"""The offline judge of labels: a trained classifier on embeddings and features."""
