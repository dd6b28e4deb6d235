"""HnswIndex: approximate search over hnswlib's graph of neighbors, with exact scores."""

from .hnsw_index import HnswIndex as HnswIndex
