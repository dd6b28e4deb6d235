"""Target LMs: they answer with retrieved passages, and are never trained.

`FusedTarget` reads passages apart (fusion in decoder), `ConcatenatedTarget` as one text, and
`ScoredApi` sends that text to an OpenAI-compatible service, with a cache on disk.
"""

from .answer_cache import AnswerCache
from .completions_client import ApiError, CompletionsService
from .concatenated_target import ConcatenatedTarget
from .fused_target import FusedTarget
from .scored_api import ScoredApi
from .target_lm import TargetLM

__all__ = [
    "AnswerCache",
    "ApiError",
    "CompletionsService",
    "ConcatenatedTarget",
    "FusedTarget",
    "ScoredApi",
    "TargetLM",
]
