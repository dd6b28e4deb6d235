"""What training a retriever does inside a model: probes of its layers, attributions to neurons.

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

from .attribution import (
    WeightAttribution,
    activation_attribution,
    masked_word,
    retrieval,
    weight_attribution,
)
from .candidates import Candidates, present, shuffle_queries
from .decentralisation import (
    Decentralisation,
    active_counts,
    decentralisation,
    pathway_overlap,
)
from .feedforward import FeedForward, feed_forwards
from .layers import layer_rows
from .neurons import (
    Refined,
    coarse_neurons,
    refined_neurons,
    relation_neurons,
    scaled_neurons,
)
from .probe import BilinearProbe, ConcatenationProbe, DotProductProbe, InteractionProbe
from .significance import Comparison, compare_with_base
from .sweep import Layers, Probed, against_base, layers_of, probe_layers

__all__ = [
    "BilinearProbe",
    "Candidates",
    "Comparison",
    "ConcatenationProbe",
    "Decentralisation",
    "DotProductProbe",
    "FeedForward",
    "InteractionProbe",
    "Layers",
    "Probed",
    "Refined",
    "WeightAttribution",
    "activation_attribution",
    "active_counts",
    "against_base",
    "coarse_neurons",
    "compare_with_base",
    "decentralisation",
    "feed_forwards",
    "layer_rows",
    "layers_of",
    "masked_word",
    "pathway_overlap",
    "present",
    "probe_layers",
    "refined_neurons",
    "relation_neurons",
    "retrieval",
    "scaled_neurons",
    "shuffle_queries",
    "weight_attribution",
]
