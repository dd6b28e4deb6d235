"""Interventions: rewrites of queries, and context windows of documents."""

from .ambiguity_rewriter import AmbiguityRewriter
from .composed_rewrites import (
    RULE_FAMILIES,
    ComposedRewrites,
    compose_rewrites,
    rule_rewriters,
)
from .context_windows import Chunks, Window, search_chunks
from .formality_rewriter import FormalityRewriter
from .lm_rewriter import REWRITE_PROMPTS, LMRewriter
from .redundancy_rewriter import RedundancyRewriter
from .rewriter import Rewriter, RuleRewriter
from .template_rewriter import TemplateRewriter
from .typo_rewriter import TypoRewriter

__all__ = [
    "REWRITE_PROMPTS",
    "RULE_FAMILIES",
    "AmbiguityRewriter",
    "Chunks",
    "ComposedRewrites",
    "FormalityRewriter",
    "LMRewriter",
    "RedundancyRewriter",
    "Rewriter",
    "RuleRewriter",
    "TemplateRewriter",
    "TypoRewriter",
    "Window",
    "compose_rewrites",
    "rule_rewriters",
    "search_chunks",
]
