"""Preference signals: how much a source LM prefers each passage of a question.

`FusedAttention` is FiDAtt, the signal of AAR; the others are extensions behind the same protocol,
`PreferenceSignal`.
"""

from .attention_preference import FusedAttention
from .causal_attention import CausalAttention
from .leave_one_out import LeaveOneOut
from .likelihood_preference import AnswerLikelihood, PerplexityDistillation
from .perplexity_reduction import GradedPerplexityReduction
from .preference_signal import PreferenceSignal

__all__ = [
    "AnswerLikelihood",
    "CausalAttention",
    "FusedAttention",
    "GradedPerplexityReduction",
    "LeaveOneOut",
    "PerplexityDistillation",
    "PreferenceSignal",
]
