"""Runs the study of features: sparse autoencoders of the embeddings of a retriever and its base."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...evaluate import bootstrap, evaluate
from ...files.steps import digest_of
from ..mean_ratio import ratio_of_means
from ..paired_comparison import group_means
from ..study import NoStepStore, Reporter, StepStore
from ..subject import BASE, RETRIEVER, Subject, load_subject
from .feature_examples import LEAST_DOCUMENTS, feature_examples
from .feature_result import FeatureResult, FittedAutoencoder
from .feature_settings import FeatureSettings

if TYPE_CHECKING:
    from ...mechanisms import TopKAutoencoder

MEASURE = "nDCG@10"
_DEPTH = 10
_PARAPHRASES = (3,)  # of a world's questions: the retriever was trained on others
_AUX_WEIGHT = 1 / 32  # of the loss that revives dead features, as published
Floats = NDArray[np.float64]
Vectors = NDArray[np.float32]


def run_features(
    settings: FeatureSettings,
    *,
    steps: StepStore | None = None,
    progress: Reporter | None = None,
) -> FeatureResult:
    """Fits sparse autoencoders to embeddings, and measures what their features keep of rankings.

    Autoencoders are TopK ones (Gao et al., 2024), fitted to the embeddings of documents alone.

    Args:
        settings: models, data and autoencoders.
        steps: keeps embeddings and autoencoders, so that a run that was stopped continues.
        progress: receives reports.

    Raises:
        OSError: no such file or model.
        ValueError: data that cannot be read, or documents whose embeddings do not differ.

    Example:
        >>> settings = FeatureSettings(world="tiny", n_features=[256], k=[8])
        >>> result = run_features(settings)  # doctest: +SKIP
        >>> result.autoencoders[1].retained  # doctest: +SKIP
        Interval(mean=0.91, low=0.85, high=0.97)
    """
    steps, progress = steps or NoStepStore(), progress or Reporter()
    subject = load_subject(settings, paraphrases=_PARAPHRASES, progress=progress)
    judged = _Judged(subject)
    data = subject.data
    progress.fact("texts", f"{len(data):,} queries, {len(data.documents):,} documents")
    dense, rows = {}, []
    fitted: list[tuple[TopKAutoencoder, Vectors]] = []
    for name in (BASE, RETRIEVER):
        embedded = _embed(settings, subject, name, steps, progress)
        whole = judged.by_vectors(embedded.queries, embedded.documents)
        dense[name] = bootstrap(whole)
        progress.fact(MEASURE, f"{name}: {dense[name].mean:.3f}")
        for n_features in settings.n_features:
            for k in settings.k:
                model = _fit(settings, embedded, n_features, k, steps, progress)
                rows.append(_measured(judged, embedded, whole, model))
                fitted.append((model, embedded.documents))
                progress.fact("fitted", f"{name}, {n_features:,} features, k = {k}")
    sparsest = [
        place
        for place, row in enumerate(rows)
        if row.model == RETRIEVER and row.k == min(settings.k)
    ]
    shown = max(sparsest, key=lambda place: rows[place].index.mean)
    model, documents = fitted[shown]
    codes = model.encode(documents)
    return FeatureResult(
        settings,
        subject.title,
        MEASURE,
        judged.n,
        len(data.documents),
        dense,
        _bm25(judged, subject, steps, progress),
        tuple(rows),
        shown,
        feature_examples(codes, data.documents, settings.top_features),
        {"aux_weight": _AUX_WEIGHT, "least_documents": LEAST_DOCUMENTS},
    )


@dataclass(frozen=True)
class _Embedded:
    """Embeddings of a model, and what they depend on."""

    name: str
    queries: Vectors
    documents: Vectors
    depends: Any


class _Judged:
    """Measures rankings of all documents; queries of the same passages count as one."""

    def __init__(self, subject: Subject) -> None:
        from ...mechanisms.probing.candidates import paraphrases

        relevant = subject.data.positives
        self._qrels = relevant.offsets, relevant.indices, np.ones(len(relevant.indices))
        self._groups: Sequence[Sequence[int]] = paraphrases(subject.data)
        grouped = sum(map(len, self._groups))
        self.n = len(subject.data) - grouped + len(self._groups)

    def by_ids(self, ids: Any) -> Floats:
        """Returns the measure of each query, or group of queries."""
        values = evaluate(np.asarray(ids), self._qrels, [MEASURE])[MEASURE]
        return group_means(values, self._groups)

    def by_vectors(self, queries: Vectors, documents: Vectors) -> Floats:
        """Returns the measure of rankings by inner products."""
        from ...retrieval.exact_search import search

        return self.by_ids(search(queries, documents, _DEPTH).ids)


def _embed(
    settings: FeatureSettings, subject: Subject, name: str, steps: StepStore, progress: Reporter
) -> _Embedded:
    """Embeds all queries and documents; the step of documents is that of the study of neurons."""
    model, data = subject.models[name], subject.data
    prints, digest = subject.fingerprints(name), digest_of(data.documents)
    options: dict[str, Any] = {"batch_size": settings.batch_size}

    def shown(side: str) -> dict[str, Any]:
        return {**options, "progress": f"{side}, {name}" if progress.bars else False}

    documents = steps.once(
        f"documents {name}",
        [prints, digest],
        lambda: {"rows": model.encode_corpus(data.documents, **shown("documents"))},
    )
    queries = steps.once(
        f"queries {name}",
        [prints, digest_of(data.queries)],
        lambda: {"rows": model.encode_queries(data.queries, **shown("queries"))},
    )
    return _Embedded(name, queries["rows"], documents["rows"], [prints, digest])


def _fit(
    settings: FeatureSettings,
    embedded: _Embedded,
    n_features: int,
    k: int,
    steps: StepStore,
    progress: Reporter,
) -> TopKAutoencoder:
    from ...mechanisms import TopKAutoencoder

    options: dict[str, Any] = {
        "n_features": n_features,
        "k": k,
        "epochs": settings.autoencoder_epochs,
        "batch_size": settings.autoencoder_batch_size,
        "learning_rate": settings.autoencoder_learning_rate,
        "aux_weight": _AUX_WEIGHT,
        "seed": settings.seed,
    }
    label = f"{embedded.name}, {n_features:,} features, k = {k}"

    def make() -> dict[str, Any]:
        shown = label if progress.bars else False
        return TopKAutoencoder.fit(embedded.documents, **options, progress=shown).to_arrays()

    name = f"features {embedded.name} {n_features} {k}"
    return TopKAutoencoder.from_arrays(steps.once(name, [embedded.depends, options], make))


def _measured(
    judged: _Judged, embedded: _Embedded, whole: Floats, model: TopKAutoencoder
) -> FittedAutoencoder:
    from ...retrieval.sparse_index import SparseIndex

    queries, documents = model.encode(embedded.queries), model.encode(embedded.documents)
    reconstructed = judged.by_vectors(model.decode(queries), model.decode(documents))
    index, weighted = SparseIndex(documents), SparseIndex(documents, weighting="idf")
    by_codes = judged.by_ids(index.search(queries, _DEPTH).ids)
    by_weighted = judged.by_ids(weighted.search(queries, _DEPTH).ids)
    used = np.bincount(documents.indices, minlength=model.n_features)
    n = len(embedded.documents)
    return FittedAutoencoder(
        model=embedded.name,
        n_features=model.n_features,
        k=model.k,
        documents_explained=model.explained_variance(embedded.documents),
        queries_explained=model.explained_variance(embedded.queries),
        dead=int((used == 0).sum()),
        reconstructed=bootstrap(reconstructed),
        retained=ratio_of_means(reconstructed, whole),
        index=bootstrap(by_codes),
        index_retained=ratio_of_means(by_codes, whole),
        weighted_index=bootstrap(by_weighted),
        non_zeros=index.nnz / n,
        bytes_of_index=index.nbytes / n,
        bytes_of_embedding=4 * model.dim,
    )


def _bm25(judged: _Judged, subject: Subject, steps: StepStore, progress: Reporter) -> Any:
    """Returns the measure of BM25 over the same texts, or None without bm25s."""
    from ...retrieval.bm25 import Bm25

    if importlib.util.find_spec("bm25s") is None:
        progress.warn("Rankings of BM25 are left out: bm25s is not installed.")
        return None
    data = subject.data
    ids = steps.once(
        "bm25",
        digest_of([data.queries, data.documents]),
        lambda: {"ids": Bm25(data.documents).search(data.queries, _DEPTH, warn=False).ids},
    )["ids"]
    return bootstrap(judged.by_ids(ids))
