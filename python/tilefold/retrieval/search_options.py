"""The options that all searches share, and the one place that checks them."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any, TypedDict

from ..arrays import Array, frames_of_this_package
from ..integers import as_integer
from ..progress import Progress
from .filters import Filters, make_filters


@dataclass(frozen=True, kw_only=True)
class SearchOptions:
    """The options of one call of a search; `tilefold.search` documents their meaning.

    Public functions spell them out in their signatures, and pass on one of these. What depends on
    the number of queries is checked by `filters`, everything else when an instance is made.

    Attributes:
        op: the public function, for messages.
        allowed, exclude, min_score, max_score, nonfinite, num_threads, progress,
            return_certificate: as in `tilefold.search`.

    Raises:
        TypeError: num_threads is no integer.
        ValueError: nonfinite or num_threads out of range.
    """

    op: str
    allowed: Array | None = None
    exclude: Any = None
    min_score: Any = None
    max_score: Any = None
    nonfinite: str = "error"
    num_threads: int | None = None
    progress: Progress | None = None
    return_certificate: bool = False

    def __post_init__(self) -> None:
        checked_policy(self.nonfinite, self.op)
        checked_threads(self.num_threads, self.op)

    @property
    def threads(self) -> int:
        """The number of threads as kernels take it: 0 for the default."""
        return checked_threads(self.num_threads, self.op)

    def filters(self, n_queries: int) -> Filters:
        """Checks the filters against the number of queries, and prepares them for the kernels.

        Raises:
            TypeError, ValueError: names the option, what was expected and what it got.
        """
        return make_filters(
            n_queries,
            self.op,
            allowed=self.allowed,
            exclude=self.exclude,
            min_score=self.min_score,
            max_score=self.max_score,
        )


class RangeKeywords(TypedDict, total=False):
    """Keywords of range searches, for the overloads by `return_certificate`."""

    allowed: Array | None
    exclude: Any
    max_score: Any
    nonfinite: str
    num_threads: int | None
    progress: Progress | None


class SearchKeywords(RangeKeywords, total=False):
    """Keywords of searches for the k best documents."""

    min_score: Any


def checked_policy(nonfinite: str, op: str) -> str:
    """Checks and returns the policy for non-finite vectors."""
    if nonfinite not in ("error", "exclude"):
        raise ValueError(f'{op}: nonfinite must be "error" or "exclude", got {nonfinite!r}')
    return nonfinite


def checked_threads(num_threads: int | None, op: str) -> int:
    """Returns the number of threads as kernels take it: 0 for the default."""
    if num_threads is None:
        return 0
    number = as_integer(num_threads, op, "num_threads")
    if not 1 <= number <= 1024:
        raise ValueError(f"{op}: num_threads must be 1 to 1024, got {number}")
    return number


def warn_of_empty(op: str, padding: int | None = -1) -> None:
    """Warns that a search finds nothing because its index is empty; `padding` are the ids."""
    warnings.warn(
        f"{op}: the index is empty, so every answer is padding: score -inf and id {padding}",
        UserWarning,
        stacklevel=frames_of_this_package(),
    )
