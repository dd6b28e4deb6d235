"""Pairs of passages that differ in what an axiom of retrieval is about, and in nothing else."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import numpy as np
from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

from ...integers import as_integer
from ...models import Encoder
from ...models.length_batches import check_texts
from ...ragged_lists import Lists, checked
from ...retrieval.words import words_of

Axiom = Literal["TFC1", "TDC", "LNC1"]
AXIOMS: tuple[Axiom, ...] = get_args(Axiom)
_OP = "axiomatic_pairs"
_DRAWS = 10  # of an unrelated passage


@dataclass(frozen=True)
class AxiomaticPairs:
    """Pairs of passages with equal numbers of tokens: by the axiom the clean one scores higher.

    Args:
        name: of the axiom.
        queries: rows of the queries of the pairs.
        clean, corrupted: passages, which differ in the words at their end.
        terms: words at the end of the clean passages.
        tokens: number of tokens of these.
        skipped: number of queries that were tried and that no pair can be made for.
    """

    name: Axiom
    queries: tuple[int, ...]
    clean: tuple[str, ...]
    corrupted: tuple[str, ...]
    terms: tuple[str, ...]
    tokens: tuple[int, ...]
    skipped: int = 0

    def __len__(self) -> int:
        """Returns the number of pairs."""
        return len(self.queries)


def axiomatic_pairs(
    axiom: Axiom,
    queries: Sequence[str],
    documents: Sequence[str],
    relevant: Lists,
    encoder: Encoder,
    *,
    n: int = 50,
    words: int = 10,
    filler: str = "a",
    seed: int = 0,
) -> AxiomaticPairs:
    """Makes pairs of passages from a collection, at most one for each query.

    Words are added to the end of a relevant passage, which is cut before so that no encoder cuts
    them off. By axiom the clean passage ends with, against the corrupted one:

    - "TFC1" (term frequency): a term of the query that the passage has already, against the filler;
    - "TDC" (term discrimination): a term of the query that few documents have, against one that
      more documents have;
    - "LNC1" (length normalisation): the filler, against words of another passage, which the query
      does not have.

    The filler is repeated until both have as many tokens. Terms are the query's words without
    English stop words.

    Args:
        axiom: its name.
        queries: n texts.
        documents: m texts, as the encoder reads them.
        relevant: rows of documents relevant to each query.
        encoder: of the documents: its tokens are counted.
        n: number of pairs, at most; queries are tried in a random order until there are as many.
        words: number of words of another passage, for "LNC1".
        filler: word without a meaning.
        seed: of the draws.

    Raises:
        TypeError: texts that are not strings.
        ValueError: another axiom, numbers that do not fit, or no query that a pair can be made for.

    Source: Fang, Tao and Zhai, "A Formal Study of Information Retrieval Heuristics", SIGIR 2004;
    for pairs with a filler word Chen, Merullo and Eickhoff, "Axiomatic Causal Interventions for
    Reverse Engineering Relevance Computation in Neural Retrieval Models" (2024).

    Example:
        >>> from tilefold.models import minilm
        >>> texts, relevant = ["the fox is red", "a hen sleeps"], Lists.pack([[0]])
        >>> pairs = axiomatic_pairs("TFC1", ["where is the fox"], texts, relevant, minilm())
        >>> pairs.clean, pairs.corrupted
        (('the fox is red fox',), ('the fox is red a',))
    """
    if axiom not in AXIOMS:
        raise ValueError(f"{_OP}: axiom must be one of {', '.join(AXIOMS)}, got {axiom!r}")
    check_texts(queries, _OP, "queries")
    check_texts(documents, _OP, "documents")
    n = as_integer(n, _OP, "n", at_least=1)
    words = as_integer(words, _OP, "words", at_least=1)
    if len(relevant.offsets) != len(queries) + 1:
        raise ValueError(
            f"{_OP}: expected relevant documents of {len(queries)} queries, got "
            f"{len(relevant.offsets) - 1}"
        )
    lists = checked(relevant, _OP, "relevant", len(documents))
    maker = _Maker(queries, documents, lists, encoder, words, filler)
    made: list[tuple[int, _Pair]] = []
    skipped = 0
    for row in np.random.default_rng([seed, 10]).permutation(len(queries)).tolist():
        if len(made) == n:
            break
        pair = next(maker.pairs(axiom, row, np.random.default_rng([seed, 11, row])), None)
        skipped += pair is None
        if pair is not None:
            made.append((row, pair))
    if not made:
        raise ValueError(
            f"{_OP}: no pair can be made for {axiom} from any of {len(queries)} queries: "
            f"{_REASONS[axiom]}"
        )
    rows, pairs = zip(*made, strict=True)
    clean, corrupted, terms, tokens = zip(*pairs, strict=True)
    return AxiomaticPairs(axiom, rows, clean, corrupted, terms, tokens, skipped)


_REASONS: dict[Axiom, str] = {
    "TFC1": "a relevant passage must have a term of the query",
    "TDC": "a query must have two terms with as many tokens that different numbers of documents "
    "have",
    "LNC1": "there must be another passage with words that the query does not have",
}


class _Pair(NamedTuple):
    clean: str
    corrupted: str
    term: str
    tokens: int


class _Maker:
    """Makes the pairs of a query, best first."""

    def __init__(
        self,
        queries: Sequence[str],
        documents: Sequence[str],
        relevant: Lists,
        encoder: Encoder,
        words: int,
        filler: str,
    ) -> None:
        self._queries, self._documents, self._relevant = queries, documents, relevant
        self._encoder, self._words, self._filler = encoder, words, filler
        self._frequencies = Counter(
            word for own in words_of(documents, ENGLISH_STOP_WORDS) for word in set(own)
        )

    def pairs(self, axiom: Axiom, row: int, rng: np.random.Generator) -> Iterator[_Pair]:
        """Yields pairs from the relevant passages of a query, in a random order."""
        make = {"TFC1": self._frequency, "TDC": self._discrimination, "LNC1": self._length}[axiom]
        for place in rng.permutation(self._relevant.of(row)).tolist():
            yield from make(row, place, rng)

    def _frequency(self, row: int, place: int, _: np.random.Generator) -> Iterator[_Pair]:
        for term in self._terms(row):
            pair = self._pair(place, term, None)
            if pair is not None and _has(pair.clean[: -len(term)], term):
                yield pair

    def _discrimination(self, row: int, place: int, _: np.random.Generator) -> Iterator[_Pair]:
        """Terms whose document frequencies differ most come first."""
        terms = [term for term in self._terms(row) if self._frequency_of(term)]
        choices = [
            (self._frequency_of(common) / self._frequency_of(rare), rare, common)
            for at, rare in enumerate(terms)
            for common in terms[at + 1 :]
        ]
        for ratio, rare, common in sorted(choices, key=lambda choice: -choice[0]):
            pair = self._pair(place, rare, common) if ratio > 1 else None
            if pair is not None:
                yield pair

    def _length(self, row: int, place: int, rng: np.random.Generator) -> Iterator[_Pair]:
        """The pair is made the other way round: the filler is clean."""
        own = {term.lower() for term in self._terms(row)}
        others = np.setdiff1d(np.arange(len(self._documents)), self._relevant.of(row))
        for other in rng.permutation(others)[:_DRAWS].tolist():
            shown = [
                word
                for word in self._documents[other].split()
                if (parts := _parts(word)) and not own & parts
            ]
            if len(shown) >= self._words:
                pair = self._pair(place, " ".join(shown[: self._words]), None)
                if pair is not None:
                    fillers = " ".join([self._filler] * pair.tokens)
                    yield _Pair(pair.corrupted, pair.clean, fillers, pair.tokens)

    def _terms(self, row: int) -> list[str]:
        """Returns the words of a query as it writes them, those of the fewest documents first."""
        query = self._queries[row]
        (words,) = words_of([query], ENGLISH_STOP_WORDS)
        found = [re.search(re.escape(word), query, re.IGNORECASE) for word in dict.fromkeys(words)]
        return sorted((match[0] for match in found if match), key=self._frequency_of)

    def _frequency_of(self, term: str) -> int:
        return self._frequencies[term.lower()]

    def _pair(self, place: int, end: str, other: str | None) -> _Pair | None:
        """Adds words, and others or the filler; None where numbers of tokens differ."""
        ends = [end] if other is None else [end, other]
        needed = max(len(row["input_ids"]) for row in self._encoder.tokenize(ends))
        passage = self._cut(self._documents[place], self._encoder.max_length - needed - 1)
        if passage is None:
            return None
        tokens = self._count(f"{passage} {end}") - self._count(passage)
        if other is None:
            other = " ".join([self._filler] * tokens)
        clean, corrupted = f"{passage} {end}", f"{passage} {other}"
        length = self._count(clean)
        if tokens < 1 or length != self._count(corrupted) or length >= self._encoder.max_length:
            return None
        return _Pair(clean, corrupted, end, tokens)

    def _count(self, text: str) -> int:
        """Counts tokens; as many as max_length may have been cut."""
        return len(self._encoder.tokenize([text])[0]["input_ids"])

    def _cut(self, text: str, limit: int) -> str | None:
        """Returns a text of at most so many tokens, cut between words; None if none is left."""
        if self._count(text) <= limit:
            return text
        words = text.split()
        low, high = 0, len(words)  # so many words fit; so many do not
        while high - low > 1:
            middle = (low + high) // 2
            if self._count(" ".join(words[:middle])) <= limit:
                low = middle
            else:
                high = middle
        return " ".join(words[:low]) or None


def _has(text: str, term: str) -> bool:
    (words,) = words_of([text], ())
    return term.lower() in words


def _parts(word: str) -> set[str]:
    return set(words_of([word], ())[0])
