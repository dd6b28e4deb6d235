"""Hard negatives: documents that a search ranks high for a query and that do not answer it."""

from .dense import mine as mine
from .lexical import mine_bm25 as mine_bm25
from .mined import Mined as Mined
