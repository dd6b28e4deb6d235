"""Kernels of tilefold, compiled from csrc/. Private."""

from collections.abc import Callable
from typing import Any, TypeVar, type_check_only

_Result = TypeVar("_Result")

STRIP_COLUMNS: int
BINS_PER_OCTAVE: int
LEAST_OCTAVE: int
OCTAVES: int
BLOCK_ROWS: int
BLOCK_BOUNDS: int
MAX_PACKED_DIM: int
LIST_BYTES_PER_THREAD: int
LIST_BYTES_TOGETHER: int
CUDA: str
CUDA_ARCHITECTURES: str

def rows() -> list[dict[str, Any]]: ...
def list_bytes(k: int) -> int: ...
def num_threads() -> int: ...
def set_num_threads(n: int) -> None: ...
def search(
    queries: Any,
    documents: Any,
    scores: Any,
    ids: Any,
    k: int,
    *,
    codes: Any = None,
    bounds: Any = None,
    direction: Any = None,
    rotated: bool = False,
    document_ids: Any = None,
    first_id: int = 0,
    allowed: Any = None,
    exclude_offsets: Any = None,
    exclude_ids: Any = None,
    min_score: Any = None,
    max_score: Any = None,
    refined: Any = None,
    pruned_bound: Any = None,
    num_threads: int = 0,
    progress: Callable[[float], None] | None = None,
    stream: int = 0,
    workspace: Callable[[int], int] | None = None,
) -> None: ...
def pack(
    documents: Any,
    codes: Any,
    bounds: Any,
    finite: Any,
    *,
    radius_sum: Any = None,
    direction: Any = None,
    rotate: bool = False,
    num_threads: int = 0,
    stream: int = 0,
    workspace: Callable[[int], int] | None = None,
) -> None: ...
def finite_rows(
    vectors: Any,
    finite: Any,
    *,
    num_threads: int = 0,
    stream: int = 0,
    workspace: Callable[[int], int] | None = None,
) -> None: ...
def score(
    queries: Any,
    documents: Any,
    rows: Any,
    scores: Any,
    *,
    canonical: bool = True,
    num_threads: int = 0,
    stream: int = 0,
    workspace: Callable[[int], int] | None = None,
) -> None: ...
def statistics(
    x: Any,
    rows: Any,
    count: Any,
    mean: Any,
    m2: Any,
    least: Any,
    most: Any,
    thresholds: Any,
    above: Any,
    histogram: Any = None,
    *,
    num_threads: int = 0,
    stream: int = 0,
    workspace: Callable[[int], int] | None = None,
) -> None: ...
def examples(
    x: Any,
    rows: Any,
    offsets: Any,
    numbers: Any,
    values: Any,
    examples: Any,
    *,
    num_threads: int = 0,
    stream: int = 0,
    workspace: Callable[[int], int] | None = None,
) -> None: ...
def second_moment(
    x: Any,
    rows: Any,
    sums: Any,
    *,
    num_threads: int = 0,
    stream: int = 0,
    workspace: Callable[[int], int] | None = None,
) -> None: ...
def contrastive(
    queries: Any,
    documents: Any,
    positive_offsets: Any,
    positives: Any,
    query_losses: Any,
    *,
    scale: float,
    each: bool = True,
    soft_targets: Any = None,
    exclude_offsets: Any = None,
    excluded: Any = None,
    query_weights: Any = None,
    document_weights: Any = None,
    document_losses: Any = None,
    grad_queries: Any = None,
    grad_documents: Any = None,
    gate_queries: Any = None,
    gate_documents: Any = None,
    groups: Any = None,
    group_offsets: Any = None,
    group_ids: Any = None,
    document_ids: Any = None,
    num_threads: int = 0,
    stream: int = 0,
    workspace: Callable[[int], int] | None = None,
) -> None: ...
def divergence(
    op: str,
    views: list[tuple[Any, Any, Any, Any, float, str]],
    divergences: Any,
    masses: Any,
    variances: Any,
    *,
    reference: int = -1,
    mixture_first: bool = True,
    exclude_offsets: Any = None,
    excluded: Any = None,
    listed_offsets: Any = None,
    listed: Any = None,
    weights: Any = None,
    num_threads: int = 0,
    stream: int = 0,
    workspace: Callable[[int], int] | None = None,
) -> None: ...
def tile(
    codes: Any,
    queries: Any,
    products: Any,
    rounds: int = 1,
    *,
    stream: int = 0,
    workspace: Callable[[int], int] | None = None,
) -> None: ...
def peak(kind: str) -> float: ...
def before_exit(function: Callable[[], _Result]) -> _Result: ...
def close_exit_gate() -> None: ...

@type_check_only
class _BoundType(type): ...

class IndexLock(metaclass=_BoundType):
    def __init__(self) -> None: ...
    def reading(self, function: Callable[[], _Result]) -> _Result: ...
    def changing(self, function: Callable[[], _Result]) -> _Result: ...
    def writing(self, function: Callable[[], _Result]) -> _Result: ...
    def is_read_here(self) -> bool: ...
    def is_changing(self) -> bool: ...
