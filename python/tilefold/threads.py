"""Gets and sets the number of threads of calls without ``num_threads=``."""

from __future__ import annotations

from . import _native
from .integers import as_integer

_MOST = 1024


def get_num_threads() -> int:
    """Returns the number of threads of a call without ``num_threads=``.

    It is the number that `set_num_threads` chose, else the environment variable
    ``TILEFOLD_NUM_THREADS``, else the number of CPUs that this process may run on.

    Example:
        >>> get_num_threads() >= 1
        True
    """
    return _native.num_threads()


def set_num_threads(n: int) -> None:
    """Sets the number of threads of calls without ``num_threads=``, for the whole process.

    Results do not depend on it. Threads sleep between calls; a forked child starts its own.

    Args:
        n: number of threads, 1 to 1024.

    Raises:
        TypeError: n is no integer.
        ValueError: n is not 1 to 1024.

    Example:
        >>> set_num_threads(2)
        >>> get_num_threads()
        2
    """
    number = as_integer(n, "set_num_threads", "n")
    if not 1 <= number <= _MOST:
        raise ValueError(f"set_num_threads: n must be 1 to {_MOST}, got {number}")
    _native.set_num_threads(number)
