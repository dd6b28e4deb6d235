"""tilefold: kernels and tools to train and study dense retrievers.

This file is the table of contents; every name is documented where it lives.
"""

try:
    # The first chooses which extension the second is.
    from . import extension as extension  # noqa: I001
    from . import _native as _native
except ImportError as error:
    raise ImportError(
        "tilefold: the compiled extension is missing; build it with `pip install .` in a checkout, "
        "or install a wheel with `pip install tilefold`"
    ) from error

from .arrays import PrecisionWarning as PrecisionWarning
from .retrieval.exact_search import search as search
from .retrieval.flat_index import FlatIndex as FlatIndex
from .retrieval.hnsw import HnswIndex as HnswIndex
from .retrieval.range_search import range_search as range_search
from .retrieval.running_range import CertifiedRangeResult as CertifiedRangeResult
from .retrieval.running_range import RangeResult as RangeResult
from .retrieval.running_search import Certificate as Certificate
from .retrieval.running_search import CertifiedResult as CertifiedResult
from .retrieval.running_search import SearchResult as SearchResult
from .retrieval.shards import range_search_shards as range_search_shards
from .retrieval.shards import search_shards as search_shards
from .threads import get_num_threads as get_num_threads
from .threads import set_num_threads as set_num_threads
from .version import __version__ as __version__
