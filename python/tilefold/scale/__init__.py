"""Shards of a corpus on the workers of a Ray cluster: encoding them, and exact search over them."""

from .shard_encoding import encode_on_workers
from .sharded_search import ShardedSearch
from .worker_pool import WorkerPool
from .workers import Workers

__all__ = ["ShardedSearch", "WorkerPool", "Workers", "encode_on_workers"]
