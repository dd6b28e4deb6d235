"""Mining of hard negatives: documents that rank high for a query and do not answer it."""

from .dense import mine as mine
from .lexical import mine_bm25 as mine_bm25
from .mined import Mined as Mined
