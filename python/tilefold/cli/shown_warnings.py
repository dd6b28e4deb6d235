"""Shows warnings of the library as lines of a command's output."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator

from .terminal import fact


@contextlib.contextmanager
def warnings_as_facts(name: str) -> Iterator[None]:
    """Shows the warnings of a block as facts under this name, when the block ends.

    Args:
        name: such as "BM25".
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        yield
    for warning in caught:
        if issubclass(warning.category, UserWarning):
            # The name of the function comes first, which says nothing to users of a command.
            fact(name, str(warning.message).partition(": ")[2] or str(warning.message))
        else:
            warnings.showwarning(
                warning.message, warning.category, warning.filename, warning.lineno
            )
