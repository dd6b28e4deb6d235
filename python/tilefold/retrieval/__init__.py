"""Retrieval: exact and approximate search, BM25, fusion, and corpora as shards of embeddings."""
