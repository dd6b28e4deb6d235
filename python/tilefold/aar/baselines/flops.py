"""Computes the cost of a question in FLOPs from the shapes of models and the lengths of texts.

A multiply-add counts as two, and matrix products alone count: projections, attention scores and
their sums, feed-forward layers and the language modelling head. For n tokens that attend to m,
with hidden size h, heads times head size a (b for keys and values) and feed-forward size f, a layer
takes

    4 n h a + 4 n h b     queries and outputs, keys and values
    4 n m a               attention scores and weighted sums of values
    4 n h f               feed-forward, 6 n h f if it is gated

and a decoder layer that attends to s states of an encoder 4 n h a + 4 s h a + 4 n s a more. Texts
count without padding. A decoder keeps keys and values (a cache), so each token is processed once.
Attention is computed in full, as libraries do, also where a mask hides half of it.

The formulas are the usual ones (Kaplan et al., "Scaling Laws for Neural Language Models", 2020,
table 1) with attention and cross-attention written out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ...integers import as_integer

_T5 = {"t5", "mt5"}
_PLAIN = {"bert", "roberta", "gpt2", "gpt_neo", "gpt_neox", "opt"}
_GATED = {"llama", "mistral", "qwen2", "qwen3"}


@dataclass(frozen=True)
class TransformerShape:
    """Sizes of a transformer that its cost depends on; `of` reads them from a configuration.

    Example:
        >>> from transformers import T5Config
        >>> shape = TransformerShape.of(T5Config(d_model=8, d_kv=2, num_heads=4, num_layers=2))
        >>> shape.hidden, shape.inner, shape.n_decoder_layers
        (8, 8, 2)
    """

    n_layers: int  # of the encoder, or of a decoder-only model
    n_decoder_layers: int  # of an encoder-decoder, otherwise 0
    hidden: int
    inner: int  # heads times head size
    inner_keys: int  # heads of keys times head size; smaller with grouped queries
    feed_forward: int
    gated: bool  # whether the feed-forward layer has two input matrices
    vocabulary: int

    @classmethod
    def of(cls, config: Any) -> TransformerShape:
        """Reads the sizes from the configuration of a model of transformers.

        Raises:
            ValueError: a family whose layers are not known here.
        """
        family = config.model_type
        if family in _T5:
            inner = config.num_heads * config.d_kv
            return cls(
                n_layers=config.num_layers,
                n_decoder_layers=config.num_decoder_layers,
                hidden=config.d_model,
                inner=inner,
                inner_keys=inner,
                feed_forward=config.d_ff,
                gated=config.is_gated_act,
                vocabulary=config.vocab_size,
            )
        if family not in _PLAIN | _GATED:
            known = sorted(_T5 | _PLAIN | _GATED)
            raise ValueError(f"TransformerShape.of: expected one of {known}, got {family!r}")
        return cls._of_one_stack(config, gated=family in _GATED)

    @classmethod
    def _of_one_stack(cls, config: Any, *, gated: bool) -> TransformerShape:
        hidden, n_heads = config.hidden_size, config.num_attention_heads
        if getattr(config, "word_embed_proj_dim", hidden) != hidden:
            raise ValueError(
                f"TransformerShape.of: embeddings of size {config.word_embed_proj_dim} under a "
                f"hidden size of {hidden} are not supported"
            )
        head = getattr(config, "head_dim", None) or hidden // n_heads
        sizes = (
            getattr(config, name, None) for name in ("intermediate_size", "n_inner", "ffn_dim")
        )
        return cls(
            n_layers=config.num_hidden_layers,
            n_decoder_layers=0,
            hidden=hidden,
            inner=n_heads * head,
            inner_keys=(getattr(config, "num_key_value_heads", None) or n_heads) * head,
            feed_forward=next(filter(None, sizes), 4 * hidden),
            gated=gated,
            vocabulary=config.vocab_size,
        )


def encoding_flops(shape: TransformerShape, lengths: Sequence[int]) -> int:
    """Computes the cost of encoding texts, each by itself: a retriever, or fusion in decoder.

    Args:
        shape: of the model.
        lengths: tokens of each text.

    Raises:
        TypeError, ValueError: a length that is no integer, or below 1.
    """
    checked = [as_integer(n, "encoding_flops", "lengths", at_least=1) for n in lengths]
    return shape.n_layers * sum(_layer(shape, n, n) for n in checked)


def decoding_flops(shape: TransformerShape, n_states: int, n_new: int) -> int:
    """Computes the cost of generating tokens by the decoder of an encoder-decoder.

    Args:
        shape: of the model.
        n_states: states of the encoder, over all texts of the question.
        n_new: tokens that are generated.

    Raises:
        TypeError, ValueError: a number that is no integer or below 1; a model without a decoder.
    """
    _check_decoder("decoding_flops", shape)
    s = as_integer(n_states, "decoding_flops", "n_states", at_least=1)
    t = as_integer(n_new, "decoding_flops", "n_new", at_least=1)
    # Step i, from 1 on, attends to i tokens: t (t + 1) / 2 pairs in all.
    own = _layer(shape, t, 0) + 4 * shape.inner * (t * (t + 1) // 2)
    return shape.n_decoder_layers * (own + _cross(shape, t, s)) + _head(shape, t)


def scoring_flops(shape: TransformerShape, n_states: int, lengths: Sequence[int]) -> int:
    """Computes the cost of log-likelihoods of options by the decoder of an encoder-decoder.

    Args:
        shape: of the model.
        n_states: states of the encoder, which each option attends to.
        lengths: tokens of each option.

    Raises:
        TypeError, ValueError: as of `decoding_flops`.
    """
    _check_decoder("scoring_flops", shape)
    s = as_integer(n_states, "scoring_flops", "n_states", at_least=1)
    checked = [as_integer(n, "scoring_flops", "lengths", at_least=1) for n in lengths]
    return sum(
        shape.n_decoder_layers * (_layer(shape, t, t) + _cross(shape, t, s)) + _head(shape, t)
        for t in checked
    )


def fusion_flops(shape: TransformerShape, lengths: Sequence[int], n_new: int) -> int:
    """Computes the cost of an answer by fusion in decoder: encoding each text, and decoding once.

    Equals concatenation by an encoder-decoder where there is one text.

    Args:
        shape: of the model.
        lengths: tokens of each passage with its prompt.
        n_new: tokens of the answer.

    Raises:
        TypeError, ValueError: as of `encoding_flops` and `decoding_flops`.
    """
    return encoding_flops(shape, lengths) + decoding_flops(shape, sum(lengths), n_new)


def causal_flops(shape: TransformerShape, n_prompt: int, n_new: int) -> int:
    """Computes the cost of an answer by a decoder-only LM.

    Args:
        shape: of the model.
        n_prompt: tokens of passages and prompt together.
        n_new: tokens of the answer.

    Raises:
        TypeError, ValueError: a number that is no integer or below 1; an encoder-decoder.
    """
    op = "causal_flops"
    if shape.n_decoder_layers:
        raise ValueError(f"{op}: expected a decoder-only model, got an encoder-decoder")
    n = as_integer(n_prompt, op, "n_prompt", at_least=1)
    t = as_integer(n_new, op, "n_new", at_least=1)
    # The prompt gives the first token; each of the others but the last is read by itself.
    read = _layer(shape, n, n) + sum(_layer(shape, 1, n + i) for i in range(1, t))
    return shape.n_layers * read + _head(shape, t)


def _layer(shape: TransformerShape, n: int, m: int) -> int:
    """Cost of a layer for n tokens that attend to m."""
    projections = 4 * n * shape.hidden * (shape.inner + shape.inner_keys)
    matrices = 3 if shape.gated else 2
    return (
        projections + 4 * n * m * shape.inner + 2 * matrices * n * shape.hidden * shape.feed_forward
    )


def _cross(shape: TransformerShape, n: int, s: int) -> int:
    """Cost of cross-attention of n tokens to s states."""
    return 4 * shape.inner * (n * shape.hidden + s * shape.hidden + n * s)


def _head(shape: TransformerShape, n: int) -> int:
    return 2 * n * shape.hidden * shape.vocabulary


def _check_decoder(op: str, shape: TransformerShape) -> None:
    if not shape.n_decoder_layers:
        raise ValueError(f"{op}: the model has no decoder that attends to an encoder")
