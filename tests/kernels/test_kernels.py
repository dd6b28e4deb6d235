"""Every row of the table against the reference: canonical scores, packing, bounds."""

from typing import NamedTuple

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
        for rows in (1, 2, 6, 7):
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
    _, words_of_pack, _ = packing.pack_as(vectors)
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


def decoded(
    vectors: np.ndarray, *, rotated: bool = False, direction: np.ndarray | None = None
) -> tuple[np.ndarray, ...]:
    """What codes say in fp64, and bounds: norm, radius and part along the direction."""
    packed, *_ = packing.pack_as(vectors, rotated, direction)
    rows, dim = vectors.shape
    codes = packed.codes.transpose(0, 2, 1, 3).reshape(len(packed.codes) * 32, -1)
    bounds = packed.bounds.transpose(1, 0, 2).reshape(4, -1)[:, :rows]
    scale, norm, radius, along = bounds.astype(np.float64)
    code = codes[:rows, :dim].astype(np.float64)
    return scale[:, None] * (code - 128), norm, radius, along


def unit_vector(dim: int, seed: int = 0) -> np.ndarray:
    vector = np.random.default_rng(seed).standard_normal(dim)
    return (vector / np.sqrt(vector @ vector)).astype(np.float32)


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
        fine, norm, radius, along = decoded(vectors)
        x = arrays.widened(vectors).astype(np.float64)
        # fp32 squares vanish below 2^-75, 2^-35 of the smallest norm that is quantised at all; the
        # bound allows for 2^-17.
        unseen = 2.0**-34 * length(x)
        assert (length(x - fine) <= radius + unseen).all()
        for vector in (x, fine):
            assert (length(vector) <= norm).all()
        assert np.isnan([norm, radius]).sum() == 0
        assert (along == 0).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", DOCUMENTS)
def test_what_a_direction_leaves_lies_within_the_radius_of_its_codes(isa, kind, dtype):
    rng = np.random.default_rng(6)
    for dim in DIMS:
        vectors = as_dtype(DOCUMENTS[kind](rng, (45, dim)), dtype)
        direction = unit_vector(dim)
        fine, norm, radius, along = decoded(vectors, direction=direction)
        x = arrays.widened(vectors).astype(np.float64)
        tame = is_tame(x)
        rest = x - along[:, None] * direction.astype(np.float64)
        slack = 2.0**-23 * length(x) + 2.0**-140
        assert (length(rest - fine) <= radius + slack)[tame].all()
        for vector in (rest, fine):
            assert (length(vector) <= norm + slack)[tame].all()
        assert (np.abs(rest @ direction.astype(np.float64)) <= slack)[tame].all()
        assert np.isinf(radius[length(x) >= 2.0**62]).all()


def test_a_common_mean_takes_no_room_in_codes(isa):
    """However long it is beside what documents differ in."""
    rng = np.random.default_rng(20)
    for size in (1.0, 30.0, 1e6):
        direction = unit_vector(384)
        vectors = (rng.standard_normal((64, 384)) + size * direction).astype(np.float32)
        _, norm, radius, along = decoded(vectors, direction=direction)
        exact = vectors.astype(np.float64) @ direction.astype(np.float64)
        np.testing.assert_allclose(along, exact, rtol=1e-7)
        assert (norm < 25).all()
        assert (radius < 0.2 + size * 2e-6).all()


def test_bytes_are_their_own_codes(isa):
    rng = np.random.default_rng(7)
    vectors = rng.integers(-128, 128, (64, 48)).astype(np.int8)
    vectors[0], vectors[1] = -128, 127
    fine, _, radius, _ = decoded(vectors)
    np.testing.assert_array_equal(fine, vectors)
    assert (radius == 0).all()


def test_radii_are_not_wider_than_half_a_step(isa):
    """A radius of anything would be a bound as well."""
    vectors = np.random.default_rng(8).standard_normal((64, 384)).astype(np.float32)
    _, norm, radius, _ = decoded(vectors)
    step = np.abs(vectors).max(axis=1) / 127
    assert (radius <= 0.5001 * step * np.sqrt(384)).all()
    assert (norm <= 1.03 * length(vectors.astype(np.float64))).all()


@pytest.mark.parametrize("dim", [32, 64, 384, 768])
def test_a_rotation_shrinks_the_radii_of_outlier_dimensions(isa, dim):
    vectors = outlier(np.random.default_rng(9), (64, dim)).astype(np.float32)
    vectors = np.concatenate([vectors, -vectors])  # without a mean, which would take the outliers
    plain, turned = (decoded(vectors, rotated=rotated)[2] for rotated in (False, True))
    assert turned.mean() < plain.mean()
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
    one, two = (packing.pack_as(vectors, num_threads=n) for n in (1, 5))
    assert one[0].codes.tobytes() == two[0].codes.tobytes()
    assert one[0].bounds.tobytes() == two[0].bounds.tobytes()
    assert one[1].tobytes() == two[1].tobytes()


def test_a_dim_without_packed_form_is_refused(isa):
    vectors = np.zeros((1, _native.MAX_PACKED_DIM + 1), np.float32)
    assert not packing.can_pack(vectors.shape[1])
    with pytest.raises(ValueError, match="dim <= 32768, got 32769"):
        packing.pack_as(vectors)


@given(st.lists(st.booleans(), max_size=100))
@example([True] * 32)
@example([True] * 33)
def test_flags_undo_a_bitmap(rows):
    words = packing.bitmap(np.array(rows, np.bool_))
    assert len(words) == -(-len(rows) // 32)
    assert packing.flags(words, len(rows)).tolist() == rows
    assert [bool(words[i // 32] >> np.uint32(i % 32) & 1) for i in range(len(rows))] == rows


# ---- the bound -----------------------------------------------------------------------------------


class Form(NamedTuple):
    """How documents are packed."""

    rotated: bool = False
    direction: str = "none"

    def pack(self, documents: np.ndarray) -> packing.Packed:
        dim = documents.shape[1]
        direction = {
            "none": lambda: None,
            "mean": lambda: mean_direction(documents),
            "any": lambda: unit_vector(dim),
            "axis": lambda: np.eye(1, dim, dim // 2, dtype=np.float32)[0],
        }[self.direction]()
        return packing.pack_as(documents, self.rotated, direction)[0]


FORMS = {
    "plain": Form(),
    "rotated": Form(rotated=True),
    "mean": Form(direction="mean"),
    "any direction": Form(direction="any"),
    "axis": Form(direction="axis"),
    "mean, rotated": Form(True, "mean"),
}
every_form = pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)


def mean_direction(documents: np.ndarray) -> np.ndarray:
    """Of documents of any length, where they have a mean at all."""
    largest = np.abs(documents.astype(np.float64)).max(initial=1e-300)
    mean = (documents / largest).mean(0)
    norm = np.sqrt(mean @ mean)
    return (mean / norm).astype(np.float32) if norm > 1e-20 else unit_vector(len(mean))


def upper_bounds(queries: np.ndarray, documents: np.ndarray, form: Form) -> np.ndarray:
    """Upper bounds [n, m] of all scores, by looking at one document at a time.

    No score reaches min_score, so the largest bound of a document that is out is the bound of the
    only one allowed. A bound that is not finite stays in, and reads -inf here; the caller says
    where that may be.
    """
    rows = len(documents)
    packed = form.pack(documents)
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


def assert_bounds_hold(queries: np.ndarray, documents: np.ndarray, form: Form) -> np.ndarray:
    """lower <= score <= upper; the lower bound is the upper one of the negated query, negated."""
    bounds = [upper_bounds(q, documents, form) for q in (queries, -queries)]
    scores = [reference.canonical_scores(q, arrays.widened(documents)) for q in (queries, -queries)]
    tame = np.logical_and.outer(*(is_tame(x) for x in (queries, documents)))
    for bound, score_ in zip(bounds, scores, strict=True):
        assert np.isfinite(bound[tame]).all()
        known = np.isfinite(bound)
        assert (bound[known] >= score_[known]).all()
    return bounds[0]


@every_form
@pytest.mark.parametrize("kind", DOCUMENTS)
def test_scores_lie_within_their_bounds(isa, kind, form):
    rng = np.random.default_rng(11)
    for dim in (1, 8, 17, 64, 100):
        documents = DOCUMENTS[kind](rng, (32, dim)).astype(np.float32)
        queries = np.concatenate([make(rng, (4, dim)) for make in DOCUMENTS.values()])
        own = documents[:8]  # the largest scores of all
        assert_bounds_hold(np.float32([*queries, *own]), documents, form)


@every_form
def test_scores_of_bytes_lie_within_their_bounds(isa, form):
    """Integers that codes hold exactly: nothing but the slack is left to round."""
    rng = np.random.default_rng(12)
    for dim in (7, 64, 768):
        documents = rng.integers(-128, 128, (32, dim)).astype(np.int8)
        documents[0], documents[1] = -128, 127
        queries = np.maximum(documents, -127)
        assert_bounds_hold(queries, documents, form)


def quantisation_error(vectors: np.ndarray) -> np.ndarray:
    scale = np.abs(vectors).max(axis=1, keepdims=True) / 127
    return vectors - np.rint(vectors / scale) * scale


@pytest.mark.parametrize("dim", [2, 16, 64, 384])
def test_bounds_hold_where_the_inequality_is_tight(isa, dim):
    """Queries along the errors of documents, and documents along the errors of queries."""
    rng = np.random.default_rng(13)
    documents = rng.standard_normal((32, dim)).astype(np.float32)
    queries = (documents - decoded(documents)[0]).astype(np.float32)
    queries = np.concatenate([queries, queries + 1e-3 * rng.standard_normal(queries.shape)])
    assert_bounds_hold(queries.astype(np.float32), documents, Form())

    queries = rng.standard_normal((32, dim))
    documents = quantisation_error(queries)
    # A query whose error is as long as errors get: half a step in every dimension.
    queries[0] = (rng.integers(-9, 9, dim) + 0.4999) / 10
    documents[0] = 0.0499
    assert_bounds_hold(*np.float32([queries, documents]), Form())


def test_bounds_hold_in_the_longest_dim(isa):
    dim = _native.MAX_PACKED_DIM
    rng = np.random.default_rng(14)
    one, random, single = np.ones(dim), rng.standard_normal(dim), np.eye(1, dim, 5)[0]
    documents = np.float32([one, -one, random, single, one + 1e-3, random + 1e-3])
    for form in FORMS.values():
        assert_bounds_hold(documents[:4], documents, form)


@every_form
def test_bounds_are_tight_enough_to_prune(isa, form):
    rng = np.random.default_rng(15)
    queries, documents = rng.standard_normal((2, 32, 384)).astype(np.float32)
    bounds = assert_bounds_hold(queries, documents, form)
    slack = bounds - reference.canonical_scores(queries, documents)
    # Two errors of about 0.8 % of a vector's length, half as much again in the longest of vectors;
    # codes of queries are coarser where their sums are limited.
    share = 0.035 if isa["max_group_sum"] else 0.025
    norms = length(queries.astype(np.float64))[:, None] * length(documents.astype(np.float64))
    assert (slack < share * norms).all()


@given(
    seed=st.integers(0, 2**32 - 1),
    dim=st.integers(1, 40),
    rotated=st.booleans(),
    direction=st.sampled_from(["none", "mean", "any", "axis"]),
)
def test_bounds_hold_for_any_bits(isa, seed, dim, rotated, direction):
    rng = np.random.default_rng(seed)
    queries, documents = (random_bits(rng, (n, dim), "float32") for n in (5, 4))
    if seed % 2:  # magnitudes that are quantised
        queries, documents = (
            (x * 2.0 ** -np.float64(np.frexp(x)[1]) * 2.0 ** rng.integers(-50, 60, x.shape)).astype(
                np.float32
            )
            for x in (queries, documents)
        )
    assert_bounds_hold(queries, documents, Form(rotated, direction))
