"""Searches tensors and differentiates a loss with whatever version of torch is installed.

    python tests/with_torch.py

Run on every wheel beside numpy_only.py: the extension does not link torch, so one wheel serves all
its versions. The vectors hold small integers, whose inner products are exact in fp32.
"""

import numpy as np
import torch
import torch.nn.functional as F

import tilefold
from tilefold.losses import contrastive_loss


def integers(rng: np.random.Generator, *shape: int) -> torch.Tensor:
    return torch.from_numpy(rng.integers(-9, 10, shape).astype(np.float32))


def check_search(rng: np.random.Generator) -> None:
    """Raises AssertionError where search differs from sorting all scores."""
    queries, documents = integers(rng, 20, 48), integers(rng, 500, 48)
    scores, order = (queries @ documents.T).sort(dim=1, descending=True, stable=True)
    found = tilefold.search(queries, documents, k=10)
    assert isinstance(found.ids, torch.Tensor)
    assert torch.equal(found.scores, scores[:, :10])
    assert torch.equal(found.ids, order[:, :10])
    half = tilefold.search(queries.bfloat16(), documents.bfloat16(), k=10)
    assert torch.equal(half.ids, found.ids)


def gradients(loss: torch.Tensor, *leaves: torch.Tensor) -> list[torch.Tensor]:
    return [loss.detach(), *torch.autograd.grad(loss, leaves)]


def check_loss(rng: np.random.Generator) -> None:
    """Raises AssertionError where the loss or its gradients differ from those of the matrix."""
    leaves = [(0.1 * integers(rng, n, 32)).requires_grad_() for n in (16, 48)]
    queries, documents = leaves
    positives = torch.arange(16)
    expected = gradients(F.cross_entropy(queries @ documents.T / 0.5, positives), *leaves)
    for own in (contrastive_loss, torch.compile(contrastive_loss, backend="eager")):
        found = gradients(own(queries, documents, positives, temperature=0.5), *leaves)
        for ours, theirs in zip(found, expected, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


def main() -> None:
    """Raises AssertionError, naming what is wrong."""
    rng = np.random.default_rng(0)
    check_search(rng)
    check_loss(rng)
    print(f"tilefold {tilefold.__version__} works with torch {torch.__version__}")


if __name__ == "__main__":
    main()
