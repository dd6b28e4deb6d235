"""Keeps rewrites on disk by the content that they depend on, so that none is written twice."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ...files.atomic import StrPath
from ...files.done_once import digest_of_columns
from ...files.steps import Steps
from .composed_rewrites import (
    ComposedRewrites,
    checked_composition,
    composed_from,
    warn_if_short,
)
from .rewriter import FingerprintedRewriter

# Raised when a rule gives other rewrites for the same query, or a composition others.
_VERSION = 1
_QUERIES = 256  # of a file: what a run that was stopped may lose
_COUNTS = "equal_to_query", "repeated", "blank"


def kept_rewrites(
    queries: Sequence[str],
    rewriters: Sequence[FingerprintedRewriter],
    *,
    n_rewrites: int,
    folder: StrPath,
) -> ComposedRewrites:
    """Composes rewrites as `compose_rewrites` does, or reads those that an earlier run kept.

    A file has the rewrites of 256 queries; its name is a digest of their texts, of the rewriters
    with all options and of `n_rewrites`. So a run that was stopped goes on, and other queries,
    rewriters or seeds never get rewrites that are not theirs.

    Args:
        queries, rewriters, n_rewrites: of `compose_rewrites`.
        folder: where the files are; created if absent.

    Returns:
        As `compose_rewrites`, which gives the same warning.

    Raises:
        TypeError, ValueError: as of `compose_rewrites`; a rewriter without a fingerprint.
        OSError: the folder cannot be created, or a file not written.
        WrongChecksumError: a file was changed.

    Example:
        >>> import tempfile
        >>> from tilefold.invar import rule_rewriters
        >>> folder = tempfile.mkdtemp()
        >>> rewriters = rule_rewriters(["template"])
        >>> made, read = (
        ...     kept_rewrites(["who wrote emma"], rewriters, n_rewrites=1, folder=folder)
        ...     for _ in range(2)
        ... )
        >>> read.texts == made.texts == [['name the person who wrote emma']]
        True
    """
    op = "kept_rewrites"
    n_rewrites = checked_composition(op, queries, rewriters, n_rewrites)
    for rewriter in rewriters:
        if not callable(getattr(rewriter, "fingerprint", None)):
            raise TypeError(
                f"{op}: expected rewriters with a method fingerprint, got "
                f"{type(rewriter).__name__} of the family {rewriter.family!r}"
            )
    makers = [[rewriter.family, rewriter.fingerprint()] for rewriter in rewriters]
    steps = Steps(Path(folder))
    whole = ComposedRewrites([], [], n_rewrites)
    for begin in range(0, len(queries), _QUERIES):
        some = list(queries[begin : begin + _QUERIES])
        depends = [_VERSION, makers, n_rewrites, digest_of_columns(some)]
        made = partial(_packed, some, rewriters, n_rewrites)
        found = steps.once("rewrites", depends, made)
        _extend(whole, json.loads(found["json"].tobytes()))
    warn_if_short(op, whole)
    return whole


def _packed(
    queries: Sequence[str], rewriters: Sequence[FingerprintedRewriter], n_rewrites: int
) -> dict[str, Any]:
    """Composes rewrites, and returns them as one array of bytes."""
    composed = composed_from(queries, rewriters, n_rewrites)
    parts = {name: dict(getattr(composed, name)) for name in _COUNTS}
    text = json.dumps({"texts": composed.texts, "families": composed.families, **parts})
    return {"json": np.frombuffer(text.encode(), np.uint8)}


def _extend(whole: ComposedRewrites, part: dict[str, Any]) -> None:
    """Adds the rewrites and counts of further queries."""
    whole.texts.extend(part["texts"])
    whole.families.extend(part["families"])
    for name in _COUNTS:
        counts: Counter[str] = getattr(whole, name)
        counts.update(part[name])
