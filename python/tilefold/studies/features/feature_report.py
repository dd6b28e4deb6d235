"""Sections of a report on features of embeddings."""

from __future__ import annotations

from collections.abc import Callable

from ...evaluate import Interval
from ...report import Figure, Figures, Listing, Paragraph, Section, Table, lines
from ...report.figures import Line
from ...report.number_format import interval, number
from ...report.page import Block
from .feature_result import FeatureResult, FittedAutoencoder
from .feature_summary import fit_columns, label_of, ranking_columns

_WORDS = (
    "A sparse autoencoder writes an embedding as the sum of at most k of its features, directions "
    "with positive weights (TopK autoencoders: Gao et al., 2024). It is fitted to the embeddings "
    "of documents alone; the queries that are ranked for are new to it. Reconstructed: embeddings "
    "of queries and documents are replaced by their reconstructions, and the share retained is "
    "that measure divided by the one with the original embeddings. Sparse index: documents are "
    "ranked by the inner product of their codes with those of the query, from an inverted index "
    "of features; with idf, features that few documents have weigh more."
)


def feature_sections(result: FeatureResult) -> list[Section]:
    """Returns a section on autoencoders and their rankings, and one on what features mean.

    Args:
        result: of `run_features`.
    """
    labels = [label_of(row) for row in result.autoencoders]
    size = result.autoencoders[0].bytes_of_embedding
    fits = Table.from_columns(
        "autoencoder",
        labels,
        fit_columns(result),
        "Share of the variance of embeddings that is explained, of documents (fitted) and of "
        "queries (not fitted); features that no document has (dead); non-zeros and bytes of an "
        f"inverted index for each document, beside {size:,} bytes of an embedding in float32.",
    )
    blocks: list[Block] = [
        Paragraph(_WORDS),
        fits,
        _rankings(result, labels),
        Figures(
            [
                _figure(result, "reconstructed", "reconstructed embeddings", lambda x: x.retained),
                _figure(result, "index", "the sparse index", lambda x: x.index_retained),
            ]
        ),
    ]
    sections = [Section("Sparse features of embeddings", blocks)]
    if result.examples:
        sections.append(_examples(result))
    return sections


def _rankings(result: FeatureResult, labels: list[str]) -> Table:
    columns = ranking_columns(result)
    references = {f"{name}, original embeddings": x for name, x in result.dense.items()}
    if result.bm25 is not None:
        references["BM25"] = result.bm25
    first = next(iter(columns))
    cells = {
        name: [interval(x) if name == first else "" for x in references.values()] + own
        for name, own in columns.items()
    }
    caption = (
        f"{result.measure} of {result.queries:,} queries (those of the same passages counted as "
        "one) and 95% bootstrap intervals over queries; the rows of original embeddings and of "
        "BM25 have theirs in the first column."
    )
    return Table.from_columns("autoencoder", [*references, *labels], cells, caption)


def _figure(
    result: FeatureResult, name: str, what: str, value: Callable[[FittedAutoencoder], Interval]
) -> Figure:
    series = {}
    for key in dict.fromkeys((row.model, row.n_features) for row in result.autoencoders):
        own = [value(row) for row in result.autoencoders if (row.model, row.n_features) == key]
        means, low, high = (list(ends) for ends in zip(*own, strict=True))
        series[f"{key[0]}, {key[1]} features"] = Line(means, low, high)
    svg = lines(
        f"features {name}",
        list(result.settings.k),
        series,
        x_label="k, features of an embedding",
        y_label="share retained",
        level=(1.0, "original embeddings"),
        limits=(0, None),
    )
    parts = [
        f"{label} {', '.join(number(x) for x in line.values)}" for label, line in series.items()
    ]
    alt = (
        f"Share of {result.measure} that is retained with {what}, for k = "
        f"{', '.join(map(str, result.settings.k))}: {'; '.join(parts)}"
    )
    caption = f"Share of {result.measure} that is retained with {what}."
    return Figure(svg, alt, caption)


def _examples(result: FeatureResult) -> Section:
    own = result.autoencoders[result.shown]
    items = []
    for row in result.examples:
        heading = (
            f"Feature {row.feature}, {row.chosen}: in {row.documents:,} of "
            f"{result.documents:,} documents, selectivity {number(row.selectivity)}; words of all "
            f"passages below: {', '.join(row.words) or 'none'}"
        )
        items.append((heading, [f"{hit.code:.2f}: {hit.text}" for hit in row.passages]))
    words = (
        "Features of an autoencoder of the retriever, and the passages with the largest codes. It "
        f"has {own.n_features:,} features and k = {own.k}: of those with the smallest k it is the "
        f"one whose sparse index has the largest {result.measure}. Selectivity is the lifetime "
        "sparseness of a feature's codes over documents (Vinje and Gallant, 2000): 0 where all "
        "have the same code, 1 where a single document has the feature; features of fewer than "
        f"{result.constants['least_documents']:g} documents are not shown as selective."
    )
    return Section("Passages of features", [Paragraph(words), Listing(items)])
