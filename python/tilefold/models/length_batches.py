"""Batches of texts with about as many tokens, longest first.

Next to nothing is padding then, and what does not fit in memory fails at once.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

Tokens = dict[str, list[int]]  # of one text, as the tokenizer names them

# Texts that are tokenized and sorted by length at a time: of documentation in batches of 32, 3% is
# padding then; 45% when texts are sorted by their characters.
_BLOCK = 4096
# A token of English is about 4.5 characters: good enough to weigh a progress bar.
_CHARACTERS_PER_TOKEN = 4.5


def by_length(
    texts: Sequence[str],
    tokenize: Callable[[Sequence[str]], list[Tokens]],
    *,
    batch_size: int,
    max_length: int,
    progress: bool | str,
) -> Generator[tuple[NDArray[np.int64], list[Tokens]]]:
    """Rows of texts and their tokens; texts without any token are in no batch.

    Args:
        texts: strings.
        tokenize: gives the tokens of each text.
        batch_size: texts in a batch.
        max_length: tokens of a text that are read.
        progress: a bar on stderr when that is a terminal; a string labels it.
    """
    work = [min(len(text), _CHARACTERS_PER_TOKEN * max_length) + 1 for text in texts]
    with _bar(sum(work), progress) as bar:
        for start in range(0, len(texts), _BLOCK):
            tokens = tokenize(texts[start : start + _BLOCK])
            lengths = np.array([len(row["input_ids"]) for row in tokens])
            order = np.argsort(-lengths, kind="stable")[: np.count_nonzero(lengths)]
            for begin in range(0, len(order), batch_size):
                rows = order[begin : begin + batch_size]
                yield start + rows, [tokens[row] for row in rows]
                bar.update(sum(work[start + row] for row in rows))


def check_texts(texts: Sequence[str], op: str = "Encoder.encode") -> None:
    """Raises TypeError, naming `op`, unless these are a list of strings."""
    if isinstance(texts, str):
        raise TypeError(f"{op}: texts is one string; pass a list of strings")
    for index, text in enumerate(texts):
        if not isinstance(text, str):
            raise TypeError(f"{op}: texts must be strings, got {type(text).__name__} at {index}")


@contextlib.contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Dropout off, and the mode of every part restored."""
    training = [part for part in module.modules() if part.training]
    module.eval()
    try:
        yield
    finally:
        for part in training:
            part.training = True


def _bar(total: float, progress: bool | str) -> Any:
    """A tqdm bar that vanishes when done; tqdm itself is silent where stderr is no terminal."""
    from tqdm.auto import tqdm

    return tqdm(
        total=total,
        desc=progress if isinstance(progress, str) else "encode",
        disable=None if progress else True,
        leave=False,
        dynamic_ncols=True,
        bar_format="{desc} {percentage:3.0f}% |{bar}| {elapsed} < {remaining}",
    )
