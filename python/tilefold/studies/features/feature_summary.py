"""Summary of the study of features for a terminal."""

from __future__ import annotations

from ...report.number_format import interval, number
from ..study import SummaryTable
from ..subject import RETRIEVER
from .feature_result import FeatureResult, FittedAutoencoder


def summarise_features(result: FeatureResult) -> list[SummaryTable]:
    """Returns the fit and the cost of autoencoders, rankings, and features."""
    rows = result.autoencoders
    labels = [label_of(row) for row in rows]
    size = rows[0].bytes_of_embedding
    fits = SummaryTable(
        f"Sparse autoencoders of {result.documents:,} embeddings of documents",
        labels,
        fit_columns(result),
        [
            "Explained: share of the variance of embeddings; autoencoders were not fitted to "
            "queries. Dead: features that no document has. Non-zeros and bytes are those of the "
            f"inverted index; an embedding in float32 has {size:,} bytes."
        ],
    )
    dense = ", ".join(f"{name} {interval(value)}" for name, value in result.dense.items())
    notes = [f"Original embeddings: {dense}."]
    if result.bm25 is not None:
        notes.append(f"BM25: {interval(result.bm25)}.")
    rankings = SummaryTable(
        f"{result.measure} of {result.queries:,} queries, 95% intervals over queries",
        labels,
        ranking_columns(result),
        notes,
    )
    return [fits, rankings, _examples(result)]


def label_of(row: FittedAutoencoder) -> str:
    """Names an autoencoder: "base, 256 features, k = 4"."""
    return f"{row.model}, {row.n_features} features, k = {row.k}"


def fit_columns(result: FeatureResult) -> dict[str, list[str]]:
    """Returns cells on the fit and the cost of each autoencoder, by column."""
    rows = result.autoencoders
    return {
        "explained, documents": [number(row.documents_explained) for row in rows],
        "explained, queries": [number(row.queries_explained) for row in rows],
        "dead": [f"{row.dead:,}" for row in rows],
        "non-zeros of a document": [f"{row.non_zeros:.1f}" for row in rows],
        "bytes of a document": [f"{row.bytes_of_index:.0f}" for row in rows],
    }


def ranking_columns(result: FeatureResult) -> dict[str, list[str]]:
    """Returns cells on the rankings of each autoencoder, by column."""
    rows = result.autoencoders
    return {
        "reconstructed": [interval(row.reconstructed) for row in rows],
        "share retained": [interval(row.retained, 2) for row in rows],
        "sparse index": [interval(row.index) for row in rows],
        "with idf": [f"{row.weighted_index.mean:.3f}" for row in rows],
    }


def _examples(result: FeatureResult) -> SummaryTable:
    """Returns a table of features with the words that their passages share."""
    rows = result.examples
    columns = {
        "": [row.chosen for row in rows],
        "documents": [f"{row.documents:,}" for row in rows],
        "selectivity": [number(row.selectivity) for row in rows],
        "its passages share": [", ".join(row.words) or "none" for row in rows],
    }
    own = result.autoencoders[result.shown]
    heading = f"Features of the {RETRIEVER}, of {own.n_features:,}, k = {own.k}"
    notes = ["Words that the three passages with the largest codes share; the report has these."]
    return SummaryTable(heading, [f"feature {row.feature}" for row in rows], columns, notes)
