"""Features of embeddings: sparse autoencoders, and the texts that each feature is active in."""
