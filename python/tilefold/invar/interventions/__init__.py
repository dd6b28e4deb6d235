"""Interventions: rewrites of queries, context windows of documents, and their product."""

from .ambiguity_rewriter import AmbiguityRewriter
from .chunk_search import listed_scores, search_chunks
from .composed_rewrites import (
    RULE_FAMILIES,
    ComposedRewrites,
    compose_rewrites,
    rule_rewriters,
)
from .context_windows import Chunks, Window
from .encoded_interventions import EncodedInterventions, InterventionRankings
from .formality_rewriter import FormalityRewriter
from .intervention_product import Intervention, Interventions
from .lm_rewriter import REWRITE_PROMPTS, LMRewriter
from .lost_gold import lost_answers, lost_documents
from .redundancy_rewriter import RedundancyRewriter
from .rewrite_store import kept_rewrites
from .rewriter import Rewriter, RuleRewriter
from .template_rewriter import TemplateRewriter
from .typo_rewriter import TypoRewriter
from .word_order_rewriter import WordOrderRewriter

__all__ = [
    "REWRITE_PROMPTS",
    "RULE_FAMILIES",
    "AmbiguityRewriter",
    "Chunks",
    "ComposedRewrites",
    "EncodedInterventions",
    "FormalityRewriter",
    "Intervention",
    "InterventionRankings",
    "Interventions",
    "LMRewriter",
    "RedundancyRewriter",
    "Rewriter",
    "RuleRewriter",
    "TemplateRewriter",
    "TypoRewriter",
    "Window",
    "WordOrderRewriter",
    "compose_rewrites",
    "kept_rewrites",
    "listed_scores",
    "lost_answers",
    "lost_documents",
    "rule_rewriters",
    "search_chunks",
]
