"""Analyses of what training a retriever changes in a model: probes, attribution, edits of facts.

After Reichman & Heck, "Dense Passage Retrieval: Is it Retrieving?" (2024), and the reproducibility
study of it (Yao, Wang & Zuccon, 2025): its probe, its samples and its tests are here as published,
beside controls that they lack.
"""

from __future__ import annotations

try:
    import scipy as scipy
    import sklearn as sklearn
    import torch as torch
except ImportError as error:
    raise ImportError(
        f"tilefold.mechanisms needs torch, scikit-learn and scipy ({error}): "
        'pip install "tilefold[analysis]"'
    ) from error

from .editing.applied_edit import edit
from .editing.edit_effects import PromptEffects, edit_effects
from .editing.fact_edit import FactEdit
from .editing.malmen import Malmen
from .editing.memit import Memit
from .editing.mend import Mend
from .editing.neuron_surgery import NeuronSurgery
from .editing.output_shifts import ShiftSearch
from .editing.rome import Rome
from .editing.second_moments import SecondMoments, second_moments
from .editing.t_patcher import TPatcher
from .editing.weight_delta import WeightDelta
from .features.feature_texts import selectivity, top_feature_texts
from .features.topk_autoencoder import TopKAutoencoder
from .maps.knowledge_head import KnowledgeHead
from .maps.neuron_codes import NeuronCodes
from .maps.neuron_links import LinkEffects, link_effects
from .maps.neuron_rows import neuron_rows
from .neurons.activation_attribution import (
    ActivationAttribution,
    activation_attribution,
    neuron_activations,
)
from .neurons.attribution import WeightAttribution, weight_attribution
from .neurons.attribution_targets import masked_word, retrieval
from .neurons.completeness import IncompleteAttributionWarning
from .neurons.decentralisation import (
    Decentralisation,
    active_counts,
    decentralisation,
    pathway_overlap,
)
from .neurons.feedforward import FeedForward, feed_forwards
from .neurons.interventions import (
    ClozeEffect,
    cloze_effect,
    random_neurons,
    retrieval_effect,
    strongest,
)
from .neurons.knowledge_neurons import (
    Refined,
    coarse_neurons,
    refined_neurons,
    relation_neurons,
    scaled_neurons,
)
from .neurons.survey import Survey, survey_neurons
from .neurons.top_texts import TopText, top_texts
from .patching.axiomatic_pairs import AxiomaticPairs, axiomatic_pairs
from .patching.patching_sweep import PatchingSweep, patching_sweep
from .probing.candidates import Candidates, present, shuffle_queries
from .probing.layer_rows import layer_rows
from .probing.layer_tests import Comparison, compare_with_base
from .probing.probes import BilinearProbe, ConcatenationProbe, DotProductProbe, InteractionProbe
from .probing.sweep import Layers, Probed, against_base, layers_of, probe_layers

__all__ = [
    "ActivationAttribution",
    "AxiomaticPairs",
    "BilinearProbe",
    "Candidates",
    "ClozeEffect",
    "Comparison",
    "ConcatenationProbe",
    "Decentralisation",
    "DotProductProbe",
    "FactEdit",
    "FeedForward",
    "IncompleteAttributionWarning",
    "InteractionProbe",
    "KnowledgeHead",
    "Layers",
    "LinkEffects",
    "Malmen",
    "Memit",
    "Mend",
    "NeuronCodes",
    "NeuronSurgery",
    "PatchingSweep",
    "Probed",
    "PromptEffects",
    "Refined",
    "Rome",
    "SecondMoments",
    "ShiftSearch",
    "Survey",
    "TPatcher",
    "TopKAutoencoder",
    "TopText",
    "WeightAttribution",
    "WeightDelta",
    "activation_attribution",
    "active_counts",
    "against_base",
    "axiomatic_pairs",
    "cloze_effect",
    "coarse_neurons",
    "compare_with_base",
    "decentralisation",
    "edit",
    "edit_effects",
    "feed_forwards",
    "layer_rows",
    "layers_of",
    "link_effects",
    "masked_word",
    "neuron_activations",
    "neuron_rows",
    "patching_sweep",
    "pathway_overlap",
    "present",
    "probe_layers",
    "random_neurons",
    "refined_neurons",
    "relation_neurons",
    "retrieval",
    "retrieval_effect",
    "scaled_neurons",
    "second_moments",
    "selectivity",
    "shuffle_queries",
    "strongest",
    "survey_neurons",
    "top_feature_texts",
    "top_texts",
    "weight_attribution",
]
