"""What training a retriever does inside a model: probes of its layers.

After Reichman & Heck, "Dense Passage Retrieval: Is it Retrieving?" (2024), and the reproducibility
study of it, whose probe and tests are here as published, beside controls that they lack.
"""

from __future__ import annotations

try:
    import scipy as scipy
    import sklearn as sklearn
    import torch as torch
except ImportError as error:
    raise ImportError(
        f"tilefold.mechanisms needs torch, scikit-learn and scipy ({error}): "
        "pip install tilefold[analysis]"
    ) from error

from .candidates import Candidates, present, shuffle_queries
from .layers import layer_rows
from .probe import BilinearProbe, ConcatenationProbe, DotProductProbe, InteractionProbe
from .significance import Comparison, compare_with_base
from .sweep import Layers, Probed, against_base, layers_of, probe_layers

__all__ = [
    "BilinearProbe",
    "Candidates",
    "Comparison",
    "ConcatenationProbe",
    "DotProductProbe",
    "InteractionProbe",
    "Layers",
    "Probed",
    "against_base",
    "compare_with_base",
    "layer_rows",
    "layers_of",
    "present",
    "probe_layers",
    "shuffle_queries",
]
