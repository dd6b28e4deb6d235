"""tilefold: kernels and tools to train and study dense retrievers.

This file is the table of contents; every name is documented where it lives.
"""

from importlib.metadata import PackageNotFoundError, version

try:
    from . import _native as _native
except ImportError as error:
    raise ImportError(
        "tilefold: the compiled extension is missing; build it with `pip install .` in a checkout, "
        "or install a wheel with `pip install tilefold`"
    ) from error

from .arrays import PrecisionWarning as PrecisionWarning
from .hnsw import HnswIndex as HnswIndex
from .index import FlatIndex as FlatIndex
from .running import Certificate as Certificate
from .running import CertifiedResult as CertifiedResult
from .running import SearchResult as SearchResult
from .search import search as search
from .shards import search_shards as search_shards
from .threads import get_num_threads as get_num_threads
from .threads import set_num_threads as set_num_threads

try:
    __version__ = version("tilefold")
except PackageNotFoundError:  # run from a checkout that is not installed
    __version__ = "0+unknown"
