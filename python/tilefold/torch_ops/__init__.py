"""Registers the kernels as torch ops with torch.library, so that torch.compile can trace them.

Checks that need the values of arguments (indices out of range, a scale that is not positive) are
done here, because a compiled graph has no values earlier.
"""

try:
    import torch as torch
except ImportError as error:
    raise ImportError(
        f'tilefold.torch_ops needs torch ({error}): pip install "tilefold[torch]"'
    ) from error

from ..torch_ops import contrastive as contrastive
from ..torch_ops import divergence as divergence
from ..torch_ops import statistics as statistics
from .precision import checked_factor as checked_factor
from .precision import result_dtype as result_dtype
