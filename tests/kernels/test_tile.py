"""The integer tile of every row of the table: exact products, also where sums are full."""

import numpy as np
import pytest

from tilefold import _native


def tile(codes: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """Products [n, 32] of codes [32, dim] and queries [n, dim] by the tile of the row in use."""
    n, dim = queries.shape
    block = np.ascontiguousarray(codes.reshape(32, dim // 4, 4).transpose(1, 0, 2))
    packed = np.ascontiguousarray(queries.reshape(n, dim // 4, 4).transpose(1, 0, 2))
    products = np.full((n, 32), -1, np.int32)
    _native.tile(block, packed, products)
    return products


def expected_products(codes: np.ndarray, queries: np.ndarray) -> np.ndarray:
    return queries.astype(np.int64) @ codes.astype(np.int64).T


@pytest.mark.parametrize("reach", [128, 60], ids=["any sums", "sums that fit 16 bits"])
@pytest.mark.parametrize("dim", [8, 16, 24, 64, 72, 80, 88, 384, 768])
def test_a_tile_is_the_integer_product(isa, dim, reach):
    rng = np.random.default_rng(dim)
    levels = isa["max_group_sum"] // 4 or 127
    for n in range(1, isa["query_tile"] + 1):
        codes = rng.integers(128 - reach, 128 + reach, (32, dim), np.uint8)
        queries = rng.integers(-levels, levels, (n, dim), np.int8, endpoint=True)
        np.testing.assert_array_equal(tile(codes, queries), expected_products(codes, queries))


@pytest.mark.parametrize("code", [0, 1, 127, 128, 254, 255])
@pytest.mark.parametrize("sign", [-1, 1])
def test_a_tile_neither_saturates_nor_overflows(isa, code, sign):
    """Not even in the longest dim that can be packed."""
    for dim in (8, _native.MAX_PACKED_DIM):
        codes = np.full((32, dim), code, np.uint8)
        for levels in largest_groups(isa["max_group_sum"]):
            # Two neighbours, and the two that are four dimensions further on.
            group = np.int8(sign * np.array(levels)).reshape(2, 1, 2)
            query = np.broadcast_to(np.tile(group, (1, 2, 1)).reshape(8), (dim // 8, 8)).reshape(-1)
            queries = np.tile(query, (isa["query_tile"], 1))
            np.testing.assert_array_equal(tile(codes, queries), expected_products(codes, queries))


@pytest.mark.parametrize("dim", [8, 32, 40])
def test_a_tile_is_exact_where_sums_of_16_bits_are_full(isa, dim):
    """Codes in one direction, of every size: products as large as norms allow."""
    sizes = isa["max_group_sum"] // 4 or 127
    queries = np.empty((isa["query_tile"], dim), np.int8)
    for size in range(1, sizes + 1, 1 if sizes < 64 else 9):
        for sign in (-1, 1):
            queries[:] = sign * size
            for code in range(0, 256, 3):
                codes = np.full((32, dim), code, np.uint8)
                np.testing.assert_array_equal(
                    tile(codes, queries), expected_products(codes, queries)
                )


def test_a_tile_finds_the_document_whose_sums_are_full(isa):
    """One document of 32, one pair of dimensions or one part of 32 with large codes."""
    size = isa["max_group_sum"] // 4 or 127
    for dim in (32, 64, 88):
        for places in (range(0, dim, 4), range(2, dim, 4), range(dim // 32 * 32 - 32, dim)):
            query = np.zeros(dim, np.int8)
            query[[p + i for p in places for i in (0, 1) if p + i < dim]] = size
            queries = np.tile(query, (isa["query_tile"], 1))
            for document in range(32):
                for code in (0, 255):
                    codes = np.full((32, dim), 128, np.uint8)
                    codes[document, query != 0] = code
                    expected = expected_products(codes, queries)
                    np.testing.assert_array_equal(tile(codes, queries), expected)


def largest_groups(max_group_sum: int) -> list[list[int]]:
    """Codes of four dimensions that share a sum of 16 bits, as large as they may be."""
    if not max_group_sum:
        return [[127] * 4, [127, -127, 127, -127]]
    half = max_group_sum // 2
    return [[half // 2] * 4, [half, half, 0, 0], [half, -half, half, -half], [127, 1, -1, -127]]


def test_a_tile_takes_no_more_queries_than_it_has_room_for(isa):
    codes = np.zeros((32, 8), np.uint8)
    with pytest.raises(ValueError, match=f"expected 1 to {isa['query_tile']} queries"):
        tile(codes, np.zeros((isa["query_tile"] + 1, 8), np.int8))
    with pytest.raises(ValueError, match="multiple of 8, got 12"):
        tile(np.zeros((32, 12), np.uint8), np.zeros((1, 12), np.int8))
