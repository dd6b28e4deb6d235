"""Two machines of a cluster, both on this one: one is lost while its worker has a shard."""

import threading

import numpy as np
import pytest

pytest.importorskip("ray")

from tilefold.retrieval.encode_shards import encode_shards
from tilefold.scale import Workers, encode_on_workers

pytestmark = pytest.mark.slow

TEXTS = [str(i) for i in range(30)]


@pytest.fixture
def cluster(monkeypatch):
    """A cluster of two machines with a CPU each; yields it and the second one."""
    import ray
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    machine = {"num_cpus": 1, "object_store_memory": 100 << 20, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=machine)
    try:
        second = cluster.add_node(num_cpus=1, object_store_memory=100 << 20)
        ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
        yield cluster, second
    finally:
        ray.shutdown()
        cluster.shutdown()


def counted(texts):
    return np.array([[int(text), 1] for text in texts], np.float32)


def test_the_shard_of_a_lost_machine_is_encoded_on_another(cluster, tmp_path):
    machines, second = cluster
    begun, lost = tmp_path / "begun", second.node_id

    def open_encoder():
        import time

        import ray

        here = ray.get_runtime_context().get_node_id()

        def encode(texts):
            if here == lost:
                begun.touch()
                time.sleep(600)
            while not begun.exists():  # else this machine might encode all shards alone
                time.sleep(0.02)
            return np.array([[int(text), 1] for text in texts], np.float32)

        return encode

    removed = threading.Event()

    def remove() -> None:
        while not begun.exists() and not removed.wait(0.02):
            pass
        machines.remove_node(second, allow_graceful=False)
        removed.set()

    thread = threading.Thread(target=remove)
    thread.start()
    folder = tmp_path / "two"
    try:
        workers = Workers(number=2)
        paths = list(
            encode_on_workers(open_encoder, TEXTS, TEXTS, folder, num_shards=5, workers=workers)
        )
        assert begun.exists()
    finally:
        removed.set()
        thread.join()
    expected = encode_shards(counted, TEXTS, TEXTS, tmp_path / "one", num_shards=5)
    assert [p.read_bytes() for p in sorted(paths)] == [p.read_bytes() for p in expected]
