"""The border: arrays of any library and layout are read as they are, or refused with a reason."""

import ctypes
import gc
import sys
from collections.abc import Callable, Iterator
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import event, given
from hypothesis import strategies as st

import tilefold
from tilefold import _native, arrays, reference

torch: Any = pytest.importorskip("torch", reason="not installed: pip install tilefold[torch]")

QUERIES = np.random.default_rng(1).standard_normal((3, 5)).astype(np.float32)
DOCUMENTS = np.random.default_rng(2).standard_normal((40, 5)).astype(np.float32)


def assert_searched(queries: Any, documents: Any, like: np.ndarray, k: int = 4) -> None:
    """Equals the reference over `like`, the documents in plain float32."""
    found = tilefold.search(queries, documents, k)
    scores, ids = reference.search(QUERIES, like, k)
    assert np.asarray(found.scores).tobytes() == scores.tobytes()
    assert np.asarray(found.ids).tobytes() == ids.tobytes()


# ---- a library of our own ------------------------------------------------------------------------


class Device(ctypes.Structure):
    _fields_ = [("type", ctypes.c_int32), ("id", ctypes.c_int32)]


class DataType(ctypes.Structure):
    _fields_ = [("code", ctypes.c_uint8), ("bits", ctypes.c_uint8), ("lanes", ctypes.c_uint16)]


class Tensor(ctypes.Structure):
    _fields_ = [
        ("data", ctypes.c_void_p),
        ("device", Device),
        ("ndim", ctypes.c_int32),
        ("dtype", DataType),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    ]


DELETER = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


class Managed(ctypes.Structure):
    _fields_ = [("tensor", Tensor), ("context", ctypes.c_void_p), ("deleter", DELETER)]


class ManagedVersioned(ctypes.Structure):
    _fields_ = [
        ("major", ctypes.c_uint32),
        ("minor", ctypes.c_uint32),
        ("context", ctypes.c_void_p),
        ("deleter", DELETER),
        ("flags", ctypes.c_uint64),
        ("tensor", Tensor),
    ]


_new_capsule = ctypes.pythonapi.PyCapsule_New
_new_capsule.restype = ctypes.py_object
_new_capsule.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p]

_name_of_capsule = ctypes.pythonapi.PyCapsule_GetName
_name_of_capsule.restype = ctypes.c_char_p
_name_of_capsule.argtypes = [ctypes.py_object]

DTYPE_CODES = {"i": 0, "u": 1, "f": 2, "c": 5, "b": 6}


class Foreign:
    """An array of a library that offers DLPack alone; counts what becomes of its capsules."""

    def __init__(self, array: np.ndarray, *, versioned: bool = False, **fields: Any) -> None:
        self.array, self.versioned = array, versioned
        self.fields = {
            "device": 1,
            "dtype": (DTYPE_CODES[array.dtype.kind], 8 * array.itemsize, 1),
            "shape": array.shape,
            "strides": tuple(s // array.itemsize for s in array.strides),
            "byte_offset": 0,
            "name": b"dltensor_versioned" if versioned else b"dltensor",
            "major": 1,
            "flags": 0,
        } | fields
        self.exported = self.deleted = 0
        self.capsule: Any = None  # the last one
        self._kept: list[Any] = []

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.fields["device"], 0

    def _delete(self, _: Any) -> None:
        self.deleted += 1

    def _capsule(self) -> Any:
        shape, strides = self.fields["shape"], self.fields["strides"]
        deleter = DELETER(self._delete)
        extents = (ctypes.c_int64 * max(1, len(shape)))(*shape)
        steps = None if strides is None else (ctypes.c_int64 * max(1, len(strides)))(*strides)
        tensor = Tensor(
            self.array.ctypes.data - self.fields["byte_offset"],
            Device(self.fields["device"], 0),
            len(shape),
            DataType(*self.fields["dtype"]),
            extents,
            steps,
            self.fields["byte_offset"],
        )
        if self.versioned:
            managed: Any = ManagedVersioned(
                self.fields["major"], 0, None, deleter, self.fields["flags"], tensor
            )
        else:
            managed = Managed(tensor, None, deleter)
        self._kept += [deleter, extents, steps, managed]
        self.exported += 1
        name = ctypes.create_string_buffer(self.fields["name"])
        self._kept.append(name)
        self.capsule = _new_capsule(ctypes.addressof(managed), ctypes.addressof(name), None)
        return self.capsule


class Old(Foreign):
    """From before DLPack 1.0: knows no max_version."""

    def __dlpack__(self, stream: Any = None) -> Any:
        return self._capsule()


class New(Foreign):
    """Of today: gives a versioned capsule when the consumer knows them."""

    def __init__(self, array: np.ndarray, **fields: Any) -> None:
        super().__init__(array, versioned=True, **fields)

    def __dlpack__(
        self, *, max_version: Any = None, dl_device: Any = None, copy: Any = None
    ) -> Any:
        assert max_version is not None
        return self._capsule()


LIBRARIES = pytest.mark.parametrize("library", [Old, New])


# ---- what is read --------------------------------------------------------------------------------


def variants(vectors: np.ndarray) -> Iterator[tuple[str, Any]]:
    """The same float32 vectors as arrays of many kinds and layouts."""
    rows, dim = vectors.shape
    wide = np.full((2 * rows, dim + 6), np.nan, np.float32)
    wide[::2, 3 : 3 + dim] = vectors
    yield "contiguous", vectors
    yield "strided rows", wide[::2, 3 : 3 + dim]
    yield "Fortran order", np.asfortranarray(vectors)
    yield "every other column", np.repeat(vectors, 2, axis=1)[:, ::2]
    yield "big-endian", vectors.astype(">f4")
    raw = np.zeros(vectors.nbytes + 1, np.uint8)
    raw[1:] = vectors.view(np.uint8).ravel()
    yield "misaligned", raw[1:].view(np.float32).reshape(vectors.shape)
    packed = np.zeros(rows, [("flag", "i1"), ("vector", "f4", dim)])
    packed["vector"] = vectors
    yield "a field of a structure", packed["vector"]
    frozen = vectors.copy()
    frozen.flags.writeable = False
    yield "read-only", frozen
    yield "np.matrix", vectors.view(np.matrix)
    yield "a nested list", vectors.tolist()
    tensor = torch.from_numpy(vectors)
    yield "torch", tensor
    yield "torch, transposed", tensor.T.contiguous().T
    yield "torch, strided", torch.from_numpy(wide)[::2, 3 : 3 + dim]
    yield "torch, on the way to a gradient", tensor.clone().requires_grad_()
    yield "torch, a parameter", torch.nn.Parameter(tensor.clone())
    yield "torch, of a gradient", tensor.clone().requires_grad_() * 1
    for library in (Old, New):
        yield f"{library.__name__} DLPack", library(vectors)
        yield f"{library.__name__} DLPack, strided", library(wide[::2, 3 : 3 + dim])
        yield f"{library.__name__} DLPack, compact", library(vectors, strides=None)
        yield f"{library.__name__} DLPack, offset", library(vectors, byte_offset=8)
    yield "read-only DLPack", New(vectors, flags=1)


@pytest.mark.parametrize("kind", [kind for kind, _ in variants(DOCUMENTS)])
def test_arrays_of_every_kind_are_read(isa, kind):
    documents = dict(variants(DOCUMENTS))[kind]
    assert_searched(QUERIES, documents, DOCUMENTS)
    index = tilefold.FlatIndex(5)
    index.add(documents)
    np.testing.assert_array_equal(index.reconstruct(np.arange(40)), DOCUMENTS)


@pytest.mark.parametrize("kind", [kind for kind, _ in variants(QUERIES)])
def test_queries_of_every_kind_are_read(kind):
    assert_searched(dict(variants(QUERIES))[kind], DOCUMENTS, DOCUMENTS)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_dtypes_of_every_library_are_read(isa, dtype):
    bits = DOCUMENTS.astype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)
    exact = bits.astype(np.float32)
    tensor = torch.from_numpy(DOCUMENTS).to(getattr(torch, dtype))
    np.testing.assert_array_equal(tensor.float().numpy(), exact)
    assert_searched(QUERIES, bits, exact)
    assert_searched(QUERIES, tensor, exact)
    assert_searched(QUERIES, tensor.repeat(1, 3)[:, 5:10], exact)
    assert_searched(torch.from_numpy(QUERIES), bits, exact)
    if dtype != "bfloat16":  # which NumPy cannot import
        assert_searched(QUERIES, Old(bits), exact)
        assert_searched(QUERIES, New(bits), exact)


def test_bytes_of_every_library_are_read(isa):
    queries, documents = np.random.default_rng(3).integers(-128, 128, (2, 30, 7)).astype(np.int8)
    scores, ids = reference.search(queries, documents, 5)
    for mine in (documents, torch.from_numpy(documents), Old(documents), New(documents)):
        found = tilefold.search(queries, mine, 5)
        np.testing.assert_array_equal(found.scores, scores)
        np.testing.assert_array_equal(found.ids, ids)


@pytest.mark.parametrize("order", ["=", ">"])
def test_doubles_are_rounded_with_a_warning(order):
    documents = (DOCUMENTS + 1e-12).astype(f"{order}f8")
    with pytest.warns(tilefold.PrecisionWarning, match="documents are float64") as warned:
        assert_searched(QUERIES, documents, documents.astype(np.float32))
    assert len(warned) == 1
    with pytest.warns(tilefold.PrecisionWarning, match="queries are float64") as warned:
        assert_searched(QUERIES.astype(f"{order}f8"), DOCUMENTS, DOCUMENTS)
    assert [warning.filename for warning in warned] == [__file__]


def test_read_only_memory_maps_are_read(isa, tmp_path):
    np.save(tmp_path / "documents.npy", DOCUMENTS)
    mapped = np.load(tmp_path / "documents.npy", mmap_mode="r")
    assert_searched(QUERIES, mapped, DOCUMENTS)
    assert_searched(QUERIES, mapped[::2], DOCUMENTS[::2])
    bits = np.memmap(tmp_path / "raw", np.float16, "w+", shape=(40, 5))
    bits[:] = DOCUMENTS
    bits.flush()
    raw = np.memmap(tmp_path / "raw", np.float16, "r", shape=(40, 5))
    assert_searched(QUERIES, raw, DOCUMENTS.astype(np.float16))


def test_rows_with_stride_zero_are_one_row_many_times(isa):
    one = DOCUMENTS[:1]
    for many in (np.broadcast_to(one, (70, 5)), torch.from_numpy(one).expand(70, 5)):
        assert_searched(QUERIES, many, np.repeat(one, 70, axis=0), k=70)
    column = np.broadcast_to(DOCUMENTS[:, :1], (40, 5))
    assert_searched(QUERIES, column, column.copy())


@pytest.mark.parametrize("rows", [0, 1])
def test_few_rows_have_any_strides(rows):
    documents = np.zeros((rows + 1, 5), np.float32)[:rows]
    for view in (documents, np.asfortranarray(documents), torch.from_numpy(documents)):
        assert_searched(QUERIES, view, documents)
        found = tilefold.search(view, DOCUMENTS, 2)
        assert tuple(found.ids.shape) == (rows, 2)
    backwards = np.zeros((3, 5), np.float32)[::-1][:0]
    assert_searched(QUERIES, backwards, documents[:0])
    assert tilefold.search(backwards, DOCUMENTS, 2).ids.shape == (0, 2)


def test_results_are_of_the_kind_of_the_queries():
    for queries in (QUERIES, QUERIES.view(np.matrix), Old(QUERIES)):
        found = tilefold.search(queries, torch.from_numpy(DOCUMENTS), 2)
        assert type(found.scores) is type(found.ids) is np.ndarray
    found = tilefold.search(torch.from_numpy(QUERIES), DOCUMENTS, 2)
    assert found.scores.dtype == torch.float32
    assert found.ids.dtype == torch.int64


def test_one_query_has_one_answer():
    truth = reference.search(QUERIES[:1], DOCUMENTS, 4)
    for query in (QUERIES[0], torch.from_numpy(QUERIES[0]), np.repeat(QUERIES[0], 3)[::3]):
        found = tilefold.search(query, DOCUMENTS, 4)
        for mine, expected in zip(found, truth, strict=True):
            np.testing.assert_array_equal(mine, expected[0])


def test_the_callers_arrays_are_left_as_they_are(isa):
    """Even where the extension is handed something it may write to."""
    queries, documents = QUERIES.copy(), DOCUMENTS.copy()
    documents[3, 2] = queries[1, 1] = np.nan
    before = queries.tobytes(), documents.tobytes()
    tilefold.search(queries, documents, 3, nonfinite="exclude")
    tilefold.FlatIndex(5).add(documents, nonfinite="exclude")
    assert (queries.tobytes(), documents.tobytes()) == before


# ---- what is refused -----------------------------------------------------------------------------


class NoArray:
    """Nothing that can be searched."""


class Pretender:
    """Looks like an array of DLPack, but gives no capsule."""

    def __dlpack__(self, **_: Any) -> Any:
        return "no capsule"

    def __dlpack_device__(self) -> tuple[int, int]:
        return 1, 0


class NoDevice:
    """Does not say where it is."""

    def __dlpack__(self, **_: Any) -> Any:
        raise AssertionError("asked for a capsule before the device")


REFUSED: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "one dimension": (lambda: DOCUMENTS[0], ValueError, "must have 2 dimensions .*, got 1"),
    "three dimensions": (lambda: DOCUMENTS[None], ValueError, "must have 2 dimensions .*, got 3"),
    "no dimensions": (lambda: np.array(1, "f4"), ValueError, "must have 2 dimensions .*, got 0"),
    "torch, no dimensions": (lambda: torch.tensor(1.0), ValueError, "got 0"),
    "dim 0": (lambda: DOCUMENTS[:, :0], ValueError, "must have dim >= 1, got 0"),
    "another dim": (lambda: DOCUMENTS[:, :4], ValueError, "dim 5 but documents have dim 4"),
    "rows backwards": (lambda: DOCUMENTS[::-1], ValueError, "has negative strides"),
    "columns backwards": (lambda: DOCUMENTS[:, ::-1], ValueError, "has negative strides"),
    "int64": (lambda: DOCUMENTS.astype(int), TypeError, "float16, bfloat16 or int8, got int64"),
    "uint16": (lambda: DOCUMENTS.astype(np.uint16), TypeError, "got uint16"),
    "uint8": (lambda: DOCUMENTS.astype(np.uint8), TypeError, "got uint8"),
    "bool": (lambda: DOCUMENTS > 0, TypeError, "got bool"),
    "complex": (lambda: DOCUMENTS + 1j, TypeError, "got complex"),
    "object": (lambda: DOCUMENTS.astype(object), TypeError, "got object"),
    "text": (lambda: DOCUMENTS.astype(str), TypeError, "must be float32"),
    "float8": (lambda: DOCUMENTS.astype(ml_dtypes.float8_e4m3fn), TypeError, "float8"),
    "torch, int32": (lambda: torch.zeros(3, 5, dtype=torch.int32), TypeError, "got int32"),
    "torch, sparse": (lambda: torch.zeros(3, 5).to_sparse(), TypeError, "[Ss]parse"),
    "bytes and floats": (lambda: DOCUMENTS.astype(np.int8), ValueError, "searched with int8 only"),
    "masked": (lambda: np.ma.masked_array(DOCUMENTS), TypeError, "is a masked array"),
    "nothing": (lambda: None, TypeError, "must be a NumPy array.* got NoneType"),
    "no array": (NoArray, TypeError, "must be a NumPy array.* got NoArray"),
    "a string": (lambda: "documents", TypeError, "must be a NumPy array.* got str"),
    "no device": (NoDevice, TypeError, "__dlpack_device__"),
    "CUDA": (lambda: Old(DOCUMENTS, device=2), ValueError, "must be on .*, got cuda;"),
    "another device": (lambda: New(DOCUMENTS, device=13), ValueError, "got DLPack device 13"),
}


@pytest.mark.parametrize("reason", REFUSED)
def test_documents_that_cannot_be_read_are_refused(reason):
    make, error, message = REFUSED[reason]
    with pytest.raises(error, match=message):
        tilefold.search(QUERIES, make(), 2)


@pytest.mark.parametrize("reason", [name for name in REFUSED if name != "one dimension"])
def test_queries_that_cannot_be_read_are_refused(reason):
    make, error, message = REFUSED[reason]
    message = "queries have dim 4" if reason == "another dim" else message
    with pytest.raises(error, match=message):
        tilefold.search(make(), DOCUMENTS, 2)


def test_what_is_on_another_device_is_not_touched():
    foreign = Old(DOCUMENTS, device=2)
    with pytest.raises(ValueError, match=r"must be on (cpu|the host here), got cuda;"):
        tilefold.search(QUERIES, foreign, 2)
    with pytest.raises(ValueError, match="finite must be on cuda:0 like vectors, got cpu"):
        _native.finite_rows(foreign, np.zeros(40, np.uint8))
    assert foreign.exported == 0


# ---- the extension itself ------------------------------------------------------------------------


def gaussian_row(dim: int) -> np.ndarray:
    return np.random.default_rng(dim).standard_normal((1, dim)).astype(np.float32)


def finite_rows(vectors: Any) -> np.ndarray:
    finite = np.full(len(DOCUMENTS), 9, np.uint8)
    _native.finite_rows(vectors, finite)
    return finite


@LIBRARIES
def test_a_capsule_is_consumed_and_released_once(library):
    foreign = library(DOCUMENTS)
    for times in range(1, 4):
        assert finite_rows(foreign).all()
        assert foreign.exported == foreign.deleted == times
        # The name tells the library that made the capsule not to release it again.
        kind = foreign.fields["name"]
        assert _name_of_capsule(foreign.capsule) == b"used_" + kind


@LIBRARIES
@pytest.mark.parametrize(
    "fields",
    [
        {"byte_offset": 100},
        {"strides": None},
        {"shape": (20, 5), "strides": (10, 1)},
        {"shape": (9, 30), "strides": (1, 1)},
        {"shape": (9, 5), "strides": (0, 1)},
        {"shape": (200, 1), "strides": (1, 77)},
    ],
)
def test_a_capsule_is_read_where_it_says(library, fields):
    foreign = library(DOCUMENTS, **fields)
    shape, strides = (foreign.fields[name] for name in ("shape", "strides"))
    steps = [4 * step for step in strides] if strides and shape[1] > 1 else None
    truth = np.ndarray(shape, np.float32, DOCUMENTS, 0, steps)
    query, rows = gaussian_row(shape[1]), np.arange(shape[0])[None]
    scores = np.zeros(shape[0], np.float32)
    _native.score(query, foreign, rows, scores)
    np.testing.assert_array_equal(scores, reference.canonical_scores(query, truth)[0])


@LIBRARIES
@pytest.mark.parametrize(
    ("fields", "error", "message"),
    [
        ({"dtype": (0, 64, 1)}, TypeError, "got int64"),
        ({"dtype": (2, 32, 2)}, TypeError, "got float32"),
        ({"dtype": (2, 8, 1)}, TypeError, "got float8"),
        ({"dtype": (5, 64, 1)}, TypeError, "must be float32"),
        ({"dtype": (77, 3, 1)}, TypeError, "must be float32"),
        ({"shape": (40,), "strides": (5,)}, ValueError, "must have 2 dimensions .*, got 1"),
        ({"shape": (), "strides": ()}, ValueError, "must have 2 dimensions .*, got 0"),
        ({"shape": (2, 2, 2), "strides": None}, ValueError, "got 3"),
        ({"shape": (4, 0)}, ValueError, "must have dim >= 1, got 0"),
        ({"strides": (-5, 1)}, ValueError, "has negative strides"),
        ({"strides": (5, -1)}, ValueError, "has negative strides"),
        ({"strides": (5, 2)}, ValueError, "must have contiguous rows, got an inner stride of 2"),
        ({"strides": (1, 0)}, ValueError, "must have contiguous rows, got an inner stride of 0"),
        ({"shape": (39, 5)}, ValueError, "finite must have 39 elements, got 40"),
    ],
)
def test_a_capsule_that_is_refused_is_released_once(library, fields, error, message):
    foreign = library(DOCUMENTS, **fields)
    with pytest.raises(error, match=message):
        finite_rows(foreign)
    assert foreign.exported == foreign.deleted == 1


@pytest.mark.parametrize("fields", [{"major": 2}, {"name": b"dltensor_of_tomorrow"}])
def test_a_capsule_of_an_unknown_version_is_not_consumed(fields):
    """Its layout is unknown, so only its own destructor may release it."""
    foreign = New(DOCUMENTS, **fields)
    with pytest.raises(ValueError, match="expected"):
        finite_rows(foreign)
    assert (foreign.exported, foreign.deleted) == (1, 0)


def test_what_gives_no_capsule_is_refused():
    for use in (finite_rows, lambda array: tilefold.search(QUERIES, array, 2)):
        with pytest.raises((TypeError, ValueError)):
            use(Pretender())
    with pytest.raises(TypeError, match=r"vectors must be a NumPy array.*got NoArray"):
        finite_rows(NoArray())


def test_errors_of_the_library_come_through():
    class Failing(New):
        def __dlpack__(self, **_: Any) -> Any:
            raise BufferError("this array cannot be exported")

    with pytest.raises(BufferError, match="cannot be exported"):
        finite_rows(Failing(DOCUMENTS))


def test_results_are_not_written_into_read_only_memory():
    finite = np.full(40, 9, np.uint8)
    frozen = finite.view()
    frozen.flags.writeable = False
    for out in (frozen, New(finite, flags=1)):
        with pytest.raises(ValueError, match="finite is read-only"):
            _native.finite_rows(DOCUMENTS, out)
    assert (finite == 9).all()


@pytest.mark.parametrize(
    ("out", "error", "message"),
    [
        (np.zeros(40, np.int8), TypeError, "finite must be uint8, got int8"),
        (np.zeros(40, np.bool_), TypeError, "finite must be uint8, got bool"),
        (np.zeros(80, np.uint8)[::2], ValueError, "finite must be contiguous"),
        (np.zeros(40, np.uint8)[::-1], ValueError, "finite must be contiguous"),
        (np.zeros(41, np.uint8), ValueError, "finite must have 40 elements, got 41"),
        (np.zeros(0, np.uint8), ValueError, "finite must have 40 elements, got 0"),
    ],
)
def test_results_need_memory_that_fits(out, error, message):
    with pytest.raises(error, match=message):
        _native.finite_rows(DOCUMENTS, out)


SCORES, IDS, OFFSETS = np.zeros((3, 2), "f4"), np.zeros((3, 2), int), np.zeros(4, int)
PACKED = np.zeros((2, 2, 32, 4), np.uint8), np.zeros((2, 4, 32), "f4"), np.zeros(2, np.uint32)


@pytest.mark.parametrize(
    ("call", "argument"),
    [
        (lambda: _native.finite_rows(None, np.zeros(40, np.uint8)), "vectors"),
        (lambda: _native.finite_rows(DOCUMENTS, None), "finite"),
        (lambda: _native.score(QUERIES, DOCUMENTS, None, SCORES), "rows"),
        (lambda: _native.score(QUERIES, DOCUMENTS, IDS, None), "scores"),
        (lambda: _native.score(None, DOCUMENTS, IDS, SCORES), "queries"),
        (lambda: _native.search(None, DOCUMENTS, SCORES, IDS, 2), "queries"),
        (lambda: _native.search(QUERIES, None, SCORES, IDS, 2), "documents"),
        (lambda: _native.search(QUERIES, DOCUMENTS, None, IDS, 2), "scores"),
        (lambda: _native.search(QUERIES, DOCUMENTS, SCORES, None, 2), "ids"),
        (lambda: _native.search(QUERIES, DOCUMENTS, SCORES, IDS, 2, codes=PACKED[0]), "bounds"),
        (lambda: _native.search(QUERIES, DOCUMENTS, SCORES, IDS, 2, bounds=PACKED[1]), "codes"),
        (lambda: _native.search(*SEARCH, 2, exclude_offsets=OFFSETS), "exclude"),
        (lambda: _native.pack(None, *PACKED), "documents"),
        (lambda: _native.pack(DOCUMENTS, None, *PACKED[1:]), "codes"),
        (lambda: _native.pack(DOCUMENTS, PACKED[0], None, PACKED[2]), "bounds"),
        (lambda: _native.pack(DOCUMENTS, *PACKED[:2], None), "finite"),
        (lambda: _native.tile(None, PACKED[0], IDS), "codes"),
        (lambda: _native.tile(np.array(3, np.uint8), PACKED[0], IDS), "codes"),
    ],
)
def test_an_array_that_is_missing_is_named(call, argument):
    with pytest.raises((TypeError, ValueError), match=argument):
        call()


SEARCH = (QUERIES, DOCUMENTS, SCORES, IDS)
BAD_SEARCHES: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"codes": PACKED[0][:1], "bounds": PACKED[1]}, ValueError, "codes must have 512 elements"),
    ({"codes": PACKED[0], "bounds": PACKED[1][:1]}, ValueError, "bounds must have 256 elements"),
    ({"document_ids": IDS}, ValueError, "document_ids must have 40 elements, got 6"),
    ({"document_ids": np.zeros(40, np.int32)}, TypeError, "document_ids must be int64, got int32"),
    ({"allowed": np.zeros(1, np.uint32)}, ValueError, "allowed must have 2 elements, got 1"),
    ({"allowed": np.zeros(40, np.bool_)}, TypeError, "allowed must be uint32, got bool"),
    ({"min_score": np.zeros(2, "f4")}, ValueError, "min_score must have 3 elements, got 2"),
    ({"max_score": np.zeros(3)}, TypeError, "max_score must be float32, got float64"),
    ({"refined": np.zeros(2, int)}, ValueError, "refined must have 3 elements, got 2"),
    ({"num_threads": -1}, ValueError, "num_threads must be 1 to 1024, got -1"),
]


@pytest.mark.parametrize(("options", "error", "message"), BAD_SEARCHES)
def test_the_extension_checks_what_it_is_given(options, error, message):
    with pytest.raises(error, match=f"^search: {message}"):
        _native.search(*SEARCH, 2, **options)


def test_lists_of_excluded_ids_stay_within_their_array():
    for offsets in ([0, 1, 2, 3], [0, 3, 1, 2], [1, 1, 1, 2], [0, -1, 2, 2], [0, 0, 0, 2**62]):
        with pytest.raises(ValueError, match="search: exclude offsets must"):
            _native.search(
                *SEARCH, 2, exclude_offsets=np.array(offsets), exclude_ids=np.array([3, 4])
            )


def test_references_return_to_where_they_were():
    queries, documents, scores = QUERIES.copy(), DOCUMENTS.copy(), np.zeros((3, 2), np.float32)
    tensor, foreign = torch.from_numpy(DOCUMENTS.copy()), Old(DOCUMENTS)
    kept = [queries, documents, tensor, scores]

    def use() -> None:
        for x in (documents, tensor, foreign):
            tilefold.search(queries, x, 2)
            _native.finite_rows(x, np.zeros(40, np.uint8))
        _native.search(queries, documents, scores, np.full((3, 2), -1), 2)
        for bad in ({"k": 0}, {"k": 2, "num_threads": -3}, {"k": 2, "min_score": documents}):
            with pytest.raises((ValueError, TypeError)):
                _native.search(queries, documents, scores, np.full((3, 2), -1), **bad)

    use()
    gc.collect()
    before = [sys.getrefcount(x) for x in kept]
    for _ in range(20):
        use()
    gc.collect()
    assert [sys.getrefcount(x) for x in kept] == before
    assert foreign.exported == foreign.deleted


# ---- anything at all -----------------------------------------------------------------------------

READABLE = ["f4", "f2", "i1", ">f4", ">f2"]
UNREADABLE = ["u1", "u2", "i2", "i8", "c8", "?", "S3", "M8[s]", "O"]


@st.composite
def numpy_arrays(draw: st.DrawFn) -> np.ndarray:
    """Any dtype, any number of dimensions, any strides that slicing can make; mostly readable."""
    shapes = st.tuples(st.integers(0, 40), st.integers(0, 9))
    dtypes, steps = READABLE, [1, 2, 3]
    if draw(st.integers(0, 3)) == 0:
        shapes |= st.lists(st.integers(0, 4), max_size=4).map(tuple)
        dtypes, steps = READABLE + UNREADABLE, [1, 2, -1]
    shape, dtype = draw(shapes), draw(st.sampled_from(dtypes))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    whole = rng.integers(-9, 10, tuple(3 * n + 2 for n in shape)).astype(np.int8).astype(dtype)
    view = whole[(*(slice(None, None, draw(st.sampled_from(steps))) for _ in shape), ...)]
    view = view[(*(slice(n) for n in shape), ...)]
    if view.ndim == 2 and draw(st.booleans()):
        view = view.T if draw(st.booleans()) else np.broadcast_to(view[:1], view.shape)
    return view


def as_library(library: str, array: np.ndarray) -> Any:
    if library == "torch":
        try:
            return torch.from_numpy(array if array.flags.writeable else array.copy())
        except (TypeError, ValueError):
            return array
    makers = {"numpy": np.asarray, "old": Old, "new": New}
    known = array.dtype.kind in DTYPE_CODES and array.dtype.isnative
    return makers[library](array) if known and array.flags.aligned else array


@given(
    queries=numpy_arrays(),
    documents=numpy_arrays(),
    fit=st.sampled_from([True, True, True, False]),
    libraries=st.tuples(*[st.sampled_from(["numpy", "torch", "old", "new"])] * 2),
    k=st.sampled_from([1, 2, 3, 4, 5, 100, 0, -1]),
)
def test_any_arrays_are_searched_or_refused(queries, documents, fit, libraries, k):
    if fit and queries.ndim == documents.ndim == 2:
        dim = min(queries.shape[1], documents.shape[1])
        queries, documents = queries[:, :dim], documents[:, :dim]
    mine = [as_library(*pair) for pair in zip(libraries, (queries, documents), strict=True)]
    pair = [np.atleast_2d(x) if x.ndim == 1 and x is queries else x for x in (queries, documents)]
    numbers = all(x.ndim == 2 and x.dtype.str.strip("<=|") in READABLE for x in pair)
    forwards = all(min(x.strides, default=0) >= 0 for x in pair if x.size)
    bytes_only = [x.dtype == np.int8 for x in pair]
    try:
        found = tilefold.search(*mine, k)
    except (TypeError, ValueError):
        dims_fit = pair[0].shape[1:] == pair[1].shape[1:] != (0,)
        assert not (numbers and forwards and dims_fit and bytes_only[0] == bytes_only[1] and k >= 1)
    else:
        event("searched")
        assert numbers
        scores, ids = reference.search(*(x.astype("f4") for x in pair), k)
        np.testing.assert_array_equal(np.atleast_2d(found.scores), scores)
        np.testing.assert_array_equal(np.atleast_2d(found.ids), ids)


@st.composite
def capsules(draw: st.DrawFn) -> dict[str, Any]:
    """Fields of a capsule, mostly readable. They reach 2,000 bytes on and 64 back."""
    kinds, shapes = (
        [(2, 32, 1), (2, 16, 1), (4, 16, 1), (0, 8, 1)],
        st.tuples(*[st.integers(0, 8)] * 2),
    )
    step = st.integers(0, 30)
    strides = step.map(lambda row: [row, 1])
    if draw(st.booleans()):
        kinds += [(code, bits, 1) for code in (0, 1, 2, 4, 5, 6, 99) for bits in (1, 8, 16, 32, 64)]
        shapes |= st.lists(st.integers(0, 3), max_size=4).map(tuple)
        strides |= st.lists(st.integers(-2, 30), min_size=4, max_size=4)
    shape = draw(shapes)
    fitting = strides.map(lambda all_: [*all_, 1, 1][: len(shape)])
    return {
        "shape": shape,
        "dtype": draw(st.sampled_from(kinds)),
        "strides": draw(st.none() | fitting),
        "byte_offset": draw(st.sampled_from([0, 4, 64])),
    }


@given(library=st.sampled_from([Old, New]), fields=capsules(), wrong=st.sampled_from([0, 0, 0, 1]))
def test_any_capsule_is_read_or_refused(library, fields, wrong):
    foreign = library(np.zeros(4096, np.float64)[1024:], **fields)
    shape = fields["shape"]
    finite = np.full((shape[0] if shape else 0) + wrong, 9, np.uint8)
    try:
        _native.finite_rows(foreign, finite)
    except (TypeError, ValueError):
        assert (finite == 9).all()
    else:
        event("read")
        assert len(shape) == 2
        assert not wrong
        assert (finite == 1).all()
    assert foreign.exported == foreign.deleted == 1


def test_the_dtypes_that_are_named_are_those_that_are_read():
    assert arrays.dtype_name(arrays.as_vectors(torch.zeros(1, 1).bfloat16(), "", "")) == "bfloat16"
    for dtype in ("float32", "float16", "int8"):
        assert arrays.dtype_name(arrays.as_vectors(np.zeros((1, 1), dtype), "", "")) == dtype
