"""Label responses offline by a trained classifier on embeddings and counted features."""
