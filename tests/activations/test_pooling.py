"""Pooling of hidden states, beside loops over tokens."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: pip install tilefold[demo]")
pytest.importorskip("transformers", reason="not installed: pip install tilefold[demo]")

from tilefold.activations.pooling import max_pool
from tilefold.models import cls_pool, last_pool, mean_pool
from tilefold.testing import assert_as_close_as_torch


def test_pooling_ignores_what_the_mask_hides():
    hidden = torch.arange(24.0).reshape(2, 3, 4)
    mask = torch.tensor([[1, 1, 0], [1, 0, 0]])
    np.testing.assert_allclose(mean_pool(hidden, mask)[0], hidden[0, :2].mean(0))
    np.testing.assert_allclose(mean_pool(hidden, mask)[1], hidden[1, 0])
    np.testing.assert_allclose(cls_pool(hidden, mask), hidden[:, 0])
    assert mean_pool(hidden, torch.zeros(2, 3)).isfinite().all()


def test_first_and_last_are_found_by_the_mask():
    hidden = torch.arange(24.0).reshape(2, 3, 4)
    mask = torch.tensor([[0, 1, 1], [1, 1, 0]])
    np.testing.assert_array_equal(cls_pool(hidden, mask), hidden[[0, 1], [1, 0]])
    np.testing.assert_array_equal(last_pool(hidden, mask), hidden[[0, 1], [2, 1]])


@pytest.fixture(params=["float32", "bfloat16", "float16"])
def padded(request) -> tuple[torch.Tensor, torch.Tensor]:
    """Hidden states of texts that are padded right, left, on both sides, everywhere, nowhere."""
    torch.manual_seed(0)
    hidden = torch.randn(5, 70, 33, dtype=getattr(torch, request.param))
    mask = torch.ones(5, 70, dtype=torch.int64)
    mask[0, 41:] = mask[1, :69] = mask[2, :3] = mask[2, 60:] = mask[3] = 0
    return hidden, mask


@pytest.mark.parametrize("flags", ["int64", "bool", "float32"])
def test_the_maximum_is_that_of_a_loop_over_tokens(padded, flags: str):
    hidden, mask = padded
    hidden[0] -= 9  # below the zeros that padding might be taken for
    truth = torch.zeros(5, 33, dtype=hidden.dtype)
    for text in range(5):
        counted = [token for token in range(70) if mask[text, token]]
        for column in range(33) if counted else ():
            truth[text, column] = max(hidden[text, token, column] for token in counted)
    hidden[mask == 0] = torch.nan
    found = max_pool(hidden, mask.to(getattr(torch, flags)))
    assert found.dtype == hidden.dtype
    assert torch.equal(found, truth)


def test_a_mean_is_added_up_in_single_precision_at_least(padded):
    hidden, mask = padded
    found = mean_pool(hidden, mask)
    assert found.dtype == torch.promote_types(hidden.dtype, torch.float32)

    def plain(dtype: torch.dtype) -> torch.Tensor:
        means = [x[m == 1].to(dtype).mean(0) for x, m in zip(hidden, mask, strict=True)]
        return torch.stack(means).nan_to_num(0)

    assert_as_close_as_torch(found, plain(found.dtype), plain(torch.float64))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(mean_pool(hidden, mask), found)
