"""Every row of the table against the reference: tiles, canonical scores, packing, bounds."""

import ml_dtypes
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tilefold import _native, arrays, reference
from tilefold.retrieval import packing
from tilefold.retrieval.running_search import RunningSearch
from tilefold.retrieval.search_options import SearchOptions

DIMS = [1, 7, 8, 15, 16, 17, 31, 63, 64, 65, 100, 384, 768]
DTYPES = ["float32", "float16", "bfloat16", "int8"]
LARGEST = np.finfo(np.float32).max


def as_dtype(values: np.ndarray, dtype: str) -> np.ndarray:
    """Finite vectors of a dtype as the kernels take them: bfloat16 as its bits."""
    if dtype == "int8":
        largest = max(float(np.abs(values).max(initial=0)), 1e-300)
        return np.rint(values / largest * 127.49).astype(np.int8)
    scalar = ml_dtypes.bfloat16 if dtype == "bfloat16" else np.dtype(dtype)
    most = float(ml_dtypes.finfo(scalar).max)
    rounded = np.clip(values, -most, most).astype(scalar)
    return rounded.view(np.uint16) if dtype == "bfloat16" else rounded


def random_bits(rng: np.random.Generator, shape: tuple[int, int], dtype: str) -> np.ndarray:
    """Any finite value alike, so half of all exponents are tiny and half are huge."""
    words = {"float32": np.uint32, "int8": np.uint8}.get(dtype, np.uint16)
    bits = rng.integers(0, np.iinfo(words).max, shape, words, endpoint=True)
    vectors = bits if dtype == "bfloat16" else bits.view(dtype)
    vectors[~np.isfinite(arrays.widened(vectors))] = 0
    return vectors


def cancelling(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Large values that cancel but for the rounding of sums: any other order of adding shows."""
    rows, dim = shape
    half = rng.uniform(1, 2, (rows, dim // 2)) * 10.0 ** rng.integers(-2, 5, (rows, dim // 2))
    x = np.concatenate([half, -half, np.full((rows, dim % 2), 1e-4)], axis=1)
    x = rng.permuted(x, axis=1)
    x[0] = 2.0 ** rng.integers(0, 2)  # the query: products cancel as the values do
    return x


VALUES = {
    "random": lambda rng, shape: rng.standard_normal(shape),
    "cancelling": cancelling,
    "negative zeros": lambda rng, shape: rng.choice([-0.0, 0.0, -1.0], shape),
    "tiny": lambda rng, shape: rng.standard_normal(shape) * 1e-42,
    "huge": lambda rng, shape: rng.standard_normal(shape) * 1e38,
}


# ---- tile ----------------------------------------------------------------------------------------


def tile(codes: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """Products [n, 32] of codes [32, dim] and queries [n, dim] by the tile of the row in use."""
    n, dim = queries.shape
    block = np.ascontiguousarray(codes.reshape(32, dim // 4, 4).transpose(1, 0, 2))
    packed = np.ascontiguousarray(queries.reshape(n, dim // 4, 4).transpose(1, 0, 2))
    products = np.full((n, 32), -1, np.int32)
    _native.tile(block, packed, products)
    return products


def expected_products(isa: dict, codes: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """A row whose queries have fewer than 7 bits halves the codes of documents, rounding up."""
    if isa["query_levels"] < 127:
        codes = (codes.astype(np.int64) + 1) // 2
    return queries.astype(np.int64) @ codes.astype(np.int64).T


@pytest.mark.parametrize("dim", [8, 16, 24, 64, 384, 768])
def test_a_tile_is_the_integer_product(isa, dim):
    rng = np.random.default_rng(dim)
    levels = isa["query_levels"]
    for n in range(1, isa["query_tile"] + 1):
        codes = rng.integers(0, 256, (32, dim), np.uint8)
        queries = rng.integers(-levels, levels, (n, dim), np.int8, endpoint=True)
        np.testing.assert_array_equal(tile(codes, queries), expected_products(isa, codes, queries))


@pytest.mark.parametrize("code", [0, 1, 127, 128, 254, 255])
@pytest.mark.parametrize("sign", [-1, 1])
def test_a_tile_neither_saturates_nor_overflows(isa, code, sign):
    """Not even in the longest dim that can be packed."""
    for dim in (8, _native.MAX_PACKED_DIM):
        codes = np.full((32, dim), code, np.uint8)
        queries = np.full((isa["query_tile"], dim), sign * isa["query_levels"], np.int8)
        np.testing.assert_array_equal(tile(codes, queries), expected_products(isa, codes, queries))


def test_a_tile_takes_no_more_queries_than_it_has_room_for(isa):
    codes = np.zeros((32, 8), np.uint8)
    with pytest.raises(ValueError, match=f"expected 1 to {isa['query_tile']} queries"):
        tile(codes, np.zeros((isa["query_tile"] + 1, 8), np.int8))
    with pytest.raises(ValueError, match="multiple of 8, got 12"):
        tile(np.zeros((32, 12), np.uint8), np.zeros((1, 12), np.int8))


# ---- score ---------------------------------------------------------------------------------------


def score(query: np.ndarray, documents: np.ndarray, rows: np.ndarray | None = None) -> np.ndarray:
    rows = np.arange(len(documents)) if rows is None else rows
    scores = np.full(len(rows), np.nan, np.float32)
    _native.score(query[None], documents, rows, scores)
    return scores


def assert_canonical(query: np.ndarray, documents: np.ndarray) -> None:
    truth = reference.canonical_scores(arrays.widened(query[None]), arrays.widened(documents))[0]
    assert score(query, documents).tobytes() == truth.tobytes()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("values", VALUES)
def test_scores_have_the_bits_of_the_reference(isa, dtype, values):
    rng = np.random.default_rng(1)
    for dim in DIMS:
        for rows in (1, 6, 9):
            vectors = as_dtype(VALUES[values](rng, (rows + 1, dim)), dtype)
            assert_canonical(vectors[0], vectors[1:])


@pytest.mark.parametrize("dtype", DTYPES)
def test_scores_of_any_bits_are_those_of_the_reference(isa, dtype):
    rng = np.random.default_rng(2)
    for dim in DIMS:
        vectors = random_bits(rng, (34, dim), dtype)
        assert_canonical(vectors[0], vectors[1:])


@pytest.mark.parametrize("documents", DTYPES[:3])
@pytest.mark.parametrize("query", DTYPES[:3])
def test_scores_of_two_dtypes_are_those_of_the_widened_vectors(isa, query, documents):
    rng = np.random.default_rng(3)
    for dim in (1, 17, 100):
        q, x = (as_dtype(rng.standard_normal((5, dim)), t) for t in (query, documents))
        truth = reference.canonical_scores(arrays.widened(q[:1]), arrays.widened(x))[0]
        assert score(q[0], x).tobytes() == truth.tobytes()


def test_scores_of_chosen_rows_come_in_the_order_asked_for(isa):
    rng = np.random.default_rng(4)
    vectors = rng.standard_normal((51, 33)).astype(np.float32)
    rows = rng.integers(0, 50, 77)
    np.testing.assert_array_equal(
        score(vectors[50], vectors[:50], rows), score(vectors[50], vectors[:50])[rows]
    )


def test_scores_of_strided_rows_are_those_of_a_copy(isa):
    rng = np.random.default_rng(5)
    wide = rng.standard_normal((20, 60)).astype(np.float32)
    query = rng.standard_normal(23).astype(np.float32)
    repeated = np.broadcast_to(wide[:1, :23], (9, 23))
    overlapping = np.lib.stride_tricks.sliding_window_view(wide[0], 23)
    for view in (wide[:, 11:34], wide[::3, :23], repeated, overlapping):
        np.testing.assert_array_equal(score(query, view), score(query, view.copy()))


def test_rows_outside_the_documents_are_not_read(isa):
    vectors = np.ones((3, 4), np.float32)
    for row in (-1, 3, 2**62):
        with pytest.raises(ValueError, match=f"rows.* must be 0 to 2, got {row}"):
            score(vectors[0], vectors, np.array([0, row]))


# ---- estimate ------------------------------------------------------------------------------------


def assert_estimated(query: np.ndarray, documents: np.ndarray) -> None:
    """Within (dim + 64) 2^-24 |query| |document|, where that is in the range of fp32."""
    q, x = (arrays.widened(a).astype(np.float64) for a in (query[None], documents))
    rows, found = np.arange(len(x)), np.full(len(x), np.nan, np.float32)
    _native.score(query[None], documents, rows, found, canonical=False)
    truth = (x.astype(np.longdouble) @ q[0].astype(np.longdouble)).astype(np.float64)
    norms = length(q) * length(x)
    calm = norms < 1e38
    assert np.isfinite(found[calm]).all()
    error = np.abs(found[calm] - truth[calm])
    assert (error <= (q.shape[1] + 64) * 2.0**-24 * norms[calm] + 2.0**-126).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("values", VALUES)
def test_estimates_are_as_near_as_they_promise(isa, dtype, values):
    rng = np.random.default_rng(15)
    for dim in DIMS:
        for rows in (1, 3, 4, 9):
            vectors = as_dtype(VALUES[values](rng, (rows + 1, dim)), dtype)
            assert_estimated(vectors[0], vectors[1:])


@pytest.mark.parametrize("dtype", DTYPES)
def test_estimates_of_any_bits_are_as_near_as_they_promise(isa, dtype):
    rng = np.random.default_rng(16)
    for dim in DIMS:
        vectors = random_bits(rng, (34, dim), dtype)
        assert_estimated(vectors[0], vectors[1:])


def test_an_estimate_rounds_as_fp32_does(isa):
    """Or it would be the canonical score, and as slow."""
    vectors = np.float32([[1, 1, 1], [1, 2**-25, 0], [0, 1, 2**-25]])
    found = np.empty(2, np.float32)
    _native.score(vectors[:1], vectors[1:], np.arange(2), found, canonical=False)
    np.testing.assert_array_equal(found, 1)


# ---- finite --------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES[:3])
@pytest.mark.parametrize("dim", [1, 7, 8, 9, 31, 64])
def test_one_value_that_is_not_finite_marks_its_row(isa, dtype, dim):
    words = np.uint32 if dtype == "float32" else np.uint16
    infinity = {"float32": 0x7F800000, "float16": 0x7C00, "bfloat16": 0x7F80}[dtype]
    sign = 0x80000000 if dtype == "float32" else 0x8000
    bad = [infinity, infinity | sign, infinity | 1, infinity | sign | 5, infinity + infinity // 512]
    rows = 1 + dim * len(bad)
    bits = np.full((rows, dim), infinity - 1, words)  # the largest finite value
    bits[::2] |= words(sign)
    for i in range(dim * len(bad)):
        bits[1 + i, i % dim] = bad[i // dim]
    vectors = bits if dtype == "bfloat16" else bits.view(dtype)
    finite = np.full(rows, 7, np.uint8)
    _native.finite_rows(vectors, finite)
    assert finite.tolist() == [1] + [0] * (rows - 1)
    _, words_of_pack = packing.pack(vectors, rotated=False)
    assert packing.flags(words_of_pack, rows).tolist() == [True] + [False] * (rows - 1)


def test_bytes_are_always_finite(isa):
    vectors = np.arange(-128, 128).astype(np.int8).reshape(8, 32)
    finite = np.zeros(8, np.uint8)
    _native.finite_rows(vectors, finite)
    assert finite.all()


# ---- packing -------------------------------------------------------------------------------------


def outlier(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    x = rng.standard_normal(shape)
    x[:, shape[1] // 2] *= 500
    return x


def mixed(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Every row of another magnitude, from subnormals to the largest numbers of fp32."""
    powers = 2.0 ** np.linspace(-149, 127, shape[0])
    x = rng.uniform(-1, 1, shape)
    return x / np.abs(x).max(axis=1, keepdims=True) * powers[:, None]


def with_specks(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Values that a code represents exactly, beside ones whose squares underflow."""
    return np.where(rng.random(shape) < 0.5, rng.integers(-127, 128, shape), 1e-25)


DOCUMENTS = {
    "random": lambda rng, shape: rng.standard_normal(shape),
    "mixed magnitudes": mixed,
    "an outlier dimension": outlier,
    "specks": with_specks,
    "integers": lambda rng, shape: rng.integers(-127, 128, shape).astype(np.float64),
    "constant": lambda rng, shape: np.full(shape, 0.7),
    "at the border of the tame": lambda rng, shape: rng.standard_normal(shape) * 2.0**-40,
    "zeros": lambda rng, shape: np.zeros(shape),
    "subnormals": lambda rng, shape: rng.standard_normal(shape) * 1e-41,
    "huge": lambda rng, shape: rng.standard_normal(shape) * 1e30,
    "small": lambda rng, shape: rng.standard_normal(shape) * 1e-30,
    "one value": lambda rng, shape: (
        np.eye(*shape)[rng.permutation(shape[0])] * rng.standard_normal((shape[0], 1))
    ),
}


def decoded(vectors: np.ndarray, *, rotated: bool = False) -> tuple[np.ndarray, ...]:
    """What codes say in fp64 (finely, and coarsely as rows with 7-bit codes do), and bounds."""
    packed, _ = packing.pack(vectors, rotated=rotated)
    rows, dim = vectors.shape
    codes = packed.codes.transpose(0, 2, 1, 3).reshape(len(packed.codes) * 32, -1)
    bounds = packed.bounds.transpose(1, 0, 2).reshape(4, -1)[:, :rows]
    scale, norm, radius, coarse = bounds.astype(np.float64)
    code = codes[:rows, :dim].astype(np.float64)
    fine = scale[:, None] * (code - 128)
    return fine, scale[:, None] * (2 * np.ceil(code / 2) - 128.5), norm, radius, coarse


def length(vectors: np.ndarray) -> np.ndarray:
    """Euclidean norms without overflow or underflow on the way."""
    largest = np.abs(vectors).max(axis=1, initial=1e-300)
    return largest * np.sqrt(((vectors / largest[:, None]) ** 2).sum(axis=1))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", DOCUMENTS)
def test_a_document_lies_within_the_radius_of_its_codes(isa, kind, dtype):
    rng = np.random.default_rng(6)
    for dim in DIMS:
        vectors = as_dtype(DOCUMENTS[kind](rng, (45, dim)), dtype)
        fine, coarse, norm, radius, coarse_radius = decoded(vectors)
        x = arrays.widened(vectors).astype(np.float64)
        # fp32 squares vanish below 2^-75, 2^-35 of the smallest norm that is quantised at all; the
        # bound allows for 2^-17.
        unseen = 2.0**-34 * length(x)
        assert (length(x - fine) <= radius + unseen).all()
        assert (length(x - coarse) <= coarse_radius + unseen).all()
        for vector in (x, fine, coarse):
            assert (length(vector) <= norm).all()
        assert np.isnan([norm, radius, coarse_radius]).sum() == 0


def test_bytes_are_their_own_codes(isa):
    rng = np.random.default_rng(7)
    vectors = rng.integers(-128, 128, (64, 48)).astype(np.int8)
    vectors[0], vectors[1] = -128, 127
    fine, _, _, radius, coarse_radius = decoded(vectors)
    np.testing.assert_array_equal(fine, vectors)
    assert (radius == 0).all()
    np.testing.assert_allclose(coarse_radius, np.sqrt(48) / 2, rtol=1e-4)


def test_radii_are_not_wider_than_half_a_step(isa):
    """A radius of anything would be a bound as well."""
    vectors = np.random.default_rng(8).standard_normal((64, 384)).astype(np.float32)
    _, _, norm, radius, coarse_radius = decoded(vectors)
    step = np.abs(vectors).max(axis=1) / 127
    assert (radius <= 0.5001 * step * np.sqrt(384)).all()
    assert (coarse_radius <= 1.0001 * step * np.sqrt(384)).all()
    assert (norm <= 1.03 * length(vectors.astype(np.float64))).all()


@pytest.mark.parametrize("dim", [32, 64, 384, 768])
def test_a_rotation_shrinks_the_radii_of_outlier_dimensions(isa, dim):
    vectors = outlier(np.random.default_rng(9), (64, dim)).astype(np.float32)
    *_, plain, plain_coarse = decoded(vectors)
    *_, turned, turned_coarse = decoded(vectors, rotated=True)
    assert turned.mean() < plain.mean()
    assert turned_coarse.mean() < plain_coarse.mean()
    if dim > 32:
        assert packing.pack(vectors)[0].rotated
        even = np.random.default_rng(9).standard_normal((64, dim)).astype(np.float32)
        assert not packing.pack(even)[0].rotated


def test_the_rotation_is_the_one_of_saved_indexes(isa):
    """It is part of the format on disk: another one, as good, would make their bounds wrong."""
    fine, *_ = decoded(np.eye(32, dtype=np.float32), rotated=True)
    np.testing.assert_allclose(fine @ fine.T, np.eye(32), atol=1e-6)
    signs = np.packbits(fine > 0, axis=1, bitorder="little").view("<u4")[:, 0]
    assert [f"{word:08x}" for word in signs[[0, 1, 2, 3, 30, 31]]] == (
        ["ffffffff", "aaaaaaaa", "33333333", "99999999", "3cc3c33c", "96696996"]
    )


def test_packing_does_not_depend_on_the_number_of_threads(isa):
    vectors = mixed(np.random.default_rng(10), (5000, 40)).astype(np.float32)
    one, two = (packing.pack(vectors, rotated=False, num_threads=n) for n in (1, 5))
    assert one[0].codes.tobytes() == two[0].codes.tobytes()
    assert one[0].bounds.tobytes() == two[0].bounds.tobytes()
    assert one[1].tobytes() == two[1].tobytes()


def test_a_dim_without_packed_form_is_refused(isa):
    vectors = np.zeros((1, _native.MAX_PACKED_DIM + 1), np.float32)
    assert not packing.can_pack(vectors.shape[1])
    with pytest.raises(ValueError, match="dim <= 32768, got 32769"):
        packing.pack(vectors, rotated=False)


@given(st.lists(st.booleans(), max_size=100))
@example([True] * 32)
@example([True] * 33)
def test_flags_undo_a_bitmap(rows):
    words = packing.bitmap(np.array(rows, np.bool_))
    assert len(words) == -(-len(rows) // 32)
    assert packing.flags(words, len(rows)).tolist() == rows
    assert [bool(words[i // 32] >> np.uint32(i % 32) & 1) for i in range(len(rows))] == rows


# ---- the bound -----------------------------------------------------------------------------------


def upper_bounds(queries: np.ndarray, documents: np.ndarray, *, rotated: bool) -> np.ndarray:
    """Upper bounds [n, m] of all scores, by looking at one document at a time.

    No score reaches min_score, so the largest bound of a document that is out is the bound of the
    only one allowed. A bound that is not finite stays in, and reads -inf here; the caller says
    where that may be.
    """
    rows = len(documents)
    packed, _ = packing.pack(documents, rotated=rotated)
    bounds = np.empty((len(queries), rows), np.float32)
    for row in range(rows):
        running = RunningSearch(
            queries, 1, SearchOptions(op="test", min_score=LARGEST, return_certificate=True)
        )
        running.fold(documents, packed=packed, live=np.arange(rows) == row)
        bounds[:, row] = running.result().certificate.bound
    return bounds


def is_tame(vectors: np.ndarray) -> np.ndarray:
    """Vectors short enough for fp32 arithmetic; the scores of others may be known or not."""
    return length(vectors.astype(np.float64)) < 2.0**60


def assert_bounds_hold(queries: np.ndarray, documents: np.ndarray, *, rotated: bool) -> np.ndarray:
    """lower <= score <= upper; the lower bound is the upper one of the negated query, negated."""
    bounds = [upper_bounds(q, documents, rotated=rotated) for q in (queries, -queries)]
    scores = [reference.canonical_scores(q, arrays.widened(documents)) for q in (queries, -queries)]
    tame = np.logical_and.outer(*(is_tame(x) for x in (queries, documents)))
    for bound, score_ in zip(bounds, scores, strict=True):
        assert np.isfinite(bound[tame]).all()
        known = np.isfinite(bound)
        assert (bound[known] >= score_[known]).all()
    return bounds[0]


@pytest.mark.parametrize("rotated", [False, True], ids=["plain", "rotated"])
@pytest.mark.parametrize("kind", DOCUMENTS)
def test_scores_lie_within_their_bounds(isa, kind, rotated):
    rng = np.random.default_rng(11)
    for dim in (1, 8, 17, 64, 100):
        documents = DOCUMENTS[kind](rng, (32, dim)).astype(np.float32)
        queries = np.concatenate([make(rng, (4, dim)) for make in DOCUMENTS.values()])
        own = documents[:8]  # the largest scores of all
        assert_bounds_hold(np.float32([*queries, *own]), documents, rotated=rotated)


@pytest.mark.parametrize("rotated", [False, True], ids=["plain", "rotated"])
def test_scores_of_bytes_lie_within_their_bounds(isa, rotated):
    """Integers that codes hold exactly: nothing but the slack is left to round."""
    rng = np.random.default_rng(12)
    for dim in (7, 64, 768):
        documents = rng.integers(-128, 128, (32, dim)).astype(np.int8)
        documents[0], documents[1] = -128, 127
        queries = np.maximum(documents, -127)
        assert_bounds_hold(queries, documents, rotated=rotated)


def quantisation_error(vectors: np.ndarray, levels: int) -> np.ndarray:
    scale = np.abs(vectors).max(axis=1, keepdims=True) / levels
    return vectors - np.rint(vectors / scale) * scale


@pytest.mark.parametrize("dim", [2, 16, 64, 384])
def test_bounds_hold_where_the_inequality_is_tight(isa, dim):
    """Queries along the errors of documents, and documents along the errors of queries."""
    rng = np.random.default_rng(13)
    documents = rng.standard_normal((32, dim)).astype(np.float32)
    fine, coarse, *_ = decoded(documents)
    queries = np.concatenate([documents - fine, documents - coarse]).astype(np.float32)
    queries = np.concatenate([queries, queries + 1e-3 * rng.standard_normal(queries.shape)])
    assert_bounds_hold(queries.astype(np.float32), documents, rotated=False)

    queries = rng.standard_normal((32, dim))
    documents = quantisation_error(queries, isa["query_levels"])
    # A query whose error is as long as errors get: half a step in every dimension.
    queries[0] = (rng.integers(-9, 9, dim) + 0.4999) / 10
    documents[0] = 0.0499
    assert_bounds_hold(*np.float32([queries, documents]), rotated=False)


def test_bounds_hold_in_the_longest_dim(isa):
    dim = _native.MAX_PACKED_DIM
    rng = np.random.default_rng(14)
    one, random, single = np.ones(dim), rng.standard_normal(dim), np.eye(1, dim, 5)[0]
    documents = np.float32([one, -one, random, single, one + 1e-3, random + 1e-3])
    for rotated in (False, True):
        assert_bounds_hold(documents[:4], documents, rotated=rotated)


@pytest.mark.parametrize("rotated", [False, True], ids=["plain", "rotated"])
def test_bounds_are_tight_enough_to_prune(isa, rotated):
    rng = np.random.default_rng(15)
    queries, documents = rng.standard_normal((2, 32, 384)).astype(np.float32)
    bounds = assert_bounds_hold(queries, documents, rotated=rotated)
    slack = bounds - reference.canonical_scores(queries, documents)
    # Two errors of about 0.8 % of a vector's length with 8-bit codes, 1.6 % with 7-bit codes, and
    # half as much again in the longest of vectors.
    share = 0.025 if isa["query_levels"] == 127 else 0.05
    norms = length(queries.astype(np.float64))[:, None] * length(documents.astype(np.float64))
    assert (slack < share * norms).all()


@given(seed=st.integers(0, 2**32 - 1), dim=st.integers(1, 40), rotated=st.booleans())
def test_bounds_hold_for_any_bits(isa, seed, dim, rotated):
    rng = np.random.default_rng(seed)
    queries, documents = (random_bits(rng, (n, dim), "float32") for n in (5, 4))
    if seed % 2:  # magnitudes that are quantised
        queries, documents = (
            (x * 2.0 ** -np.float64(np.frexp(x)[1]) * 2.0 ** rng.integers(-50, 60, x.shape)).astype(
                np.float32
            )
            for x in (queries, documents)
        )
    assert_bounds_hold(queries, documents, rotated=rotated)
