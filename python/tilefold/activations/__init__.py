"""Activations: hooks that read and write them, statistics folded over them, rows kept of them.

Needs torch only.
"""

try:
    import torch as torch
except ImportError as error:
    raise ImportError(
        f'tilefold.activations needs torch ({error}): pip install "tilefold[torch]"'
    ) from error

from .activation_statistics import ActivationStatistics as ActivationStatistics
from .capture import capture as capture
from .patching import patch as patch
from .row_store import RowStore as RowStore
