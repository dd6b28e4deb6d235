"""Result of the study of features."""

from __future__ import annotations

from dataclasses import dataclass

from ...evaluate import Interval
from ...version import __version__
from .feature_settings import FeatureSettings

MOST_USED, MOST_SELECTIVE = "most used", "most selective"


@dataclass(frozen=True)
class FittedAutoencoder:
    """A sparse autoencoder of a model's embeddings of documents, and what it keeps of rankings.

    Measures have 95% bootstrap intervals over queries.

    Args:
        model: base or retriever.
        n_features: number of features.
        k: maximum number of features of an embedding.
        documents_explained: share of the variance of the documents' embeddings, to which it was
            fitted.
        queries_explained: the same of the queries' embeddings, which it was not fitted to.
        dead: number of features that no document has.
        reconstructed: measure with reconstructed embeddings of queries and documents.
        retained: the same as a share of the measure with the original embeddings.
        index: measure of the inner products of codes.
        index_retained: the same as a share of the measure with the original embeddings.
        weighted_index: measure of the inner products of codes, features weighted by idf.
        non_zeros: features of a document, on average.
        bytes_of_index: bytes of the inverted index of codes, for each document.
        bytes_of_embedding: bytes of a document's embedding in float32.
    """

    model: str
    n_features: int
    k: int
    documents_explained: float
    queries_explained: float
    dead: int
    reconstructed: Interval
    retained: Interval
    index: Interval
    index_retained: Interval
    weighted_index: Interval
    non_zeros: float
    bytes_of_index: float
    bytes_of_embedding: int


@dataclass(frozen=True)
class FeaturePassage:
    """A passage that has a feature, and its code."""

    text: str
    code: float


@dataclass(frozen=True)
class FeatureExample:
    """A feature of the retriever.

    Args:
        chosen: as one of the most used, or of the most selective ones.
        feature: its number.
        documents: number of documents that have it.
        selectivity: lifetime sparseness, 0 to 1.
        passages: with the largest codes.
        words: that all these passages have, without English stop words, the rarest ones.
    """

    chosen: str
    feature: int
    documents: int
    selectivity: float
    passages: tuple[FeaturePassage, ...]
    words: tuple[str, ...]


@dataclass(frozen=True)
class FeatureResult:
    """Result of `run_features`.

    Args:
        settings: of the run.
        title: names models and data.
        measure: its name.
        queries: how many, those of the same passages counted as one.
        documents: how many.
        dense: measure with the original embeddings, by model.
        bm25: measure of BM25; None where bm25s is not installed.
        autoencoders: of base and retriever, by number of features and k.
        shown: place among these of the autoencoder that the examples are of: of the retriever, with
            the smallest k; if there are several, the one with the best sparse index.
        examples: features of the retriever.
        constants: parameters that are no settings.
        version: of tilefold.
    """

    settings: FeatureSettings
    title: str
    measure: str
    queries: int
    documents: int
    dense: dict[str, Interval]
    bm25: Interval | None
    autoencoders: tuple[FittedAutoencoder, ...]
    shown: int
    examples: tuple[FeatureExample, ...]
    constants: dict[str, float]
    version: str = __version__
