"""The kernels as ops of torch, registered with torch.library so that torch.compile sees them.

What only the values of arguments show (indices out of range, a scale that is not positive) is
checked here, because a compiled graph has no values before.
"""

from ..torch_ops import contrastive as contrastive
from ..torch_ops import divergence as divergence
from ..torch_ops import statistics as statistics
from .precision import checked_factor as checked_factor
from .precision import result_dtype as result_dtype
