"""Computes log-likelihoods of continuations under a language model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from .length_batches import check_texts


class LogLikelihoods(NamedTuple):
    """Log-likelihoods of continuations given their prompts, natural logarithm.

    `sum` compares continuations as a whole; `mean`, which is length-normalized, is the score of
    rank classification with options of several lengths.
    """

    sum: NDArray[np.float32]  # [n] over the tokens of each continuation
    mean: NDArray[np.float32]  # [n] the sum divided by the number of tokens
    tokens: NDArray[np.int64]  # [n] tokens of each continuation


def empty_log_likelihoods(n: int) -> LogLikelihoods:
    """Returns log-likelihoods of n continuations to be filled in.

    Args:
        n: number of continuations.
    """
    return LogLikelihoods(np.zeros(n, np.float32), np.zeros(n, np.float32), np.zeros(n, np.int64))


def add_batch(found: LogLikelihoods, rows: NDArray[np.int64], log_p: Tensor, mask: Tensor) -> None:
    """Fills in the log-likelihoods of a batch.

    Args:
        found: of all continuations.
        rows: ``[batch]`` which of them the batch has.
        log_p: ``[batch, tokens]`` log-probabilities of tokens.
        mask: ``[batch, tokens]`` True for tokens of continuations.
    """
    sums = log_p.double().masked_fill(~mask, 0.0).sum(1)
    counts = mask.sum(1)
    found.sum[rows] = sums.float().cpu().numpy()
    found.mean[rows] = (sums / counts).float().cpu().numpy()
    found.tokens[rows] = counts.cpu().numpy()


def token_log_probabilities(logits: Tensor, targets: Tensor) -> Tensor:
    """Computes the log-probability of one token at each position, in float32 at least.

    Equals ``logits.float().log_softmax(-1)`` at the targets, without keeping the log-softmax.

    Args:
        logits: ``[n, tokens, vocabulary]``.
        targets: ``[n, tokens]`` token ids.

    Returns:
        ``[n, tokens]``.
    """
    wide = logits.float() if logits.element_size() < 4 else logits
    chosen = wide.gather(-1, targets[..., None])[..., 0]
    return chosen - wide.logsumexp(-1)


def check_pairs(op: str, prompts: Sequence[Any], continuations: Sequence[str]) -> None:
    """Raises, naming `op`, unless there is one continuation, a string, for each prompt."""
    check_texts(continuations, op, "continuations")
    if len(prompts) != len(continuations):
        raise ValueError(
            f"{op}: expected one continuation for each prompt, got {len(continuations)} and "
            f"{len(prompts)} prompts"
        )


def checked_options(op: str, prompts: Sequence[Any], options: Sequence[Sequence[str]]) -> list[int]:
    """Returns the number of options of each prompt.

    Raises:
        TypeError: options that are no lists of strings.
        ValueError: not one list for each prompt, or an empty one.
    """
    if len(prompts) != len(options):
        raise ValueError(
            f"{op}: expected options of each prompt, got {len(options)} lists and "
            f"{len(prompts)} prompts"
        )
    for row, own in enumerate(options):
        check_texts(own, op, f"options of prompt {row}")
        if not own:
            raise ValueError(f"{op}: expected one option or more of each prompt, got none at {row}")
    return [len(own) for own in options]


def split_log_likelihoods(found: LogLikelihoods, counts: Sequence[int]) -> list[LogLikelihoods]:
    """Splits log-likelihoods of all options into those of each prompt."""
    ends = np.cumsum(counts)[:-1] if len(counts) else np.zeros(0, np.int64)
    parts = [np.split(column, ends) for column in found]
    return [LogLikelihoods(*own) for own in zip(*parts, strict=True)] if len(counts) else []
