"""Memory that must not be written stays as it is, also where torch has lost sight of that."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: pip install tilefold[torch]")

from tilefold.activations import ActivationStatistics, RowStore
from tilefold.activations.pooling import cls_pool, last_pool, max_pool, mean_pool
from tilefold.losses import alignment_loss, contrastive_loss

pytestmark = pytest.mark.usefixtures("one_thread")
OPTIONS = {"thresholds": [0.0], "top": 2, "histogram": True, "second_moment": True}


def shared(shape: tuple[int, ...]) -> tuple[np.ndarray, torch.Tensor]:
    """A read-only array, and a tensor over its memory, which `torch.from_dlpack` makes writable."""
    array = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
    array.flags.writeable = False
    return array, torch.from_dlpack(array)


def statistics(x: torch.Tensor) -> None:
    seen = ActivationStatistics(x.shape[-1], **OPTIONS)
    seen.update(x, torch.ones(x.shape[:-1], dtype=torch.int64))
    seen.merge(seen)


def rows(x: torch.Tensor) -> None:
    store = RowStore()
    for pool in (mean_pool, cls_pool, last_pool, max_pool):
        store.append("x", pool(x, torch.ones(x.shape[:2], dtype=torch.int64)))
    assert len(store["x"]) == 4 * len(x)


def contrastive(x: torch.Tensor) -> None:
    queries, documents = x[0].requires_grad_(), x[1]
    contrastive_loss(queries, documents, torch.arange(4), temperature=0.05).backward()
    assert queries.grad.abs().sum() > 0


def alignment(x: torch.Tensor) -> None:
    student = x[0].requires_grad_()
    alignment_loss((student, x[1]), (x[1], x[1]), temperature=0.5).backward()
    assert student.grad.abs().sum() > 0


@pytest.mark.parametrize("use", [statistics, rows, contrastive, alignment])
def test_arguments_are_not_written(use):
    array, tensor = shared((2, 4, 8))
    before = array.copy()
    use(tensor)
    np.testing.assert_array_equal(array, before)
