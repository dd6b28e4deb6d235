"""Weights that a training changes are written and read, also where some share memory."""

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: pip install tilefold[train]")
pytest.importorskip("transformers", reason="not installed: pip install tilefold[train]")

from tilefold.train.trained_weights import TrainedWeights


def test_weights_that_share_memory_are_written_and_read(tmp_path):
    def layer(fill):
        one = torch.nn.Linear(3, 3)
        torch.nn.init.constant_(one.weight, fill)
        one.register_buffer("first", one.weight.data[0])
        return one

    TrainedWeights(layer(2.0)).write(tmp_path / "weights.safetensors")
    other = layer(1.0)
    TrainedWeights(other).read(tmp_path / "weights.safetensors")
    assert (other.weight == 2.0).all()
    assert (other.first == 2.0).all()
