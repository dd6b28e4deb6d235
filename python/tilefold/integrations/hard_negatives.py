"""mine_hard_negatives(): exact mining behind the signature of sentence-transformers' function."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..mining import mine
from ..mining.mined import Mined
from ..ragged_lists import Lists
from .model_output import on_host

# What is not implemented, by the value that leaves it out, and what does the same.
_MISSING = {
    "cross_encoder": (None, "rescore the result with CrossEncoder.predict"),
    "include_positives": (False, "rank the corpus with tilefold.search"),
    "use_faiss": (False, "the search is exact and needs no faiss"),
    "use_multi_process": (
        False,
        "encode with model.encode(pool=...), and use tilefold.mining.mine",
    ),
    "verbose": (False, "counts of rejected documents are in Mined.removed of tilefold.mining.mine"),
    "cache_folder": (
        None,
        "`tilefold encode` keeps embeddings, and tilefold.mining.mine takes them",
    ),
    "as_triplets": (None, 'use output_format="triplet" or "n-tuple"'),
    "margin": (None, "use absolute_margin"),
}
_FORMATS = ("triplet", "n-tuple", "labeled-pair", "labeled-list")


def mine_hard_negatives(
    dataset: Any,
    model: Any,
    anchor_column_name: str | None = None,
    positive_column_name: str | None = None,
    corpus: list[str] | None = None,
    cross_encoder: None = None,
    range_min: int = 0,
    range_max: int | None = None,
    max_score: float | None = None,
    min_score: float | None = None,
    absolute_margin: float | None = None,
    relative_margin: float | None = None,
    num_negatives: int = 3,
    sampling_strategy: Literal["random", "top"] = "top",
    query_prompt_name: str | None = None,
    query_prompt: str | None = None,
    corpus_prompt_name: str | None = None,
    corpus_prompt: str | None = None,
    include_positives: bool = False,
    output_format: Literal["triplet", "n-tuple", "labeled-pair", "labeled-list"] = "triplet",
    output_scores: bool = False,
    batch_size: int = 32,
    faiss_batch_size: int = 16_384,
    use_faiss: bool = False,
    use_multi_process: bool = False,
    verbose: bool = False,
    cache_folder: str | None = None,
    as_triplets: bool | None = None,
    margin: float | None = None,
    *,
    seed: int = 0,
    show_progress_bar: bool = True,
) -> Any:
    """Adds hard negatives to pairs of anchor and positive, as `sentence_transformers.util` does.

    The same arguments and columns; scores are cosines. What differs, as `tilefold.mining.mine`
    says: without `range_max` the search goes as deep as it takes to find `num_negatives` that pass,
    ranks count documents that are no positives, whatever their scores, and "random" draws by `seed`
    from all that pass, so give it `range_max` or `min_score`. Nothing is printed.

    Args:
        dataset: a `datasets.Dataset`; several rows with one anchor are its positives.
        model: a `SentenceTransformer` whose similarity is the cosine or the dot product.
        anchor_column_name, positive_column_name: by default the first two columns.
        corpus: texts that may become negatives, beside all positives.
        range_min, range_max, max_score, min_score, absolute_margin, relative_margin: see
            `tilefold.mining.mine`.
        num_negatives: for each anchor; fewer where fewer pass, and "n-tuple" then leaves it out.
        sampling_strategy: "top" or "random".
        query_prompt_name, query_prompt, corpus_prompt_name, corpus_prompt: of the encoding.
        output_format, output_scores: columns of the result, as there.
        batch_size: texts that are encoded at once.
        faiss_batch_size: queries that are searched at once.
        cross_encoder, include_positives, use_faiss, use_multi_process, verbose, cache_folder,
            as_triplets, margin: not implemented; another value than the default is refused with
            what does the same.
        seed: of "random".
        show_progress_bar: while texts are encoded, as there.

    Returns:
        A `datasets.Dataset`.

    Raises:
        NotImplementedError: an option that is not implemented.
        ValueError: an empty dataset, a column that it lacks, another similarity, options out of
            range.

    Example:
        >>> from sentence_transformers import SentenceTransformer  # doctest: +SKIP
        >>> model = SentenceTransformer("all-MiniLM-L6-v2")  # doctest: +SKIP
        >>> mined = mine_hard_negatives(pairs, model, relative_margin=0.05)  # doctest: +SKIP
    """
    op = "mine_hard_negatives"
    given = locals()
    for name, (default, way) in _MISSING.items():
        if given[name] is not default:
            raise NotImplementedError(f"{op}: {name}={given[name]!r} is not implemented; {way}")
    if output_format not in _FORMATS:
        raise ValueError(f"{op}: output_format must be one of {_FORMATS}, got {output_format!r}")
    if getattr(model, "similarity_fn_name", "cosine") not in ("cosine", "dot", None):
        raise ValueError(
            f"{op}: the model's similarity is {model.similarity_fn_name!r}; scores here are cosines"
        )
    columns = _columns(dataset, anchor_column_name, positive_column_name)
    pairs = _paired(dataset, columns, corpus)
    encoding = {"batch_size": batch_size, "show_progress_bar": show_progress_bar}
    encoding |= {"normalize_embeddings": True, "convert_to_numpy": True}
    documents = model.encode_document(
        pairs.corpus, prompt_name=corpus_prompt_name, prompt=corpus_prompt, **encoding
    )
    queries = model.encode_query(
        pairs.anchors, prompt_name=query_prompt_name, prompt=query_prompt, **encoding
    )
    mined = mine(
        on_host(queries),
        on_host(documents),
        pairs.positives,
        n_negatives=num_negatives,
        range_min=range_min,
        range_max=range_max,
        min_score=min_score,
        max_score=max_score,
        absolute_margin=absolute_margin,
        relative_margin=relative_margin,
        sampling=sampling_strategy,
        seed=seed,
        batch_size=faiss_batch_size,
    )
    return _dataset(_FORMATTERS[output_format](pairs, mined, columns, output_scores))


class _Pairs(NamedTuple):
    anchors: list[str]  # each once
    positives: Lists  # places in the corpus, in the order of the dataset
    corpus: list[str]  # each once


class _Columns(NamedTuple):
    anchor: str
    positive: str


def _columns(dataset: Any, anchor: str | None, positive: str | None) -> _Columns:
    op, names = "mine_hard_negatives", list(dataset.column_names)
    if not len(dataset):
        raise ValueError(f"{op}: the dataset is empty")
    if len(names) < 2:
        raise ValueError(
            f"{op}: the dataset must have two columns, anchor and positive, got {names}"
        )
    for argument, name in (("anchor_column_name", anchor), ("positive_column_name", positive)):
        if name is not None and name not in names:
            raise ValueError(f"{op}: {argument} is {name!r}, but the dataset has {names}")
    return _Columns(anchor or names[0], positive or names[1])


def _paired(dataset: Any, columns: _Columns, corpus: list[str] | None) -> _Pairs:
    """Returns each text once, and the positives of each anchor."""
    anchors, positives = list(dataset[columns.anchor]), list(dataset[columns.positive])
    texts = list(dict.fromkeys([*(positives if corpus is None else corpus), *positives]))
    place_of = {text: place for place, text in enumerate(texts)}
    own: dict[str, dict[int, None]] = {}
    for anchor, positive in zip(anchors, positives, strict=True):
        own.setdefault(anchor, {})[place_of[positive]] = None
    return _Pairs(list(own), Lists.pack([list(places) for places in own.values()]), texts)


class _Row(NamedTuple):
    """An anchor with one of its positives, and its negatives."""

    anchor: str
    positive: str
    positive_score: float
    negatives: list[str]
    scores: list[float]


def _rows(pairs: _Pairs, mined: Mined) -> list[_Row]:
    assert mined.positive_scores is not None
    offsets, rows = mined.negatives.offsets, []
    for place, (query, document) in enumerate(
        zip(pairs.positives.owners().tolist(), pairs.positives.indices.tolist(), strict=True)
    ):
        own = slice(int(offsets[query]), int(offsets[query + 1]))
        found: NDArray[np.int64] = mined.negatives.indices[own]
        rows.append(
            _Row(
                pairs.anchors[query],
                pairs.corpus[document],
                float(mined.positive_scores[place]),
                [pairs.corpus[negative] for negative in found.tolist()],
                mined.scores[own].tolist(),
            )
        )
    return rows


def _triplets(pairs: _Pairs, mined: Mined, names: _Columns, scores: bool) -> dict[str, list[Any]]:
    rows = [
        (row.anchor, row.positive, negative, [row.positive_score, score])
        for row in _rows(pairs, mined)
        for negative, score in zip(row.negatives, row.scores, strict=True)
    ]
    columns = _transposed(rows, [names.anchor, names.positive, "negative", "scores"])
    return columns if scores else _without(columns, "scores")


def _tuples(pairs: _Pairs, mined: Mined, names: _Columns, scores: bool) -> dict[str, list[Any]]:
    rows = [
        (row.anchor, row.positive, *row.negatives, [row.positive_score, *row.scores])
        for row in _rows(pairs, mined)
        if len(row.negatives) == mined.n_negatives
    ]
    negatives = [f"negative_{i}" for i in range(1, mined.n_negatives + 1)]
    columns = _transposed(rows, [names.anchor, names.positive, *negatives, "scores"])
    return columns if scores else _without(columns, "scores")


def _labeled_pairs(
    pairs: _Pairs, mined: Mined, names: _Columns, scores: bool
) -> dict[str, list[Any]]:
    rows: list[tuple[Any, ...]] = []
    every = _rows(pairs, mined)
    for place, row in enumerate(every):
        rows.append((row.anchor, row.positive, row.positive_score, 1))
        if place + 1 == len(every) or every[place + 1].anchor != row.anchor:
            rows += [
                (row.anchor, negative, score, 0)
                for negative, score in zip(row.negatives, row.scores, strict=True)
            ]
    columns = _transposed(rows, [names.anchor, names.positive, "score", "label"])
    return _without(columns, "label" if scores else "score")


def _labeled_lists(
    pairs: _Pairs, mined: Mined, names: _Columns, scores: bool
) -> dict[str, list[Any]]:
    rows = [
        (
            row.anchor,
            [row.positive, *row.negatives],
            [row.positive_score, *row.scores],
            [1] + [0] * len(row.negatives),
        )
        for row in _rows(pairs, mined)
        if row.negatives
    ]
    columns = _transposed(rows, [names.anchor, names.positive, "scores", "labels"])
    return _without(columns, "labels" if scores else "scores")


_FORMATTERS = dict(zip(_FORMATS, (_triplets, _tuples, _labeled_pairs, _labeled_lists), strict=True))


def _transposed(rows: list[tuple[Any, ...]], names: list[str]) -> dict[str, list[Any]]:
    return {name: [row[i] for row in rows] for i, name in enumerate(names)}


def _without(columns: dict[str, list[Any]], name: str) -> dict[str, list[Any]]:
    return {key: column for key, column in columns.items() if key != name}


def _dataset(columns: dict[str, list[Any]]) -> Any:
    try:
        import datasets
    except ImportError as error:
        raise ImportError(
            f"mine_hard_negatives needs datasets ({error}): "
            'pip install "tilefold[sentence-transformers]"'
        ) from error
    return datasets.Dataset.from_dict(columns)
