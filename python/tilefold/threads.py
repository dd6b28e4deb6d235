"""How many threads a call uses that names none."""

from __future__ import annotations

from . import _native


def get_num_threads() -> int:
    """Threads of a call without ``num_threads=``.

    What `set_num_threads` chose, else the environment variable ``TILEFOLD_NUM_THREADS``, else the
    CPUs that this process may run on.
    """
    return _native.num_threads()


def set_num_threads(n: int) -> None:
    """Sets the threads of calls without ``num_threads=``, for the whole process.

    Answers do not depend on it. Threads sleep between calls; a forked child starts its own.

    Raises:
        ValueError: n is not 1 to 1024.

    Example:
        >>> set_num_threads(2)
        >>> get_num_threads()
        2
    """
    _native.set_num_threads(n)
