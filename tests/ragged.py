"""Lists of different lengths, as losses take them and as a matrix."""

import numpy as np
import torch
from torch import Tensor


def csr(lists: list[list[int]]) -> tuple[Tensor, Tensor]:
    """Offsets and indices."""
    offsets = np.cumsum([0, *map(len, lists)])
    return torch.tensor(offsets), torch.tensor([i for part in lists for i in part]).long()


def as_matrix(lists: list[list[int]], m: int) -> Tensor:
    """``[n, m]`` True where listed."""
    mask = torch.zeros(len(lists), m, dtype=torch.bool)
    for row, part in enumerate(lists):
        mask[row, part] = True
    return mask
