"""mine() and mine_bm25(): the negatives of the reference, whatever the options and batches."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tilefold
from tilefold import reference
from tilefold.mining import Mined, mine, mine_bm25
from tilefold.mining.shuffle import Shuffle
from tilefold.ragged_lists import Lists
from tilefold.testing import peak_memory


def listed(rows: Sequence[Sequence[int]]) -> Lists:
    offsets = np.cumsum([0, *map(len, rows)])
    return Lists(offsets, np.array([d for row in rows for d in row], np.int64))


def as_rows(lists: Lists) -> list[list[int]]:
    return [part.tolist() for part in np.split(lists.indices, lists.offsets[1:-1])]


def index_of(documents: np.ndarray) -> tilefold.FlatIndex:
    index = tilefold.FlatIndex(documents.shape[1])
    index.add(documents)
    return index


def index_in_disorder(documents: np.ndarray) -> tilefold.FlatIndex:
    """Two segments, ids falling."""
    rows = np.arange(len(documents))[::-1].copy()
    index = tilefold.FlatIndex(documents.shape[1])
    for ids in np.array_split(rows, 2):
        index.add(documents[ids], ids)
    return index


WAYS = [np.asarray, index_of, index_in_disorder]


def vectors(n: int, dim: int, seed: int = 0, values: str = "random") -> np.ndarray:
    rng = np.random.default_rng(seed)
    if values == "ties":
        return rng.integers(-1, 2, (n, dim)).astype(np.float32)
    if values == "equal":
        return np.ones((n, dim), np.float32)
    return rng.standard_normal((n, dim)).astype(np.float32)


def positives_of(n: int, m: int, seed: int = 0, most: int = 3) -> list[list[int]]:
    rng = np.random.default_rng([seed, 1])
    most = min(m, most)
    return [rng.choice(m, rng.integers(1, most + 1), replace=False).tolist() for _ in range(n)]


def assert_same(one: Mined, other: Mined) -> None:
    """Bit for bit."""
    for a, b in zip(one.negatives, other.negatives, strict=True):
        np.testing.assert_array_equal(a, b)
    assert one.scores.tobytes() == other.scores.tobytes()
    assert one.positive_scores.tobytes() == other.positive_scores.tobytes()
    assert one.removed == other.removed


# ---- against the reference -----------------------------------------------------------------------


@st.composite
def problems(draw: st.DrawFn) -> tuple[Any, ...]:
    n, m, dim = draw(st.integers(1, 5)), draw(st.integers(1, 60)), draw(st.sampled_from([1, 3, 20]))
    seed, kind = draw(st.integers(0, 99)), draw(st.sampled_from(["random", "ties", "equal"]))
    pool = vectors(n + m, dim, seed, kind)
    row = st.integers(0, m - 1)
    positives = draw(st.lists(st.sets(row, min_size=1, max_size=4), min_size=n, max_size=n))
    n_negatives, range_min = draw(st.integers(1, 6)), draw(st.sampled_from([0, 0, 1, 5]))
    options: dict[str, Any] = {
        "n_negatives": n_negatives,
        "range_min": range_min,
        "range_max": draw(
            st.none() | st.integers(0, 70).map(lambda x: range_min + n_negatives + x)
        ),
        "absolute_margin": draw(st.sampled_from([None, None, 0, 0.5, 100])),
        "relative_margin": draw(st.sampled_from([None, None, 0, 0.05, 1, 2])),
        "sampling": draw(st.sampled_from(["top", "random"])),
        "seed": draw(st.sampled_from([0, 1, 2**64 - 1])),
    }
    low, high = sorted(draw(st.tuples(*[st.sampled_from([-3.0, -0.5, 0.0, 1.0, 2.0])] * 2)))
    options["min_score"] = draw(st.sampled_from([None, None, low]))
    options["max_score"] = draw(st.sampled_from([None, None, high]))
    groups = draw(st.none() | st.lists(st.integers(0, m), min_size=m, max_size=m))
    exclude = draw(st.none() | st.lists(st.sets(row, max_size=m), min_size=n, max_size=n))
    return pool[:n], pool[n:], positives, options, groups, exclude


def mine_problem(problem: tuple[Any, ...], way: Any, **further: Any) -> Mined:
    queries, documents, positives, options, groups, exclude = problem
    return mine(
        queries,
        way(documents),
        listed([*map(list, positives)]),
        groups=groups,
        exclude=None if exclude is None else listed([*map(list, exclude)]),
        **options,
        **further,
    )


def expected(problem: tuple[Any, ...]) -> list[list[int]]:
    queries, documents, positives, options, groups, exclude = problem
    return reference.mined_negatives(
        queries, documents, positives, groups=groups, exclude=exclude, **options
    )


@given(problems(), st.sampled_from(WAYS), st.integers(1, 6))
def test_every_option_gives_the_negatives_of_the_reference(problem, way, batch_size):
    mined = mine_problem(problem, way, batch_size=batch_size)
    assert as_rows(mined.negatives) == expected(problem)
    queries, documents, positives = problem[:3]
    scores = reference.canonical_scores(queries, documents)
    assert (
        mined.scores.tobytes()
        == scores[mined.negatives.owners(), mined.negatives.indices].tobytes()
    )
    own = listed([*map(list, positives)])
    assert mined.positive_scores.tobytes() == scores[own.owners(), own.indices].tobytes()


@settings(max_examples=25)
@given(problems())
def test_batches_threads_and_kinds_of_documents_change_no_bit(problem):
    one = mine_problem(problem, WAYS[0])
    for way in WAYS:
        for batch_size, num_threads in ((1, 1), (2, 3), (100, 2)):
            further = {"batch_size": batch_size, "num_threads": num_threads}
            assert_same(mine_problem(problem, way, **further), one)


@pytest.mark.parametrize("sampling", ["top", "random"])
@pytest.mark.parametrize("way", WAYS)
def test_thousands_of_documents_whose_filter_leaves_most_unscored(sampling, way):
    """With a score window, too, that holds more than are listed for a draw."""
    documents, queries = vectors(1000, 64), vectors(20, 64, 1)
    problems = [
        {"n_negatives": 7, "relative_margin": 0.05},
        {"n_negatives": 3, "range_min": 11, "max_score": 15.0},
        {"n_negatives": 5, "range_min": 2, "range_max": 300, "min_score": 9.0},
        {"n_negatives": 300, "min_score": 2.0},
        {"n_negatives": 2, "min_score": 20.0, "max_score": 22.0},
        {"n_negatives": 2},
    ]
    for options in problems:
        options |= {"sampling": sampling}
        problem = queries, documents, positives_of(20, 1000), options, None, None
        assert as_rows(mine_problem(problem, way).negatives) == expected(problem)


@pytest.mark.parametrize("dtype", ["float16", "int8", "bfloat16"])
@pytest.mark.parametrize("options", [{}, {"relative_margin": 0.1}, {"sampling": "random"}])
def test_other_dtypes_are_mined_like_their_values(dtype, options):
    rng = np.random.default_rng(0)
    scalar = ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype
    documents, queries = (rng.integers(-9, 9, (n, 24)).astype(scalar) for n in (400, 30))
    problem = (*(x.astype(np.float32) for x in (queries, documents)), positives_of(30, 400))
    right = expected((*problem, {"n_negatives": 4, **options}, None, None))
    for way in WAYS:
        mined = mine(queries, way(documents), listed(problem[2]), n_negatives=4, **options)
        assert as_rows(mined.negatives) == right


def test_torch_tensors_are_taken():
    torch = pytest.importorskip("torch")
    documents, queries, own = vectors(50, 8), vectors(5, 8, 1), listed(positives_of(5, 50))
    tensors = mine(torch.from_numpy(queries), torch.from_numpy(documents), own, n_negatives=3)
    assert_same(tensors, mine(queries, documents, own, n_negatives=3))
    narrow = (torch.from_numpy(x).bfloat16() for x in (queries, documents))
    assert len(mine(*narrow, own, n_negatives=3, batch_size=2).scores) == 15


# ---- what the options mean -----------------------------------------------------------------------

LINE = np.float32([[9], [8], [7], [6], [5], [4], [3], [2], [1], [0]])
ONE = np.float32([[1]])


def negatives(own: list[int], **options: Any) -> list[int]:
    options.setdefault("n_negatives", 3)
    return as_rows(mine(ONE, LINE, listed([own]), **options).negatives)[0]


def test_the_hardest_come_first_and_no_positive():
    assert negatives([1]) == [0, 2, 3]


def test_ranks_leave_out_positives_and_start_at_zero():
    assert negatives([1], range_min=2) == [3, 4, 5]
    assert negatives([1], range_min=2, range_max=5) == [3, 4, 5]


def test_ranks_do_not_know_of_scores():
    """Documents above the ceiling have ranks, too; 5 is the fourth after the positive."""
    assert negatives([0], range_min=3, max_score=6) == [4, 5, 6]
    assert negatives([0], range_min=3, range_max=6, max_score=4) == [5, 6]


def test_the_search_goes_on_until_enough_are_found():
    assert negatives([0], absolute_margin=7) == [7, 8, 9]


def test_a_limit_is_inclusive():
    assert negatives([1], max_score=6, min_score=4) == [3, 4, 5]
    assert negatives([1], absolute_margin=1) == [2, 3, 4]
    assert negatives([1], absolute_margin=0, n_negatives=1) == [2]
    assert negatives([1], relative_margin=0.5, n_negatives=1) == [5]


def test_of_several_positives_the_lowest_counts():
    assert negatives([1, 4], absolute_margin=1) == [5, 6, 7]


def test_a_margin_to_a_negative_score_keeps_negatives_below_it():
    documents = np.float32([[-1], [-2], [-3], [-4]])
    mined = mine(ONE, documents, listed([[1]]), n_negatives=4, relative_margin=0.5)
    assert as_rows(mined.negatives) == [[2, 3]]


def test_the_strictest_limit_counts():
    assert negatives([0], max_score=7, absolute_margin=4, relative_margin=0.1)[0] == 4
    assert negatives([0], max_score=3, absolute_margin=4, relative_margin=0.1)[0] == 6


def test_a_copy_of_a_positive_is_no_negative_and_copies_are_mined_once():
    groups = [0, 1, 1, 2, 2, 3, 4, 5, 6, 7]
    assert negatives([2], groups=groups) == [0, 3, 5]
    assert negatives([4], groups=groups) == [0, 1, 5]


def test_excluded_documents_are_no_negatives_nor_are_their_copies():
    assert negatives([1], exclude=listed([[0, 3]])) == [2, 4, 5]
    assert negatives([1], exclude=listed([[5]]), groups=[0, 1, 2, 3, 0, 0, 4, 5, 6, 7]) == [2, 3, 6]


def test_short_names_the_queries_with_too_few():
    queries, own = np.float32([[1], [1]]), listed([[0], [5]])
    mined = mine(queries, LINE, own, n_negatives=5, absolute_margin=1)
    assert as_rows(mined.negatives) == [[1, 2, 3, 4, 5], [6, 7, 8, 9]]
    assert mined.short.tolist() == [1]


@pytest.mark.parametrize("sampling", ["top", "random"])
def test_margins_that_leave_nothing_leave_nothing(sampling):
    mined = mine(ONE, LINE, listed([[0]]), absolute_margin=100, sampling=sampling)
    assert mined.negatives.offsets.tolist() == [0, 0]
    assert mined.short.tolist() == [0]
    assert mined.scores.dtype == np.float32


@pytest.mark.parametrize("sampling", ["top", "random"])
def test_no_queries_give_no_negatives(sampling):
    mined = mine(ONE[:0], LINE, listed([]), sampling=sampling, relative_margin=0.1)
    assert mined.negatives.offsets.tolist() == [0]
    assert mined.positive_scores.shape == mined.scores.shape == (0,)


def test_removed_counts_what_each_option_left_out_within_the_ranks():
    options = {"range_max": 8, "max_score": 7, "min_score": 3, "relative_margin": 0.5}
    mined = mine(ONE, LINE, listed([[1]]), n_negatives=2, **options)
    assert as_rows(mined.negatives) == [[5, 6]]
    assert mined.removed == {"max_score": 1, "relative_margin": 4, "min_score": 2}


def test_progress_counts_queries():
    seen: list[tuple[int, int]] = []
    own = listed(positives_of(10, 500))
    for options in ({}, {"sampling": "random"}, {"range_min": 2, "max_score": 1}):
        seen.clear()
        report = lambda done, total: seen.append((done, total))  # noqa: E731
        mine(vectors(10, 8, 1), vectors(500, 8), own, batch_size=4, progress=report, **options)
        assert seen == sorted(seen)
        assert {(4, 10), (8, 10), (10, 10)} <= set(seen)


# ---- drawing -------------------------------------------------------------------------------------


@settings(max_examples=30)
@given(st.integers(0, 2**64 - 1), st.integers(0, 2**40), st.integers(1, 400))
def test_a_shuffle_is_the_permutation_of_the_reference_in_both_directions(seed, query, m):
    shuffle, numbers = Shuffle(seed, m), np.array([query])
    order = shuffle.documents(numbers, np.arange(m)[None])
    assert order[0].tolist() == reference.drawing_order(seed, query, m)
    assert sorted(order[0].tolist()) == list(range(m))
    assert shuffle.places(numbers, order)[0].tolist() == list(range(m))


def test_a_shuffle_of_a_trillion_documents_is_had_in_parts():
    shuffle, places = Shuffle(3, 10**12), np.arange(1000).reshape(2, 500)
    documents = shuffle.documents(np.array([7, 8]), places)
    assert documents.min() >= 0
    assert documents.max() < 10**12
    assert len(np.unique(documents)) == 1000
    np.testing.assert_array_equal(shuffle.places(np.array([7, 8]), documents), places)


@pytest.mark.parametrize(
    "options",
    [{}, {"range_max": 7}, {"min_score": 1.0}, {"range_min": 2}],
    ids=["all", "ranks", "scores", "not the first"],
)
def test_every_document_that_passes_is_drawn_as_often(options):
    """Of each pair, too; six standard deviations of a binomial, so it fails once in 10^7 seeds."""
    queries, own = np.ones((6000, 1), np.float32), listed([[0]] * 6000)
    mined = mine(queries, LINE, own, n_negatives=2, sampling="random", **options)
    left, right = mined.negatives.indices.reshape(-1, 2).T
    pairs = np.zeros((10, 10))
    np.add.at(pairs, (left, right), 1)
    passing = np.unique(mined.negatives.indices)
    n = len(passing)
    assert passing.tolist() == negatives([0], n_negatives=99 if n > 7 else n, **options)[:n]
    share = 2 / (n * (n - 1))
    slack = 6 * math.sqrt(6000 * share)
    counts = pairs[np.triu_indices(10, 1)]
    assert (np.abs(counts[counts > 0] - 6000 * share) < slack).all()
    assert (counts > 0).sum() == n * (n - 1) // 2


def test_seeds_and_queries_draw_differently():
    queries, documents = vectors(50, 8, 1), vectors(1000, 8)
    own = listed([[0]] * 50)
    draws = [
        as_rows(mine(queries, documents, own, n_negatives=4, sampling="random", seed=s).negatives)
        for s in (0, 1)
    ]
    assert len({tuple(row) for draw in draws for row in draw}) == 100


# ---- errors --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_negatives": 0}, "n_negatives must be at least 1, got 0"),
        ({"range_min": -1}, "range_min must not be negative, got -1"),
        ({"range_min": 3, "range_max": 3}, "range_max must be above range_min, 3; got 3"),
        ({"n_negatives": 3, "range_max": 2}, "3 negatives do not fit"),
        ({"absolute_margin": -0.1}, "absolute_margin must be 0 or more"),
        ({"relative_margin": -0.1}, "relative_margin must be 0 or more"),
        ({"relative_margin": math.inf}, "relative_margin must be 0 or more"),
        ({"absolute_margin": math.nan}, "absolute_margin must not be NaN"),
        ({"min_score": math.nan}, "min_score must not be NaN"),
        ({"min_score": 2, "max_score": 1}, "min_score 2.0 is above max_score 1.0"),
        ({"sampling": "best"}, "sampling must be"),
        ({"seed": -1}, "seed must be 0 to"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"num_threads": 0}, "num_threads must be 1 to 1024"),
        ({"groups": [1, 2]}, "groups must have one entry per document, 10, got 2"),
        ({"exclude": listed([[10]])}, "exclude must be indices of documents, 0 to 9, got 10"),
        ({"exclude": listed([[1], [2]])}, "exclude must have 2 offsets for 1 queries, got 3"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=f"^mine: .*{message}"):
        mine(ONE, LINE, listed([[0]]), **options)


@pytest.mark.parametrize(
    ("own", "message"),
    [
        (listed([[]]), "query 0 has no positive"),
        (listed([[10]]), "positives must be indices of documents, 0 to 9, got 10 for query 0"),
        (listed([[1, 1]]), "positives of query 0 name document 1 twice"),
        (listed([[1], [1]]), "positives must have 2 offsets"),
        (Lists(np.array([0, 2]), np.array([1])), "offsets of positives must rise from 0"),
    ],
)
def test_positives_that_are_none_are_refused(own, message):
    with pytest.raises(ValueError, match=f"^mine: {message}"):
        mine(ONE, LINE, own)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_negatives": 1.5}, "n_negatives must be an integer, got float"),
        ({"min_score": "high"}, "min_score must be a number, got str"),
        ({"max_score": np.ones(3)}, "max_score must be a number, got ndarray"),
        ({"groups": ["a"] * 10}, "groups must be integers"),
        ({"exclude": {0: [1]}}, "exclude must be a list of lists of documents, or"),
        ({"exclude": ([0, 1], [1])}, "exclude must be a list of lists of documents, or"),
        ({"exclude": [["d1"]]}, r"exclude\[0\] must be integers, got <U2"),
    ],
)
def test_options_of_the_wrong_type_are_refused(options, message):
    with pytest.raises(TypeError, match=f"^mine: {message}"):
        mine(ONE, LINE, listed([[0]]), **options)


def test_lists_of_lists_are_the_same_as_packed_ones():
    queries, documents = np.float32([[1], [-1]]), LINE
    own, others = [[3, 1], [2]], [[], np.array([5, 4])]
    found = mine(queries, documents, own, exclude=others, n_negatives=3)
    packed = mine(queries, documents, listed(own), exclude=listed(others), n_negatives=3)
    assert found.negatives.indices.tolist() == packed.negatives.indices.tolist()
    assert found.positive_scores.tolist() == packed.positive_scores.tolist()


def test_a_list_that_some_queries_lack_is_refused():
    message = "^mine: positives must have 1 lists for 1 queries, got 2"
    with pytest.raises(ValueError, match=message):
        mine(ONE, LINE, [[0], [1]])


def test_vectors_that_do_not_fit_are_refused():
    own = listed([[0]])
    with pytest.raises(ValueError, match="mine: queries have dim 2 but documents have dim 1"):
        mine(np.ones((1, 2), np.float32), LINE, own)
    with pytest.raises(ValueError, match="mine: row 1 of queries has a NaN"):
        mine(np.float32([[1], [np.nan]]), LINE, listed([[0], [0]]), batch_size=1)
    with pytest.raises(ValueError, match="mine: row 2 of documents has a NaN"):
        mine(ONE, np.float32([[1], [2], [np.inf]]), own, sampling="random")
    index = tilefold.FlatIndex(1)
    index.add(np.float32([[1], [np.inf]]), nonfinite="exclude")
    with pytest.raises(ValueError, match="mine: the index keeps documents with a NaN"):
        mine(ONE, index, own)
    index = tilefold.FlatIndex(1)
    index.add(LINE, np.arange(1, 11))
    with pytest.raises(ValueError, match="mine: ids of the index must be the rows 0 to 9"):
        mine(ONE, index, own)
    huge = np.full((2, 2), 3e38, np.float32)
    with pytest.raises(ValueError, match="mine: a positive of query 0 scores inf"):
        mine(huge[:1], huge, own, relative_margin=0.1)


def test_memory_does_not_grow_with_queries_times_documents():
    """The matrix of scores would be 160 MB; the deepest pass of a batch here needs a thousandth."""
    documents, queries = vectors(20_000, 8), vectors(2000, 8, 1)
    own = listed([[i] for i in range(2000)])
    for options in ({}, {"sampling": "random"}, {"range_max": 100}, {"min_score": 2.0}):
        with peak_memory() as peak:
            mine(queries, documents, own, n_negatives=5, batch_size=256, **options)
        assert peak.bytes < 40e6


# ---- sentence-transformers -----------------------------------------------------------------------


class Given:
    """A model of sentence-transformers whose texts are row numbers of given embeddings."""

    device = "cpu"

    def __init__(self, queries: np.ndarray, documents: np.ndarray) -> None:
        import torch

        self._queries, self._documents, self._torch = queries, documents, torch

    def encode_query(self, texts: list[str], **_: Any) -> np.ndarray:
        return self._queries[[int(text) for text in texts]]

    def encode_document(self, texts: list[str], **_: Any) -> np.ndarray:
        return self._documents[[int(text) for text in texts]]

    def similarity(self, a: Any, b: Any) -> Any:
        return self._torch.as_tensor(a) @ self._torch.as_tensor(b).T

    def similarity_pairwise(self, a: Any, b: Any) -> Any:
        return (self._torch.as_tensor(a) * self._torch.as_tensor(b)).sum(dim=1)


def mined_by_sentence_transformers(
    queries: np.ndarray, documents: np.ndarray, own: list[list[int]], **options: Any
) -> list[list[int]]:
    datasets = pytest.importorskip("datasets")
    pytest.importorskip("sentence_transformers")
    from sentence_transformers.util import mine_hard_negatives

    pairs = [(str(q), str(d)) for q, of_query in enumerate(own) for d in of_query]
    columns = dict(zip(("query", "positive"), map(list, zip(*pairs, strict=True)), strict=True))
    dataset = mine_hard_negatives(
        datasets.Dataset.from_dict(columns),
        Given(queries, documents),
        corpus=[str(d) for d in range(len(documents))],
        output_format="labeled-list",
        verbose=False,
        **options,
    )
    found: list[list[int]] = [[] for _ in own]
    for query, texts in zip(dataset["query"], dataset["positive"], strict=True):
        found[int(query)] = [int(text) for text in texts[1:]]
    return found


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"range_min": 4},
        {"range_max": 60, "relative_margin": 0.05},
        {"range_max": 60, "absolute_margin": 0.1},
        {"range_max": 40, "max_score": 0.4, "min_score": 0.1},
        {"range_max": 40, "range_min": 5, "min_score": 0.1},
    ],
)
@pytest.mark.parametrize("most", [1, 3])
def test_the_same_options_give_the_negatives_of_sentence_transformers(options, most):
    """Where both mean the same.

    Its `range_min` counts documents within the score window, so here no ceiling goes with it. It
    ranks positives among the others, and looks at up to as many more as there can be positives:
    each query here has the same number, all of them at the top, so the ranks agree. Without
    `range_max` it may find too few, which is why margins have one.
    """
    rng = np.random.default_rng(0)
    documents = rng.standard_normal((500, 32)).astype(np.float32)
    own = [rng.choice(500, most, replace=False).tolist() for _ in range(40)]
    queries = np.stack([documents[rows].mean(axis=0) for rows in own])
    queries += 0.02 * rng.standard_normal(queries.shape)
    queries, documents = (
        (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)
        for x in (queries, documents)
    )
    theirs = mined_by_sentence_transformers(queries, documents, own, num_negatives=5, **options)
    ours = mine(queries, documents, listed(own), n_negatives=5, **options)
    assert as_rows(ours.negatives) == theirs
    assert sum(map(len, theirs)) > 50


# ---- words ---------------------------------------------------------------------------------------

TEXTS = ["red fox", "red red fox", "fox", "red hen", "blue barn", "red fox", "a fox and a red barn"]


def by_words(own: list[int], query: str = "red fox", **options: Any) -> list[int]:
    pytest.importorskip("bm25s", reason="bm25s is not installed: pip install tilefold[demo]")
    options = {"n_negatives": 10, "remove_query": "none", **options}
    return as_rows(mine_bm25([query], TEXTS, listed([own]), **options).negatives)[0]


def test_words_rank_what_shares_one_and_is_no_positive():
    everything = by_words([4])
    assert sorted(everything) == [0, 1, 2, 3, 5, 6]
    assert by_words([everything[0]]) == everything[1:]
    assert by_words([4], exclude=listed([everything[:2]])) == everything[2:]
    assert by_words([4], n_negatives=2) == everything[:2]
    assert by_words([4], range_min=1, range_max=4, n_negatives=3) == everything[1:4]


def test_words_leave_out_documents_that_are_the_query():
    """Of which an index knows nothing: those of `own_documents` are excluded there."""
    everything = by_words([4])
    others = [row for row in everything if TEXTS[row] != "red fox"]
    assert len(others) == len(everything) - 2
    assert by_words([4], remove_query="text") == by_words([4], remove_query=None) == others
    assert by_words([4], remove_query="text", n_negatives=1, range_min=1) == others[1:2]
    assert by_words([0], query="barn a red fox", remove_query="text") == by_words(
        [0], query="barn a red fox"
    )
    titled = ["red", "", "", "", "", "", ""]
    assert 2 not in by_words([4], titles=["", "", "red", "", "", "", ""], remove_query="text")
    assert 2 in by_words([4], titles=titled, remove_query="text")


def test_words_go_on_below_what_is_said_to_be_positive():
    everything = by_words([4])
    asked: list[int] = []

    def is_positive(query: int, document: int) -> bool:
        asked.append(document)
        return document in everything[:5]

    assert by_words([4], n_negatives=1, is_positive=is_positive) == everything[5:]
    assert asked == everything
    assert by_words([4], n_negatives=1, range_max=3, is_positive=is_positive) == []


def test_words_mine_copies_once_and_no_copy_of_a_positive():
    groups = [0, 1, 2, 3, 4, 0, 5]
    everything = by_words([4])
    assert by_words([4], groups=groups) == [d for d in everything if d != 5]
    assert by_words([5], groups=groups) == [d for d in everything if d not in (0, 5)]


def test_words_count_what_is_positive_and_do_not_depend_on_batches():
    pytest.importorskip("bm25s")
    queries = ["red fox", "barn", "zebra", "hen fox"] * 3
    own = listed([[0], [4], [1], [2]] * 3)

    def call(step: int) -> Mined:
        unknown = r"mine_bm25: 3 of 12 queries share no word .* the first is 'zebra'"
        with pytest.warns(UserWarning, match=unknown):
            return mine_bm25(
                queries,
                TEXTS,
                own,
                n_negatives=2,
                is_positive=lambda q, d: (q + d) % 2 == 0,
                batch_size=step,
            )

    one = call(100)
    for step in (1, 5):
        assert as_rows(call(step).negatives) == as_rows(one.negatives)
        assert call(step).removed == one.removed
    assert one.removed["is_positive"] > 0
    assert one.positive_scores is None
    assert one.short.tolist() == [i for i, row in enumerate(as_rows(one.negatives)) if len(row) < 2]


def test_words_of_titles_count_like_those_of_texts():
    pytest.importorskip("bm25s")
    from tilefold.retrieval.bm25 import Bm25

    titles = ["", "hen", "zebra", "fox", "fox", "", "barn"]
    joined = [f"{title} {text}" if title else text for title, text in zip(titles, TEXTS)]  # noqa: B905
    ask = ["red fox", "zebra"], listed([[0], [1]])
    found = mine_bm25(ask[0], TEXTS, ask[1], titles=titles, n_negatives=6)
    expected = mine_bm25(ask[0], joined, ask[1], n_negatives=6)
    assert as_rows(found.negatives) == as_rows(expected.negatives)
    assert as_rows(found.negatives)[1] == [2]  # its title has the word
    np.testing.assert_array_equal(found.scores, expected.scores)
    with pytest.raises(ValueError, match="got 7 texts but 1 titles"):
        mine_bm25(ask[0], TEXTS, ask[1], titles=["x"])
    with pytest.raises(TypeError, match="titles go with texts, but documents is an index"):
        mine_bm25(ask[0], Bm25(TEXTS), ask[1], titles=titles)


def test_an_index_of_words_can_be_used_again():
    pytest.importorskip("bm25s")
    from tilefold.retrieval.bm25 import Bm25

    own = listed([[0]])
    by_index = mine_bm25(["red fox"], Bm25(TEXTS), own, n_negatives=3)
    assert as_rows(by_index.negatives) == as_rows(
        mine_bm25(["red fox"], TEXTS, own, n_negatives=3, remove_query="none").negatives
    )
    with pytest.raises(TypeError, match="remove_query='text' needs texts"):
        mine_bm25(["red fox"], Bm25(TEXTS), own, remove_query="text")
    with pytest.raises(ValueError, match="remove_query must be 'text' or 'none', got 'id'"):
        mine_bm25(["red fox"], TEXTS, own, remove_query="id")
    with pytest.raises(TypeError, match="mine_bm25: queries and documents must be lists of texts"):
        mine_bm25("red fox", TEXTS, own)
    with pytest.raises(ValueError, match="mine_bm25: n_negatives must be at least 1"):
        mine_bm25(["red fox"], TEXTS, own, n_negatives=0)


def test_words_find_the_negatives_of_scifact(data_folder: Path):
    pytest.importorskip("bm25s")
    from tilefold.data import document_texts, read_beir
    from tilefold.retrieval.bm25 import Bm25

    collection = read_beir(data_folder / "scifact" / "beir")
    words = Bm25(document_texts(collection.documents, collection.titles))
    qrels = collection.qrels
    some = 20
    own = Lists(qrels.offsets[: some + 1], qrels.ids[: qrels.offsets[some]])
    mined = mine_bm25(collection.queries[:some], words, own, n_negatives=10, batch_size=7)
    ranked = words.search(collection.queries[:some], 50).ids
    for query, found in enumerate(as_rows(mined.negatives)):
        of_query = set(own.indices[slice(*own.offsets[query : query + 2])].tolist())
        assert found == [d for d in ranked[query].tolist() if d not in of_query][:10]
